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
		Use: "status", Short: "Show which migrations are applied; changes nothing", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.migrateStatus(cmd.Context(), *target) },
	}
	up := &cobra.Command{
		Use: "up", Short: "Apply the migrations that are pending", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.migrateUp(cmd.Context(), *target) },
	}
	cmd := group(&cobra.Command{
		Use:   "migrate",
		Short: "Show or bring up to date the database schema",
		Long:  "Shows or brings up to date the database schema. byok-server serve does it by itself; several instances that start at once wait for each other.",
		Example: `  byok-server migrate status --database sqlite:byok-server.db
  byok-server migrate up --database postgres://byok@db.example.com/byok`,
	}, status, up)
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
	for _, step := range applied {
		_, _ = fmt.Fprintf(e.stdout, "applied %04d_%s\n", step.Version, step.Name)
	}
	if len(applied) == 0 {
		_, _ = fmt.Fprintln(e.stdout, "the schema is up to date")
	}
	return nil
}

func (e environment) migrateStatus(ctx context.Context, target string) (err error) {
	db, err := openToLook(ctx, target)
	if err != nil {
		return err
	}
	defer closing(&err, db)
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
