package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/backend"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/legacyimport"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
)

func (e environment) importLegacy(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("import-legacy", flag.ContinueOnError)
	target := databaseFlag(flags)
	dryRun := flags.Bool("dry-run", false, "say what would be imported, store nothing")
	rest, err := e.parse(flags, args, "FILE")
	if err != nil {
		return err
	}
	file, err := os.Open(rest[0]) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}

	encryptionKey := e.getenv(server.EncryptionKeyVariable)
	if encryptionKey == "" && !*dryRun {
		secrets, note, err := server.LoadSecrets(ctx, *target, e.getenv)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(e.stderr, note)
		encryptionKey = secrets.EncryptionKey
	}
	cfg := legacyimport.Config{DryRun: *dryRun, NewID: func() string { return access.NewKeyID(rand.Reader) }}
	if !*dryRun {
		sealer, err := seal.New(encryptionKey)
		if err != nil {
			return err
		}
		cfg.Seal = sealer.Seal
	}

	db, err := database.Open(ctx, *target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := prepareSchema(ctx, db, *dryRun); err != nil {
		return err
	}
	if cfg.Store, err = backend.New(ctx, db, time.Now); err != nil {
		return err
	}
	bar := newBar(e.stderr, info.Size())
	cfg.Progress = func(p legacyimport.Progress) { bar.show(p.Bytes) }
	result, err := legacyimport.Run(ctx, file, cfg)
	bar.end()

	for _, wrong := range result.Errors {
		_, _ = fmt.Fprintf(e.stderr, "%s:%v\n", rest[0], wrong)
	}
	verb := "imported"
	if *dryRun {
		verb = "would import"
	}
	_, _ = fmt.Fprintf(e.stdout, "%s %d, skipped %d (their pools already hold keys), wrong %d\n", verb, result.Imported, result.Skipped, len(result.Errors))
	if err == nil && len(result.Errors) > 0 {
		err = fmt.Errorf("%d lines were left out; correct them and import the file again", len(result.Errors))
	}
	return err
}

// prepareSchema migrates, or in a dry run, which changes nothing, says that
// somebody else must.
func prepareSchema(ctx context.Context, db *database.DB, dryRun bool) error {
	if !dryRun {
		_, err := db.Migrate(ctx)
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

// bar is a progress bar on a terminal, and nothing elsewhere.
type bar struct {
	to    io.Writer
	size  int64
	shown int
}

const barWidth = 40

func newBar(to io.Writer, size int64) *bar {
	if file, ok := to.(*os.File); ok && size > 0 {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &bar{to: to, size: size, shown: -1}
		}
	}
	return &bar{}
}

func (b *bar) show(done int64) {
	if b.to == nil {
		return
	}
	percent := int(min(100, done*100/b.size))
	if percent == b.shown {
		return
	}
	b.shown = percent
	full := percent * barWidth / 100
	_, _ = fmt.Fprintf(b.to, "\r[%s%s] %3d%%", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), percent)
}

func (b *bar) end() {
	if b.to != nil && b.shown >= 0 {
		_, _ = fmt.Fprintln(b.to)
	}
}
