package cap

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// keysFile holds all of a configuration but the provider block.
const keysFile = "keys.tf"

// world is a server with a workspace, and a folder whose configuration manages
// keys in it.
type world struct {
	*tfrun.Folder
	server *acctest.Server
	// others are the keys that another user has added, by ID.
	others map[string]byok.Key
}

func newWorld(t *testing.T, opts ...acctest.Option) *world {
	t.Helper()
	s := acctest.Start(t, opts...)
	return &world{
		Folder: tfrun.New(t, "BYOK_ENDPOINT="+s.URL, "BYOK_WORKSPACE_ID="+s.WorkspaceID, "BYOK_SESSION_TOKEN="+s.SessionToken),
		server: s,
		others: map[string]byok.Key{},
	}
}

// setHint makes the commands from now on use a provider that is always told that
// deferral is allowed, or never.
func (w *world) setHint(t *testing.T, allowed bool) {
	t.Helper()
	w.Env = append(w.Env, fmt.Sprintf("%s=%v", hintVariable, allowed))
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, providerBinary)); err != nil {
		t.Fatal(err)
	}
	if err := w.Configure(w.CLI().Override(dir)); err != nil {
		t.Fatal(err)
	}
}

// hurry is a short create timeout, for creates that are to be refused. It is
// longer than ten adds in a row take.
func (w *world) hurry() string {
	timeout := "5s"
	if w.server.IsElsewhere() {
		timeout = "30s"
	}
	return fmt.Sprintf("timeouts {\n    create = %q\n  }\n", timeout)
}

// addOthers adds keys that the configuration knows nothing of, with the
// secrets that it would declare for their names, and returns their IDs.
func (w *world) addOthers(t *testing.T, providerID string, names ...string) []string {
	t.Helper()
	var ids []string
	for _, name := range names {
		ids = append(ids, w.server.Add(t, w.server.WorkspaceID, providerID, secret(providerID, name), name))
		// Within one millisecond the ID would decide on the order.
		for added := byok.FormatTime(time.Now()); byok.FormatTime(time.Now()) == added; {
			runtime.Gosched()
		}
	}
	for _, key := range w.server.List(t, w.server.WorkspaceID) {
		if slices.Contains(ids, key.ID) {
			w.others[key.ID] = key
		}
	}
	return ids
}

// configure writes the configuration.
func (w *world) configure(t *testing.T, parts ...string) {
	t.Helper()
	w.Write(t, keysFile, strings.Join(parts, "\n"))
}

// passes applies in one command, as long as the plan passes, and wants the
// pools to be as configured and the next plan to be empty.
func (w *world) passes(t *testing.T, args ...string) {
	t.Helper()
	w.Apply(t, args...)
	w.wantSettled(t)
}

// wantSettled wants every key stored to be in state or another's, those of
// others as they were, and an empty plan.
func (w *world) wantSettled(t *testing.T) {
	t.Helper()
	w.wantOwned(t)
	if again := w.Plan(t); again.Exit != 0 {
		t.Errorf("the next plan is not empty:\n%s", again.Output)
	}
}

func (w *world) wantOwned(t *testing.T) {
	t.Helper()
	type owned struct{ ProviderID, Name, MaskedKey string }
	want, got := map[string]owned{}, map[string]owned{}
	workspaces := map[string]bool{w.server.WorkspaceID: true}
	for _, key := range w.inState(t) {
		want[key.WorkspaceID+"/"+key.ID] = owned{key.ProviderID, key.Name, byok.Mask(secret(key.ProviderID, key.Name))}
		workspaces[key.WorkspaceID] = true
	}
	others := map[string]byok.Key{}
	for workspaceID := range workspaces {
		for _, key := range w.server.List(t, workspaceID) {
			if _, other := w.others[key.ID]; other {
				others[key.ID] = key
				continue
			}
			name := ""
			if key.Name != nil {
				name = *key.Name
			}
			got[workspaceID+"/"+key.ID] = owned{key.ProviderID, name, key.MaskedKey}
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("keys in state (-) and stored (+):\n%s", diff)
	}
	if diff := gocmp.Diff(w.others, others); diff != "" {
		t.Errorf("keys of others before (-) and now (+):\n%s", diff)
	}
}

// stateKey is what state shows of a key.
type stateKey struct {
	ID          string `json:"id"`
	WorkspaceID string `json:"workspace_id"`
	ProviderID  string `json:"provider_id"`
	Name        string `json:"name"`
}

// inState reads the keys from the state file.
func (w *world) inState(t *testing.T) []stateKey {
	t.Helper()
	var keys []stateKey
	for _, instance := range w.Instances(t) {
		if instance.Type != "byok_key" {
			continue
		}
		var key stateKey
		if err := json.Unmarshal(instance.Attributes, &key); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// fails plans and wants one error with each of the summaries and no other,
// nothing written, and no more than one list per workspace.
func (w *world) fails(t *testing.T, summaries []string, args ...string) []diagnostic {
	t.Helper()
	w.server.Reset()
	errs := w.plan(t, 1, args...).errors()
	var got []string
	for _, d := range errs {
		got = append(got, d.Summary)
		w.wantAtProviderID(t, d)
	}
	slices.Sort(got)
	if diff := gocmp.Diff(slices.Sorted(slices.Values(summaries)), got); diff != "" {
		t.Errorf("summaries of the errors:\n%s", diff)
	}
	lists := map[string]int{}
	for _, r := range w.server.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("the plan sent %s %s", r.Method, r.Path)
		}
		if lists[r.Path]++; lists[r.Path] == 2 {
			t.Errorf("the plan listed %s twice", r.Path)
		}
	}
	return errs
}

// wantAtProviderID wants a diagnostic to point at the attribute that puts a key
// into a pool.
func (w *world) wantAtProviderID(t *testing.T, d diagnostic) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Dir, keysFile))
	if err != nil {
		t.Fatal(err)
	}
	if d.Range == nil {
		t.Errorf("%q points nowhere", d.Summary)
		return
	}
	lines := strings.Split(string(data), "\n")
	if at := d.Range.Start.Line; d.Range.Filename != keysFile || at < 1 || at > len(lines) || !strings.HasPrefix(strings.TrimSpace(lines[at-1]), "provider_id ") {
		t.Errorf("%q points at %s:%d", d.Summary, d.Range.Filename, at)
	}
}

// planned is what a plan with -json said.
type planned []diagnostic

// diagnostic is an error or a warning as -json writes it.
type diagnostic struct {
	Severity, Summary, Detail, Address string
	Range                              *struct {
		Filename string
		Start    struct{ Line int }
	}
}

// plan plans with -json and wants the exit code: 0 for no changes, 1 for
// errors, 2 for changes.
func (w *world) plan(t *testing.T, exit int, args ...string) planned {
	t.Helper()
	return w.inJSON(t, exit, append([]string{"plan", "-detailed-exitcode"}, args...)...)
}

func (w *world) inJSON(t *testing.T, exit int, args ...string) planned {
	t.Helper()
	result := w.Try(t, slices.Insert(args, 1, "-json")...)
	if result.Exit != exit {
		t.Fatalf("terraform %s ended with %d, want %d:\n%s", strings.Join(result.Args, " "), result.Exit, exit, result.Output)
	}
	var p planned
	for line := range strings.Lines(result.Output) {
		var message struct {
			Type       string
			Diagnostic diagnostic
		}
		if err := json.Unmarshal([]byte(line), &message); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		// Every run of a provider that is not installed says so.
		if message.Type == "diagnostic" && message.Diagnostic.Summary != "Provider development overrides are in effect" {
			p = append(p, message.Diagnostic)
		}
	}
	return p
}

func (p planned) errors() planned   { return p.of("error") }
func (p planned) warnings() planned { return p.of("warning") }

func (p planned) of(severity string) (found planned) {
	for _, d := range p {
		if d.Severity == severity {
			found = append(found, d)
		}
	}
	return found
}

// would is the summary of a plan's error.
func would(providerID string, n int) string {
	return fmt.Sprintf("Pool %q would hold %d keys, its cap is 10", providerID, n)
}

// secret is what the configuration declares for a key, and others have stored
// under its name.
func secret(providerID, name string) string {
	return fmt.Sprintf("sk-%s-0123456789-%s", providerID, name)
}

// span returns the names k<from> to k<to>.
func span(from, to int) []string {
	var names []string
	for i := from; i <= to; i++ {
		names = append(names, fmt.Sprintf("k%02d", i))
	}
	return names
}

// keys declares keys of a provider ID as one resource with for_each, labelled
// with the provider ID.
func keys(providerID string, names ...string) string {
	return keysWith(providerID, providerID, "", names...)
}

// keysWith declares keys as one resource with another label, and with more
// arguments.
func keysWith(label, providerID, more string, names ...string) string {
	return fmt.Sprintf(`
resource "byok_key" %q {
  for_each    = toset([%s])
  provider_id = %q
  name        = each.key
  api_key_wo  = "sk-%s-0123456789-${each.key}"
  %s
}
`, label, quoted(names), providerID, providerID, more)
}

// blocks declares keys as one resource each.
func blocks(providerID string, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(block(providerID, name, ""))
	}
	return b.String()
}

// block declares one key as a resource labelled with its name.
func block(providerID, name, more string) string {
	return fmt.Sprintf(`
resource "byok_key" %q {
  provider_id = %q
  name        = %q
  api_key_wo  = %q
  %s
}
`, name, providerID, name, secret(providerID, name), more)
}

func quoted(words []string) string {
	var q []string
	for _, word := range words {
		q = append(q, fmt.Sprintf("%q", word))
	}
	return strings.Join(q, ", ")
}

// importing declares that stored keys are to be adopted under their names.
func importing(providerID string, names, ids []string) string {
	pairs := map[string]string{}
	for i, name := range names {
		pairs[name] = ids[i]
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		fmt.Fprintf(&b, "    %s = %q\n", name, pairs[name])
	}
	return fmt.Sprintf(`
import {
  for_each = {
%s  }
  to = byok_key.%s[each.key]
  id = each.value
}
`, b.String(), providerID)
}
