package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// Backup copies a SQLite database to a new file, as it is at one moment, while
// others read and write. The copy gets its name when it is complete, sound and
// on the disk, with mode 0600; a file that exists is never replaced.
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("backup: %s exists already; name another file", path)
	}
	// SQLite takes over an empty file with its mode.
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: the folder %s does not exist; create it first", filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	name := temporary.Name()
	defer func() { err = errors.Join(err, os.Remove(name)) }()
	if err := temporary.Close(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := db.Read.ExecContext(ctx, "VACUUM INTO $1", name); err != nil {
		return fmt.Errorf("backup: %w", Explain(err))
	}
	if err := checkCopy(ctx, name); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := syncFile(name); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// A link never replaces a file.
	if err := os.Link(name, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("backup: %s exists already; name another file", path)
	} else if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

// checkCopy lets SQLite read the whole copy.
func checkCopy(ctx context.Context, name string) (err error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: abs}).EscapedPath()+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil {
		return Explain(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is not sound: %s", verdict)
	}
	return nil
}

func syncFile(path string) error {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
