package pool

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A test mostly waits for terraform.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	os.Exit(tfrun.Run(m))
}

// openai is the provider ID of most tests.
const openai = "openai"

// world is a server with a workspace, and a folder whose configuration manages
// pools in it.
type world struct {
	*tfrun.Folder
	server *acctest.Server
}

func newWorld(t *testing.T, opts ...acctest.Option) *world {
	t.Helper()
	s := acctest.Start(t, opts...)
	return &world{
		Folder: tfrun.New(t, "BYOK_ENDPOINT="+s.URL, "BYOK_WORKSPACE_ID="+s.WorkspaceID, "BYOK_SESSION_TOKEN="+s.SessionToken),
		server: s,
	}
}

// configure writes the configuration.
func (w *world) configure(t *testing.T, parts ...string) {
	t.Helper()
	w.Write(t, "main.tf", strings.Join(parts, "\n"))
}

// add stores a key as another user and returns its ID.
func (w *world) add(t *testing.T, providerID, name string) string {
	t.Helper()
	id := w.server.Add(t, w.server.WorkspaceID, providerID, secret(name), name)
	// Within one millisecond the ID would decide on the order.
	for added := byok.FormatTime(time.Now()); byok.FormatTime(time.Now()) == added; {
		runtime.Gosched()
	}
	return id
}

// stored returns the keys of a pool.
func (w *world) stored(t *testing.T, providerID string) (keys []byok.Key) {
	t.Helper()
	for _, key := range w.server.List(t, w.server.WorkspaceID) {
		if key.ProviderID == providerID {
			keys = append(keys, key)
		}
	}
	return keys
}

// storedNames returns the names of a pool's keys in rotation order.
func (w *world) storedNames(t *testing.T, providerID string) (names []string) {
	t.Helper()
	for _, key := range w.stored(t, providerID) {
		names = append(names, nameOf(key))
	}
	return names
}

func nameOf(key byok.Key) string {
	if key.Name == nil {
		return ""
	}
	return *key.Name
}

// storedIDs returns the IDs of a pool's keys by name.
func (w *world) storedIDs(t *testing.T, providerID string) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, key := range w.stored(t, providerID) {
		ids[nameOf(key)] = key.ID
	}
	return ids
}

// wantServed resolves as workflow runs do and wants these secrets, in rotation
// order.
func (w *world) wantServed(t *testing.T, providerID string, secrets ...string) {
	t.Helper()
	var got []string
	for range secrets {
		served := w.server.Resolve(t, w.server.WorkspaceID, providerID)
		if served == nil {
			t.Fatalf("%s serves nothing", providerID)
		}
		got = append(got, served.APIKey)
	}
	if start := slices.Index(got, secrets[0]); start < 0 || !slices.Equal(append(got[start:], got[:start]...), secrets) {
		t.Errorf("%s serves %v, want %v", providerID, got, secrets)
	}
}

// wantEmptyPlan wants the next plan to change nothing.
func (w *world) wantEmptyPlan(t *testing.T, args ...string) {
	t.Helper()
	if again := w.Plan(t, args...); again.Exit != 0 {
		t.Errorf("the plan is not empty:\n%s", again.Output)
	}
}

// settled applies and wants an empty plan afterwards.
func (w *world) settled(t *testing.T, args ...string) tfrun.Result {
	t.Helper()
	result := w.Apply(t, args...)
	w.wantEmptyPlan(t)
	return result
}

// wantSays wants texts in an output, whose frames and line breaks do not count.
func wantSays(t *testing.T, result tfrun.Result, texts ...string) {
	t.Helper()
	out := flat(result.Output)
	for _, text := range texts {
		if !strings.Contains(out, flat(text)) {
			t.Errorf("terraform %s does not say %q:\n%s", strings.Join(result.Args, " "), text, result.Output)
		}
	}
}

func wantSaysNot(t *testing.T, result tfrun.Result, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(flat(result.Output), flat(text)) {
			t.Errorf("terraform %s says %q:\n%s", strings.Join(result.Args, " "), text, result.Output)
		}
	}
}

func flat(text string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╵", " ", "╷", " ").Replace(text)), " ")
}

// wantError wants a plan or an apply to fail and to say texts.
func (w *world) wantError(t *testing.T, args []string, texts ...string) tfrun.Result {
	t.Helper()
	result := w.Try(t, append(args, "-no-color")...)
	if result.Exit != 1 {
		t.Errorf("terraform %s ended with %d, want an error:\n%s", strings.Join(result.Args, " "), result.Exit, result.Output)
	}
	wantSays(t, result, texts...)
	return result
}

// element is what state shows of one key.
type element struct {
	ID        string  `json:"id"`
	Name      *string `json:"name"`
	MaskedKey string  `json:"masked_key"`
	CreatedBy *string `json:"created_by"`
	CreatedAt string  `json:"created_at"`
	UpdatedAt string  `json:"updated_at"`
}

// poolState is what state shows of a pool.
type poolState struct {
	Keys      map[string]element `json:"keys"`
	Unmanaged map[string]struct {
		Name      *string `json:"name"`
		MaskedKey string  `json:"masked_key"`
		CreatedAt string  `json:"created_at"`
	} `json:"unmanaged"`
	Exclusive bool `json:"exclusive"`
}

// state returns a pool in state, by its label.
func (w *world) state(t *testing.T, label string) (s poolState) {
	t.Helper()
	values, ok := w.State(t)["byok_pool."+label]
	if !ok {
		t.Fatalf("byok_pool.%s is not in state", label)
	}
	data, err := json.Marshal(values)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantStateIsStored wants state to show exactly what is stored: own keys in
// keys, the others in unmanaged.
func (w *world) wantStateIsStored(t *testing.T, label, providerID string) {
	t.Helper()
	s := w.state(t, label)
	byID := map[string]byok.Key{}
	for _, key := range w.stored(t, providerID) {
		byID[key.ID] = key
	}
	for name, e := range s.Keys {
		key, ok := byID[e.ID]
		if !ok || key.MaskedKey != e.MaskedKey || key.UpdatedAt != e.UpdatedAt || key.CreatedAt != e.CreatedAt ||
			!equalText(key.CreatedBy, e.CreatedBy) || !equalText(key.Name, e.Name) {
			t.Errorf("keys[%q] in state is %+v, stored is %+v", name, e, key)
		}
		delete(byID, e.ID)
	}
	for id, e := range s.Unmanaged {
		if key, ok := byID[id]; !ok || key.MaskedKey != e.MaskedKey || key.CreatedAt != e.CreatedAt || !equalText(key.Name, e.Name) {
			t.Errorf("unmanaged key %s in state is %+v, stored is %+v", id, e, key)
		}
		delete(byID, id)
	}
	for id, key := range byID {
		t.Errorf("key %s (%s) is stored and not in state", id, nameOf(key))
	}
}

// equalText compares two optional texts, of which none is the same as an empty one.
func equalText(a, b *string) bool {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return text(a) == text(b)
}

// secret is what the configuration declares under a name.
func secret(name string) string { return fmt.Sprintf("sk-test-0123456789-%s", name) }

// pool declares a pool labelled with its provider ID.
func pool(providerID string, parts ...string) string {
	return poolWith(providerID, providerID, parts...)
}

// poolWith declares a pool with another label. Parts that declare elements of
// keys come from the functions below; all others are arguments.
func poolWith(label, providerID string, parts ...string) string {
	var elements, arguments []string
	for _, part := range parts {
		if strings.HasPrefix(part, "\"") {
			elements = append(elements, part)
		} else {
			arguments = append(arguments, part)
		}
	}
	return fmt.Sprintf("resource \"byok_pool\" %q {\n  provider_id = %q\n  %s\n  keys = {\n    %s\n  }\n}\n",
		label, providerID, strings.Join(arguments, "\n  "), strings.Join(elements, "\n    "))
}

// key declares an element with the secret of its name.
func key(name string, more ...string) string { return keyWith(name, secret(name), more...) }

func keyWith(name, secret string, more ...string) string {
	return fmt.Sprintf("%q = { %s }", name, strings.Join(append([]string{fmt.Sprintf("api_key_wo = %q", secret)}, more...), ", "))
}

// keys declares elements with the secrets of their names.
func keys(names ...string) string {
	var all []string
	for _, name := range names {
		all = append(all, key(name))
	}
	return strings.Join(all, "\n    ")
}

// span returns the names <prefix><from> to <prefix><to>.
func span(prefix string, from, to int) (names []string) {
	for i := from; i <= to; i++ {
		names = append(names, fmt.Sprintf("%s%02d", prefix, i))
	}
	return names
}

func secrets(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, secret(name))
	}
	return all
}

const exclusive = "exclusive = true"
