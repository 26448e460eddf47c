package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/backend"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/legacyimport"
)

func (e environment) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import-legacy FILE",
		Short: "Take over keys from before pools",
		Long: "Takes over keys from before pools: FILE has JSON lines of workspaceId, providerId and apiKey. " +
			"A provider ID that already has keys in the workspace is skipped, so that it is safe to run twice.",
		Example: `  byok-server import-legacy keys.jsonl --dry-run
  byok-server import-legacy keys.jsonl --database postgres://byok@db.example.com/byok`,
		Args: arguments("FILE"),
	}
	target := addDatabaseFlag(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "say what would be imported, store nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return e.importLegacy(cmd.Context(), args[0], *target, *dryRun)
	}
	return cmd
}

func (e environment) importLegacy(ctx context.Context, name, target string, dryRun bool) (err error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}

	cfg := legacyimport.Config{DryRun: dryRun, NewID: func() string { return access.NewKeyID(rand.Reader) }}
	db, err := e.openForImport(ctx, target, &cfg)
	if err != nil {
		return err
	}
	defer closing(&err, db)
	if cfg.Store, err = backend.New(ctx, db, time.Now); err != nil {
		return err
	}
	bar := newBar(e.stderr, info.Size())
	workspaces := map[string]bool{}
	cfg.Progress = func(p legacyimport.Progress) {
		if p.Outcome == legacyimport.Imported {
			workspaces[p.WorkspaceID] = true
		}
		bar.show(p.Bytes)
	}
	result, err := legacyimport.Run(ctx, file, cfg)
	bar.end()

	for _, wrong := range result.Errors {
		_, _ = fmt.Fprintf(e.stderr, "%s:%v\n", name, wrong)
	}
	verb := "imported"
	if dryRun {
		verb = "would import"
	}
	_, _ = fmt.Fprintf(e.stdout, "%s %d, skipped %d (their pools already hold keys), wrong %d\n", verb, result.Imported, result.Skipped, len(result.Errors))
	if err == nil {
		err = e.noteMissing(ctx, db, slices.Sorted(maps.Keys(workspaces)))
	}
	if err == nil && len(result.Errors) > 0 {
		err = fmt.Errorf("%d lines were left out; correct them and import the file again", len(result.Errors))
	}
	return err
}

// noteMissing names the workspaces that the database does not have, or has
// archived: keys can be brought in before their workspace, but a mistyped ID
// looks the same.
func (e environment) noteMissing(ctx context.Context, db *database.DB, workspaces []string) error {
	a, err := access.New(ctx, access.Config{DB: db, Now: time.Now, Random: rand.Reader})
	if err != nil {
		return err
	}
	var missing []string
	for _, id := range workspaces {
		_, err := a.FindWorkspace(ctx, id)
		if errors.Is(err, access.ErrNotFound) {
			missing = append(missing, strconv.Quote(id))
		} else if err != nil {
			return err
		}
	}
	const named = 5
	if more := len(missing) - named; more > 0 {
		missing = append(missing[:named], fmt.Sprintf("and %d more", more))
	}
	if len(missing) > 0 {
		_, _ = fmt.Fprintf(e.stderr, "warning: this database has no workspace %s: keys are used once their workspace exists\n", strings.Join(missing, ", "))
	}
	return nil
}

// openForImport opens a database that exists: a dry run as it is, else brought up to
// date and with the encryption key at hand that it needs.
func (e environment) openForImport(ctx context.Context, target string, cfg *legacyimport.Config) (*database.DB, error) {
	if cfg.DryRun {
		return openExisting(ctx, target)
	}
	if err := checkExisting(target); err != nil {
		return nil, err
	}
	secrets := server.Secrets{EncryptionKey: e.getenv(server.EncryptionKeyVariable), DecryptionKeys: e.getenv(server.DecryptionKeysVariable)}
	if secrets.EncryptionKey == "" {
		var note string
		var err error
		if secrets, note, err = server.LoadSecrets(ctx, target, e.getenv); err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintln(e.stderr, note)
	}
	sealer, err := secrets.Sealer()
	if err != nil {
		return nil, err
	}
	cfg.Seal = sealer.Seal
	db, err := database.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	if _, err = db.Migrate(ctx); err == nil {
		err = encryption.New(db, sealer, time.Now).Claim(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
