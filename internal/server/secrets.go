package server

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
)

// The environment variables of the secrets, under Sim's names but for the last.
const (
	EncryptionKeyVariable  = "ENCRYPTION_KEY"
	AuthSecretVariable     = "BETTER_AUTH_SECRET"  //nolint:gosec // a name
	InternalSecretVariable = "INTERNAL_API_SECRET" //nolint:gosec // a name
	DecryptionKeysVariable = "DECRYPTION_KEYS"
)

// SecretsFile is where the secrets of a SQLite database are kept that are not
// in the environment; empty for other databases.
func SecretsFile(target string) string {
	path, isFile := strings.CutPrefix(target, "sqlite:")
	if !isFile || path == ":memory:" {
		return ""
	}
	return path + ".secrets"
}

// LoadSecrets takes the secrets from the environment. What is absent there is
// made once and kept in a file beside the SQLite database, with mode 0600; note
// says so, in words for the operator. A database in memory gets fresh secrets
// each time, PostgreSQL needs them from the environment.
func LoadSecrets(ctx context.Context, target string, getenv func(string) string) (secrets Secrets, note string, err error) {
	secrets.DecryptionKeys = getenv(DecryptionKeysVariable)
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
	path := SecretsFile(target)
	switch {
	case path != "":
		made := false
		if kept, made, err = keepSecrets(ctx, path, target, absent); err != nil {
			return secrets, "", err
		}
		note = "read " + strings.Join(absent, ", ") + " from " + path
		if made {
			note = "made " + strings.Join(absent, ", ") + " and kept them in " + path + " (mode 0600): back this file up, apart from the database"
		}
	case strings.HasPrefix(target, "sqlite:"):
		kept, note = makeSecrets(absent), "made "+strings.Join(absent, ", ")+" for this run: the database is in memory"
	default:
		return secrets, "", fmt.Errorf("%s must be set in the environment: servers that share a database share their secrets (openssl rand -hex 32 makes one)", strings.Join(absent, ", "))
	}
	for _, f := range fields {
		if *f.into != "" {
			continue
		}
		if *f.into = kept[f.name]; *f.into == "" {
			return secrets, "", fmt.Errorf("%s is neither in the environment nor in %s: set it to what it was when the database was made", f.name, path)
		}
	}
	secrets.DecryptionKeys = cmp.Or(secrets.DecryptionKeys, kept[DecryptionKeysVariable])
	return secrets, note, nil
}

// LoadEncryptionKeys takes ENCRYPTION_KEY and DECRYPTION_KEYS from the
// environment or the file that LoadSecrets keeps. It makes and writes nothing.
func LoadEncryptionKeys(target string, getenv func(string) string) (Secrets, error) {
	secrets := Secrets{EncryptionKey: getenv(EncryptionKeyVariable), DecryptionKeys: getenv(DecryptionKeysVariable)}
	if secrets.EncryptionKey != "" {
		return secrets, nil
	}
	path := SecretsFile(target)
	if path == "" {
		return secrets, fmt.Errorf("%s must be set in the environment", EncryptionKeyVariable)
	}
	kept, err := readSecrets(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return secrets, err
	}
	if secrets.EncryptionKey = kept[EncryptionKeyVariable]; secrets.EncryptionKey == "" {
		return secrets, fmt.Errorf("%s is neither in the environment nor in %s: set it to what it was when the database was made", EncryptionKeyVariable, path)
	}
	secrets.DecryptionKeys = cmp.Or(secrets.DecryptionKeys, kept[DecryptionKeysVariable])
	return secrets, nil
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
	if inUse, err := isInUse(ctx, target); err != nil {
		return nil, false, err
	} else if inUse {
		return nil, false, fmt.Errorf("the database holds keys already, or did, but its secrets file %s is gone and the environment does not set %s: "+
			"restore the file from its backup, or set what is missing to what it was; new secrets are made for a new database only", path, strings.Join(names, ", "))
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

// isInUse reports whether a SQLite file exists and has been used with an
// ENCRYPTION_KEY.
func isInUse(ctx context.Context, target string) (bool, error) {
	if _, err := os.Stat(strings.TrimPrefix(target, "sqlite:")); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	db, err := database.Open(ctx, target)
	if err != nil {
		return false, err
	}
	inUse, err := encryption.IsInUse(ctx, db)
	return inUse, errors.Join(err, db.Close())
}

// Environment is what a client needs to reach a server.
type Environment struct{ Endpoint, WorkspaceID, SessionToken string }

// envFileStart is what every file of WriteEnvFile begins with.
const envFileStart = "export BYOK_ENDPOINT="

// CheckEnvFile returns an error where path is anything but an absent or empty
// file, or an older one of WriteEnvFile.
func CheckEnvFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("is a folder")
	}
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer file.Close()
	start := make([]byte, len(envFileStart))
	if n, err := io.ReadFull(file, start); n > 0 && string(start[:n]) != envFileStart {
		return errors.New("this file exists and is not one that byok-server has written; it would be overwritten. Choose another name, or remove the file")
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// WriteEnvFile writes e for a shell to source, with mode 0600, all at once:
// whoever sees the file sees all of it. It overwrites nothing but older ones.
func WriteEnvFile(path string, e Environment) error {
	if err := CheckEnvFile(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	temporary, err := writeTemporary(path, envFileStart+quote(e.Endpoint)+
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
