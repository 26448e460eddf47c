package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

func (e environment) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy a SQLite database while the server runs",
		Long: "Copies a SQLite database to FILE, which must not exist yet, as it is at one moment, while the server goes on reading and writing. " +
			"The copy is checked before it gets its name. The keys in it stay encrypted: the secrets are kept apart from it. PostgreSQL has pg_dump.",
		Example: `  byok-server backup /backups/byok-server-$(date +%F).db --database sqlite:/var/lib/byok/byok-server.db`,
		Args:    arguments("FILE"),
	}
	target := addDatabaseFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return e.backup(cmd.Context(), *target, args[0]) }
	return cmd
}

func (e environment) backup(ctx context.Context, target, file string) (err error) {
	if err := checkExisting(target); err != nil {
		return err
	}
	if server.SecretsFile(target) == "" {
		return errors.New("only a SQLite file can be copied; for PostgreSQL use pg_dump")
	}
	db, err := database.Open(ctx, target)
	if err != nil {
		return err
	}
	defer closing(&err, db)
	if err := db.Backup(ctx, file); err != nil {
		return err
	}
	return e.say("copied the database to %s; its keys cannot be read without ENCRYPTION_KEY, which is not in it", file)
}
