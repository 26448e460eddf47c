package secrets

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

const examples = "../../../examples"

// filled is a workspace that was filled by hand.
type filled struct {
	server  *acctest.Server
	secrets map[string]string // by import ID
	shapes  map[string]string
}

func fill(t *testing.T) filled {
	t.Helper()
	f := filled{acctest.Start(t), map[string]string{}, map[string]string{}}
	for i, shape := range shapes {
		providerID := []string{"openai", "anthropic", "ollama-cloud"}[i%3]
		secret := newCanary(useForeign, shape).value
		id := f.server.WorkspaceID + "/" + providerID + "/" + f.server.Add(t, f.server.WorkspaceID, providerID, secret, []string{"team \"${a}\"", "", "same"}[i%3])
		f.secrets[id], f.shapes[id] = secret, shape
	}
	return f
}

// folder has the provider's configuration in its environment, as the guides
// assume, and files of the examples.
func (f filled) folder(t *testing.T, files ...string) *tfrun.Folder {
	t.Helper()
	tf := tfrun.New(t, "BYOK_ENDPOINT="+f.server.URL, "BYOK_WORKSPACE_ID="+f.server.WorkspaceID, "BYOK_SESSION_TOKEN="+f.server.SessionToken)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(examples, file))
		if err != nil {
			t.Fatal(err)
		}
		tf.Write(t, filepath.Base(file), string(text))
	}
	return tf
}

func (f filled) uploads() int { return f.server.Count("POST", "/byok-keys") }

// says fails the test unless a command said text and ended with exit.
func says(t *testing.T, r tfrun.Result, exit int, text string) {
	t.Helper()
	if r.Exit != exit || !strings.Contains(r.Output, text) {
		t.Fatalf("terraform %s ended with %d, want %d and %q:\n%s", strings.Join(r.Args, " "), r.Exit, exit, text, r.Output)
	}
}

// The guide about adopting keys, step by step: import blocks from an output,
// configuration from Terraform, secrets filled in.
func TestAdoptingGuide(t *testing.T) {
	t.Parallel()
	f := fill(t)
	tf := f.folder(t, "guides/adopting/list.tf")
	tf.Apply(t)
	var listed []struct {
		ImportID  string `json:"import_id"`
		MaskedKey string `json:"masked_key"`
	}
	if err := json.Unmarshal([]byte(output(t, tf, "-json", "keys")), &listed); err != nil {
		t.Fatal(err)
	}
	for _, key := range listed {
		if want := byok.Mask(f.secrets[key.ImportID]); key.MaskedKey != want {
			t.Errorf("key %s is listed as %q, want %q", key.ImportID, key.MaskedKey, want)
		}
	}
	tf.Write(t, "imports.tf", output(t, tf, "-raw", "import_blocks"))
	says(t, tf.Try(t, "plan", "-no-color", "-generate-config-out=keys.tf"), 0, "Plan: 6 to import, 0 to add, 0 to change, 0 to destroy.")
	says(t, tf.Plan(t), 2, "Plan: 6 to import, 0 to add, 0 to change, 0 to destroy.")

	// Fill in the secrets. One of them is not the stored one.
	generated, err := os.ReadFile(filepath.Join(tf.Dir, "keys.tf"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{}
	for i, key := range listed {
		secrets[key.ImportID] = f.secrets[key.ImportID]
		if f.shapes[key.ImportID] == "ascii" {
			secrets[key.ImportID] = newCanary(useForeign, "ascii").value
		}
		providerID := strings.Split(key.ImportID, "/")[1]
		generated = fillIn(t, generated, fmt.Sprintf("%s_%d", providerID, i+1), `api_key_wo = var.api_keys["`+key.ImportID+`"]`)
	}
	tf.Write(t, "keys.tf", string(generated)+"\nvariable \"api_keys\" {\n  type = map(string)\n  ephemeral = true\n}\n")
	tf.Env = append(tf.Env, "TF_VAR_api_keys="+hcl(t, secrets))
	f.server.Reset()
	// The one that does not match, and the one of 8 characters, whose mask
	// says nothing.
	says(t, tf.Plan(t), 2, "Plan: 6 to import, 0 to add, 2 to change, 0 to destroy.")
	if f.uploads() != 0 {
		t.Error("a plan uploads")
	}
	tf.Apply(t)
	if got := f.uploads(); got != 2 {
		t.Errorf("%d uploads, want 2", got)
	}
	// The outputs and the import blocks have done their work.
	for _, file := range []string{"list.tf", "imports.tf"} {
		if err := os.Remove(filepath.Join(tf.Dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	says(t, tf.Apply(t), 0, "Resources: 0 added, 0 changed, 0 destroyed.")
	if r := tf.Plan(t); r.Exit != 0 || f.uploads() != 2 {
		t.Errorf("%d uploads, want 2, and the next plan:\n%s", f.uploads(), r.Output)
	}
	if got := len(f.server.List(t, f.server.WorkspaceID)); got != len(shapes) {
		t.Errorf("%d keys are stored, want %d", got, len(shapes))
	}
}

// The same with one resource for all keys.
func TestAdoptingGuideForEach(t *testing.T) {
	t.Parallel()
	f := fill(t)
	tf := f.folder(t, "guides/adopting/list.tf", "guides/adopting/import.tf")
	f.server.Reset()
	says(t, tf.Plan(t), 2, "Plan: 6 to import, 0 to add, 0 to change, 0 to destroy.")
	tf.Apply(t)
	// Adopted without secrets; those that match change nothing.
	secrets := map[string]string{}
	for id, secret := range f.secrets {
		if f.shapes[id] != "short" {
			secrets[id] = secret
		}
	}
	tf.Env = append(tf.Env, "TF_VAR_api_keys="+hcl(t, secrets))
	if r := tf.Plan(t); r.Exit != 0 {
		t.Errorf("the next plan is not empty:\n%s", r.Output)
	}
	if got := f.uploads(); got != 0 {
		t.Errorf("%d uploads, want none", got)
	}

	// It follows the workspace.
	for id := range f.secrets {
		if part := strings.Split(id, "/"); f.shapes[id] == "long" {
			f.server.Delete(t, part[0], part[1], part[2])
		}
	}
	f.server.Add(t, f.server.WorkspaceID, "mistral", newCanary(useForeign, "ascii").value, "new")
	says(t, tf.Plan(t), 2, "Plan: 1 to import, 0 to add, 0 to change, 0 to destroy.")
}

// The guide about replacing keys: add the new one before the old one goes.
func TestReplacingGuide(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before, after := newCanary(useForeign, "ascii").value, newCanary(useForeign, "ascii").value
	const next = `
resource "byok_key" "next" {
  provider_id = "openai"
  name        = "next"
  api_key_wo  = var.secret
}
data "byok_keys" "openai" {
  provider_id = "openai"
  depends_on  = [byok_key.next]
}
output "names" {
  value = data.byok_keys.openai.keys[*].name
}
`
	s.declare("  api_key_wo = var.secret")
	s.variables(before, "")
	s.tf.Apply(t)
	s.variables(after, "")
	s.declare("  api_key_wo = null") // its secret stays as it is
	s.tf.Write(t, "next.tf", next)
	says(t, s.tf.Apply(t), 0, "Resources: 1 added, 0 changed, 0 destroyed.")
	if got, want := []string{s.served(), s.served()}, []string{before, after}; !slices.Equal(got, want) {
		t.Errorf("served in turn: %q, want %q", got, want)
	}
	if got, want := output(t, s.tf, "-json", "names"), `["prod","next"]`+"\n"; got != want {
		t.Errorf("byok_keys shows %s, want %s", got, want)
	}
	s.tf.Write(t, "main.tf", "")
	says(t, s.tf.Apply(t), 0, "Resources: 0 added, 0 changed, 1 destroyed.")
	if got, want := []string{s.served(), s.served()}, []string{after, after}; !slices.Equal(got, want) {
		t.Errorf("served in the end: %q, want %q", got, want)
	}
}

// A stray key takes the place of the one that would be created.
func TestAdoptingGuideStrayKey(t *testing.T) {
	t.Parallel()
	f := fill(t)
	tf := f.folder(t, "resources/byok_key/resource.tf")
	secret := newCanary(useForeign, "ascii").value
	tf.Env = append(tf.Env, "TF_VAR_openai_api_key="+secret)
	id := f.server.Add(t, f.server.WorkspaceID, "openai", secret, "production")
	f.server.Reset()
	says(t, tf.Plan(t), 2, "Plan: 1 to add")
	tf.Must(t, "import", "-no-color", "byok_key.openai", f.server.WorkspaceID+"/openai/"+id)
	if r := tf.Plan(t); r.Exit != 0 || f.uploads() != 0 {
		t.Errorf("%d uploads, and the next plan:\n%s", f.uploads(), r.Output)
	}
}

// The example of the function finds the stored key that is in hand.
func TestMaskFunction(t *testing.T) {
	t.Parallel()
	f := fill(t)
	tf := f.folder(t, "functions/mask/function.tf")
	for id, secret := range f.secrets {
		if _, providerID, _ := strings.Cut(id, "/"); !strings.HasPrefix(providerID, "openai/") {
			continue
		}
		env := tf.Env
		tf.Env = append(slices.Clone(env), "TF_VAR_openai_api_key="+secret)
		tf.Apply(t)
		var got []string
		if err := json.Unmarshal([]byte(output(t, tf, "-json", "candidates")), &got); err != nil {
			t.Fatal(err)
		}
		if want := []string{id[strings.LastIndex(id, "/")+1:]}; !slices.Equal(got, want) {
			t.Errorf("%s: candidates %v, want %v", f.shapes[id], got, want)
		}
		tf.Env = env
	}
}

// A reader plans, an admin applies that plan.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	f := fill(t)
	tf := f.folder(t, "resources/byok_key/resource.tf")
	tf.Env = append(tf.Env, "TF_VAR_openai_api_key="+newCanary(useForeign, "ascii").value)
	admin := tf.Env
	reader := append(slices.Clone(admin), "BYOK_SESSION_TOKEN="+f.server.NewUser(t, "read", f.server.WorkspaceID).SessionToken)

	tf.Env = reader
	says(t, tf.Plan(t, "-out=change.tfplan"), 2, "Plan: 1 to add")
	tf.Env = admin
	tf.Must(t, "apply", "-no-color", "change.tfplan")
	tf.Env = reader
	if r := tf.Plan(t); r.Exit != 0 {
		t.Errorf("the next plan is not empty:\n%s", r.Output)
	}
	says(t, tf.Try(t, "destroy", "-no-color", "-auto-approve"), 1, "not an admin of the workspace")
	tf.Env = append(slices.Clone(admin), "BYOK_SESSION_TOKEN="+f.server.NewUser(t, "").SessionToken)
	says(t, tf.Plan(t), 1, "no access to the workspace")
}

// output runs terraform output.
func output(t *testing.T, tf *tfrun.Folder, args ...string) string {
	t.Helper()
	return tf.Stdout(t, append([]string{"output", "-no-color"}, args...)...)
}

// fillIn gives a resource of a generated configuration its secret.
func fillIn(t *testing.T, text []byte, name, with string) []byte {
	t.Helper()
	at := regexp.MustCompile(`(?s)resource "byok_key" "` + name + `" \{.*?\n  (api_key_wo +=[^\n]*)`).FindSubmatchIndex(text)
	if at == nil {
		t.Fatalf("no write-only secret of %s in the generated configuration:\n%s", name, text)
	}
	return slices.Concat(text[:at[2]], []byte(with), text[at[3]:])
}

// The guide about moving keys into a pool, which changes nothing at the server.
func TestMovingGuide(t *testing.T) {
	t.Parallel()
	f := filled{server: acctest.Start(t)}
	tf := f.folder(t)
	secrets := map[string]string{"first": newCanary(useWriteOnly, "ascii").value, "second": newCanary(useWriteOnly, "quotes").value}
	tf.Env = append(tf.Env, "TF_VAR_mistral_api_keys="+hcl(t, secrets))
	tf.Write(t, "pool.tf", `variable "mistral_api_keys" {
  type      = map(string)
  ephemeral = true
}
resource "byok_key" "mistral" {
  for_each    = toset(["first", "second"])
  provider_id = "mistral"
  name        = each.key
  api_key_wo  = var.mistral_api_keys[each.key]
}
`)
	tf.Apply(t)
	before := f.server.List(t, f.server.WorkspaceID)
	text, err := os.ReadFile(filepath.Join(examples, "guides/moving/pool.tf"))
	if err != nil {
		t.Fatal(err)
	}
	tf.Write(t, "pool.tf", string(text))
	says(t, tf.Plan(t), 2, "1 to import, 0 to add, 0 to change, 0 to destroy")
	tf.Apply(t)
	if r := tf.Plan(t); r.Exit != 0 {
		t.Errorf("the next plan:\n%s", r.Output)
	}
	if diff := cmp.Diff(before, f.server.List(t, f.server.WorkspaceID)); diff != "" {
		t.Errorf("the stored keys have changed:\n%s", diff)
	}
}

// The guide about thousands of keys: a pool for each workspace.
func TestScaleGuide(t *testing.T) {
	t.Parallel()
	f := filled{server: acctest.Start(t)}
	tf := f.folder(t, "guides/scale/main.tf")
	if err := os.Mkdir(filepath.Join(tf.Dir, "pool"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(examples, "guides/scale/pool/main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	tf.Write(t, "pool/main.tf", string(text))
	pools, secrets := map[string][]string{}, map[string]map[string]string{}
	for range 3 {
		id := f.server.NewWorkspace(t)
		pools[id] = []string{"first", "second"}
		secrets[id] = map[string]string{}
		for _, name := range pools[id] {
			secrets[id][name] = newCanary(useWriteOnly, "ascii").value
		}
	}
	variables, err := json.Marshal(map[string]any{"pools": pools, "secrets": secrets})
	if err != nil {
		t.Fatal(err)
	}
	tf.Write(t, "terraform.tfvars.json", string(variables))
	tf.Must(t, "get", "-no-color")
	says(t, tf.Apply(t), 0, "Resources: 3 added, 0 changed, 0 destroyed.")
	f.server.Reset()
	if r := tf.Plan(t); r.Exit != 0 {
		t.Errorf("the next plan:\n%s", r.Output)
	}
	if lists := f.server.Count("GET", "/byok-keys"); lists != len(pools) {
		t.Errorf("%d lists, want one for each of %d workspaces", lists, len(pools))
	}
}
