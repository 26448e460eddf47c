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

// checkExisting reports what is wrong with the target of a command that creates
// no database: first of all a SQLite file that does not exist, which most likely
// is a mistyped path.
func checkExisting(target string) error {
	if isNew(target) && target != memoryDatabase {
		return fmt.Errorf("the database file %s does not exist: correct --database (default: %s); nothing was created (byok-server serve creates a new database)",
			strings.TrimPrefix(target, "sqlite:"), defaultDatabase)
	}
	return database.Check(target)
}

// isNew reports whether a database certainly has no content yet.
func isNew(target string) bool {
	path, isFile := strings.CutPrefix(target, "sqlite:")
	if !isFile || path == "" {
		return false
	}
	_, err := os.Stat(path)
	return target == memoryDatabase || errors.Is(err, fs.ErrNotExist)
}

// openToLook opens a database for a command that changes nothing, whatever the
// version of its schema.
func openToLook(ctx context.Context, target string) (*database.DB, error) {
	if err := checkExisting(target); err != nil {
		return nil, err
	}
	return database.Open(ctx, target)
}

// openExisting opens a database whose schema is up to date, for a command beside
// the server.
func openExisting(ctx context.Context, target string) (*database.DB, error) {
	db, err := openToLook(ctx, target)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkSchema is an error where a migration is pending, which these commands do
// not apply.
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
	if err := checkExisting(target); err != nil {
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
