// Package legacyimport brings keys in that were kept elsewhere, one per
// workspace and provider ID: it reads JSON lines, seals each API key and adds
// it to a store. It knows neither SQL nor HTTP; `byok-server import-legacy`
// calls it.
//
// A pool that already holds keys is left alone, whoever filled it. So a file
// can be imported again, after an error or by mistake, and of two lines for one
// pool the first is imported and the second skipped.
package legacyimport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Store is what an import needs of a keystore.Store.
type Store interface {
	Pool(ctx context.Context, pool keystore.Pool) ([]keystore.SealedKey, error)
	Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error)
}

// Config is what an import works with. Store, Seal and NewID are needed; a dry
// run does without Seal and NewID.
type Config struct {
	Store Store
	// Seal makes of an API key what is stored.
	Seal func(apiKey string) string
	// NewID makes the ID of a key.
	NewID func() string
	// DryRun reads, checks and counts, and stores nothing.
	DryRun bool
	// Progress, if set, is called after each line that is not blank.
	Progress func(Progress)
}

// Outcome is what became of a line.
type Outcome string

// The outcomes of a line without an error.
const (
	Imported Outcome = "imported" // in a dry run: would be
	Skipped  Outcome = "skipped"  // the pool already holds keys, or an earlier line filled it
)

// Progress is where an import is.
type Progress struct {
	Line        int   // counted from 1
	Bytes       int64 // of the file, read so far
	WorkspaceID string
	ProviderID  string
	Outcome     Outcome // empty for a line with an error
}

// Result is what an import did.
type Result struct {
	Imported int
	Skipped  int
	// Errors are the lines that were left out, in order. None holds a secret.
	Errors []*LineError
}

// LineError says what is wrong with a line, never its API key.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// Run imports the lines of r, each an object
//
//	{"workspaceId": "...", "providerId": "...", "apiKey": "..."}
//
// A line that is wrong is reported in the result and the import goes on. An
// error of the reader, the store or the context ends it and names the line; what
// was imported before stays, and the next run goes on from there.
func Run(ctx context.Context, r io.Reader, cfg Config) (Result, error) {
	var result Result
	lines := newReader(r)
	seen := map[keystore.Pool]bool{}
	for {
		if err := ctx.Err(); err != nil {
			return result, fmt.Errorf("import stopped after line %d: %w", lines.number, err)
		}
		text, err := lines.next()
		if errors.Is(err, io.EOF) {
			return result, nil
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return result, fmt.Errorf("import stopped after line %d: %w", lines.number, err)
		}
		progress := Progress{Line: lines.number, Bytes: lines.bytes}
		var l line
		if err == nil {
			l, err = parse(text)
		}
		if err != nil {
			result.Errors = append(result.Errors, &LineError{Line: lines.number, Err: err})
		} else {
			pool := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: l.workspaceID}, ProviderID: l.providerID}
			progress.WorkspaceID, progress.ProviderID, progress.Outcome = l.workspaceID, l.providerID, Skipped
			if !seen[pool] {
				if progress.Outcome, err = cfg.importKey(ctx, pool, l.apiKey); err != nil {
					return result, fmt.Errorf("import stopped at line %d: %w", lines.number, err)
				}
				seen[pool] = true
			}
			if progress.Outcome == Imported {
				result.Imported++
			} else {
				result.Skipped++
			}
		}
		if cfg.Progress != nil {
			cfg.Progress(progress)
		}
	}
}

func (cfg Config) importKey(ctx context.Context, pool keystore.Pool, apiKey string) (Outcome, error) {
	if cfg.DryRun {
		keys, err := cfg.Store.Pool(ctx, pool)
		if err != nil || len(keys) > 0 {
			return Skipped, err
		}
		return Imported, nil
	}
	// A limit of one key makes "only where there is none" hold against everybody
	// who adds at the same time.
	_, err := cfg.Store.Add(ctx, pool, keystore.NewKey{ID: cfg.NewID(), Sealed: cfg.Seal(apiKey)}, 1)
	if errors.Is(err, keystore.ErrFull) {
		return Skipped, nil
	}
	return Imported, err
}

type line struct{ workspaceID, providerID, apiKey string }

// parse reads one line. What it says of a wrong one never quotes it: any part
// could be the secret.
func parse(text []byte) (line, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return line{}, fmt.Errorf("not valid JSON at byte %d", syntax.Offset)
		}
		return line{}, errors.New("not a JSON object")
	}
	var l line
	for _, field := range []struct {
		name string
		into *string
	}{{"workspaceId", &l.workspaceID}, {"providerId", &l.providerID}, {"apiKey", &l.apiKey}} {
		raw, ok := fields[field.name]
		if !ok {
			return line{}, fmt.Errorf("%s is missing", field.name)
		}
		var value *string
		if err := json.Unmarshal(raw, &value); err != nil || value == nil {
			return line{}, fmt.Errorf("%s is not a string", field.name)
		}
		if *value == "" {
			return line{}, fmt.Errorf("%s is empty", field.name)
		}
		if !keystore.Storable(*value) {
			return line{}, fmt.Errorf("%s contains the character U+0000", field.name)
		}
		*field.into = *value
		delete(fields, field.name)
	}
	if len(fields) > 0 {
		return line{}, errors.New("has a field besides workspaceId, providerId and apiKey")
	}
	if !byok.IsKnownProviderID(l.providerID) {
		return line{}, fmt.Errorf("providerId is none of %s", strings.Join(byok.ProviderIDs(), ", "))
	}
	return l, nil
}
