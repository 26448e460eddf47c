package secrets

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// scene is one byok_key, applied by saved plans only, each operation a process of
// its own.
type scene struct {
	*testing.T
	tf     *tfrun.Folder
	server *acctest.Server
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, tf: tfrun.New(t), server: acctest.Start(t)}
	s.tf.Write(t, "provider.tf", s.server.ProviderConfig()+`
variable "secret" {
  type      = string
  sensitive = true
  ephemeral = true
}
variable "stored" {
  type      = string
  sensitive = true
  default   = null
}
`)
	return s
}

// declare writes the resource with these arguments.
func (s *scene) declare(arguments string) {
	s.tf.Write(s.T, "main.tf", fmt.Sprintf("resource \"byok_key\" \"test\" {\n  provider_id = \"openai\"\n  name        = \"prod\"\n%s\n}\n", arguments))
}

// variables sets the ephemeral variable and, unless empty, the other one.
func (s *scene) variables(secret, stored string) {
	s.tf.Env = slices.DeleteFunc(s.tf.Env, func(entry string) bool { return strings.HasPrefix(entry, "TF_VAR_") })
	if secret != "" {
		s.tf.Env = append(s.tf.Env, "TF_VAR_secret="+secret)
	}
	if stored != "" {
		s.tf.Env = append(s.tf.Env, "TF_VAR_stored="+stored)
	}
}

// served is the secret that the server serves.
func (s *scene) served() string {
	if got := s.server.Resolve(s.T, s.server.WorkspaceID, "openai"); got != nil {
		return got.APIKey
	}
	return ""
}

func (s *scene) uploads() int { return s.server.Count("POST", "/byok-keys") }

func TestWriteOnlyThroughSavedPlans(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	made := map[string]string{}
	secret := func(name string) string { // a secret by its name, none for ""
		if name != "" && made[name] == "" {
			made[name] = newCanary(useWriteOnly, "ascii").value
		}
		return made[name]
	}
	const (
		writeOnly = "  api_key_wo = var.secret"
		version   = "\n  api_key_wo_version = "
		inState   = "  api_key = var.stored"
		source    = "\n}\nresource \"terraform_data\" \"source\" {\n  input = nonsensitive(var.stored)"
		unknown   = "  api_key_wo = terraform_data.source.output" + source
	)
	id := ""
	for _, step := range []struct {
		title, arguments string
		// The value of the ephemeral variable at plan and at apply, and that
		// of the other one.
		plan, apply, stored string
		// changes says whether the plan has one; serves what is served after
		// the apply, if it has.
		changes bool
		serves  string
	}{
		{"create, another value at apply", writeOnly, "a", "b", "", true, "b"},
		{"the same value", writeOnly, "b", "", "", false, ""},
		{"a new value is noticed by itself", writeOnly, "c", "c", "", true, "c"},
		{"a new value, another one at apply", writeOnly, "d", "e", "", true, "e"},
		{"a new value, the old one at apply", writeOnly, "f", "e", "", true, "e"},
		{"set a version", writeOnly + version + "1", "g", "h", "", true, "h"},
		{"the version alone decides", writeOnly + version + "1", "i", "", "", false, ""},
		{"raise the version", writeOnly + version + "2", "j", "k", "", true, "k"},
		{"a value that differs every time", writeOnly + version + "2", "l", "", "", false, ""},
		{"remove the version", writeOnly, "m", "m", "", true, "m"},
		{"to api_key", inState, "x", "x", "n", true, "n"},
		{"a pipeline without the secret", "", "x", "", "", false, ""},
		{"back to api_key_wo", writeOnly, "o", "o", "", true, "o"},
		{"unknown at plan", unknown, "x", "x", "p", true, "p"},
		{"known again", unknown, "x", "", "p", false, ""},
		{"a pipeline without the write-only secret", source, "x", "", "p", false, ""},
	} {
		s.declare(step.arguments)
		s.variables(secret(step.plan), secret(step.stored))
		s.server.Reset()
		plan := s.tf.Plan(t, "-out=change.tfplan")
		if want := map[bool]int{true: 2}[step.changes]; plan.Exit != want {
			t.Fatalf("%s: the plan ended with %d, want %d:\n%s", step.title, plan.Exit, want, plan.Output)
		}
		if !step.changes {
			continue
		}
		if id == "" {
			// An ephemeral variable is in no plan.
			s.variables("", "")
			if e := s.tf.Try(t, "apply", "-no-color", "change.tfplan"); e.Exit != 1 || !strings.Contains(e.Output, "No value for required variable") {
				t.Errorf("%s: apply without the variable ended with %d:\n%s", step.title, e.Exit, e.Output)
			}
		} else if !strings.Contains(plan.Output, "1 to change, 0 to destroy") {
			t.Errorf("%s: not one update in place:\n%s", step.title, plan.Output)
		}
		// The plan holds the value of the other variable.
		s.variables(secret(step.apply), "")
		s.tf.Must(t, "apply", "-no-color", "change.tfplan")
		uploads := 1
		if step.title == "a new value, the old one at apply" {
			uploads = 0 // there is nothing to replace
		}
		if got := s.uploads(); got != uploads {
			t.Errorf("%s: %d uploads, want %d", step.title, got, uploads)
		}
		if got := s.served(); got != secret(step.serves) {
			t.Errorf("%s: %q is served, want %q", step.title, got, secret(step.serves))
		}
		state := s.tf.State(t)["byok_key.test"]
		if id == "" {
			id, _ = state["id"].(string)
		}
		if state["id"] != id {
			t.Errorf("%s: ID %v, want %v", step.title, state["id"], id)
		}
		if step.arguments != inState {
			if state["api_key"] != nil || state["api_key_wo"] != nil {
				t.Errorf("%s: there is a secret in state", step.title)
			}
			s.notInState(step.title, made)
		}
		s.variables(secret(step.apply), secret(step.stored))
		if again := s.tf.Plan(t); again.Exit != 0 {
			t.Errorf("%s: the next plan ended with %d:\n%s", step.title, again.Exit, again.Output)
		}
	}
}

// notInState looks for secrets in the state file, private state included.
func (s *scene) notInState(title string, secrets map[string]string) {
	s.Helper()
	data, err := os.ReadFile(filepath.Join(s.tf.Dir, "terraform.tfstate"))
	if err != nil {
		s.Fatal(err)
	}
	for name, secret := range secrets {
		// terraform_data has it in state, as the variable that it stands for.
		if name != "p" && bytes.Contains(data, []byte(secret)) {
			s.Errorf("%s: secret %s is in state", title, name)
		}
	}
}

// What Terraform itself does with secrets, whatever a provider does; the guide
// about secrets says so.
func TestWhatTerraformItselfShows(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.tf.Write(t, "main.tf", `
variable "secret" {
  type      = string
  sensitive = true
}
variable "ephemeral" {
  type      = string
  sensitive = true
  ephemeral = true
}
resource "byok_key" "plain_`+s.marker+`" {
  provider_id = "openai"
  api_key_wo  = var.secret
}
resource "byok_key" "ephemeral" {
  provider_id = "anthropic"
  api_key_wo  = var.ephemeral
}
`)
	// Not of the hunt: these are found.
	variable, line, literal := newCanary(useWriteOnly, "ascii"), newCanary(useWriteOnly, "ascii"), newCanary(useWriteOnly, "ascii")
	ephemeral := s.canary(useWriteOnly, "ascii")
	s.tf.Env = append(s.tf.Env, "BYOK_ENDPOINT="+s.server.URL, "BYOK_WORKSPACE_ID="+s.server.WorkspaceID, "BYOK_SESSION_TOKEN="+s.session.value,
		"TF_VAR_secret="+variable.value, "TF_VAR_ephemeral="+ephemeral.value)
	s.must("plan", "-no-color", "-out=change.tfplan")
	s.must("apply", "-no-color", "change.tfplan")
	if !s.has(kindPlan, variable.value) {
		t.Error("a saved plan does not hold the values of variables that are not ephemeral")
	}
	if s.has(kindState, variable.value) || s.has(kindCoreLog, variable.value) || s.has(kindStdout, variable.value) {
		t.Error("it is elsewhere, too")
	}

	s.must("plan", "-no-color", "-var", "secret="+line.value)
	if !s.has(kindCoreLog, line.value) {
		t.Error("the log does not hold the command line")
	}
	if s.has(kindProviderLog, line.value) || s.has(kindStdout, line.value) {
		t.Error("it is elsewhere, too")
	}

	// The switch of the plugin protocol for its developers.
	dir := t.TempDir()
	s.tf.Env = append(s.tf.Env, "TF_LOG_SDK_PROTO_DATA_DIR="+dir)
	s.tf.Must(t, "plan", "-no-color")
	if !holds(t, dir, ephemeral.value) {
		t.Error("the protocol's data does not hold the secret")
	}
	s.tf.Env = s.tf.Env[:len(s.tf.Env)-1]

	// The white space is what the provider warns about.
	s.tf.Write(t, "literal.tf", "resource \"byok_key\" \"literal\" {\n  provider_id = \"mistral\"\n  api_key_wo  = \" "+literal.value+"\"\n}\n")
	s.must("plan", "-no-color", "-out=change.tfplan")
	if !s.has(kindPlan, literal.value) || !s.has(kindStdout, "Whitespace around API key", literal.value) {
		t.Error("a literal is not in the plan, or not in the line that a warning quotes")
	}
	if s.has(kindState, literal.value) || s.has(kindCoreLog, literal.value) || s.has(kindProviderLog, literal.value) {
		t.Error("it is elsewhere, too")
	}
}

// holds reports whether a file in dir has text.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(data, []byte(text))
	})
}
