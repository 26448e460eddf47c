package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

func (e environment) migrate(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("migrate", flag.ContinueOnError)
	target := databaseFlag(flags)
	rest, err := e.parse(flags, args, "status|up")
	if err != nil {
		return err
	}
	if rest[0] != "status" && rest[0] != "up" {
		return e.misused(flags, fmt.Sprintf("expected status or up, got %q", rest[0]))
	}
	db, err := database.Open(ctx, *target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if rest[0] == "up" {
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
	steps, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "VERSION\tNAME\tAPPLIED")
	for _, step := range steps {
		applied := "pending"
		if !step.AppliedAt.IsZero() {
			applied = step.AppliedAt.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(table, "%04d\t%s\t%s\n", step.Version, step.Name, applied)
	}
	return table.Flush()
}
