package provider

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// poolInstance is a byok_pool as Terraform sends it.
type poolInstance struct {
	state, config poolModel
	private       []byte
}

// poolServer is a configured provider and the schema of byok_pool.
type poolServer struct {
	t      *testing.T
	server tfprotov6.ProviderServer
	schema *tfprotov6.Schema
}

// newPoolServers returns a provider with the fast path, one without, and the
// framework behind the first.
func newPoolServers(t *testing.T, s *acctest.Server) (short, long poolServer, behind *framework) {
	t.Helper()
	provider := func() *byokProvider {
		return &byokProvider{version: "test", getenv: func(string) string { return "" }}
	}
	first, second := provider(), provider()
	behind = &framework{Framework: newFramework(first)}
	return newPoolServer(t, s, fastpath.New(behind, fastPaths(first))), newPoolServer(t, s, newFramework(second)), behind
}

func newPoolServer(t *testing.T, s *acctest.Server, server tfprotov6.ProviderServer) poolServer {
	t.Helper()
	schemas, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	config := schemas.Provider.ValueType()
	resp, err := server.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{TerraformVersion: "1.12.0", Config: tfcore.Encode(config, tfcore.Object(config, map[string]any{
		"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken,
	}))})
	if err != nil || len(resp.Diagnostics) > 0 {
		t.Fatal(err, resp.Diagnostics)
	}
	return poolServer{t, server, schemas.ResourceSchemas[poolTypeName]}
}

func (p poolServer) value(m poolModel) tftypes.Value {
	p.t.Helper()
	value, err := m.value(p.t.Context()).ToTerraformValue(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// ask makes the four calls about an instance, and returns what they respond.
func (p poolServer) ask(i poolInstance) (responses []string) {
	p.t.Helper()
	ctx, typ := p.t.Context(), p.schema.ValueType()
	say := func(err error, diags []*tfprotov6.Diagnostic, values ...any) {
		if err != nil {
			p.t.Fatal(err)
		}
		responses = append(responses, strings.Join(said(diags), "\n"), fmt.Sprint(values...))
	}
	config, state := p.value(i.config), p.value(i.state)
	validated, err := p.server.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{
		TypeName: poolTypeName, Config: tfcore.Encode(typ, config),
		ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
	})
	say(err, validated.Diagnostics)
	stored, err := json.Marshal(tfcore.Attributes(state))
	if err != nil {
		p.t.Fatal(err)
	}
	upgraded, err := p.server.UpgradeResourceState(ctx, &tfprotov6.UpgradeResourceStateRequest{TypeName: poolTypeName, RawState: &tfprotov6.RawState{JSON: stored}})
	say(err, upgraded.Diagnostics, tfcore.Decode(typ, upgraded.UpgradedState))
	read, err := p.server.ReadResource(ctx, &tfprotov6.ReadResourceRequest{TypeName: poolTypeName, CurrentState: tfcore.Encode(typ, state), Private: i.private})
	say(err, read.Diagnostics, tfcore.Decode(typ, read.NewState), records(p.t, read.Private))
	planned, err := p.server.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
		TypeName: poolTypeName, PriorState: tfcore.Encode(typ, state), PriorPrivate: i.private, Config: tfcore.Encode(typ, config),
		ProposedNewState: tfcore.Encode(typ, tfcore.Proposed(p.schema, config, state)),
	})
	say(err, planned.Diagnostics, tfcore.Decode(typ, planned.PlannedState), records(p.t, planned.PlannedPrivate), planned.RequiresReplace)
	return responses
}

// unchangedPool is a pool of three keys beside one of another user, as an apply
// leaves it.
func unchangedPool(t *testing.T, s *acctest.Server, providerID string) poolInstance {
	t.Helper()
	config := poolModel{ProviderID: types.StringValue(providerID), Timeouts: nullTimeouts(), Keys: objectMap[poolKey]{elements: map[string]poolKey{}}}
	prior := config.withDefaults()
	prior.WorkspaceID = types.StringValue(s.WorkspaceID)
	prior.Keys.elements = map[string]poolKey{}
	record := poolRecord{keys: map[string]keyRecord{}}
	for name, secret := range map[string]string{"a": secretA, "b": secretB, "c": "short"} {
		config.Keys.elements[name] = declares(secret)
		declared := config.declaredKey(name, "")
		id := s.Add(t, s.WorkspaceID, providerID, secret, name)
		for _, key := range s.List(t, s.WorkspaceID) {
			if key.ID == id {
				state := declared.withRemote(key)
				prior.Keys.elements[name], record.keys[name] = poolKeyOf(state), writtenRecord(key).declared(declared)
			}
		}
	}
	s.Add(t, s.WorkspaceID, providerID, secretA, "other")
	pool, _ := prior.pool()
	after := refreshPool(prior, record, inPool(s.List(t, s.WorkspaceID), pool))
	data, err := after.record.encode(after.state)
	if err != nil {
		t.Fatal(err)
	}
	private, err := json.Marshal(map[string][]byte{poolRecordKey: data})
	if err != nil {
		t.Fatal(err)
	}
	return poolInstance{after.state, config, private}
}

// An unchanged pool never gets as far as the framework.
func TestPoolFastPathIsTaken(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	pools := []poolInstance{unchangedPool(t, s, "openai"), unchangedPool(t, s, "google")}
	short, long, behind := newPoolServers(t, s)
	for i, at := range pools {
		before := behind.calls
		if diff := cmp.Diff(long.ask(at), short.ask(at)); diff != "" {
			t.Errorf("pool %d: %s", i, diff)
		}
		if got := behind.calls - before; got != 0 {
			t.Errorf("pool %d: %d calls to the framework", i, got)
		}
	}
}

// A list that fails is asked for once, and the framework reports it.
func TestFastPathReadFails(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	pool, key := unchangedPool(t, s, "openai"), unchanged(t, s)[0]
	s.ArchiveWorkspace(t, s.WorkspaceID)
	short, long, behind := newPoolServers(t, s)
	both := newBothWays(t, s)
	read := func(ask func()) int {
		before := s.Count(http.MethodGet, "/byok-keys")
		ask()
		return s.Count(http.MethodGet, "/byok-keys") - before
	}
	var shortly, slowly []string
	if a, b := read(func() { shortly = short.ask(pool) }), read(func() { slowly = long.ask(pool) }); a != b {
		t.Errorf("%d lists for a pool, %d without the fast path", a, b)
	}
	if diff := cmp.Diff(slowly, shortly); diff != "" || behind.calls == 0 || !strings.Contains(strings.Join(shortly, "\n"), "ERROR") {
		t.Errorf("%d calls to the framework: %s\n%s", behind.calls, shortly, diff)
	}
	var of, without responses
	if a, b := read(func() { of = both.short.ask(key) }), read(func() { without = both.long.ask(key) }); a != b {
		t.Errorf("%d lists for a key, %d without the fast path", a, b)
	}
	if diff := cmp.Diff(without, of); diff != "" || len(of.Reading) != 1 {
		t.Errorf("%v\n%s", of.Reading, diff)
	}
}

// TestPoolFastPath compares the provider with the framework alone, over pools of
// which anything may have changed.
func TestPoolFastPath(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	unchanged := unchangedPool(t, s, "openai")
	short, long, behind := newPoolServers(t, s)
	seed, rounds := *fastPathSeed, *fastPathRounds/2
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	text := func(values ...string) types.String {
		i := random.IntN(len(values) + 1)
		if i == len(values) {
			return types.StringNull()
		}
		return types.StringValue(values[i])
	}
	for round := range rounds {
		at := unchanged
		at.state.Keys.elements, at.config.Keys.elements = map[string]poolKey{}, map[string]poolKey{}
		for name, element := range unchanged.state.Keys.elements {
			at.state.Keys.elements[name] = element
		}
		for name, element := range unchanged.config.Keys.elements {
			at.config.Keys.elements[name] = element
		}
		name := []string{"a", "b", "c"}[random.IntN(3)]
		state, config := at.state.Keys.elements[name], at.config.Keys.elements[name]
		switch random.IntN(18) {
		case 0:
			config.APIKeyWO = text(secretA, secretB, "", " x")
		case 1:
			config.Name = text("a", "other", "", " a ")
		case 2:
			config.APIKeyWOVersion = types.Int64Value(int64(random.IntN(3)))
		case 3:
			state.Name = text("a", "other", "")
		case 4:
			state.MaskedKey = text("sk-oth...9abc")
		case 5:
			state.UpdatedAt = text(moved)
		case 6:
			state.ID = text("no-such-id")
		case 7:
			config.APIKeyWO = types.StringUnknown()
		case 8:
			at.config.Exclusive = types.BoolValue(true)
		case 9:
			at.config.Exclusive, at.state.Exclusive = types.BoolValue(true), types.BoolValue(true)
		case 10:
			at.config.OnRemoteChange = text("warn", "repair", "never")
		case 11:
			at.config.WorkspaceID = text("elsewhere", s.WorkspaceID, "a/b")
		case 12:
			at.config.ProviderID = text("google", "not-known-to-us")
		case 13:
			at.state.Unmanaged.elements = map[string]unmanagedKey{}
		case 14:
			delete(at.config.Keys.elements, "c")
			at.config.Keys.elements["d"] = declares(secretA)
		case 15:
			at.config.Keys.unknown, at.config.Keys.elements = true, nil
		case 16:
			at.private = [][]byte{nil, []byte("{}"), []byte(`{"pool":"e30="}`), []byte(`{"pool":"e30=","other":"e30="}`)}[random.IntN(4)]
		}
		if at.config.Keys.elements != nil {
			if _, declared := at.config.Keys.elements[name]; declared {
				at.config.Keys.elements[name] = config
			}
			at.state.Keys.elements[name] = state
		}
		if diff := cmp.Diff(long.ask(at), short.ask(at)); diff != "" {
			t.Fatalf("round %d: state %+v\nconfig %+v\n%s", round, at.state, at.config, diff)
		}
	}
	if calls := behind.calls; calls < rounds/2 || calls > 4*rounds*3/4 {
		t.Errorf("%d of %d calls got as far as the framework: too few or too many to tell anything", calls, 4*rounds)
	}
}
