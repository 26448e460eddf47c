package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"crypto/rand"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
)

const (
	databaseFlag    = "database"
	defaultDatabase = "sqlite:byok-server.db"
	memoryDatabase  = "sqlite::memory:"
)

// addDatabaseFlag adds the flag that most commands have, for subcommands too.
func addDatabaseFlag(cmd *cobra.Command) *string {
	return cmd.PersistentFlags().String(databaseFlag, defaultDatabase, "`TARGET`: sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/NAME")
}

// exists reports whether a SQLite target has a file; other targets always exist.
func exists(target string) bool {
	path, isFile := strings.CutPrefix(target, "sqlite:")
	if !isFile || target == memoryDatabase {
		return true
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// openToLook opens a database for a command that changes nothing: where there is
// no file yet, it gets an empty database in memory.
func openToLook(ctx context.Context, target string) (*database.DB, error) {
	if err := database.Check(target); err != nil {
		return nil, err
	}
	if !exists(target) {
		target = memoryDatabase
	}
	return database.Open(ctx, target)
}

// openExisting opens the database of a server for a command beside it, and never
// makes one.
func openExisting(ctx context.Context, target string) (*database.DB, error) {
	if err := database.Check(target); err != nil {
		return nil, err
	}
	if !exists(target) {
		return nil, fmt.Errorf("database %s does not exist; give the --database of the server", target)
	}
	db, err := database.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkSchema says that somebody else must migrate, where it is due.
func checkSchema(ctx context.Context, db *database.DB) error {
	if err := db.CheckTables(ctx); err != nil {
		return err
	}
	steps, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			return fmt.Errorf("migration %04d_%s is pending; run byok-server migrate up first", step.Version, step.Name)
		}
	}
	return nil
}

// withAccess calls do with the users and sessions of a database.
func withAccess(ctx context.Context, target string, do func(*access.Access) error) (err error) {
	db, err := openExisting(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// Without a secret: the commands make no cookies.
	a, err := access.New(ctx, access.Config{DB: db, Now: time.Now, Random: rand.Reader})
	if err != nil {
		return err
	}
	return do(a)
}

// withVault calls do with the stored keys of a database.
func (e environment) withVault(ctx context.Context, target string, do func(*encryption.Vault) error) (err error) {
	if err := database.Check(target); err != nil {
		return err
	}
	secrets, err := server.LoadEncryptionKeys(target, e.getenv)
	if err != nil {
		return err
	}
	sealer, err := secrets.Sealer()
	if err != nil {
		return err
	}
	db, err := openExisting(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(encryption.New(db, sealer, time.Now))
}
