package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// The environment variables of the secrets, under Sim's names.
const (
	EncryptionKeyVariable  = "ENCRYPTION_KEY"
	AuthSecretVariable     = "BETTER_AUTH_SECRET"  //nolint:gosec // a name
	InternalSecretVariable = "INTERNAL_API_SECRET" //nolint:gosec // a name
)

// LoadSecrets takes the secrets from the environment. What is absent there is
// made once and kept in a file beside the SQLite database, with mode 0600; note
// says so, in words for the operator. A database in memory gets fresh secrets
// each time, PostgreSQL needs them from the environment.
func LoadSecrets(ctx context.Context, target string, getenv func(string) string) (secrets Secrets, note string, err error) {
	fields := []struct {
		name string
		into *string
	}{
		{EncryptionKeyVariable, &secrets.EncryptionKey},
		{AuthSecretVariable, &secrets.AuthSecret},
		{InternalSecretVariable, &secrets.InternalSecret},
	}
	var absent []string
	for _, f := range fields {
		if *f.into = getenv(f.name); *f.into == "" {
			absent = append(absent, f.name)
		}
	}
	if len(absent) == 0 {
		return secrets, "", nil
	}
	if err := database.Check(target); err != nil {
		return secrets, "", err
	}
	var kept map[string]string
	path, isFile := strings.CutPrefix(target, "sqlite:")
	switch {
	case !isFile:
		return secrets, "", fmt.Errorf("%s must be set in the environment: servers that share a database share their secrets (openssl rand -hex 32 makes one)", strings.Join(absent, ", "))
	case path == ":memory:":
		kept, note = makeSecrets(absent), "made "+strings.Join(absent, ", ")+" for this run: the database is in memory"
	default:
		path += ".secrets"
		made := false
		if kept, made, err = keepSecrets(ctx, path, target, absent); err != nil {
			return secrets, "", err
		}
		note = "read " + strings.Join(absent, ", ") + " from " + path
		if made {
			note = "made " + strings.Join(absent, ", ") + " and kept them in " + path + " (mode 0600): back this file up together with the database"
		}
	}
	for _, f := range fields {
		if *f.into != "" {
			continue
		}
		if *f.into = kept[f.name]; *f.into == "" {
			return secrets, "", fmt.Errorf("%s is neither in the environment nor in %s: set it to what it was when the database was made", f.name, path)
		}
	}
	return secrets, note, nil
}

func makeSecrets(names []string) map[string]string {
	made := map[string]string{}
	for _, name := range names {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails: the runtime aborts instead
		made[name] = hex.EncodeToString(b[:])
	}
	return made
}

// keepSecrets reads the file of secrets, or makes it with names.
func keepSecrets(ctx context.Context, path, target string, names []string) (kept map[string]string, made bool, err error) {
	kept, err = readSecrets(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, false, err
	}
	if holds, err := holdsKeys(ctx, target); err != nil {
		return nil, false, err
	} else if holds {
		return nil, false, fmt.Errorf("the database holds keys already, but %s, which opens them, is neither in the environment nor in %s: set it to what it was when they were stored", EncryptionKeyVariable, path)
	}
	kept = makeSecrets(names)
	var text strings.Builder
	text.WriteString("# The secrets of the byok-server database beside this file. Without them its keys cannot be read.\n")
	for _, name := range names {
		text.WriteString(name + "=" + kept[name] + "\n")
	}
	temporary, err := writeTemporary(path, text.String())
	if err != nil {
		return nil, false, err
	}
	// A link never replaces a file: of several servers that start at once the
	// first one decides.
	err = os.Link(temporary, path)
	if removed := os.Remove(temporary); removed != nil {
		return nil, false, removed
	}
	if errors.Is(err, fs.ErrExist) {
		kept, err = readSecrets(path)
		return kept, false, err
	}
	return kept, true, err
}

func readSecrets(path string) (map[string]string, error) {
	file, err := os.Open(path) //nolint:gosec // beside the database that the operator names
	if err != nil {
		return nil, err
	}
	defer file.Close()
	kept := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, secret, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok && !strings.HasPrefix(name, "#") {
			kept[name] = secret
		}
	}
	return kept, lines.Err()
}

// holdsKeys reports whether a SQLite file exists and holds keys.
func holdsKeys(ctx context.Context, target string) (bool, error) {
	if _, err := os.Stat(strings.TrimPrefix(target, "sqlite:")); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	db, err := database.Open(ctx, target)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var tables, keys int
	err = db.Read.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'workspace_byok_keys'").Scan(&tables)
	if err != nil || tables == 0 {
		return false, err
	}
	err = db.Read.QueryRowContext(ctx, "SELECT count(*) FROM workspace_byok_keys").Scan(&keys)
	return keys > 0, err
}

// Environment is what a client needs to reach a server.
type Environment struct{ Endpoint, WorkspaceID, SessionToken string }

// WriteEnvFile writes e for a shell to source, with mode 0600, all at once:
// whoever sees the file sees all of it.
func WriteEnvFile(path string, e Environment) error {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	temporary, err := writeTemporary(path, "export BYOK_ENDPOINT="+quote(e.Endpoint)+
		"\nexport BYOK_WORKSPACE_ID="+quote(e.WorkspaceID)+
		"\nexport BYOK_SESSION_TOKEN="+quote(e.SessionToken)+"\n")
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// writeTemporary writes a file of mode 0600 beside path.
func writeTemporary(path, text string) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}
