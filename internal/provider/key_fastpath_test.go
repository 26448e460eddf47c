package provider

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// The random instances that the fast path is compared with the framework on;
// make soak compares more of them.
var (
	fastPathRounds = flag.Int("fastpath.rounds", 100, "how many random instances of a key, and half as many pools, go through the fast path and the framework")
	fastPathSeed   = flag.Uint64("fastpath.seed", 7, "seed of these instances")
)

// framework counts the calls that get as far as the framework.
type framework struct {
	fastpath.Framework
	calls int
}

func (f *framework) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	f.calls++
	return f.Framework.UpgradeResourceState(ctx, req)
}

func (f *framework) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	f.calls++
	return f.Framework.ValidateResourceConfig(ctx, req)
}

func (f *framework) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	f.calls++
	return f.Framework.ReadResource(ctx, req)
}

func (f *framework) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	f.calls++
	return f.Framework.PlanResourceChange(ctx, req)
}

// bothWays are two providers, one with the fast path and one without.
type bothWays struct {
	short, long *protocol
	framework   *framework // behind the fast path
}

func newBothWays(t *testing.T, s *acctest.Server) bothWays {
	t.Helper()
	short := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	long := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	f := &framework{Framework: newFramework(short)}
	return bothWays{
		short:     newProtocolTo(t, s, fastpath.New(f, fastPaths(short))),
		long:      newProtocolTo(t, s, newFramework(long)),
		framework: f,
	}
}

// instance is a key as Terraform knows it. All of it may be wrong.
type instance struct {
	state, config map[string]any
	private       []byte
	identity      bool // whether Terraform has stored it
}

// responses are those to the four calls that Terraform makes for an instance.
type responses struct {
	Upgraded, Read, Planned            tftypes.Value
	ReadIdentity, PlannedIdentity      tftypes.Value
	ReadPrivate, PlannedPrivate        map[string]any
	RequiresReplace                    []string
	Upgrade, Validation, Reading, Plan []string // diagnostics
}

func (p *protocol) ask(i instance) (a responses) {
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
	for _, row := range keyTable.rows {
		if row.schema != nil && row.schema.IsComputed() && i.config[row.name] == nil {
			proposed[row.name] = i.state[row.name]
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
	if plan.PlannedIdentity != nil {
		a.PlannedIdentity = p.decoded(p.identity, plan.PlannedIdentity.IdentityData)
	}
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

var requestID = regexp.MustCompile(`request ID \w+`)

func said(diags []*tfprotov6.Diagnostic) (all []string) {
	for _, d := range diags {
		all = append(all, requestID.ReplaceAllString(fmt.Sprint(d.Severity, d.Attribute, d.Summary, d.Detail), "request ID"))
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

// unchanged are instances of keys, each as the provider left it.
func unchanged(t testing.TB, s *acctest.Server) (all []instance) {
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
		for _, row := range keyTable.rows {
			if text, ok := row.field(&model).(*types.String); ok && !text.IsNull() {
				state[row.name] = text.ValueString()
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

// An unchanged key never gets as far as the framework.
func TestFastPathIsTaken(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	instances := unchanged(t, s)
	both := newBothWays(t, s)
	for i, at := range instances {
		before := both.framework.calls
		short, long := both.short.ask(at), both.long.ask(at)
		if diff := cmp.Diff(long, short); diff != "" {
			t.Errorf("instance %d: %s", i, diff)
		}
		if !short.Planned.Equal(short.Upgraded) || !short.Read.Equal(short.Upgraded) {
			t.Errorf("instance %d changes: %s", i, cmp.Diff(short.Upgraded, short.Planned))
		}
		if got := both.framework.calls - before; got != 0 {
			t.Errorf("instance %d: %d calls to the framework", i, got)
		}
	}
}

// samples are values of an attribute that are worth a try, in a state and in a
// configuration, beside those that its type suggests.
var samples = map[string]struct{ state, config []any }{
	"masked_key":       {state: []any{byok.MaskUnknown, byok.Mask(secretA), "sk-oth...9abc"}},
	"updated_at":       {state: []any{moved}},
	"on_remote_change": {state: []any{"repair", "warn"}, config: []any{"repair", "warn", "never"}},
	"name":             {state: []any{"  prod ", "prod"}, config: []any{"prod ", "prod"}},
	"api_key":          {state: []any{secretA, secretB}, config: []any{secretA, secretB, " " + secretA}},
	"api_key_wo":       {config: []any{secretA, secretB, " " + secretA}},
	"provider_id":      {config: []any{"openai", "anthropic", "not-known-to-us", "Not An ID"}},
	"workspace_id":     {config: []any{"elsewhere", "a/b"}},
}

// values are what the state or the configuration may hold of an attribute.
func values(t testing.TB, row row[keyModel]) (state, config []any) {
	t.Helper()
	state, config = samples[row.name].state, samples[row.name].config
	var byType []any
	switch field := row.field(new(keyModel)).(type) {
	case *types.String:
		byType = []any{nil, "", "other"}
	case *types.Int64:
		byType = []any{nil, 0, -1, 1, 2, 1 << 40}
	case *timeouts.Value:
		return []any{nil, someTimeouts}, []any{nil, someTimeouts}
	default:
		t.Fatalf("no values for a field of type %T", field)
	}
	config = slices.Concat(config, byType, []any{tftypes.UnknownValue})
	if row.writeOnly {
		return nil, config // no state has one
	}
	return slices.Concat(state, byType), config
}

var someTimeouts = map[string]tftypes.Value{
	"create": tftypes.NewValue(tftypes.String, "5m"), "read": tftypes.NewValue(tftypes.String, nil),
	"update": tftypes.NewValue(tftypes.String, nil), "delete": tftypes.NewValue(tftypes.String, nil),
}

// with returns an instance with another value in its state or configuration.
func (i instance) with(state bool, name string, value any) instance {
	if state {
		i.state = maps.Clone(i.state)
		i.state[name] = value
		return i
	}
	i.config = maps.Clone(i.config)
	i.config[name] = value
	return i
}

func (b bothWays) compare(t *testing.T, at instance) {
	t.Helper()
	if diff := cmp.Diff(b.long.ask(at), b.short.ask(at)); diff != "" {
		t.Fatalf("state %v\nconfig %v\nprivate %s\n%s", at.state, at.config, at.private, diff)
	}
}

// TestFastPathNoticesEveryAttribute changes one attribute at a time, in the
// state and in the configuration.
func TestFastPathNoticesEveryAttribute(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	at := unchanged(t, s)[1]
	both := newBothWays(t, s)
	for _, row := range keyTable.rows {
		state, config := values(t, row)
		for _, value := range state {
			both.compare(t, at.with(true, row.name, value))
		}
		for _, value := range config {
			both.compare(t, at.with(false, row.name, value))
		}
	}
}

// TestFastPath compares the provider with the framework alone, over instances
// of which anything may have changed.
func TestFastPath(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	instances := unchanged(t, s)
	both := newBothWays(t, s)
	seed, rounds := *fastPathSeed, *fastPathRounds
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(values ...any) any { return values[random.IntN(len(values))] }
	for range rounds {
		at := instances[random.IntN(len(instances))]
		for range random.IntN(4) {
			row := keyTable.rows[random.IntN(len(keyTable.rows))]
			state, config := values(t, row)
			switch change := random.IntN(3); {
			case change == 0 && state != nil:
				at = at.with(true, row.name, pick(state...))
			case change == 1 && state != nil:
				value := pick(state...) // the same in both
				at = at.with(true, row.name, value).with(false, row.name, value)
			default:
				at = at.with(false, row.name, pick(config...))
			}
		}
		if random.IntN(3) == 0 {
			key := byok.Key{ID: fmt.Sprint(at.state["id"]), MaskedKey: byok.Mask(secretA), UpdatedAt: moved}
			renamed := writtenRecord(key)
			renamed.RenamedTo = new(string)
			unread := writtenRecord(key)
			unread.UpdatedAt = ""
			unconfirmed := writtenRecord(key)
			unconfirmed.Unconfirmed = true
			at.private = pick(
				[]byte(nil), []byte(`{}`), privateOf(``), privateOf(`{}`), privateOf(`{"v":1}`), privateOf(`{"v":2}`),
				privateOf(`{"v":2,"unconfirmed":true}`), []byte(`{"key":"eyJ2IjoxfQ==","other":"e30="}`),
				encoded(t, renamed, keyModel{}), encoded(t, unread, keyModel{}), encoded(t, adoptedRecord(key), keyModel{}), encoded(t, unconfirmed, keyModel{}),
				encoded(t, writtenRecord(key).declared(keyModel{APIKeyWO: types.StringValue(secretB)}), keyModel{}),
			).([]byte)
		}
		both.compare(t, at)
	}
	if asked := both.framework.calls; asked < rounds/2 || asked > 4*rounds*3/4 {
		t.Errorf("%d of %d calls got as far as the framework: too few or too many to tell anything", asked, 4*rounds)
	}
}

// privateOf is private state with a record.
func privateOf(record string) []byte {
	data, _ := json.Marshal(map[string][]byte{recordKey: []byte(record)})
	return data
}

// A key that is kept can have to report a full pool in the place of a create
// that was cancelled: that takes the framework.
func TestFastPathReportsTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	at := unchanged(t, s)[0]
	said := map[string][]string{}
	for title, server := range map[string]func(*byokProvider) tfprotov6.ProviderServer{
		"short": newProtocolServer,
		"long":  func(p *byokProvider) tfprotov6.ProviderServer { return presentingServer{newFramework(p)} },
	} {
		provider := &byokProvider{version: "test", getenv: func(string) string { return "" }}
		p := newProtocolTo(t, s, server(provider))
		ctx, cancel := context.WithCancel(t.Context())
		provider.operation.Load().ledger = ledger.New(ledger.Config{Cap: 2, Quiet: time.Second, List: func(ctx context.Context, scope byok.Scope) ([]byok.Key, error) {
			cancel()
			return s.List(t, scope.ID), nil
		}})
		_, err := p.server.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
			TypeName: "byok_key", PriorState: p.value(p.resource, nil), Config: p.value(p.resource, at.config), ProposedNewState: p.value(p.resource, at.config),
		})
		if err != nil {
			t.Fatal(err)
		}
		said[title] = p.ask(at).Plan
	}
	if len(said["short"]) != 1 || !cmp.Equal(said["short"], said["long"]) {
		t.Errorf("%v", cmp.Diff(said["long"], said["short"]))
	}
}

// FuzzDecodeKey feeds what a broken peer could send: nothing panics, and what
// is understood is what the framework's own decoder understands.
func FuzzDecodeKey(f *testing.F) {
	ctx := context.Background()
	object := types.ObjectType{AttrTypes: keyTable.types}.TerraformType(ctx)
	for _, m := range []keyModel{stored(secretA), configured(apiKeyWO(secretA), version(1<<40))} {
		f.Add(encodedKey(f, m), []byte(`{"key":"eyJ2IjoxfQ=="}`))
	}
	f.Add([]byte{0xc0}, []byte("null"))
	f.Fuzz(func(t *testing.T, data, private []byte) {
		decodePrivate(private, stored(secretA))
		m, ok := keyTable.decode(data)
		if !ok {
			return
		}
		want, err := (&tfprotov6.DynamicValue{MsgPack: data}).Unmarshal(object)
		if err != nil {
			t.Fatalf("%x is understood, but is %v", data, err)
		}
		got, err := (&tfprotov6.DynamicValue{MsgPack: encodedKey(t, *m)}).Unmarshal(object)
		if err != nil || !got.Equal(want) {
			t.Errorf("%x: %s, %v", data, got, want)
		}
	})
}

// encodedKey is a model without timeouts as the protocol carries it.
func encodedKey(t testing.TB, m keyModel) []byte {
	t.Helper()
	value, err := m.value(context.Background()).ToTerraformValue(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	dynamic, err := tfprotov6.NewDynamicValue(value.Type(), value)
	if err != nil {
		t.Fatal(err)
	}
	return dynamic.MsgPack
}
