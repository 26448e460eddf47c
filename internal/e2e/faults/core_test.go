package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

// core makes the calls that terraform makes, over the same protocol but in
// this process: every walk has a provider of its own, plans visit instances in
// a random order, ten at a time, and an apply plans again what it creates or
// changes. Like terraform it refuses a provider that plans or applies anything
// but what it said.
type core struct {
	// config is the provider block.
	config map[string]any
	// edit sets the pace of the provider's client.
	edit   func(*client.Config)
	random *rand.Rand

	typeName           string // of the resources
	provider, resource *tfprotov6.Schema
	state              map[string]instance
}

// instance is one resource instance in state.
type instance struct {
	value   tftypes.Value
	private []byte
}

// parallelism is terraform's default.
const parallelism = 10

func newCore(t testing.TB, config map[string]any, seed uint64, edit func(*client.Config)) *core {
	t.Helper()
	return newCoreOf(t, "byok_key", config, seed, edit)
}

func newCoreOf(t testing.TB, typeName string, config map[string]any, seed uint64, edit func(*client.Config)) *core {
	t.Helper()
	if edit == nil {
		edit = func(*client.Config) {}
	}
	c := &core{typeName: typeName, config: config, edit: edit, random: rand.New(rand.NewPCG(seed, 2)), state: map[string]instance{}}
	schemas, err := c.server().GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c.provider, c.resource = schemas.Provider, schemas.ResourceSchemas[typeName]
	return c
}

func (c *core) server() tfprotov6.ProviderServer {
	return provider.NewServer("test", c.edit)()
}

// change is what a plan does to one instance.
type change struct {
	address                string
	config, prior, planned tftypes.Value
	private                []byte
	// replaces: the prior object goes, and planned is a new one.
	replaces bool
}

func (ch change) empty() bool { return !ch.replaces && ch.planned.Equal(ch.prior) }

// diagnostics is an error made of what the provider reported.
type diagnostics []*tfprotov6.Diagnostic

func (d diagnostics) Error() string {
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

// err is d if it holds an error, otherwise nil.
func (d diagnostics) err() error {
	if slices.ContainsFunc(d, func(diag *tfprotov6.Diagnostic) bool { return diag.Severity == tfprotov6.DiagnosticSeverityError }) {
		return d
	}
	return nil
}

// walk is one process of the provider, configured.
type walk struct {
	*core
	tfprotov6.ProviderServer

	applying bool
	mu       sync.Mutex
	random   *rand.Rand
	found    diagnostics
	broken   error // the provider broke the protocol
}

func (c *core) walk(ctx context.Context, applying bool) *walk {
	w := &walk{core: c, ProviderServer: c.server(), applying: applying, random: c.random}
	config := c.dynamic(c.provider.ValueType(), object(c.provider.ValueType(), c.config))
	validated, err := w.ValidateProviderConfig(ctx, &tfprotov6.ValidateProviderConfigRequest{Config: config})
	if !w.report(err, validated.Diagnostics) {
		return w
	}
	resp, err := w.ConfigureProvider(ctx, &tfprotov6.ConfigureProviderRequest{
		TerraformVersion: "1.11.4", Config: config,
		ClientCapabilities: &tfprotov6.ConfigureProviderClientCapabilities{DeferralAllowed: applying},
	})
	w.report(err, resp.Diagnostics)
	return w
}

func (w *walk) report(err error, found []*tfprotov6.Diagnostic) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, found...)
	w.broken = errors.Join(w.broken, err)
	return err == nil && diagnostics(found).err() == nil
}

// refuse notes what terraform would not let a provider do.
func (w *walk) refuse(address, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = errors.Join(w.broken, fmt.Errorf("terraform would refuse %s: %s", address, fmt.Sprintf(format, args...)))
}

func (w *walk) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	return w.found.err()
}

// each runs visit for every address, in a random order and ten at a time.
func (w *walk) each(addresses []string, visit func(address string)) {
	w.random.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
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

// plan refreshes the state and returns what an apply would do, and everything
// that the provider had to say.
func (c *core) plan(ctx context.Context, declared map[string]map[string]any) ([]change, map[string]instance, diagnostics, error) {
	w := c.walk(ctx, false)
	if err := w.err(); err != nil {
		return nil, nil, w.found, err
	}
	var changes []change
	refreshed := map[string]instance{}
	addresses := make([]string, 0, len(declared)+len(c.state))
	for address := range declared {
		addresses = append(addresses, address)
	}
	for address := range c.state {
		if declared[address] == nil {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	w.each(addresses, func(address string) {
		at, ok := w.refresh(ctx, address, c.state[address])
		if !ok {
			return
		}
		config := null(c.resource.ValueType())
		if attributes := declared[address]; attributes != nil {
			config = object(c.resource.ValueType(), attributes)
		}
		ch, ok := w.planOne(ctx, address, config, at)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !at.value.IsNull() {
			refreshed[address] = at
		}
		if ok && !ch.empty() {
			changes = append(changes, ch)
		}
	})
	return changes, refreshed, w.found, w.err()
}

func (w *walk) refresh(ctx context.Context, address string, at instance) (instance, bool) {
	typ := w.resource.ValueType()
	if at.value.Type() == nil {
		return instance{value: null(typ)}, true
	}
	resp, err := w.ReadResource(ctx, &tfprotov6.ReadResourceRequest{
		TypeName: w.typeName, CurrentState: w.dynamic(typ, at.value), Private: at.private,
	})
	if !w.report(err, resp.Diagnostics) {
		return at, false
	}
	return instance{value: w.value(resp.NewState), private: resp.Private}, true
}

func (w *walk) planOne(ctx context.Context, address string, config tftypes.Value, at instance) (change, bool) {
	typ := w.resource.ValueType()
	if !config.IsNull() {
		resp, err := w.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{
			TypeName: w.typeName, Config: w.dynamic(typ, config),
			ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
		})
		if !w.report(err, resp.Diagnostics) {
			return change{}, false
		}
	}
	ch := change{address: address, config: config, prior: at.value}
	prior, private := at.value, at.private
	for {
		resp, err := w.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
			TypeName: w.typeName, PriorState: w.dynamic(typ, prior), Config: w.dynamic(typ, config),
			ProposedNewState: w.dynamic(typ, w.proposed(config, prior)), PriorPrivate: private,
			ClientCapabilities: &tfprotov6.PlanResourceChangeClientCapabilities{DeferralAllowed: w.applying},
		})
		if !w.report(err, resp.Diagnostics) {
			return change{}, false
		}
		ch.planned, ch.private = w.value(resp.PlannedState), resp.PlannedPrivate
		w.checkPlan(address, config, prior, ch.planned)
		if len(resp.RequiresReplace) == 0 || prior.IsNull() {
			return ch, true
		}
		// Terraform asks again for the object that takes the place, and
		// passes on the private state planned so far.
		ch.replaces, prior, private = true, null(typ), resp.PlannedPrivate
	}
}

// apply plans, and carries the plan out.
func (c *core) apply(ctx context.Context, declared map[string]map[string]any) (diagnostics, error) {
	changes, refreshed, found, err := c.plan(ctx, declared)
	if err != nil {
		return found, err
	}
	c.state = refreshed
	if len(changes) == 0 {
		return found, nil
	}
	w := c.walk(ctx, true)
	if err := w.err(); err != nil {
		return append(found, w.found...), err
	}
	byAddress := map[string]change{}
	var addresses []string
	for _, ch := range changes {
		byAddress[ch.address] = ch
		addresses = append(addresses, ch.address)
	}
	slices.Sort(addresses)
	w.each(addresses, func(address string) { w.applyOne(ctx, byAddress[address]) })
	return append(found, w.found...), w.err()
}

func (w *walk) applyOne(ctx context.Context, ch change) {
	typ := w.resource.ValueType()
	w.mu.Lock()
	at := w.state[ch.address]
	w.mu.Unlock()
	if at.value.Type() == nil {
		at.value = null(typ)
	}
	if ch.replaces || ch.planned.IsNull() {
		private := ch.private
		if ch.replaces {
			private = at.private
		}
		var ok bool
		if at, ok = w.carryOut(ctx, ch.address, null(typ), at.value, null(typ), private); !ok || ch.planned.IsNull() {
			return
		}
	}
	again, ok := w.planOne(ctx, ch.address, ch.config, at)
	if !ok {
		return
	}
	if again.replaces {
		w.refuse(ch.address, "the plan at apply replaces it")
		return
	}
	w.checkKnown(ch.address, "planned at apply", ch.planned, again.planned)
	if again.empty() {
		return
	}
	w.carryOut(ctx, ch.address, ch.config, at.value, again.planned, again.private)
}

func (w *walk) carryOut(ctx context.Context, address string, config, prior, planned tftypes.Value, private []byte) (instance, bool) {
	typ := w.resource.ValueType()
	resp, err := w.ApplyResourceChange(ctx, &tfprotov6.ApplyResourceChangeRequest{
		TypeName: w.typeName, Config: w.dynamic(typ, config), PriorState: w.dynamic(typ, prior),
		PlannedState: w.dynamic(typ, planned), PlannedPrivate: private,
	})
	ok := w.report(err, resp.Diagnostics)
	at := instance{value: w.value(resp.NewState), private: resp.Private}
	switch {
	case !ok && prior.IsNull() && !at.value.IsNull() && strings.Contains(diagnostics(resp.Diagnostics).Error(), "terraform untaint"):
		// The user does as told.
	case !ok && prior.IsNull() && !at.value.IsNull():
		w.refuse(address, "created with an error, so that it is tainted and the next apply deletes it")
	case ok && !planned.IsNull():
		w.checkKnown(address, "applied", planned, at.value)
	case ok && !at.value.IsNull():
		w.refuse(address, "deleted, but still there")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if at.value.IsNull() {
		delete(w.state, address)
	} else {
		w.state[address] = at
	}
	return at, ok
}

// proposed is config with what state has where config has nothing. Terraform
// leaves write-only values in it.
func (c *core) proposed(config, prior tftypes.Value) tftypes.Value {
	return proposedOf(c.resource.Block.Attributes, config, prior)
}

func proposedOf(attributes []*tfprotov6.SchemaAttribute, config, prior tftypes.Value) tftypes.Value {
	if config.IsNull() || !config.IsKnown() {
		return config
	}
	from, to := fields(prior), fields(config)
	for _, attribute := range attributes {
		switch name := attribute.Name; {
		case attribute.NestedType != nil && !to[name].IsNull():
			had, elements := fields(from[name]), fields(to[name])
			for key, element := range elements {
				elements[key] = proposedOf(attribute.NestedType.Attributes, element, had[key])
			}
			to[name] = tftypes.NewValue(to[name].Type(), elements)
		case attribute.Computed && to[name].IsNull() && len(from) > 0:
			to[name] = from[name]
		}
	}
	return tftypes.NewValue(config.Type(), to)
}

// checkPlan holds the rules of terraform for planned values.
func (w *walk) checkPlan(address string, config, prior, planned tftypes.Value) {
	if config.IsNull() != planned.IsNull() {
		w.refuse(address, "planned %s for configuration %s", planned, config)
		return
	}
	if config.IsNull() {
		return
	}
	w.checkAttributes(address, w.resource.Block.Attributes, config, prior, planned)
}

func (w *walk) checkAttributes(address string, attributes []*tfprotov6.SchemaAttribute, config, prior, planned tftypes.Value) {
	of, had, got := fields(config), fields(prior), fields(planned)
	for _, attribute := range attributes {
		name := attribute.Name
		switch {
		case attribute.NestedType != nil && !of[name].IsNull():
			elements, before, after := fields(of[name]), fields(had[name]), fields(got[name])
			if len(elements) != len(after) {
				w.refuse(address, "planned %d elements of %s, configured are %d", len(after), name, len(elements))
			}
			for key, element := range elements {
				w.checkAttributes(address+" "+key, attribute.NestedType.Attributes, element, before[key], after[key])
			}
		case attribute.WriteOnly && !got[name].IsNull():
			w.refuse(address, "write-only %s planned", name)
		case attribute.WriteOnly || of[name].IsNull() && attribute.Computed:
		case !got[name].Equal(of[name]) && (len(had) == 0 || !got[name].Equal(had[name])):
			w.refuse(address, "planned another %s than configured", name)
		}
	}
}

// checkKnown holds that what is known in before is the same in after.
func (w *walk) checkKnown(address, stage string, before, after tftypes.Value) {
	if after.IsNull() {
		w.refuse(address, "%s: nothing", stage)
		return
	}
	was, is := fields(before), fields(after)
	for name, value := range was {
		now, ok := is[name]
		switch nested := value.IsKnown() && !value.IsNull() && (value.Type().Is(tftypes.Map{}) || value.Type().Is(tftypes.Object{})); {
		case !ok:
			w.refuse(address, "%s: no %s, which was planned", stage, name)
		case nested && !now.IsNull() && now.IsKnown():
			if len(fields(value)) != len(fields(now)) {
				w.refuse(address, "%s: %d elements of %s, planned were %d", stage, len(fields(now)), name, len(fields(value)))
			}
			w.checkKnown(address+" "+name, stage, value, now)
		case value.IsFullyKnown() && !value.Equal(now):
			w.refuse(address, "%s: another %s than planned", stage, name)
		}
		if ok && stage == "applied" && !now.IsFullyKnown() {
			w.refuse(address, "%s: unknown %s", stage, name)
		}
	}
}

func (c *core) dynamic(typ tftypes.Type, value tftypes.Value) *tfprotov6.DynamicValue {
	encoded, err := tfprotov6.NewDynamicValue(typ, value)
	if err != nil {
		panic(err)
	}
	return &encoded
}

func (c *core) value(encoded *tfprotov6.DynamicValue) tftypes.Value {
	typ := c.resource.ValueType()
	if encoded == nil {
		return null(typ)
	}
	value, err := encoded.Unmarshal(typ)
	if err != nil {
		panic(err)
	}
	return value
}

func null(typ tftypes.Type) tftypes.Value { return tftypes.NewValue(typ, nil) }

// object makes a value of an object type from what is set.
func object(typ tftypes.Type, set map[string]any) tftypes.Value {
	values := map[string]tftypes.Value{}
	for name, attribute := range typ.(tftypes.Object).AttributeTypes {
		values[name] = valueOf(attribute, set[name])
	}
	for name := range set {
		if _, ok := values[name]; !ok {
			panic("no attribute " + name)
		}
	}
	return tftypes.NewValue(typ, values)
}

func valueOf(typ tftypes.Type, set any) tftypes.Value {
	switch set := set.(type) {
	case map[string]any:
		if _, ok := typ.(tftypes.Object); ok {
			return object(typ, set)
		}
		elements := map[string]tftypes.Value{}
		for name, value := range set {
			elements[name] = valueOf(typ.(tftypes.Map).ElementType, value)
		}
		return tftypes.NewValue(typ, elements)
	default:
		return tftypes.NewValue(typ, set)
	}
}

func fields(value tftypes.Value) map[string]tftypes.Value {
	all := map[string]tftypes.Value{}
	if value.Type() != nil && !value.IsNull() {
		if err := value.As(&all); err != nil {
			panic(err)
		}
	}
	return maps.Clone(all) // As hands out the value's own
}

func text(value tftypes.Value) string {
	var text string
	if value.IsNull() || value.As(&text) != nil {
		return ""
	}
	return text
}
