package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

func (e environment) migrateCommand() *cobra.Command {
	var target *string
	status := &cobra.Command{
		Use: "status", Short: "Show which migrations are applied, and whether adopted tables of Sim are as they are known; changes nothing", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.migrateStatus(cmd.Context(), *target) },
	}
	up := &cobra.Command{
		Use: "up", Short: "Apply the migrations that are pending", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.migrateUp(cmd.Context(), *target) },
	}
	adopt := &cobra.Command{
		Use: "adopt", Short: "Let byok-server work on the tables of Sim in this database", Args: noArguments,
		Long: `Lets byok-server work on the tables that Sim has made in this PostgreSQL database. Their definitions are compared with
those that this byok-server knows and are never changed; where they differ, nothing happens and the differences are
listed. What byok-server has of its own goes into the schema byok_server. byok-server serve compares them again at each
start. DROP SCHEMA byok_server CASCADE takes it back.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.migrateAdopt(cmd.Context(), *target) },
	}
	cmd := group(&cobra.Command{
		Use:   "migrate",
		Short: "Show or bring up to date the database schema",
		Long:  "Shows or brings up to date the database schema. byok-server serve does it by itself; several instances that start at once wait for each other.",
		Example: `  byok-server migrate status --database sqlite:byok-server.db
  byok-server migrate up --database postgres://byok@db.example.com/byok

  # Work on the tables of a Sim deployment
  byok-server migrate adopt --database postgres://byok@db.example.com/sim`,
	}, status, up, adopt)
	target = addDatabaseFlag(cmd)
	return cmd
}

func (e environment) migrateUp(ctx context.Context, target string) (err error) {
	db, err := database.Open(ctx, target)
	if err != nil {
		return err
	}
	defer closing(&err, db)
	applied, err := db.Migrate(ctx)
	if err != nil {
		return err
	}
	e.printApplied(applied)
	return nil
}

func (e environment) migrateAdopt(ctx context.Context, target string) (err error) {
	db, err := database.Open(ctx, target)
	if err != nil {
		return err
	}
	defer closing(&err, db)
	applied, err := db.Adopt(ctx)
	if err != nil {
		return err
	}
	e.printApplied(applied)
	_, err = fmt.Fprintln(e.stdout, "Sim's tables are as this byok-server knows them; byok-server serve works on them from now on")
	return err
}

func (e environment) printApplied(applied []database.Migration) {
	for _, step := range applied {
		_, _ = fmt.Fprintf(e.stdout, "applied %04d_%s\n", step.Version, step.Name)
	}
	if len(applied) == 0 {
		_, _ = fmt.Fprintln(e.stdout, "the schema is up to date")
	}
}

func (e environment) migrateStatus(ctx context.Context, target string) (err error) {
	db, err := openToLook(ctx, target)
	if err != nil {
		return err
	}
	defer closing(&err, db)
	if err := db.CheckTables(ctx); err != nil {
		return err
	}
	steps, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	table, err := newPrinter(e.stdout, "table", "VERSION", "NAME", "APPLIED")
	if err != nil {
		return err
	}
	for _, step := range steps {
		applied := "pending"
		if !step.AppliedAt.IsZero() {
			applied = step.AppliedAt.Format(time.RFC3339)
		}
		if err := table.row(step, fmt.Sprintf("%04d", step.Version), step.Name, applied); err != nil {
			return err
		}
	}
	return table.flush()
}
