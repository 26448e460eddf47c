package cap

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

var update = flag.Bool("update", false, "write testdata/*.txt anew")

var (
	createdAt = regexp.MustCompile(`\d{4}-\d{2}-\d{2} \d{2}:\d{2}\n`)
	address   = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
)

// wantText compares a text with a file of testdata. What differs from run to
// run is replaced by something of the same length.
func (w *world) wantText(t *testing.T, file, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, w.server.WorkspaceID, "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11")
	for i, key := range w.server.List(t, w.server.WorkspaceID) {
		text = strings.ReplaceAll(text, key.ID, fmt.Sprintf("key-%017d", i+1))
	}
	text = createdAt.ReplaceAllString(text, "2026-01-02 03:04\n")
	text = address.ReplaceAllString(text, "http://127.0.0.1:3000")
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-) and what was said (+):\n%s", path, diff)
	}
}

// TestInTerminal shows errors as a user reads them, to the letter.
func TestInTerminal(t *testing.T) {
	t.Parallel()
	for file, tc := range map[string]struct {
		others []string
		before string
		config string
		args   []string
	}{
		"unmanaged.txt": {
			others: span(1, 10),
			config: block("openai", "k11", ""),
			args:   []string{"plan"},
		},
		"sequential.txt": {
			config: block("openai", "mine", "") + keys("openai", span(2, 13)...),
			args:   []string{"plan", "-parallelism=1"},
		},
		"full.txt": {
			others: span(1, 10),
			config: "provider \"byok\" {\n  cap_check = \"off\"\n}\n" + block("openai", "k11", "timeouts {\n    create = \"5s\"\n  }"),
			args:   []string{"apply", "-auto-approve"},
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addOthers(t, "openai", tc.others...)
			w.configure(t, tc.config)
			result := w.Try(t, append(tc.args, "-no-color")...)
			_, text, found := strings.Cut(result.Output, "\nError: ")
			if result.Exit != 1 || !found {
				t.Fatalf("terraform ended with %d:\n%s", result.Exit, result.Output)
			}
			if file == "sequential.txt" {
				// Which of the creates reports is up to Terraform.
				_, text, _ = strings.Cut(text, "\n\n  with ")
				_, text, _ = strings.Cut(text, "\n\n")
			}
			w.wantText(t, file, text)
		})
	}
}

// TestOneErrorPerPool: however many creates overflow a pool, in whatever
// order.
func TestOneErrorPerPool(t *testing.T) {
	t.Parallel()
	for _, parallelism := range []int{10, 2, 1} {
		t.Run(fmt.Sprint("parallelism ", parallelism), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, keys("openai", span(1, 30)...), blocks("anthropic", span(1, 25)...), keys("exa", span(1, 10)...))
			var pools []string
			for _, d := range w.plan(t, 1, fmt.Sprintf("-parallelism=%d", parallelism)).errors() {
				pool, _, _ := strings.Cut(d.Summary, " would hold ")
				pools = append(pools, pool)
				w.wantAtProviderID(t, d)
			}
			slices.Sort(pools)
			if diff := gocmp.Diff([]string{`Pool "anthropic"`, `Pool "openai"`}, pools); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCapCheck: the arguments that turn the check into something else.
func TestCapCheck(t *testing.T) {
	t.Parallel()
	provider := func(arguments string) string { return "provider \"byok\" {\n  " + arguments + "\n}\n" }
	for name, tc := range map[string]struct {
		config   string
		env      string
		errors   []string
		warnings []string
	}{
		"error":                     {config: provider(`cap_check = "error"`) + keys("openai", span(1, 11)...), errors: []string{would("openai", 11)}},
		"warning":                   {config: provider(`cap_check = "warning"`) + keys("openai", span(1, 11)...), warnings: []string{would("openai", 11)}},
		"warning, by variable":      {config: keys("openai", span(1, 11)...), env: "BYOK_CAP_CHECK=warning", warnings: []string{would("openai", 11)}},
		"off":                       {config: provider(`cap_check = "off"`) + keys("openai", span(1, 12)...)},
		"off, by variable":          {config: keys("openai", span(1, 12)...), env: "BYOK_CAP_CHECK=off"},
		"the block wins":            {config: provider(`cap_check = "error"`) + keys("openai", span(1, 11)...), env: "BYOK_CAP_CHECK=off", errors: []string{would("openai", 11)}},
		"another cap":               {config: provider("max_keys_per_provider = 3") + keys("openai", span(1, 4)...), errors: []string{`Pool "openai" would hold 4 keys, its cap is 3`}},
		"another cap, not exceeded": {config: provider("max_keys_per_provider = 3") + keys("openai", span(1, 3)...)},
		"another cap, by variable":  {config: keys("openai", span(1, 4)...), env: "BYOK_MAX_KEYS_PER_PROVIDER=3", errors: []string{`Pool "openai" would hold 4 keys, its cap is 3`}},
		"a larger cap":              {config: provider("max_keys_per_provider = 12") + keys("openai", span(1, 12)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Env = append(w.Env, tc.env)
			w.configure(t, tc.config)
			exit := 2
			if tc.errors != nil {
				exit = 1
			}
			p := w.plan(t, exit)
			for _, d := range p {
				w.wantAtProviderID(t, d)
			}
			if diff := gocmp.Diff(tc.errors, p.errors().summaries()); diff != "" {
				t.Errorf("errors:\n%s", diff)
			}
			if diff := gocmp.Diff(tc.warnings, p.warnings().summaries()); diff != "" {
				t.Errorf("warnings:\n%s", diff)
			}
		})
	}

	t.Run("the server's own response decides", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, ofCap(3))
		hurried := func(n int) string { return keysWith("openai", "openai", w.hurry(), span(1, n)...) }
		w.configure(t, hurried(4))
		w.plan(t, 2, "-out=plan.tfplan")
		errs := w.inJSON(t, 1, "apply", "plan.tfplan").errors()
		if diff := gocmp.Diff([]string{`Pool "openai" is full, its cap is 3`}, errs.summaries()); diff != "" {
			t.Fatal(diff)
		}
		if !strings.Contains(errs[0].Detail, "set max_keys_per_provider = 3 in the provider block") {
			t.Errorf("the error says:\n%s", errs[0].Detail)
		}
		w.configure(t, provider("max_keys_per_provider = 3"), hurried(3))
		w.passes(t)
	})
}

func (p planned) summaries() (all []string) {
	for _, d := range p {
		all = append(all, d.Summary)
	}
	return all
}

// ofCap makes the server one whose pools hold fewer keys.
func ofCap(limit int) acctest.Option {
	return acctest.WithMiddleware(func(next http.Handler) http.Handler {
		var mu sync.Mutex
		stored := map[string]int{} // by provider ID
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				next.ServeHTTP(rw, r)
				return
			}
			var save byok.SaveRequest // a delete has the same IDs
			body, err := io.ReadAll(r.Body)
			if err != nil || json.Unmarshal(body, &save) != nil {
				http.Error(rw, "no body", http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.Method == http.MethodDelete:
				stored[save.ProviderID]--
			case save.KeyID == "" && stored[save.ProviderID] == limit:
				rw.Header().Set("Content-Type", "application/json")
				rw.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(rw, `{"error":"A workspace can store at most %d keys per provider"}`, limit)
				return
			case save.KeyID == "":
				stored[save.ProviderID]++
			}
			next.ServeHTTP(rw, r)
		})
	})
}
