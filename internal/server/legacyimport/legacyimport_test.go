package legacyimport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/sqlite"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/legacyimport"
)

const secret = "sk-hunter2"

func lineOf(workspaceID, providerID string) string {
	return fmt.Sprintf(`{"workspaceId":%q,"providerId":%q,"apiKey":%q}`, workspaceID, providerID, secret)
}

func newStore(t testing.TB) keystore.Store {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.New(t.Context(), db, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func config(store legacyimport.Store) legacyimport.Config {
	n := 0
	return legacyimport.Config{
		Store: store,
		Seal:  func(apiKey string) string { return "sealed " + apiKey },
		NewID: func() string { n++; return fmt.Sprintf("id-%p-%d", &n, n) },
	}
}

func run(t *testing.T, cfg legacyimport.Config, text string) legacyimport.Result {
	t.Helper()
	result, err := legacyimport.Run(t.Context(), strings.NewReader(text), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestImport(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	taken := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w1"}, ProviderID: "google"}
	if _, err := store.Add(t.Context(), taken, keystore.NewKey{ID: "mine", Sealed: "mine", CreatedBy: "u"}, byok.Cap); err != nil {
		t.Fatal(err)
	}
	text := "\xef\xbb\xbf" + strings.Join([]string{
		lineOf("w1", "openai") + "\r", "", "  \t\r", lineOf("w1", "google"), " " + lineOf("w2", "openai"), lineOf("w1", "openai"),
	}, "\n")

	var progress []legacyimport.Progress
	cfg := config(store)
	cfg.Progress = func(p legacyimport.Progress) { progress = append(progress, p) }
	cfg.DryRun = true
	want := legacyimport.Result{Imported: 2, Skipped: 2}
	if diff := cmp.Diff(want, run(t, cfg, text)); diff != "" {
		t.Errorf("dry run (-want +got):\n%s", diff)
	}
	if got := len(listed(t, store, "w1")); got != 1 {
		t.Errorf("a dry run left %d keys, want the 1 of before", got)
	}
	dry := progress
	progress, cfg.DryRun = nil, false
	if diff := cmp.Diff(want, run(t, cfg, text)); diff != "" {
		t.Errorf("import (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(dry, progress); diff != "" {
		t.Errorf("the dry run foretold something else (-dry +real):\n%s", diff)
	}
	var lines []int
	for _, p := range progress {
		lines = append(lines, p.Line)
	}
	if diff := cmp.Diff([]int{1, 4, 5, 6}, lines); diff != "" {
		t.Errorf("progress on lines (-want +got):\n%s", diff)
	}
	if last := progress[len(progress)-1]; last.Bytes != int64(len(text)) || last.WorkspaceID != "w1" || last.ProviderID != "openai" || last.Outcome != legacyimport.Skipped {
		t.Errorf("last progress: %+v", last)
	}
	before := append(listed(t, store, "w1"), listed(t, store, "w2")...)
	if got := before[len(before)-1]; len(before) != 3 || got.Sealed != "sealed "+secret || got.CreatedBy != nil || got.Name != nil {
		t.Errorf("imported keys: %+v", before)
	}

	if diff := cmp.Diff(legacyimport.Result{Skipped: 4}, run(t, config(store), text)); diff != "" {
		t.Errorf("second import (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, append(listed(t, store, "w1"), listed(t, store, "w2")...)); diff != "" {
		t.Errorf("the second import changed the store (-before +after):\n%s", diff)
	}
}

func listed(t *testing.T, store keystore.Store, workspaceID string) []keystore.Record {
	t.Helper()
	records, err := store.List(t.Context(), keystore.Owner{Scope: keystore.Workspace, ID: workspaceID})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestWrongLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"workspaceId":"w","providerId":"openai","apiKey":"sk-hunter2"`:        "not valid JSON",
		`{"workspaceId":"w","providerId":"openai","apiKey":"sk-hunter2"} extra`: "not valid JSON",
		`["sk-hunter2"]`: "not a JSON object",
		`"sk-hunter2"`:   "not a JSON object",
		`null`:           "not a JSON object",
		`sk-hunter2`:     "not valid JSON",
		`{"providerId":"openai","apiKey":"sk-hunter2"}`:                                                      "workspaceId is missing",
		`{"workspaceId":"w","apiKey":"sk-hunter2"}`:                                                          "providerId is missing",
		`{"workspaceId":"w","providerId":"openai"}`:                                                          "apiKey is missing",
		`{"workspaceId":"","providerId":"openai","apiKey":"sk-hunter2"}`:                                     "workspaceId is empty",
		`{"workspaceId":"w","providerId":"openai","apiKey":""}`:                                              "apiKey is empty",
		`{"workspaceId":"w","providerId":"openai","apiKey":null}`:                                            "apiKey is not a string",
		`{"workspaceId":"w","providerId":"openai","apiKey":["sk-hunter2"]}`:                                  "apiKey is not a string",
		`{"workspaceId":1,"providerId":"openai","apiKey":"sk-hunter2"}`:                                      "workspaceId is not a string",
		`{"workspaceId":"w","providerId":"sk-hunter2","apiKey":"k"}`:                                         "providerId is none of openai",
		`{"workspaceId":"w","providerId":"openai","apiKey":"sk-\u0000hunter2"}`:                              "apiKey contains the character U+0000",
		`{"workspaceId":"w","providerId":"openai","apiKey":"k","sk-hunter2":""}`:                             "has a field besides",
		`{"workspaceid":"w","providerId":"openai","apiKey":"sk-hunter2"}`:                                    "workspaceId is missing",
		`{"workspaceId":"w","providerId":"openai","apiKey":"` + strings.Repeat("sk-hunter2", 1<<20+1) + `"}`: "longer than 10 MiB",
	} {
		store := newStore(t)
		result := run(t, config(store), lineOf("v", "openai")+"\n"+text+"\n"+lineOf("v", "google")+"\n")
		if len(result.Errors) != 1 || result.Imported != 2 || result.Skipped != 0 {
			t.Errorf("%.80s: %+v", text, result)
			continue
		}
		got := result.Errors[0]
		if got.Line != 2 || !strings.HasPrefix(got.Error(), "line 2: ") || !strings.Contains(got.Error(), want) {
			t.Errorf("%.80s: %v, want line 2 and %q", text, got, want)
		}
		if strings.Contains(got.Error(), "hunter2") {
			t.Errorf("the error tells the secret: %v", got)
		}
	}
}

func TestLongestLine(t *testing.T) {
	t.Parallel()
	rest := len(lineOf("w", "openai")) - len(secret)
	text := strings.Replace(lineOf("w", "openai"), secret, strings.Repeat("k", 10<<20-rest), 1)
	if got := run(t, config(newStore(t)), text); got.Imported != 1 {
		t.Errorf("a line of %d bytes: %+v", len(text), got)
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	r := io.MultiReader(strings.NewReader(lineOf("w", "openai")+"\n"), iotest.ErrReader(broken))
	result, err := legacyimport.Run(t.Context(), r, config(newStore(t)))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "after line 1") || result.Imported != 1 {
		t.Errorf("Run = %+v, %v", result, err)
	}
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	for _, dryRun := range []bool{false, true} {
		cfg := config(failing{broken})
		cfg.DryRun = dryRun
		_, err := legacyimport.Run(t.Context(), strings.NewReader("\n"+lineOf("w", "openai")), cfg)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "at line 2") || strings.Contains(err.Error(), secret) {
			t.Errorf("dry run %v: %v", dryRun, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Pool(context.Context, keystore.Pool) ([]keystore.SealedKey, error) {
	return nil, f.err
}
func (f failing) Add(context.Context, keystore.Pool, keystore.NewKey, int) (keystore.Record, error) {
	return keystore.Record{}, f.err
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(newStore(t))
	cfg.Progress = func(legacyimport.Progress) { cancel() }
	result, err := legacyimport.Run(ctx, strings.NewReader(lineOf("w", "openai")+"\n"+lineOf("w", "google")), cfg)
	if !errors.Is(err, context.Canceled) || result.Imported != 1 {
		t.Errorf("Run = %+v, %v", result, err)
	}
}

// memory is a store for the fuzz test.
type memory map[keystore.Pool]string

func (m memory) Pool(context.Context, keystore.Pool) ([]keystore.SealedKey, error) { return nil, nil }
func (m memory) Add(_ context.Context, pool keystore.Pool, key keystore.NewKey, _ int) (keystore.Record, error) {
	if _, full := m[pool]; full {
		return keystore.Record{}, keystore.ErrFull
	}
	m[pool] = key.Sealed
	return keystore.Record{}, nil
}

// Whatever the input, every line that is not blank has one outcome, nothing
// that no store can hold is stored, and a second run imports nothing.
func FuzzRun(f *testing.F) {
	f.Add([]byte(lineOf("w", "openai") + "\n" + lineOf("w", "openai")))
	f.Add([]byte("\xef\xbb\xbf" + lineOf("w", "zai") + "\r\n\r\n{"))
	f.Add([]byte(`{"workspaceId":"\ud800","providerId":"exa","apiKey":"\u0000"}`))
	f.Add([]byte("\n\xff\n" + strings.Repeat("[", 100)))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := 0
		for _, l := range bytes.Split(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), []byte("\n")) {
			if len(bytes.Trim(l, " \t\r\n")) > 0 {
				lines++
			}
		}
		store := memory{}
		first, err := legacyimport.Run(t.Context(), bytes.NewReader(text), config(store))
		if err != nil {
			t.Fatal(err)
		}
		if got := first.Imported + first.Skipped + len(first.Errors); got != lines || first.Imported != len(store) {
			t.Errorf("%d outcomes of %d lines, %d imported, %d stored", got, lines, first.Imported, len(store))
		}
		for pool, sealed := range store {
			if !keystore.Storable(pool.ID, pool.ProviderID, sealed) || pool.ID == "" || !byok.IsKnownProviderID(pool.ProviderID) {
				t.Errorf("stored %+v", pool)
			}
		}
		second, err := legacyimport.Run(t.Context(), iotest.OneByteReader(bytes.NewReader(text)), config(store))
		if err != nil || second.Imported != 0 || second.Skipped != first.Imported+first.Skipped || len(second.Errors) != len(first.Errors) {
			t.Errorf("second run %+v, %v after %+v", second, err, first)
		}
	})
}
