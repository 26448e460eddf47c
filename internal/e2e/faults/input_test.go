package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

var updateInput = flag.Bool("input.update", false, "write testdata/input.golden anew")

// badInput is one mistake. set goes over a configuration that is right; nil
// takes an attribute out.
type badInput struct {
	what string // provider, resource, pool, data TYPE, import, import pool, list, list pool
	set  map[string]any
	// at is the attribute that the diagnostics point to; empty where the input
	// has none.
	at string
}

type set = map[string]any

var badInputs = []badInput{
	{"provider", set{"endpoint": nil}, "endpoint"},
	{"provider", set{"endpoint": ""}, "endpoint"},
	{"provider", set{"endpoint": " "}, "endpoint"},
	{"provider", set{"endpoint": "sim.example.com"}, "endpoint"},
	{"provider", set{"endpoint": "ftp://sim.example.com"}, "endpoint"},
	{"provider", set{"endpoint": "https://"}, "endpoint"},
	{"provider", set{"endpoint": "https://user:secret@sim.example.com"}, "endpoint"},
	{"provider", set{"endpoint": "https://sim.example.com?x=1"}, "endpoint"},
	{"provider", set{"endpoint": "https://sim.example.com#top"}, "endpoint"},
	{"provider", set{"endpoint": "https://sim.example.com/a/../b"}, "endpoint"},
	{"provider", set{"endpoint": "https://sim.example.com:port"}, "endpoint"},
	{"provider", set{"endpoint": "http://sim.example.com"}, "endpoint"},
	{"provider", set{"session_token": nil}, "session_token"},
	{"provider", set{"session_token": ""}, "session_token"},
	{"provider", set{"session_token": "no-signature"}, "session_token"},
	{"provider", set{"session_token": "cut.off%2"}, "session_token"},
	{"provider", set{"session_token": "line\nbreak.x"}, "session_token"},
	{"provider", set{"session_token": "other=cookie; a=b"}, "session_token"},
	{"provider", set{"email": "a@example.com"}, "session_token"},
	{"provider", set{"password": "pass"}, "session_token"},
	{"provider", set{"session_token": nil, "email": "a@example.com"}, "password"},
	{"provider", set{"session_token": nil, "password": "pass"}, "email"},
	{"provider", set{"headers": set{"Cookie": "a=b"}}, `headers["Cookie"]`},
	{"provider", set{"headers": set{"content-type": "text/plain"}}, `headers["content-type"]`},
	{"provider", set{"headers": set{"bad header": "x"}}, `headers["bad header"]`},
	{"provider", set{"headers": set{"X-A": "1\r\nX-B: 2"}}, `headers["X-A"]`},
	{"provider", set{"headers": set{"": "x"}}, "headers"},
	{"provider", set{"headers": set{"X-A": "1", "x-a": "2"}}, `headers["x-a"]`},
	{"provider", set{"ca_cert_pem": "not pem"}, "ca_cert_pem"},
	{"provider", set{"ca_cert_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "ca_cert_pem"},
	{"provider", set{"ca_cert_pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "ca_cert_pem"},
	{"provider", set{"request_timeout": "soon"}, "request_timeout"},
	{"provider", set{"request_timeout": "30"}, "request_timeout"},
	{"provider", set{"request_timeout": "0s"}, "request_timeout"},
	{"provider", set{"request_timeout": "-5s"}, "request_timeout"},
	{"provider", set{"max_retries": -1}, "max_retries"},
	{"provider", set{"max_retries": 101}, "max_retries"},
	{"provider", set{"max_retries": 1.5}, "max_retries"},
	{"provider", set{"cap_check": "maybe"}, "cap_check"},
	{"provider", set{"deployment": "cloud"}, "deployment"},
	{"provider", set{"max_keys_per_provider": 0}, "max_keys_per_provider"},
	{"provider", set{"workspace_id": "a/b"}, "workspace_id"},
	{"provider", set{"workspace_id": "a b"}, "workspace_id"},

	{"resource", set{"workspace_id": ""}, "workspace_id"},
	{"resource", set{"workspace_id": "a/b"}, "workspace_id"},
	{"resource", set{"workspace_id": "a b"}, "workspace_id"},
	{"resource", set{"workspace_id": "a\x00b"}, "workspace_id"},
	{"resource", set{"workspace_id": nil, "organization_id": ""}, "organization_id"},
	{"resource", set{"workspace_id": nil, "organization_id": "a/b"}, "organization_id"},
	{"resource", set{"organization_id": "o"}, "organization_id"}, // beside workspace_id
	{"resource", set{"workspace_id": nil, "organization_id": "nosuchorganization"}, "organization_id"},
	{"resource", set{"provider_id": ""}, "provider_id"},
	{"resource", set{"provider_id": "OpenAI"}, "provider_id"},
	{"resource", set{"provider_id": "open ai"}, "provider_id"},
	{"resource", set{"provider_id": "-openai"}, "provider_id"},
	{"resource", set{"provider_id": "opneai"}, "provider_id"},
	{"resource", set{"provider_id": strings.Repeat("x", 65)}, "provider_id"},
	{"resource", set{"name": strings.Repeat("n", 121)}, "name"},
	{"resource", set{"name": strings.Repeat("😀", 61)}, "name"},
	{"resource", set{"name": "a\x00b"}, "name"},
	{"resource", set{"api_key_wo": nil}, "api_key_wo"},
	{"resource", set{"api_key_wo": ""}, "api_key_wo"},
	{"resource", set{"api_key_wo": "sk\x00"}, "api_key_wo"},
	{"resource", set{"api_key_wo": "sk-with-a-newline\n"}, "api_key_wo"},
	{"resource", set{"api_key_wo": "  \t"}, "api_key_wo"},
	{"resource", set{"api_key": "", "api_key_wo": nil}, "api_key"},
	{"resource", set{"api_key": "sk\x00", "api_key_wo": nil}, "api_key"},
	{"resource", set{"api_key": "sk-both-given-00001"}, "api_key"},
	{"resource", set{"api_key": "sk-alone-00000001", "api_key_wo": nil, "api_key_wo_version": 1}, "api_key"},
	{"resource", set{"api_key_wo_version": 0}, "api_key_wo_version"},
	{"resource", set{"api_key_wo_version": -3}, "api_key_wo_version"},
	{"resource", set{"api_key_wo_version": 1.5}, "api_key_wo_version"},
	{"resource", set{"api_key_wo_version": 1e30}, "api_key_wo_version"},
	{"resource", set{"on_remote_change": "ignore"}, "on_remote_change"},
	{"resource", set{"on_remote_change": ""}, "on_remote_change"},
	{"resource", set{"timeouts": set{"create": "soon"}}, "timeouts.create"},
	{"resource", set{"timeouts": set{"read": "0s"}}, "timeouts.read"},
	{"resource", set{"timeouts": set{"update": "-1m"}}, "timeouts.update"},
	{"resource", set{"timeouts": set{"delete": "5"}}, "timeouts.delete"},

	{"pool", set{"workspace_id": "a/b"}, "workspace_id"},
	{"pool", set{"workspace_id": nil, "organization_id": ""}, "organization_id"},
	{"pool", set{"workspace_id": nil, "organization_id": "a/b"}, "organization_id"},
	{"pool", set{"organization_id": "o"}, "organization_id"},
	{"pool", set{"workspace_id": nil, "organization_id": "nosuchorganization"}, "organization_id"},
	{"pool", set{"provider_id": "OpenAI"}, "provider_id"},
	{"pool", set{"keys": set{}}, "keys"},
	{"pool", set{"keys": set{"a": set{}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": ""}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": "sk\x00"}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": "sk-with-a-newline\n"}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": "sk-fine-000000001", "api_key_wo_version": 0}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": "sk-fine-000000001", "api_key_wo_version": 1.5}}}, `keys["a"]`},
	{"pool", set{"keys": set{"a": set{"api_key_wo": "sk-fine-000000001", "name": strings.Repeat("n", 121)}}}, `keys["a"]`},
	{"pool", set{"keys": set{"": set{"api_key_wo": "sk-fine-000000001"}}}, `keys[""]`},
	{"pool", set{"keys": set{" \t": set{"api_key_wo": "sk-fine-000000001"}}}, `keys[" \t"]`},
	{"pool", set{"keys": set{strings.Repeat("k", 121): set{"api_key_wo": "sk-fine-000000001"}}}, `keys["` + strings.Repeat("k", 121) + `"]`},
	{"pool", set{"keys": set{"a\x00": set{"api_key_wo": "sk-fine-000000001"}}}, `keys["a\x00"]`},
	{"pool", set{"on_remote_change": "ignore"}, "on_remote_change"},
	{"pool", set{"timeouts": set{"create": "soon"}}, "timeouts.create"},

	{"data byok_keys", set{"workspace_id": ""}, "workspace_id"},
	{"data byok_keys", set{"workspace_id": "../x"}, "workspace_id"},
	{"data byok_keys", set{"workspace_id": "00000000-0000-4000-8000-000000000000"}, "workspace_id"},
	{"data byok_keys", set{"provider_id": "Open AI"}, "provider_id"},
	{"data byok_keys", set{"provider_id": ""}, "provider_id"},
	{"data byok_keys", set{"provider_id": "opneai"}, "provider_id"},
	{"data byok_keys", set{"workspace_id": nil, "organization_id": ""}, "organization_id"},
	{"data byok_keys", set{"workspace_id": nil, "organization_id": "a/b"}, "organization_id"},
	{"data byok_keys", set{"organization_id": "o"}, "organization_id"}, // beside workspace_id
	{"data byok_keys", set{"workspace_id": nil, "organization_id": "nosuchorganization"}, "organization_id"},

	{"data byok_workspaces", set{"name": ""}, "name"},
	{"data byok_workspaces", set{"name": " "}, "name"},
	{"data byok_workspaces", set{"name": "twice"}, "name"},
	{"data byok_workspaces", set{"name": "Twice"}, "name"}, // two have it

	{"data byok_inherited_providers", set{"workspace_id": ""}, "workspace_id"},
	{"data byok_inherited_providers", set{"workspace_id": "a b"}, "workspace_id"},
	{"data byok_inherited_providers", set{"workspace_id": "../x"}, "workspace_id"},
	{"data byok_inherited_providers", set{"workspace_id": "00000000-0000-4000-8000-000000000000"}, "workspace_id"},

	{"import", set{"id": "a/b/c/d"}, ""},
	{"import", set{"id": "/"}, ""},
	{"import", set{"id": "//"}, ""},
	{"import", set{"id": " "}, ""},
	{"import", set{"id": "w/ openai/k"}, ""},
	{"import", set{"id": "{workspace}/"}, ""},
	{"import", set{"id": "organization//openai/k"}, ""},
	{"import", set{"id": "organization/o/openai/k/x"}, ""},
	{"import", set{"id": "organization/nosuchorganization/openai/k"}, "organization_id"},
	{"import", set{"id": "nosuchkey"}, ""},
	{"import", set{"id": "{workspace}/nosuchkey"}, ""},
	{"import", set{"id": "{workspace}/anthropic/{key}"}, ""},
	{"import", set{"id": "00000000-0000-4000-8000-000000000000/{key}"}, "workspace_id"},

	{"import pool", set{"id": "a/b/c"}, ""},
	{"import pool", set{"id": "/"}, ""},
	{"import pool", set{"id": "organization//openai"}, ""},
	{"import pool", set{"id": "organization/o/openai/x"}, ""},
	{"import pool", set{"id": "organization/nosuchorganization/openai"}, "organization_id"},
	{"import pool", set{"id": "open ai"}, ""},
	{"import pool", set{"id": "anthropic"}, ""},
	{"import pool", set{"id": "00000000-0000-4000-8000-000000000000/openai"}, "workspace_id"},

	{"list", set{"workspace_ids": []any{""}}, "workspace_ids[0]"},
	{"list", set{"workspace_ids": []any{"*", "a/b"}}, "workspace_ids[1]"},
	{"list", set{"workspace_ids": []any{nil}}, "workspace_ids"},
	{"list", set{"workspace_ids": []any{"00000000-0000-4000-8000-000000000000"}}, ""},
	{"list", set{"organization_ids": []any{"*"}}, "organization_ids[0]"},
	{"list", set{"organization_ids": []any{"nosuchorganization"}}, ""},
	{"list", set{"provider_ids": []any{"OpenAI"}}, "provider_ids[0]"},

	{"list pool", set{"workspace_ids": []any{"a/b"}}, "workspace_ids[0]"},
	{"list pool", set{"workspace_ids": []any{"00000000-0000-4000-8000-000000000000"}}, ""},
	{"list pool", set{"organization_ids": []any{"nosuchorganization"}}, ""},
	{"list pool", set{"provider_ids": []any{"OpenAI"}}, "provider_ids[0]"},
}

var badBootstraps = []string{
	``,
	`[]`,
	`{`,
	`{"users":}`,
	`{} {}`,
	`{"user":[]}`,
	`{"users":{}}`,
	`{"users":[],"users":[]}`,
	`{"users":[{"email":7}]}`,
	`{"users":[{"email":"nobody","password":"password1"}]}`,
	`{"users":[{"email":"a@example.com","password":"short"}]}`,
	`{"users":[{"email":"a@example.com","password":"password1"},{"email":"A@example.com","password":"password1"}]}`,
	`{"users":[{"email":"a@example.com","password":"password1","role":"admin"}]}`,
	`{"organizations":[{"name":"x"}]}`,
	`{"organizations":[{"id":"o"},{"id":"o"}]}`,
	`{"organizations":[{"id":"o","members":[{"email":"a@example.com","role":"boss"}]}]}`,
	`{"organizations":[{"id":"o","members":[{"role":"admin"}]}]}`,
	`{"workspaces":[{"owner":"a@example.com"}]}`,
	`{"workspaces":[{"id":"a/b","owner":"a@example.com"}]}`,
	`{"workspaces":[{"id":"w"}]}`,
	`{"workspaces":[{"id":"w","owner":"a@example.com"},{"id":"w","owner":"a@example.com"}]}`,
	`{"workspaces":[{"id":"w","owner":"a@example.com","members":[{"email":"b@example.com","permission":"owner"}]}]}`,
	`{"workspaces":[{"id":"w","owner":"a@example.com","members":[{"permission":"read"}]}]}`,
}

var badFlags = [][]string{
	{},
	{"server"},
	{"serve", "now"},
	{"serve", "--port", "80"},
	{"serve", "--listen", "nowhere"},
	{"serve", "--listen", "127.0.0.1:99999"},
	{"serve", "--database", "mysql://x"},
	{"serve", "--database", "sqlite:"},
	{"serve", "--database", "sqlite:/nonexistent/keys.db"},
	{"serve", "--database", "postgres://user:hunter2@[::1"},
	{"serve", "--database", "sqlite::memory:", "--bootstrap", "/nonexistent/bootstrap.json"},
	{"serve", "--database", "sqlite::memory:", "--env-file", "byok.env"},
	{"serve", "--database", "sqlite::memory:", "--app-url", "sim.example.com"},
	{"serve", "--database", "sqlite::memory:", "--log-format", "xml"},
	{"serve", "--database", "sqlite::memory:", "--hosted=maybe"},
	{"migrate", "down"},
	{"migrate"},
	{"import-legacy"},
	{"import-legacy", "/nonexistent/keys.jsonl"},
}

func (in badInput) String() string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(in.set); err != nil {
		panic(err)
	}
	return in.what + " " + strings.TrimSpace(b.String())
}

// TestBadInput holds what users are told about wrong input, to the letter, in
// testdata/input.golden, and that diagnostics point to the attribute that they
// are about.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	keyID := s.Add(t, s.WorkspaceID, "openai", "sk-stored-0000001", "")
	twice := []string{s.NewNamedWorkspace(t, "Twice", ""), s.NewNamedWorkspace(t, "Twice", "")}
	slices.Sort(twice)
	names := strings.NewReplacer(s.URL, "{endpoint}", s.WorkspaceID, "{workspace}", keyID, "{key}", twice[0], "{first}", twice[1], "{second}")
	fill := strings.NewReplacer("{workspace}", s.WorkspaceID, "{key}", keyID)
	var golden strings.Builder
	cases := 0
	for _, in := range badInputs {
		cases++
		found := give(t, s, in, fill)
		fmt.Fprintf(&golden, "=== %s\n%s\n\n", in, strings.TrimSpace(clean(names.Replace(found.Error()))))
		if len(found) == 0 {
			t.Errorf("%s is taken without a word", in)
		}
		for _, diag := range found {
			if got := pathOf(diag.Attribute); got != in.at && !strings.Contains(diag.Summary, "Write-Only Attribute Alternative") {
				t.Errorf("%s: %q points to %q, want %q", in, diag.Summary, got, in.at)
			}
		}
	}
	for _, document := range badBootstraps {
		cases++
		_, err := server.ReadBootstrap(strings.NewReader(document))
		if err == nil {
			t.Errorf("bootstrap %s is taken", document)
		}
		fmt.Fprintf(&golden, "=== bootstrap %s\n%v\n\n", document, err)
	}
	bin, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range badFlags {
		cases++
		cmd := exec.Command(bin, args...)
		cmd.Dir, cmd.Env = t.TempDir(), []string{"PATH=/nonexistent"}
		var out bytes.Buffer
		cmd.Stderr = &out
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Errorf("%q: %v", args, err)
			continue
		}
		said := strings.TrimSpace(clean(out.String()))
		if strings.Contains(said, "hunter2") {
			t.Errorf("%q shows the password", args)
		}
		fmt.Fprintf(&golden, "=== byok-server %s\nexit %d\n%s\n\n", strings.Join(args, " "), cmd.ProcessState.ExitCode(), said)
	}
	if cases < 60 {
		t.Errorf("only %d cases", cases)
	}

	file := filepath.Join("testdata", "input.golden")
	if *updateInput {
		if err := os.WriteFile(file, []byte(golden.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(golden.String(), "\n")); diff != "" {
		t.Errorf("run with -input.update and look at the difference:\n%s", diff)
	}
}

// Every argument of the provider has a row in badInputs, unless no value of its
// type is wrong.
func TestBadInputHasEveryArgument(t *testing.T) {
	t.Parallel()
	schemas, err := provider.NewServer("test")().GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, in := range badInputs {
		for name, value := range in.set {
			if value != nil {
				rows[in.what+" "+name] = true
			}
		}
	}
	arguments := 0
	check := func(what string, schema *tfprotov6.Schema) {
		for _, attribute := range schema.Block.Attributes {
			if !attribute.Required && !attribute.Optional || attribute.Type != nil && attribute.Type.Is(tftypes.Bool) {
				continue
			}
			if arguments++; !rows[what+" "+attribute.Name] {
				t.Errorf("no row for %s of %s", attribute.Name, what)
			}
		}
		for _, block := range schema.Block.BlockTypes {
			if arguments++; !rows[what+" "+block.TypeName] {
				t.Errorf("no row for the block %s of %s", block.TypeName, what)
			}
		}
	}
	check("provider", schemas.Provider)
	for typeName, schema := range schemas.ResourceSchemas {
		check(map[string]string{"byok_key": "resource", "byok_pool": "pool"}[typeName], schema)
	}
	for typeName, schema := range schemas.ListResourceSchemas {
		check(map[string]string{"byok_key": "list", "byok_pool": "list pool"}[typeName], schema)
	}
	for typeName, schema := range schemas.DataSourceSchemas {
		check("data "+typeName, schema)
	}
	if arguments < 30 {
		t.Errorf("only %d arguments", arguments)
	}
}

// give hands wrong input to the provider as terraform would, as far as it gets.
func give(t *testing.T, s *acctest.Server, in badInput, fill *strings.Replacer) tfcore.Diagnostics {
	t.Helper()
	ctx := t.Context()
	config := map[string]any{"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken, "max_retries": 0}
	attributes := map[string]any{}
	switch in.what {
	case "provider":
		attributes = config
		attributes["cap_check"] = "off" // no request leaves for an endpoint that is fine
	case "resource":
		attributes = map[string]any{"workspace_id": s.WorkspaceID, "provider_id": "openai", "api_key_wo": "sk-fine-000000001"}
	case "pool":
		attributes = map[string]any{"workspace_id": s.WorkspaceID, "provider_id": "openai", "keys": set{"a": set{"api_key_wo": "sk-fine-000000001"}}}
	case "data byok_keys":
		attributes = map[string]any{"workspace_id": s.WorkspaceID}
	}
	for name, value := range in.set {
		if value == nil {
			delete(attributes, name)
			continue
		}
		attributes[name] = value
	}
	address, typeName := "k", "byok_key"
	if strings.HasSuffix(in.what, "pool") {
		address, typeName = "byok_pool.k", "byok_pool"
	}
	c := newCore(t, config, 1, quickly)
	w := c.Begin(ctx, false)
	if typeName, ok := strings.CutPrefix(in.what, "data "); ok {
		w.ReadData(ctx, typeName, attributes)
	}
	switch in.what {
	case "provider":
	case "resource", "pool":
		// Findings that stop terraform before the plan stop here, too.
		w.PlanOne(ctx, address, tfcore.Object(c.Type(address), attributes), tfcore.Instance{Value: tfcore.Null(c.Type(address))})
	case "list", "list pool":
		err := w.EachListed(ctx, tfcore.ListBlock{TypeName: typeName, Config: attributes}, func(result tfcore.Listed) bool {
			w.Report(nil, result.Found)
			return true
		})
		refused := tfcore.Diagnostics(nil)
		if errors.As(err, &refused) {
			w.Report(nil, refused)
		} else {
			w.Report(err, nil)
		}
	case "import", "import pool":
		imported, err := w.ImportResourceState(ctx, &tfprotov6.ImportResourceStateRequest{TypeName: typeName, ID: fill.Replace(in.set["id"].(string))})
		w.Report(err, imported.Diagnostics)
	}
	if w.Broken != nil {
		t.Errorf("%s: %v", in, w.Broken)
	}
	return w.Found
}

// pathOf writes an attribute path as HCL does.
func pathOf(p *tftypes.AttributePath) string {
	var b strings.Builder
	if p == nil {
		return ""
	}
	for _, step := range p.Steps() {
		switch step := step.(type) {
		case tftypes.AttributeName:
			if b.Len() > 0 {
				b.WriteString(".")
			}
			b.WriteString(string(step))
		case tftypes.ElementKeyString:
			fmt.Fprintf(&b, "[%q]", string(step))
		case tftypes.ElementKeyInt:
			fmt.Fprintf(&b, "[%d]", int64(step))
		default:
			fmt.Fprintf(&b, "[%v]", step)
		}
	}
	return b.String()
}

var requestID = regexp.MustCompile(`request ID [0-9a-f]{8}`)

// clean takes out what differs from run to run.
func clean(text string) string {
	lines := strings.Split(text, "\n")
	kept := lines[:0]
	for _, line := range lines {
		if strings.HasPrefix(line, "time=") { // the server's log
			continue
		}
		kept = append(kept, strings.TrimRight(requestID.ReplaceAllString(line, "request ID {id}"), " "))
	}
	return strings.Join(kept, "\n")
}
