package fastpath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// attributes are those of a resource with write-only values at two depths.
func attributes() []*tfprotov6.SchemaAttribute {
	return []*tfprotov6.SchemaAttribute{
		{Name: "count", Type: tftypes.Number},
		{Name: "flag", Type: tftypes.Bool},
		{Name: "keys", NestedType: &tfprotov6.SchemaObject{Nesting: tfprotov6.SchemaObjectNestingModeMap, Attributes: []*tfprotov6.SchemaAttribute{
			{Name: "id", Type: tftypes.String},
			{Name: "secret_wo", Type: tftypes.String, WriteOnly: true},
		}}},
		{Name: "name", Type: tftypes.String},
		{Name: "secret_wo", Type: tftypes.String, WriteOnly: true},
		{Name: "single", NestedType: &tfprotov6.SchemaObject{Nesting: tfprotov6.SchemaObjectNestingModeSingle, Attributes: []*tfprotov6.SchemaAttribute{
			{Name: "secret_wo", Type: tftypes.String, WriteOnly: true},
			{Name: "text", Type: tftypes.String},
		}}},
		{Name: "tags", Type: tftypes.List{ElementType: tftypes.String}},
	}
}

func thing() *tfprotov6.Schema {
	return &tfprotov6.Schema{Version: 3, Block: &tfprotov6.SchemaBlock{
		Attributes: attributes(),
		BlockTypes: []*tfprotov6.SchemaNestedBlock{{
			TypeName: "timeouts", Nesting: tfprotov6.SchemaNestedBlockNestingModeSingle,
			Block: &tfprotov6.SchemaBlock{Attributes: []*tfprotov6.SchemaAttribute{{Name: "create", Type: tftypes.String}}},
		}},
	}}
}

// random returns a value; the write-only ones among it are null unless secrets.
// Few values of each type make equal ones likely.
func random(r *rand.Rand, of tftypes.Type, secrets bool) tftypes.Value {
	if r.IntN(6) == 0 {
		return tftypes.NewValue(of, nil)
	}
	switch of := of.(type) {
	case tftypes.Object:
		fields := map[string]tftypes.Value{}
		for name, field := range of.AttributeTypes {
			if fields[name] = random(r, field, secrets); name == "secret_wo" && !secrets {
				fields[name] = tftypes.NewValue(field, nil)
			}
		}
		return tftypes.NewValue(of, fields)
	case tftypes.List:
		return tftypes.NewValue(of, []tftypes.Value{random(r, of.ElementType, secrets)})
	case tftypes.Map:
		elements := map[string]tftypes.Value{}
		for i := range r.IntN(3) {
			elements[fmt.Sprint("a long name of an element, number ", i)] = random(r, of.ElementType, secrets)
		}
		return tftypes.NewValue(of, elements)
	}
	switch {
	case of.Is(tftypes.Bool):
		return tftypes.NewValue(of, r.IntN(2) == 0)
	case of.Is(tftypes.Number):
		return tftypes.NewValue(of, []int64{0, -70000, 1 << 40}[r.IntN(3)])
	}
	return tftypes.NewValue(of, []string{"", "x", "a text of more than 31 bytes, which is encoded otherwise"}[r.IntN(3)])
}

// without returns a value with its write-only ones null.
func without(t *testing.T, v tftypes.Value) tftypes.Value {
	t.Helper()
	v, err := tftypes.Transform(v, func(path *tftypes.AttributePath, v tftypes.Value) (tftypes.Value, error) {
		if path.LastStep() == tftypes.AttributeName("secret_wo") {
			return tftypes.NewValue(v.Type(), nil), nil
		}
		return v, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func encode(t *testing.T, v tftypes.Value) []byte {
	t.Helper()
	dynamic, err := tfprotov6.NewDynamicValue(v.Type(), v)
	if err != nil {
		t.Fatal(err)
	}
	return dynamic.MsgPack
}

func schemaOfThing() *schema { return &schema{version: 3, root: nodeOfBlock(thing().Block)} }

// Two states are the same exactly if they are equal once their write-only
// values are left out, and the prior state has none.
func TestSame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 0))
	s, object := schemaOfThing(), thing().ValueType()
	same, secret := 0, 0
	for range 3000 {
		prior := random(r, object, r.IntN(10) == 0)
		proposed := random(r, object, true)
		if r.IntN(2) == 0 { // the prior state, with other secrets
			proposed, _ = tftypes.Transform(prior, func(path *tftypes.AttributePath, v tftypes.Value) (tftypes.Value, error) {
				if path.LastStep() == tftypes.AttributeName("secret_wo") {
					return random(r, tftypes.String, true), nil
				}
				if v.Type().Is(tftypes.String) && r.IntN(30) == 0 {
					return random(r, tftypes.String, true), nil
				}
				return v, nil
			})
		}
		a, b := encode(t, prior), encode(t, proposed)
		want := without(t, prior).Equal(without(t, proposed)) && (prior.Equal(without(t, prior)) || slices.Equal(a, b))
		if got := s.same(a, b); got != want {
			t.Fatalf("same: %v\n%s\n%s", got, prior, proposed)
		}
		if want {
			same++
			if !slices.Equal(a, b) {
				secret++
			}
		}
	}
	if same < 300 || secret < 300 {
		t.Errorf("%d were the same, %d of them with another secret: too few to tell anything", same, secret)
	}
}

// What is cut short or has something behind it is never the same, and nothing
// panics.
func TestSameOfBrokenValues(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 0))
	s, object := schemaOfThing(), thing().ValueType()
	for range 50 {
		prior := encode(t, random(r, object, false))
		for i := range prior {
			if s.same(prior, prior[:i]) || s.same(prior[:i], prior) {
				t.Fatalf("%x is the same as its first %d bytes", prior, i)
			}
		}
		if s.same(prior, append(slices.Clone(prior), 0xc0)) {
			t.Fatalf("%x is the same with a null behind it", prior)
		}
	}
}

func FuzzSame(f *testing.F) {
	f.Add([]byte{0x81, 0xa4, 'n', 'a', 'm', 'e', 0xa1, 'x'}, []byte{0x81, 0xa4, 'n', 'a', 'm', 'e', 0xa1, 'y'})
	f.Add([]byte{0x81, 0xa9, 's', 'e', 'c', 'r', 'e', 't', '_', 'w', 'o', 0xc0}, []byte{0x81, 0xa9, 's', 'e', 'c', 'r', 'e', 't', '_', 'w', 'o', 0xa1, 'y'})
	s := schemaOfThing()
	f.Fuzz(func(t *testing.T, a, b []byte) { s.same(a, b) })
}

// A state is decoded as terraform-plugin-go does it, or not at all.
func TestFromJSON(t *testing.T) {
	t.Parallel()
	s, object := schemaOfThing(), thing().ValueType()
	for stored, want := range map[string]bool{
		`{"count":1,"flag":true,"keys":{"b":{"id":"x","secret_wo":null},"a":{"id":null,"secret_wo":null}},"name":"n","secret_wo":null,"single":{"text":"t","secret_wo":null},"tags":null,"timeouts":{"create":"5m"}}`: true,
		`{"count":null,"flag":null,"keys":null,"name":null,"secret_wo":null,"single":null,"tags":null,"timeouts":null}`:                                                                                               true,
		`{"count":-70000,"keys":{},"name":""}`: true,
		`{"keys":{"a":null}}`:                  true,
		`{"count":1.5}`:                        false, // a form that the fast path leaves to the framework
		`{"tags":["a"]}`:                       false,
		`{"count":"1"}`:                        false,
		`{"flag":"true"}`:                      false,
		`{"name":1}`:                           false,
		`{"secret_wo":"x"}`:                    false,
		`{"keys":{"a":{"unknown":1}}}`:         false,
		`{"unknown":null}`:                     false,
		`{"name":["x"]}`:                       false,
		`null`:                                 false,
		`[]`:                                   false,
		`{`:                                    false,
		``:                                     false,
	} {
		got, ok := s.fromJSON([]byte(stored))
		if ok != want {
			t.Errorf("%s: decoded %v", stored, ok)
		}
		if !ok {
			continue
		}
		value, err := (&tfprotov6.RawState{JSON: []byte(stored)}).Unmarshal(object)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := (&tfprotov6.DynamicValue{MsgPack: got}).Unmarshal(object)
		if err != nil || !decoded.Equal(value) {
			t.Errorf("%s: %s, %v", stored, decoded, err)
		}
	}
}

// framework counts the calls that reach it.
type framework struct {
	Framework
	calls     []string
	readError error // of the newest read
}

func (f *framework) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return &tfprotov6.GetProviderSchemaResponse{ResourceSchemas: map[string]*tfprotov6.Schema{"thing": thing()}}, nil
}

func (f *framework) UpgradeResourceState(context.Context, *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	f.calls = append(f.calls, "upgrade")
	return nil, nil
}

func (f *framework) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	f.calls = append(f.calls, "validate")
	return nil, nil
}

func (f *framework) ReadResource(ctx context.Context, _ *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	f.calls = append(f.calls, "read")
	f.readError = ReadError(ctx)
	return nil, nil
}

func (f *framework) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	f.calls = append(f.calls, "stop")
	return nil, nil
}

func (f *framework) PlanResourceChange(context.Context, *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	f.calls = append(f.calls, "plan")
	return nil, nil
}

// yes is a resource that always sees nothing to do, as a faulty one would.
type yes struct{ asked int }

func (y *yes) Valid([]byte) bool { y.asked++; return true }
func (y *yes) Read(context.Context, []byte, []byte) ([]byte, bool, error) {
	y.asked++
	return []byte{0x80}, true, nil
}
func (y *yes) Plan(PlanRequest) (private []byte, unchanged bool) {
	y.asked++
	return []byte("private"), true
}

// A resource that sees nothing to do cannot hide a change: whatever differs
// between the prior and the proposed state is the framework's.
func TestServerTrustsNoResource(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	object := thing().ValueType().(tftypes.Object)
	state := func(change map[string]any) *tfprotov6.DynamicValue {
		values := map[string]tftypes.Value{}
		for name, of := range object.AttributeTypes {
			values[name] = tftypes.NewValue(of, change[name])
		}
		return &tfprotov6.DynamicValue{MsgPack: encode(t, tftypes.NewValue(object, values))}
	}
	null := &tfprotov6.DynamicValue{MsgPack: []byte{0xc0}}
	prior := state(map[string]any{"name": "x"})
	for title, tc := range map[string]struct {
		req  tfprotov6.PlanResourceChangeRequest
		fast bool
	}{
		"unchanged":      {tfprotov6.PlanResourceChangeRequest{PriorState: prior, ProposedNewState: prior, Config: prior}, true},
		"another secret": {tfprotov6.PlanResourceChangeRequest{PriorState: prior, ProposedNewState: state(map[string]any{"name": "x", "secret_wo": "s"}), Config: prior}, true},
		"another name":   {tfprotov6.PlanResourceChangeRequest{PriorState: prior, ProposedNewState: state(map[string]any{"name": "y"}), Config: prior}, false},
		"unknown":        {tfprotov6.PlanResourceChangeRequest{PriorState: prior, ProposedNewState: state(map[string]any{"name": tftypes.UnknownValue}), Config: prior}, false},
		"create":         {tfprotov6.PlanResourceChangeRequest{PriorState: null, ProposedNewState: prior, Config: prior}, false},
		"delete":         {tfprotov6.PlanResourceChangeRequest{PriorState: prior, ProposedNewState: null, Config: null}, false},
		"JSON":           {tfprotov6.PlanResourceChangeRequest{PriorState: &tfprotov6.DynamicValue{JSON: []byte("{}")}, ProposedNewState: prior, Config: prior}, false},
		"nothing":        {tfprotov6.PlanResourceChangeRequest{}, false},
	} {
		for typeName, known := range map[string]bool{"thing": true, "other": false} {
			f, r := &framework{}, &yes{}
			server := New(f, map[string]Resource{"thing": r, "without a schema": r})
			req := tc.req
			req.TypeName = typeName
			resp, err := server.PlanResourceChange(ctx, &req)
			if fast := err == nil && resp != nil; fast != (tc.fast && known) || fast == (len(f.calls) == 1) {
				t.Errorf("%s of %s: fast %v, framework %v", title, typeName, fast, f.calls)
			}
			if resp != nil && (resp.PlannedState != req.PriorState || string(resp.PlannedPrivate) != "private") {
				t.Errorf("%s: %+v", title, resp)
			}
			if !tc.fast && r.asked > 0 {
				t.Errorf("%s: the resource was asked", title)
			}
		}
	}
}

func TestServerReads(t *testing.T) {
	t.Parallel()
	state := &tfprotov6.DynamicValue{MsgPack: []byte{0x80}}
	identity := func(data ...byte) *tfprotov6.ResourceIdentityData {
		return &tfprotov6.ResourceIdentityData{IdentityData: &tfprotov6.DynamicValue{MsgPack: data}}
	}
	for title, tc := range map[string]struct {
		req  tfprotov6.ReadResourceRequest
		fast bool
	}{
		"no identity yet":  {tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: state, Private: []byte("p")}, true},
		"its identity":     {tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: state, CurrentIdentity: identity(0x80)}, true},
		"another identity": {tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: state, CurrentIdentity: identity(0x81)}, false},
		"empty identity":   {tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: state, CurrentIdentity: &tfprotov6.ResourceIdentityData{}}, false},
		"no state":         {tfprotov6.ReadResourceRequest{TypeName: "thing"}, false},
		"another resource": {tfprotov6.ReadResourceRequest{TypeName: "other", CurrentState: state}, false},
	} {
		f := &framework{}
		resp, err := New(f, map[string]Resource{"thing": &yes{}}).ReadResource(t.Context(), &tc.req)
		if err != nil || (resp != nil) != tc.fast || (len(f.calls) == 0) != tc.fast {
			t.Errorf("%s: %+v, framework %v", title, resp, f.calls)
		}
		if resp != nil && (resp.NewState != state || string(resp.Private) != string(tc.req.Private) || resp.NewIdentity == nil) {
			t.Errorf("%s: %+v", title, resp)
		}
	}
}

// reader is a resource whose reads are as a function says.
type reader struct {
	yes
	read func(context.Context) error
}

func (r *reader) Read(ctx context.Context, _, _ []byte) ([]byte, bool, error) {
	return nil, false, r.read(ctx)
}

// The framework's read gets the error of the API, and makes the read of a
// resource that has changed.
func TestServerHandsOnReadErrors(t *testing.T) {
	t.Parallel()
	req := &tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: &tfprotov6.DynamicValue{MsgPack: []byte{0x80}}}
	for _, want := range []error{nil, errors.New("refused")} {
		f := &framework{}
		resource := &reader{read: func(context.Context) error { return want }}
		if _, err := New(f, map[string]Resource{"thing": resource}).ReadResource(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.calls, []string{"read"}) || !errors.Is(f.readError, want) {
			t.Errorf("the framework got %v with the error %v, want %v", f.calls, f.readError, want)
		}
	}
	if err := ReadError(t.Context()); err != nil {
		t.Error(err)
	}
}

// Ctrl-C ends a read that waits for the API, and no later one.
func TestServerStopsReads(t *testing.T) {
	t.Parallel()
	req := &tfprotov6.ReadResourceRequest{TypeName: "thing", CurrentState: &tfprotov6.DynamicValue{MsgPack: []byte{0x80}}}
	f, begun := &framework{}, make(chan struct{})
	resource := &reader{read: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}}
	server := New(f, map[string]Resource{"thing": resource})
	ended := make(chan error)
	go func() {
		_, err := server.ReadResource(t.Context(), req)
		ended <- err
	}()
	<-begun
	if _, err := server.StopProvider(t.Context(), &tfprotov6.StopProviderRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || !errors.Is(f.readError, context.Canceled) {
		t.Errorf("%v; the framework got the error %v", err, f.readError)
	}
	resource.read = func(ctx context.Context) error { return ctx.Err() }
	if _, err := server.ReadResource(t.Context(), req); err != nil || f.readError != nil {
		t.Errorf("after the stop: %v, %v", err, f.readError)
	}
	if !slices.Equal(f.calls, []string{"stop", "read", "read"}) {
		t.Errorf("the framework got %v", f.calls)
	}
}

func TestServerUpgradesAndValidates(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	stored, _ := json.Marshal(map[string]any{"name": "x"})
	config := &tfprotov6.DynamicValue{MsgPack: []byte{0x80}}
	f := &framework{}
	server := New(f, map[string]Resource{"thing": &yes{}})
	for _, req := range []*tfprotov6.UpgradeResourceStateRequest{
		{TypeName: "thing", Version: 3, RawState: &tfprotov6.RawState{JSON: stored}}, // the fast one
		{TypeName: "thing", Version: 2, RawState: &tfprotov6.RawState{JSON: stored}},
		{TypeName: "thing", Version: 3},
		{TypeName: "thing", Version: 3, RawState: &tfprotov6.RawState{Flatmap: map[string]string{"name": "x"}}},
		{TypeName: "other", Version: 3, RawState: &tfprotov6.RawState{JSON: stored}},
	} {
		_, _ = server.UpgradeResourceState(ctx, req)
	}
	allowed := &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true}
	for _, req := range []*tfprotov6.ValidateResourceConfigRequest{
		{TypeName: "thing", Config: config, ClientCapabilities: allowed}, // the fast one
		{TypeName: "thing", Config: config},
		{TypeName: "thing", Config: config, ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{}},
		{TypeName: "thing", ClientCapabilities: allowed},
		{TypeName: "other", Config: config, ClientCapabilities: allowed},
	} {
		_, _ = server.ValidateResourceConfig(ctx, req)
	}
	if want := []string{"upgrade", "upgrade", "upgrade", "upgrade", "validate", "validate", "validate", "validate"}; !slices.Equal(f.calls, want) {
		t.Errorf("the framework got %v, want %v", f.calls, want)
	}
}

// The framework's server is a Framework; a version of it that is not any more
// fails here.
func TestFrameworkIsOne(t *testing.T) {
	t.Parallel()
	if _, ok := providerserver.NewProtocol6(provider.Provider(nil))().(Framework); !ok {
		t.Error("the framework's server does not implement all calls")
	}
}
