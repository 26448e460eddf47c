package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
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

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func TestMain(m *testing.M) { os.Exit(tfrun.Run(m)) }

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
// both providers served by the test. resource.Test runs many commands a step;
// with this a test decides on every single one.
type terraformCLI struct {
	*tfrun.Folder
	t *testing.T
}

func newTerraform(t *testing.T, env map[string]string, config string) *terraformCLI {
	t.Helper()
	tf := &terraformCLI{tfrun.Empty(t), t}
	address := func(source string) string { return tf.CLI().Address(source) }
	reattach := serve(t, address("hashicorp/changes"), providerserver.NewProtocol6(changes{})())
	byok := serve(t, address(tfrun.Source), newServer(env))
	maps.Copy(reattach, byok)
	reattach[address("hashicorp/byok")] = byok[address(tfrun.Source)] // where the configuration names no source
	data, err := json.Marshal(reattach)
	if err != nil {
		t.Fatal(err)
	}
	tf.Env = append(tf.Env, "TF_REATTACH_PROVIDERS="+string(data))
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
	tf.Write(tf.t, "main.tf", text)
}

// run runs terraform, and returns what it prints with the lines joined, as
// they were before the frame of a diagnostic cut them.
func (tf *terraformCLI) run(args ...string) (out string, err error) {
	tf.t.Helper()
	result := tf.Try(tf.t, args...)
	if result.Exit != 0 {
		err = fmt.Errorf("exit status %d", result.Exit)
	}
	return unframe(result.Output), err
}

// must is run for a command that has to succeed.
func (tf *terraformCLI) must(args ...string) string {
	tf.t.Helper()
	return unframe(tf.Must(tf.t, args...).Output)
}

// fails is run for a command that has to fail and to say each of texts.
func (tf *terraformCLI) fails(texts []string, args ...string) {
	tf.t.Helper()
	out, err := tf.run(args...)
	if err == nil {
		tf.t.Fatalf("terraform %s does not fail:\n%s", strings.Join(args, " "), out)
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
		// OpenTofu lists ephemeral resources, too.
		if c.Mode != tfjson.ManagedResourceMode || c.Change.Actions.NoOp() {
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
	attributes, ok := tf.State(tf.t)[address]
	if !ok {
		tf.t.Fatalf("%s is not in state", address)
	}
	return attributes
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
