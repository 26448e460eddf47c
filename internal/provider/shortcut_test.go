package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

// framework counts the calls that get as far as the framework.
type framework struct {
	tfprotov6.ProviderServer
	calls int
}

func (f *framework) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	f.calls++
	return f.ProviderServer.UpgradeResourceState(ctx, req)
}

func (f *framework) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	f.calls++
	return f.ProviderServer.ValidateResourceConfig(ctx, req)
}

func (f *framework) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	f.calls++
	return f.ProviderServer.ReadResource(ctx, req)
}

func (f *framework) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	f.calls++
	return f.ProviderServer.PlanResourceChange(ctx, req)
}

// bothWays are two providers, one with shortcuts and one without.
type bothWays struct {
	short, long *protocol
	framework   *framework // behind the shortcuts
}

func newBothWays(t *testing.T, s *acctest.Server) bothWays {
	t.Helper()
	short := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	long := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	f := &framework{ProviderServer: providerserver.NewProtocol6(short)()}
	return bothWays{
		short:     newProtocolTo(t, s, shortcutServer{f, short}),
		long:      newProtocolTo(t, s, providerserver.NewProtocol6(long)()),
		framework: f,
	}
}

// instance is a key as Terraform knows it. All of it may be wrong.
type instance struct {
	state, config map[string]any
	private       []byte
	identity      bool // whether Terraform has stored it
}

// answers are what a provider says to the four questions about an instance.
type answers struct {
	Upgraded, Read, Planned            tftypes.Value
	ReadIdentity, PlannedIdentity      tftypes.Value
	ReadPrivate, PlannedPrivate        map[string]any
	RequiresReplace                    []string
	Upgrade, Validation, Reading, Plan []string // diagnostics
}

func (p *protocol) ask(i instance, computed []string) (a answers) {
	p.t.Helper()
	ctx := p.t.Context()
	stored := map[string]any{}
	for name, value := range i.state {
		if _, isObject := value.(map[string]tftypes.Value); isObject {
			value = map[string]any{"create": "5m", "read": nil, "update": nil, "delete": nil}
		}
		stored[name] = value
	}
	raw, err := json.Marshal(stored)
	if err != nil {
		p.t.Fatal(err)
	}
	upgraded, err := p.server.UpgradeResourceState(ctx, &tfprotov6.UpgradeResourceStateRequest{TypeName: "byok_key", RawState: &tfprotov6.RawState{JSON: raw}})
	if err != nil {
		p.t.Fatal(err)
	}
	a.Upgraded, a.Upgrade = p.decoded(p.resource, upgraded.UpgradedState), said(upgraded.Diagnostics)

	config := p.value(p.resource, i.config)
	valid, err := p.server.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{
		TypeName: "byok_key", Config: config, ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	a.Validation = said(valid.Diagnostics)

	state := p.value(p.resource, i.state)
	var identity *tfprotov6.ResourceIdentityData
	if i.identity {
		identity = &tfprotov6.ResourceIdentityData{IdentityData: p.value(p.identity, map[string]any{"workspace_id": i.state["workspace_id"], "id": i.state["id"]})}
	}
	read, err := p.server.ReadResource(ctx, &tfprotov6.ReadResourceRequest{TypeName: "byok_key", CurrentState: state, Private: i.private, CurrentIdentity: identity})
	if err != nil {
		p.t.Fatal(err)
	}
	a.Read, a.ReadPrivate, a.Reading = p.decoded(p.resource, read.NewState), records(p.t, read.Private), said(read.Diagnostics)
	if read.NewIdentity != nil {
		a.ReadIdentity = p.decoded(p.identity, read.NewIdentity.IdentityData)
	}

	proposed := maps.Clone(i.config)
	for _, name := range computed {
		if i.config[name] == nil {
			proposed[name] = i.state[name]
		}
	}
	plan, err := p.server.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
		TypeName: "byok_key", PriorState: state, PriorPrivate: i.private, PriorIdentity: identity,
		Config: config, ProposedNewState: p.value(p.resource, proposed),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	a.Planned, a.PlannedPrivate, a.Plan = p.decoded(p.resource, plan.PlannedState), records(p.t, plan.PlannedPrivate), said(plan.Diagnostics)
	a.PlannedIdentity = p.decoded(p.identity, plan.PlannedIdentity.IdentityData)
	for _, path := range plan.RequiresReplace {
		a.RequiresReplace = append(a.RequiresReplace, path.String())
	}
	return a
}

func (p *protocol) decoded(object tftypes.Object, dynamic *tfprotov6.DynamicValue) tftypes.Value {
	p.t.Helper()
	if dynamic == nil {
		return tftypes.Value{}
	}
	value, err := dynamic.Unmarshal(object)
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// requestID differs from response to response.
var requestID = regexp.MustCompile(`request ID [0-9a-f]+`)

func said(diags []*tfprotov6.Diagnostic) (all []string) {
	for _, d := range diags {
		all = append(all, fmt.Sprint(d.Severity, d.Attribute, d.Summary, requestID.ReplaceAllString(d.Detail, "request ID")))
	}
	slices.Sort(all) // the framework validates attributes in no order
	return all
}

// records is private state, taken apart.
func records(t testing.TB, private []byte) map[string]any {
	t.Helper()
	all := map[string]any{}
	if len(private) == 0 {
		return all
	}
	var encoded map[string][]byte
	if err := json.Unmarshal(private, &encoded); err != nil {
		t.Fatal(err)
	}
	for name, data := range encoded {
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		all[name] = value
	}
	return all
}

// computedAttributes are those that Terraform proposes the state's value of
// where the configuration has none.
func computedAttributes(t testing.TB) (names []string) {
	t.Helper()
	var resp resource.SchemaResponse
	newKeyResource().Schema(t.Context(), resource.SchemaRequest{}, &resp)
	for name, attribute := range resp.Schema.Attributes {
		if attribute.IsComputed() {
			names = append(names, name)
		}
	}
	return names
}

// atRest are instances of keys, each as the provider left it.
func atRest(t testing.TB, s *acctest.Server) (all []instance) {
	t.Helper()
	for i, add := range []struct{ providerID, secret, name string }{
		{"openai", secretA, "prod"}, {"openai", secretB, ""}, {"openai", "short", "short"}, {"anthropic", secretA, "prod"}, {"anthropic", secretA, "ä 😀"},
	} {
		id := s.Add(t, s.WorkspaceID, add.providerID, add.secret, add.name)
		keys := s.List(t, s.WorkspaceID)
		key := keys[slices.IndexFunc(keys, func(k byok.Key) bool { return k.ID == id })]
		model := keyModel{WorkspaceID: types.StringValue(s.WorkspaceID)}.withRemote(key)
		config := map[string]any{"provider_id": add.providerID, "name": anyOf(model.Name), "api_key_wo": add.secret}
		record := writtenRecord(key).declared(keyModel{APIKeyWO: types.StringValue(add.secret)})
		state := map[string]any{"on_remote_change": onRemoteChangeRepair}
		if i == 1 {
			config["api_key_wo_version"], state["api_key_wo_version"] = 300, 300
			record = writtenRecord(key)
		}
		for _, name := range keyAttributes {
			if field := model.text(name); field != nil && !field.IsNull() {
				state[name] = field.ValueString()
			}
		}
		all = append(all, instance{state: state, config: config, private: encoded(t, record, model), identity: i%2 == 0})
	}
	return all
}

func anyOf(s types.String) any {
	if s.IsNull() {
		return nil
	}
	return s.ValueString()
}

func encoded(t testing.TB, record keyRecord, beside keyModel) []byte {
	t.Helper()
	data, err := record.encode(beside)
	if err != nil {
		t.Fatal(err)
	}
	private, err := json.Marshal(map[string][]byte{recordKey: data})
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// A key at rest never gets as far as the framework, but for the first read of
// a workspace, which has to ask the API.
func TestShortcutsAreTaken(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	instances := atRest(t, s)
	both := newBothWays(t, s)
	computed := computedAttributes(t)
	for i, at := range instances {
		before := both.framework.calls
		short, long := both.short.ask(at, computed), both.long.ask(at, computed)
		if diff := cmp.Diff(long, short); diff != "" {
			t.Errorf("instance %d: %s", i, diff)
		}
		if !short.Planned.Equal(short.Upgraded) || !short.Read.Equal(short.Upgraded) {
			t.Errorf("instance %d is not at rest: %s", i, cmp.Diff(short.Upgraded, short.Planned))
		}
		if got, want := both.framework.calls-before, 0; i > 0 && got != want || i == 0 && got != 1 {
			t.Errorf("instance %d: %d calls to the framework", i, got)
		}
	}
}

// TestShortcuts compares the provider with the framework alone, over instances
// of which anything may have changed.
func TestShortcuts(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	instances := atRest(t, s)
	both := newBothWays(t, s)
	computed := computedAttributes(t)
	const seed, rounds = 7, 1500
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(values ...any) any { return values[random.IntN(len(values))] }
	unknown := tftypes.UnknownValue
	timeouts := map[string]tftypes.Value{
		"create": tftypes.NewValue(tftypes.String, "5m"), "read": tftypes.NewValue(tftypes.String, nil),
		"update": tftypes.NewValue(tftypes.String, nil), "delete": tftypes.NewValue(tftypes.String, nil),
	}
	for round := range rounds {
		at := instances[random.IntN(len(instances))]
		at.state, at.config = maps.Clone(at.state), maps.Clone(at.config)
		for range random.IntN(4) {
			switch random.IntN(14) {
			case 0:
				at.state["name"] = pick(nil, "", "other", "  prod ", "prod")
			case 1:
				at.state["masked_key"] = pick(byok.MaskUnknown, byok.Mask(secretA), "sk-oth...9abc")
			case 2:
				at.state["updated_at"] = moved
			case 3:
				at.state["on_remote_change"] = pick(nil, "warn")
			case 4:
				at.state["id"] = pick("no-such-key-0123456789", at.state["id"])
			case 5:
				at.state["created_by"] = pick(nil, "somebody")
			case 6:
				at.state["api_key"] = pick(nil, secretA, secretB)
			case 7:
				at.state["api_key_wo_version"] = pick(nil, 1, 2, 1<<40)
			case 8:
				at.config["name"] = pick(nil, "", "other", "prod ", unknown)
			case 9:
				delete(at.config, "api_key_wo")
				at.config[pick("api_key", "api_key_wo").(string)] = pick(nil, secretA, secretB, unknown, " "+secretA, "")
			case 10:
				at.config["api_key_wo_version"] = pick(nil, 0, -1, 1, 2, 1<<40, unknown)
			case 11:
				at.config["on_remote_change"] = pick(nil, "warn", "repair", "never")
			case 12:
				at.config["workspace_id"] = pick(s.WorkspaceID, "elsewhere", "a/b", unknown)
				at.config["provider_id"] = pick("openai", "anthropic", "not-known-to-us", "Not An ID", nil)
			case 13:
				at.state["timeouts"], at.config["timeouts"] = pick(nil, timeouts), pick(nil, timeouts)
			}
		}
		if random.IntN(3) == 0 {
			key := byok.Key{ID: fmt.Sprint(at.state["id"]), MaskedKey: byok.Mask(secretA), UpdatedAt: moved}
			renamed := writtenRecord(key)
			renamed.RenamedTo = new(string)
			unread := writtenRecord(key)
			unread.UpdatedAt = ""
			at.private = pick(
				[]byte(nil), []byte(`{}`), []byte(`{"key":"e30="}`), []byte(`{"key":"eyJ2IjozfQ==","other":"e30="}`), []byte(`{"key":"eyJ2IjozfQ=="}`),
				encoded(t, renamed, keyModel{}), encoded(t, unread, keyModel{}), encoded(t, adoptedRecord(key), keyModel{}),
				encoded(t, writtenRecord(key).declared(keyModel{APIKeyWO: types.StringValue(secretB)}), keyModel{}),
			).([]byte)
		}
		if diff := cmp.Diff(both.long.ask(at, computed), both.short.ask(at, computed)); diff != "" {
			t.Fatalf("round %d (seed %d)\nstate %v\nconfig %v\nprivate %s\n%s", round, seed, at.state, at.config, at.private, diff)
		}
	}
	if asked := both.framework.calls; asked < rounds/2 || asked > 4*rounds*3/4 {
		t.Errorf("%d of %d calls got as far as the framework: too few or too many to tell anything", asked, 4*rounds)
	}
}

// A key that is kept can have to report a full pool in the place of a create
// that was cancelled: then it is no shortcut's business.
func TestShortcutReportsTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	at := atRest(t, s)[0]
	said := map[string][]string{}
	for title, server := range map[string]func(*byokProvider) tfprotov6.ProviderServer{
		"short": newProtocolServer,
		"long":  func(p *byokProvider) tfprotov6.ProviderServer { return providerserver.NewProtocol6(p)() },
	} {
		provider := &byokProvider{version: "test", getenv: func(string) string { return "" }}
		p := newProtocolTo(t, s, server(provider))
		ctx, cancel := context.WithCancel(t.Context())
		provider.operation.Load().ledger = ledger.New(ledger.Config{Cap: 2, Quiet: 20 * time.Millisecond, List: func(ctx context.Context, scope byok.Scope) ([]byok.Key, error) {
			cancel()
			return s.List(t, scope.ID), nil
		}})
		_, err := p.server.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
			TypeName: "byok_key", PriorState: p.value(p.resource, nil), Config: p.value(p.resource, at.config), ProposedNewState: p.value(p.resource, at.config),
		})
		if err != nil {
			t.Fatal(err)
		}
		answer := p.ask(at, computedAttributes(t))
		said[title] = answer.Plan
	}
	if len(said["short"]) != 1 || !cmp.Equal(said["short"], said["long"]) {
		t.Errorf("%v", cmp.Diff(said["long"], said["short"]))
	}
}

// isValid knows every validator of the schema: a new one has to be told to
// it as well.
func TestFlawlessKnowsEveryValidator(t *testing.T) {
	t.Parallel()
	known := map[string]int{"workspace_id": 1, "provider_id": 1, "name": 1, "api_key": 3, "api_key_wo": 1, "api_key_wo_version": 1, "on_remote_change": 1}
	var resp resource.SchemaResponse
	newKeyResource().Schema(t.Context(), resource.SchemaRequest{}, &resp)
	found, names := map[string]int{}, []string{}
	for name, attribute := range resp.Schema.Attributes {
		names = append(names, name)
		n := 0
		switch attribute := attribute.(type) {
		case schema.StringAttribute:
			n = len(attribute.Validators)
		case schema.Int64Attribute:
			n = len(attribute.Validators)
		default:
			t.Errorf("%s is of a kind that shortcuts do not know", name)
		}
		if n > 0 {
			found[name] = n
		}
	}
	for name := range resp.Schema.Blocks {
		names = append(names, name)
	}
	if diff := cmp.Diff(known, found); diff != "" {
		t.Error(diff)
	}
	slices.Sort(names)
	if diff := cmp.Diff(keyAttributes, names); diff != "" {
		t.Error(diff)
	}
}

// FuzzDecodeKey feeds what a broken peer could send: nothing panics, and what
// is understood is what the framework's own decoder understands.
func FuzzDecodeKey(f *testing.F) {
	var resp resource.SchemaResponse
	newKeyResource().Schema(context.Background(), resource.SchemaRequest{}, &resp)
	object := resp.Schema.Type().TerraformType(context.Background())
	f.Add(encodeKey(stored(secretA)).MsgPack, []byte(`{"v":3}`))
	f.Add(encodeKey(configured(apiKeyWO(secretA), version(1<<40))).MsgPack, []byte(`{"key":"eyJ2IjozfQ=="}`))
	f.Add([]byte{0xc0}, []byte("null"))
	f.Fuzz(func(t *testing.T, data, private []byte) {
		decodePrivate(private, stored(secretA))
		m, ok := decodeKey(&tfprotov6.DynamicValue{MsgPack: data})
		if !ok {
			return
		}
		want, err := (&tfprotov6.DynamicValue{MsgPack: data}).Unmarshal(object)
		if err != nil {
			return // incomplete, which Terraform never sends
		}
		got, err := encodeKey(m).Unmarshal(object)
		if err != nil || !got.Equal(want) {
			t.Errorf("%x: %s, %v", data, got, want)
		}
	})
}
