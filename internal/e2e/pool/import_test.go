package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func importing(to, id string) string {
	return fmt.Sprintf("import {\n  to = %s\n  id = %q\n}\n", to, id)
}

// A filled pool is adopted by ID: keys with unique identifiers as names under
// these, all others under their IDs. Nothing is uploaded.
func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := w.add(t, openai, "plain")
	unnamed := w.add(t, openai, "")
	twin1, twin2 := w.add(t, openai, "twin"), w.add(t, openai, "twin")
	odd := w.add(t, openai, "odd ${name}\"")
	w.add(t, "google", "elsewhere")
	before := w.stored(t, openai)

	under := func(id string) string {
		if strings.ContainsAny(id[:1], "0123456789-") {
			return "key_" + id
		}
		return id
	}
	oddName, err := hclQuote(`odd ${name}"`)
	if err != nil {
		t.Fatal(err)
	}
	elements := []string{
		key("plain"),
		keyWith(under(unnamed), secret("")),
		keyWith(under(twin1), secret("twin"), `name = "twin"`),
		keyWith(under(twin2), secret("twin"), `name = "twin"`),
		fmt.Sprintf("%q = { api_key_wo = %s, name = %s }", under(odd), strings.Replace(oddName, "odd", "sk-test-0123456789-odd", 1), oddName),
	}
	for _, id := range []string{w.server.WorkspaceID + "/openai", "openai"} {
		w.configure(t, pool(openai, elements...), importing("byok_pool.openai", id))
		planned := w.Plan(t)
		wantSays(t, planned, "1 to import, 0 to add, 0 to change, 0 to destroy")
	}
	w.settled(t)
	if got := w.stored(t, openai); !slices.EqualFunc(before, got, sameKey) {
		t.Errorf("before %v\nafter %v", before, got)
	}
	if got := w.state(t, openai).Keys["plain"].ID; got != plain {
		t.Errorf("plain is %s, want %s", got, plain)
	}
	// A secret that its mask does not confirm is uploaded, visibly.
	elements[0] = keyWith("plain", "sk-other-9876543210-secret")
	w.configure(t, pool(openai, elements...))
	wantSays(t, w.Plan(t), `~ "plain" = {`)
	w.settled(t)
}

// An import takes the keys of others, too: the plan names those that its apply
// removes because nothing declares them.
func TestImportRemovesWhatIsNotDeclared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, openai, "a")
	theirs := w.add(t, openai, "theirs")
	const warning = "Imported keys are removed"
	w.configure(t, pool(openai, keys("a")), importing("byok_pool.openai", "openai"))
	wantSays(t, w.Plan(t), warning, theirs+`  name "theirs"`, "1 to import, 0 to add, 1 to change, 0 to destroy")
	w.configure(t, pool(openai, keys("a"), `"theirs" = {}`), importing("byok_pool.openai", "openai"))
	wantSaysNot(t, w.settled(t), warning)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"a", "theirs"}) {
		t.Errorf("stored are %v", got)
	}
	// A key that the provider has written is no longer one of others.
	w.configure(t, pool(openai, keyWith("a", secret("new")), `"theirs" = {}`))
	w.settled(t)
	w.configure(t, pool(openai, `"theirs" = {}`))
	wantSaysNot(t, w.Plan(t), warning)
	w.configure(t, pool(openai, keyWith("a", secret("new"))))
	wantSays(t, w.Plan(t), warning, theirs)
}

func hclQuote(text string) (string, error) {
	return fmt.Sprintf("%q", strings.ReplaceAll(text, "${", "$${")), nil
}

func sameKey(a, b byok.Key) bool {
	return a.ID == b.ID && nameOf(a) == nameOf(b) && a.UpdatedAt == b.UpdatedAt && a.CreatedAt == b.CreatedAt && a.MaskedKey == b.MaskedKey
}

func TestImportErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for id, want := range map[string]string{
		"openai":                     "There are no keys of provider ID \"openai\"",
		"a/b/c":                      `"a/b/c" has 3 parts separated by slashes, which is more than expected`,
		"/openai":                    `Part 1 of "/openai" is empty or contains whitespace.`,
		"nosuchworkspace/openai":     "workspace not found",
		w.server.WorkspaceID + "/ x": "is empty or contains whitespace",
	} {
		w.configure(t, pool(openai, keys("a")), importing("byok_pool.openai", id))
		w.wantError(t, []string{"plan"}, want)
	}
}

// absent is what -generate-config-out writes for a secret.
var absent = regexp.MustCompile(`= null # sensitive.*`)

// -generate-config-out writes a configuration that plans cleanly, before and
// after the secrets are filled in.
func TestImportGeneratesConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"plain", "", "twin", "twin", "odd name"} {
		w.add(t, openai, name)
	}
	before := w.stored(t, openai)
	w.configure(t, importing("byok_pool.openai", "openai"))
	w.Must(t, "plan", "-no-color", "-generate-config-out=generated.tf")
	wantSays(t, w.Plan(t), "1 to import, 0 to add, 0 to change, 0 to destroy")
	w.settled(t)
	generated, err := os.ReadFile(filepath.Join(w.Dir, "generated.tf"))
	if err != nil {
		t.Fatal(err)
	}
	// Fill in each secret, by the name of its key.
	filled, ids := string(generated), w.state(t, openai).Keys
	for name, e := range ids {
		label := ""
		if e.Name != nil {
			label = *e.Name
		}
		at := strings.Index(filled, name+" ")
		if at < 0 {
			at = strings.Index(filled, name+"\"")
		}
		if at < 0 {
			t.Fatalf("%s is not in the generated configuration:\n%s", name, generated)
		}
		// Terraform and OpenTofu follow the null with different comments.
		place := absent.FindStringIndex(filled[at:])
		if place == nil {
			t.Fatalf("no place for the secret of %s:\n%s", name, generated)
		}
		filled = fmt.Sprintf("%s= %q%s", filled[:at+place[0]], secret(label), filled[at+place[1]:])
	}
	if strings.Count(filled, "sk-test-0123456789") != len(ids) {
		t.Fatalf("not all secrets are filled in:\n%s", filled)
	}
	w.Write(t, "generated.tf", filled)
	w.wantEmptyPlan(t)
	if got := w.stored(t, openai); !slices.EqualFunc(before, got, sameKey) {
		t.Errorf("before %v\nafter %v", before, got)
	}
}

// singleKeys is one byok_key "k" for each name.
func singleKeys(names ...string) string {
	return fmt.Sprintf("resource \"byok_key\" \"k\" {\n  for_each = toset([\"%s\"])\n  provider_id = \"openai\"\n  name = each.key\n  api_key_wo = \"sk-test-0123456789-${each.key}\"\n}\n", strings.Join(names, `", "`))
}

func forget(resource string) string {
	return fmt.Sprintf("removed {\n  from = %s\n  lifecycle {\n    destroy = false\n  }\n}\n", resource)
}

// A stored key that two resources manage is an error at plan: one of them would
// change or delete it under the other.
func TestContestedKeys(t *testing.T) {
	t.Parallel()
	names := span("k", 1, 4)
	second := fmt.Sprintf("import {\n  to = byok_key.k[%q]\n  id = \"SECOND\"\n}\n", names[1])
	for title, tt := range map[string]struct{ first, then []string }{
		"keys that stay beside a pool that imports them": {
			[]string{singleKeys(names...)},
			[]string{singleKeys(names...), pool(openai, keys(names[:2]...)), importing("byok_pool.openai", "openai")},
		},
		"keys that go without a removed block": {
			[]string{singleKeys(names...)},
			[]string{pool(openai, keys(names...)), importing("byok_pool.openai", "openai")},
		},
		"a key that a pool has": {
			[]string{pool(openai, keys(names...))},
			[]string{pool(openai, keys(names...)), singleKeys(names[1]), second},
		},
		"a key that a pool gives up": {
			[]string{pool(openai, keys(names...))},
			[]string{pool(openai, keys(names[0], names[2], names[3])), singleKeys(names[1]), second},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, tt.first...)
			w.settled(t)
			before := w.stored(t, openai)
			w.configure(t, strings.ReplaceAll(strings.Join(tt.then, ""), "SECOND", before[1].ID))
			for _, args := range [][]string{{"plan"}, {"plan", "-parallelism=1"}, {"apply", "-auto-approve"}} {
				refused := w.wantError(t, args, `Pool "openai" has keys that two resources manage`, before[1].ID)
				if n := strings.Count(refused.Output, "Error: "); n != 1 {
					t.Errorf("%v reports %d errors:\n%s", args, n, refused.Output)
				}
			}
			if got := w.stored(t, openai); !slices.EqualFunc(before, got, sameKey) {
				t.Errorf("before %v\nafter %v", before, got)
			}
		})
	}
}

// Ten keys move into a pool and back, and no stored key is touched.
func TestMoveBetweenKeysAndPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := span("k", 1, 10)
	single := singleKeys(names...)
	w.configure(t, single)
	w.Apply(t)
	before := w.stored(t, openai)

	w.configure(t, forget("byok_key.k"), pool(openai, exclusive, keys(names...)), importing("byok_pool.openai", "openai"))
	wantSays(t, w.Plan(t), "1 to import, 0 to add", "0 to destroy")
	w.settled(t)
	if got := w.stored(t, openai); !slices.EqualFunc(before, got, sameKey) {
		t.Errorf("into the pool: before %v\nafter %v", before, got)
	}

	imports := "import {\n  for_each = {\n"
	for _, key := range before {
		imports += fmt.Sprintf("    %s = %q\n", nameOf(key), key.ID)
	}
	imports += "  }\n  to = byok_key.k[each.key]\n  id = each.value\n}\n"
	w.configure(t, forget("byok_pool.openai"), single, imports)
	wantSays(t, w.Plan(t), "10 to import, 0 to add, 0 to change, 0 to destroy")
	w.settled(t)
	if got := w.stored(t, openai); !slices.EqualFunc(before, got, sameKey) {
		t.Errorf("back: before %v\nafter %v", before, got)
	}
}
