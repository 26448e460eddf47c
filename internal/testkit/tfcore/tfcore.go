// Package tfcore plays Terraform against a provider server in this process: it
// makes the calls that Terraform makes, over the same protocol, without the
// binary. Only tests import it.
package tfcore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// Core plans and applies resources. Every operation has a provider of its own,
// plans visit instances in a random order, ten at a time, and an apply plans
// again what it creates or changes. Like Terraform it refuses a provider that
// plans or applies anything but what it said.
type Core struct {
	// Config is the provider block.
	Config map[string]any
	// State has the instances by address: TYPE.NAME, where byok_key.NAME may be
	// written NAME.
	State map[string]Instance

	server  func() tfprotov6.ProviderServer
	random  *rand.Rand
	schemas *tfprotov6.GetProviderSchemaResponse
}

// Instance is one resource instance in state.
type Instance struct {
	Value   tftypes.Value
	Private []byte
}

// parallelism is Terraform's default.
const parallelism = 10

// New returns a Core with an empty state. server makes the provider of one
// operation, seed decides on the order of visits.
func New(t testing.TB, server func() tfprotov6.ProviderServer, config map[string]any, seed uint64) *Core {
	t.Helper()
	c := &Core{Config: config, server: server, random: rand.New(rand.NewPCG(seed, 2)), State: map[string]Instance{}}
	var err error
	if c.schemas, err = server().GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// typeName is the resource type of an address.
func typeName(address string) string {
	if before, _, found := strings.Cut(address, "."); found {
		return before
	}
	return "byok_key"
}

// Schema is the schema of the resource at an address.
func (c *Core) Schema(address string) *tfprotov6.Schema {
	return c.schemas.ResourceSchemas[typeName(address)]
}

// Type is the type of the resource at an address.
func (c *Core) Type(address string) tftypes.Type { return c.Schema(address).ValueType() }

// Change is what a plan does to one instance.
type Change struct {
	Address                string
	Config, Prior, Planned tftypes.Value
	Private                []byte
	// Replaces: the prior object goes, and Planned is a new one.
	Replaces bool
}

// Empty reports whether a plan changes nothing.
func (ch Change) Empty() bool { return !ch.Replaces && ch.Planned.Equal(ch.Prior) }

// Diagnostics are an error made of what the provider reported.
type Diagnostics []*tfprotov6.Diagnostic

func (d Diagnostics) Error() string {
	var b strings.Builder
	for _, diag := range d {
		fmt.Fprintf(&b, "%s", diag.Severity)
		if diag.Attribute != nil {
			fmt.Fprintf(&b, " at %s", diag.Attribute)
		}
		fmt.Fprintf(&b, ": %s\n%s\n\n", diag.Summary, diag.Detail)
	}
	return b.String()
}

// Err is d if it holds an error, otherwise nil.
func (d Diagnostics) Err() error {
	if slices.ContainsFunc(d, func(diag *tfprotov6.Diagnostic) bool { return diag.Severity == tfprotov6.DiagnosticSeverityError }) {
		return d
	}
	return nil
}

// Operation is one process of the provider, configured for a plan or an apply.
type Operation struct {
	*Core
	tfprotov6.ProviderServer

	applying bool
	mu       sync.Mutex
	random   *rand.Rand
	// Found is what the provider reported, Broken how it broke the protocol.
	Found  Diagnostics
	Broken error
}

// Begin starts and configures a provider.
func (c *Core) Begin(ctx context.Context, applying bool) *Operation {
	o := &Operation{Core: c, ProviderServer: c.server(), applying: applying, random: c.random}
	typ := c.schemas.Provider.ValueType()
	config := Encode(typ, Object(typ, c.Config))
	validated, err := o.ValidateProviderConfig(ctx, &tfprotov6.ValidateProviderConfigRequest{Config: config})
	if !o.Report(err, validated.Diagnostics) {
		return o
	}
	resp, err := o.ConfigureProvider(ctx, &tfprotov6.ConfigureProviderRequest{
		TerraformVersion: "1.11.4", Config: config,
		ClientCapabilities: &tfprotov6.ConfigureProviderClientCapabilities{DeferralAllowed: applying},
	})
	o.Report(err, resp.Diagnostics)
	return o
}

// Report notes what a call returned, and reports whether it went well.
func (o *Operation) Report(err error, found []*tfprotov6.Diagnostic) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Found = append(o.Found, found...)
	o.Broken = errors.Join(o.Broken, err)
	return err == nil && Diagnostics(found).Err() == nil
}

// refuse notes what Terraform would not let a provider do.
func (o *Operation) refuse(address, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Broken = errors.Join(o.Broken, fmt.Errorf("refused by Terraform: %s: %s", address, fmt.Sprintf(format, args...)))
}

// Err is what the operation failed with.
func (o *Operation) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Broken != nil {
		return o.Broken
	}
	return o.Found.Err()
}

// each runs visit for every address, in a random order and ten at a time.
func (o *Operation) each(addresses []string, visit func(address string)) {
	o.random.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	slots := make(chan struct{}, parallelism)
	var wg sync.WaitGroup
	for _, address := range addresses {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			visit(address)
		})
	}
	wg.Wait()
}

// Plan refreshes the state and returns what an apply would do, and everything
// that the provider had to say.
func (c *Core) Plan(ctx context.Context, declared map[string]map[string]any) ([]Change, map[string]Instance, Diagnostics, error) {
	o := c.Begin(ctx, false)
	if err := o.Err(); err != nil {
		return nil, nil, o.Found, err
	}
	var changes []Change
	refreshed := map[string]Instance{}
	addresses := make([]string, 0, len(declared)+len(c.State))
	for address := range declared {
		addresses = append(addresses, address)
	}
	for address := range c.State {
		if declared[address] == nil {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	o.each(addresses, func(address string) {
		at, ok := o.refresh(ctx, address, c.State[address])
		if !ok {
			return
		}
		config := Null(c.Type(address))
		if attributes := declared[address]; attributes != nil {
			config = Object(c.Type(address), attributes)
		}
		ch, ok := o.PlanOne(ctx, address, config, at)
		o.mu.Lock()
		defer o.mu.Unlock()
		if !at.Value.IsNull() {
			refreshed[address] = at
		}
		if ok && !ch.Empty() {
			changes = append(changes, ch)
		}
	})
	return changes, refreshed, o.Found, o.Err()
}

func (o *Operation) refresh(ctx context.Context, address string, at Instance) (Instance, bool) {
	typ := o.Type(address)
	if at.Value.Type() == nil {
		return Instance{Value: Null(typ)}, true
	}
	resp, err := o.ReadResource(ctx, &tfprotov6.ReadResourceRequest{
		TypeName: typeName(address), CurrentState: Encode(typ, at.Value), Private: at.Private,
	})
	if !o.Report(err, resp.Diagnostics) {
		return at, false
	}
	return Instance{Value: Decode(typ, resp.NewState), Private: resp.Private}, true
}

// PlanOne validates the configuration of an instance and plans its change.
func (o *Operation) PlanOne(ctx context.Context, address string, config tftypes.Value, at Instance) (Change, bool) {
	typ := o.Type(address)
	if !config.IsNull() {
		resp, err := o.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{
			TypeName: typeName(address), Config: Encode(typ, config),
			ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
		})
		if !o.Report(err, resp.Diagnostics) {
			return Change{}, false
		}
	}
	ch := Change{Address: address, Config: config, Prior: at.Value}
	prior, private := at.Value, at.Private
	for {
		resp, err := o.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
			TypeName: typeName(address), PriorState: Encode(typ, prior), Config: Encode(typ, config),
			ProposedNewState: Encode(typ, Proposed(o.Schema(address), config, prior)), PriorPrivate: private,
			ClientCapabilities: &tfprotov6.PlanResourceChangeClientCapabilities{DeferralAllowed: o.applying},
		})
		if !o.Report(err, resp.Diagnostics) {
			return Change{}, false
		}
		ch.Planned, ch.Private = Decode(typ, resp.PlannedState), resp.PlannedPrivate
		o.checkPlan(address, config, prior, ch.Planned)
		if len(resp.RequiresReplace) == 0 || prior.IsNull() {
			return ch, true
		}
		// Terraform asks again for the object that takes the place, and
		// passes on the private state planned so far.
		ch.Replaces, prior, private = true, Null(typ), resp.PlannedPrivate
	}
}

// Apply plans, and carries the plan out.
func (c *Core) Apply(ctx context.Context, declared map[string]map[string]any) (Diagnostics, error) {
	changes, refreshed, found, err := c.Plan(ctx, declared)
	if err != nil {
		return found, err
	}
	c.State = refreshed
	if len(changes) == 0 {
		return found, nil
	}
	o := c.Begin(ctx, true)
	if err := o.Err(); err != nil {
		return append(found, o.Found...), err
	}
	byAddress := map[string]Change{}
	var addresses []string
	for _, ch := range changes {
		byAddress[ch.Address] = ch
		addresses = append(addresses, ch.Address)
	}
	slices.Sort(addresses)
	o.each(addresses, func(address string) { o.applyOne(ctx, byAddress[address]) })
	return append(found, o.Found...), o.Err()
}

func (o *Operation) applyOne(ctx context.Context, ch Change) {
	typ := o.Type(ch.Address)
	o.mu.Lock()
	at := o.State[ch.Address]
	o.mu.Unlock()
	if at.Value.Type() == nil {
		at.Value = Null(typ)
	}
	if ch.Replaces || ch.Planned.IsNull() {
		private := ch.Private
		if ch.Replaces {
			private = at.Private
		}
		var ok bool
		if at, ok = o.CarryOut(ctx, ch.Address, Null(typ), at.Value, Null(typ), private); !ok || ch.Planned.IsNull() {
			return
		}
	}
	again, ok := o.PlanOne(ctx, ch.Address, ch.Config, at)
	if !ok {
		return
	}
	if again.Replaces {
		o.refuse(ch.Address, "the plan at apply replaces it")
		return
	}
	o.checkKnown(ch.Address, "planned at apply", ch.Planned, again.Planned)
	if again.Empty() {
		return
	}
	o.CarryOut(ctx, ch.Address, ch.Config, at.Value, again.Planned, again.Private)
}

// CarryOut applies one planned change.
func (o *Operation) CarryOut(ctx context.Context, address string, config, prior, planned tftypes.Value, private []byte) (Instance, bool) {
	typ := o.Type(address)
	resp, err := o.ApplyResourceChange(ctx, &tfprotov6.ApplyResourceChangeRequest{
		TypeName: typeName(address), Config: Encode(typ, config), PriorState: Encode(typ, prior),
		PlannedState: Encode(typ, planned), PlannedPrivate: private,
	})
	ok := o.Report(err, resp.Diagnostics)
	at := Instance{Value: Decode(typ, resp.NewState), Private: resp.Private}
	switch {
	case !ok && prior.IsNull() && !at.Value.IsNull() && strings.Contains(Diagnostics(resp.Diagnostics).Error(), "terraform untaint"):
		// The user does as told.
	case !ok && prior.IsNull() && !at.Value.IsNull():
		o.refuse(address, "created with an error, so that it is tainted and the next apply deletes it")
	case ok && !planned.IsNull():
		o.checkKnown(address, "applied", planned, at.Value)
	case ok && !at.Value.IsNull():
		o.refuse(address, "deleted, but still there")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if at.Value.IsNull() {
		delete(o.State, address)
	} else {
		o.State[address] = at
	}
	return at, ok
}

// checkPlan holds the rules of Terraform for planned values.
func (o *Operation) checkPlan(address string, config, prior, planned tftypes.Value) {
	if config.IsNull() != planned.IsNull() {
		o.refuse(address, "planned %s for configuration %s", planned, config)
		return
	}
	if config.IsNull() {
		return
	}
	o.checkAttributes(address, o.Schema(address).Block.Attributes, config, prior, planned)
}

func (o *Operation) checkAttributes(address string, attributes []*tfprotov6.SchemaAttribute, config, prior, planned tftypes.Value) {
	of, had, got := Fields(config), Fields(prior), Fields(planned)
	for _, attribute := range attributes {
		name := attribute.Name
		switch {
		case attribute.NestedType != nil && !of[name].IsNull():
			elements, before, after := Fields(of[name]), Fields(had[name]), Fields(got[name])
			if len(elements) != len(after) {
				o.refuse(address, "planned %d elements of %s, configured are %d", len(after), name, len(elements))
			}
			for key, element := range elements {
				o.checkAttributes(address+" "+key, attribute.NestedType.Attributes, element, before[key], after[key])
			}
		case attribute.WriteOnly && !got[name].IsNull():
			o.refuse(address, "write-only %s planned", name)
		case attribute.WriteOnly || of[name].IsNull() && attribute.Computed:
		case !got[name].Equal(of[name]) && (len(had) == 0 || !got[name].Equal(had[name])):
			o.refuse(address, "planned another %s than configured", name)
		}
	}
}

// checkKnown holds that what is known in before is the same in after.
func (o *Operation) checkKnown(address, stage string, before, after tftypes.Value) {
	if after.IsNull() {
		o.refuse(address, "%s: nothing", stage)
		return
	}
	was, is := Fields(before), Fields(after)
	for name, value := range was {
		now, ok := is[name]
		nested := value.IsKnown() && !value.IsNull() && (value.Type().Is(tftypes.Map{}) || value.Type().Is(tftypes.Object{}))
		switch {
		case !ok:
			o.refuse(address, "%s: no %s, which was planned", stage, name)
			continue
		case nested && !now.IsNull() && now.IsKnown():
			if len(Fields(value)) != len(Fields(now)) {
				o.refuse(address, "%s: %d elements of %s, planned were %d", stage, len(Fields(now)), name, len(Fields(value)))
			}
			o.checkKnown(address+" "+name, stage, value, now)
		case value.IsFullyKnown() && !value.Equal(now):
			o.refuse(address, "%s: another %s than planned", stage, name)
		}
		if stage == "applied" && !now.IsFullyKnown() {
			o.refuse(address, "%s: unknown %s", stage, name)
		}
	}
}
