package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	tfjson "github.com/hashicorp/terraform-json"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

// factories are the providers of a resource.Test: byok, without anything from
// the environment, and the test provider below.
func factories() map[string]func() (tfprotov6.ProviderServer, error) {
	return map[string]func() (tfprotov6.ProviderServer, error){
		"byok":    func() (tfprotov6.ProviderServer, error) { return newServer(nil), nil },
		"changes": func() (tfprotov6.ProviderServer, error) { return providerserver.NewProtocol6(changes{})(), nil },
	}
}

// newServer is the provider as Terraform talks to it. env stands in for the
// environment.
func newServer(env map[string]string) tfprotov6.ProviderServer {
	return newProtocolServer(&byokProvider{version: "test", getenv: func(name string) string { return env[name] }})
}

// terraformCLI is a folder with a configuration, and the terraform binary with
// both providers served by the test. resource.Test runs many walks a step;
// with this a test decides on every single one.
type terraformCLI struct {
	t        *testing.T
	dir      string
	reattach string
}

func newTerraform(t *testing.T, env map[string]string, config string) *terraformCLI {
	t.Helper()
	if os.Getenv("TF_ACC") == "" {
		t.Skip("needs the terraform binary: set TF_ACC=1")
	}
	tf := &terraformCLI{t: t, dir: t.TempDir()}
	reattach := map[string]any{}
	byok := serve(t, "registry.terraform.io/hashicorp/byok", newServer(env))
	maps.Copy(reattach, byok)
	reattach["registry.terraform.io/terraform-provider-byok/byok"] = byok["registry.terraform.io/hashicorp/byok"]
	maps.Copy(reattach, serve(t, "registry.terraform.io/hashicorp/changes", providerserver.NewProtocol6(changes{})()))
	data, err := json.Marshal(reattach)
	if err != nil {
		t.Fatal(err)
	}
	tf.reattach = string(data)
	tf.config(config)
	return tf
}

// serve serves one provider for as long as the test runs.
func serve(t *testing.T, address string, server tfprotov6.ProviderServer) map[string]any {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	started, closed := make(chan *plugin.ReattachConfig, 1), make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		failed <- tf6server.Serve(address, func() tfprotov6.ProviderServer { return server },
			tf6server.WithDebug(ctx, started, closed), tf6server.WithoutLogStderrOverride(), tf6server.WithLoggingSink(t),
			tf6server.WithGoPluginLogger(hclog.New(&hclog.LoggerOptions{Output: io.Discard})))
	}()
	select {
	case c := <-started:
		t.Cleanup(func() { stop(); <-closed })
		return map[string]any{address: map[string]any{
			"Protocol": c.Protocol, "ProtocolVersion": c.ProtocolVersion, "Pid": c.Pid, "Test": true,
			"Addr": map[string]string{"Network": c.Addr.Network(), "String": c.Addr.String()},
		}}
	case err := <-failed:
		stop()
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		stop()
		t.Fatal("the provider does not start")
	}
	return nil
}

// config replaces the configuration.
func (tf *terraformCLI) config(text string) {
	tf.t.Helper()
	if err := os.WriteFile(filepath.Join(tf.dir, "main.tf"), []byte(text), 0o600); err != nil {
		tf.t.Fatal(err)
	}
}

// run runs terraform, and returns what it prints with the lines joined, as
// they were before the frame of a diagnostic cut them.
func (tf *terraformCLI) run(args ...string) (string, error) {
	tf.t.Helper()
	cmd := exec.Command("terraform", args...)
	cmd.Dir = tf.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TF_") && !strings.HasPrefix(v, "BYOK_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TF_REATTACH_PROVIDERS="+tf.reattach, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return unframe(out.String()), err
}

// must is run for a command that has to succeed.
func (tf *terraformCLI) must(args ...string) string {
	tf.t.Helper()
	out, err := tf.run(args...)
	if err != nil {
		tf.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// fails is run for a command that has to fail and to say each of texts.
func (tf *terraformCLI) fails(texts []string, args ...string) {
	tf.t.Helper()
	out, err := tf.run(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		tf.t.Fatalf("terraform %s does not fail (%v):\n%s", strings.Join(args, " "), err, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			tf.t.Errorf("terraform %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

func (tf *terraformCLI) apply(args ...string) string {
	tf.t.Helper()
	return tf.must(append([]string{"apply", "-no-color", "-auto-approve"}, args...)...)
}

// plan makes a plan, saves it as plan.tfplan, and returns it with its text.
func (tf *terraformCLI) plan(args ...string) (*tfjson.Plan, string) {
	tf.t.Helper()
	text := tf.must(append([]string{"plan", "-no-color", "-out=plan.tfplan"}, args...)...)
	var p tfjson.Plan
	cmd := tf.must("show", "-json", "plan.tfplan")
	if err := json.Unmarshal([]byte(cmd), &p); err != nil {
		tf.t.Fatal(err)
	}
	return &p, text
}

// actions returns what a plan does, by resource address; what it leaves alone
// is left out.
func actions(p *tfjson.Plan) map[string]string {
	all := map[string]string{}
	for _, c := range p.ResourceChanges {
		if c.Mode == tfjson.DataResourceMode || c.Change.Actions.NoOp() {
			continue
		}
		var words []string
		for _, a := range c.Change.Actions {
			words = append(words, string(a))
		}
		all[c.Address] = strings.Join(words, "/")
	}
	return all
}

// expect makes a plan and compares what it does, as "address action" pairs.
func (tf *terraformCLI) expect(want map[string]string, args ...string) (*tfjson.Plan, string) {
	tf.t.Helper()
	p, text := tf.plan(args...)
	if got := actions(p); !maps.Equal(got, want) {
		tf.t.Fatalf("the plan does %v, want %v:\n%s", got, want, text)
	}
	return p, text
}

// attributes returns the attributes of a resource in state.
func (tf *terraformCLI) attributes(address string) map[string]any {
	tf.t.Helper()
	var s tfjson.State
	if err := json.Unmarshal([]byte(tf.must("show", "-json")), &s); err != nil {
		tf.t.Fatal(err)
	}
	if s.Values != nil {
		for _, r := range s.Values.RootModule.Resources {
			if r.Address == address {
				return r.AttributeValues
			}
		}
	}
	tf.t.Fatalf("%s is not in state", address)
	return nil
}

func (tf *terraformCLI) id(address string) string {
	tf.t.Helper()
	return fmt.Sprint(tf.attributes(address)["id"])
}

var frame = regexp.MustCompile(`(?m)^[╷╵].*\n|^│ ?`)

// unframe removes the frame of diagnostics and joins their wrapped lines.
func unframe(out string) string {
	out = frame.ReplaceAllString(out, "")
	return wrapped.ReplaceAllString(out, "$1 $2")
}

var wrapped = regexp.MustCompile(`(\S)\n([^\s])`)

// changes is a provider for tests: its ephemeral resource has another value
// each time that it is opened, as one that makes passwords.
type changes struct{}

func (changes) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "changes"
}
func (changes) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}
func (changes) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}
func (changes) Resources(context.Context) []func() resource.Resource       { return nil }
func (changes) DataSources(context.Context) []func() datasource.DataSource { return nil }
func (changes) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{func() ephemeral.EphemeralResource { return changingSecret{} }}
}

type changingSecret struct{}

func (changingSecret) Metadata(_ context.Context, _ ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = "changes_secret"
}

func (changingSecret) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{"value": schema.StringAttribute{Computed: true}}}
}

func (changingSecret) Open(ctx context.Context, _ ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	resp.Diagnostics.Append(resp.Result.Set(ctx, struct {
		Value types.String `tfsdk:"value"`
	}{types.StringValue(fmt.Sprintf("sk-test-%019d", time.Now().UnixNano()))})...)
}
