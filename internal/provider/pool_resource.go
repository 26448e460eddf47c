package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

var (
	_ resource.ResourceWithConfigure      = (*poolResource)(nil)
	_ resource.ResourceWithIdentity       = (*poolResource)(nil)
	_ resource.ResourceWithImportState    = (*poolResource)(nil)
	_ resource.ResourceWithModifyPlan     = (*poolResource)(nil)
	_ resource.ResourceWithValidateConfig = (*poolResource)(nil)
)

const poolTypeName = "byok_pool"

// poolResource is byok_pool: the keys of one provider ID in one scope, as one
// resource. Terraform makes one for each call.
type poolResource struct{ configuredResource }

func newPoolResource() resource.Resource { return &poolResource{configuredResource{&operation{}}} }

func (r *poolResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = poolTypeName
}

func (r *poolResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = poolIdentity.schema()
}

func (r *poolResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages keys that a Sim workspace, or an organization, has for one AI provider, as one resource. Sim serves the keys of a pool in rotation, in the order of their creation; a pool holds up to 10.",
		Attributes:          poolTable.attributes(),
		Blocks:              poolTable.blocks(),
	}
}

// ValidateConfig covers what one attribute alone cannot tell.
func (r *poolResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config poolModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	_, diags := durationsOf(config.Timeouts, defaultPoolTimeout)
	resp.Diagnostics.Append(diags...)
	resp.Diagnostics.Append(mapKeyDiagnostics(config)...)
}

// ModifyPlan decides what happens to the pool, declares it to the ledger, and
// reports what the ledger and the history of the keys show.
func (r *poolResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	creates, deletes := req.State.Raw.IsNull(), req.Plan.Raw.IsNull()
	hint := req.ClientCapabilities.DeferralAllowed
	call := r.operation.beginPlan(hint, deletes)
	defer func() { call.End() }()

	m := plannedPools{mayApply: r.operation.phase.mayApply(hint)}
	if !creates {
		resp.Diagnostics.Append(m.prior.read(ctx, req.State)...)
	}
	if !deletes {
		resp.Diagnostics.Append(m.config.read(ctx, req.Config)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	m.record = readPoolRecord(ctx, req.Private, m.prior)
	if m.config.Exclusive.IsUnknown() {
		resp.Diagnostics.Append(unknownExclusiveDiagnostic())
	}

	var verdict ledger.Verdict
	switch {
	case deletes:
		pool, _ := m.prior.pool()
		call.RemovePool(pool, m.prior.ids())
		resp.Diagnostics.Append(r.operation.endDiagnostics(ctx, call, pool)...)
	case creates:
		p := planPool(m.config, poolModel{}, poolRecord{}, r.operation.workspaceID)
		call = r.beginCreate(call, m, p)
		verdict = r.modifyCreate(ctx, call, m, p, resp)
	default:
		verdict = r.modifyUpdate(ctx, call, m, resp)
	}
	if !creates {
		pool, _ := m.prior.pool()
		resp.Diagnostics.Append(contestedDiagnostics(path.Root("keys"), call.Contested(pool, m.prior.ids()...))...)
	}
	// While the call has waited, another one may have shown that this is a plan.
	resp.Diagnostics.Append(poolVerdictDiagnostics(verdict, r.operation.capCheck, r.operation.phase.mayApply(hint))...)
}

// plannedPools is what Terraform sends for a plan.
type plannedPools struct {
	config, prior poolModel
	record        poolRecord
	mayApply      bool
}

// beginCreate is operation.beginCreate for a pool that replaces none.
func (r *poolResource) beginCreate(call *ledger.Call, m plannedPools, p poolPlan) *ledger.Call {
	pool, known := p.planned.pool()
	if !known || !m.record.absent() || m.config.Keys.unknown {
		return call
	}
	values := []types.String{types.StringValue(pool.String())}
	for _, name := range m.config.names() {
		values = append(values, types.StringValue(name), m.config.Keys.elements[name].APIKeyWO)
	}
	return r.operation.beginCreate(call, values...)
}

func (r *poolResource) modifyCreate(ctx context.Context, call *ledger.Call, m plannedPools, p poolPlan, resp *resource.ModifyPlanResponse) ledger.Verdict {
	resp.Diagnostics.Append(resp.Plan.Set(ctx, p.planned.value(ctx))...)
	pool, known := r.checkCreate(p, resp)
	if !known {
		return ledger.Verdict{}
	}
	// The record of a replace is that of the pool that goes.
	verdict := call.Pool(ctx, pool, ledger.PoolChange{
		Added: p.adds(), Exclusive: p.planned.Exclusive.ValueBool(), Replaces: !m.record.absent(), Replaced: m.record.ids(),
	})
	if !m.mayApply {
		resp.Diagnostics.Append(r.operation.addDiagnostics(ctx, call, pool, p.additions(), m.record.ids()...)...)
		if len(verdict.Over) == 0 {
			r.reportLeftAlone(ctx, call, p, pool, m.record, resp)
		}
	}
	return verdict
}

// checkCreate reports what a new pool lacks, and returns where it will be if
// that is known.
func (r *poolResource) checkCreate(p poolPlan, resp *resource.ModifyPlanResponse) (pool byok.Pool, known bool) {
	resp.Diagnostics.Append(newKeyDiagnostics(p)...)
	resp.Diagnostics.Append(r.operation.declaredDiagnostics(p)...)
	if p.planned.scopeFields().values().isNull() {
		resp.Diagnostics.Append(missingScopeDiagnostic())
		return byok.Pool{}, false
	}
	return p.planned.pool()
}

// reportLeftAlone names the keys that the create of an exclusive pool leaves
// alone. Without the list there is nothing to name, and the ledger has reported
// that it failed.
func (r *poolResource) reportLeftAlone(ctx context.Context, call *ledger.Call, p poolPlan, pool byok.Pool, record poolRecord, resp *resource.ModifyPlanResponse) {
	if !p.planned.Exclusive.ValueBool() || r.operation.api == nil {
		return
	}
	if keys, err := r.operation.api.List(ctx, pool.Scope); err == nil {
		resp.Diagnostics.Append(leftAloneDiagnostics(pool, undeclared(call, pool, record, inPool(keys, pool)))...)
	}
}

// undeclared returns the stored keys that no resource of the plan is known to
// have.
func undeclared(call *ledger.Call, pool byok.Pool, record poolRecord, stored []byok.Key) (others []byok.Key) {
	own := map[string]bool{}
	for _, id := range record.ids() {
		own[id] = true
	}
	for _, key := range stored {
		if !own[key.ID] && !call.Declared(pool, key.ID) {
			others = append(others, key)
		}
	}
	return others
}

func (r *poolResource) modifyUpdate(ctx context.Context, call *ledger.Call, m plannedPools, resp *resource.ModifyPlanResponse) ledger.Verdict {
	workspaceID := r.operation.workspaceID
	marked, diags := workspaceMarked(ctx, resp.Private)
	resp.Diagnostics.Append(diags...)
	if m.mayApply || marked {
		// An apply plans only updates with a prior state. It has to keep the
		// workspace of the plan, which may not have known the provider's.
		workspaceID = types.StringUnknown()
	}
	p := planPool(m.config, m.prior, m.record, workspaceID)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, p.planned.value(ctx))...)
	// The second planning call of a replace has no state, and with -replace or
	// replace_triggered_by it is the first sign of the replace: the record tells
	// it which keys are replaced.
	planned := m.record.clone()
	for _, name := range m.prior.names() {
		planned.keys[name] = presentRecord(planned.keys[name], m.prior.key(name))
	}
	resp.Diagnostics.Append(planned.write(ctx, resp.Private, poolModel{})...)

	pool, _ := m.prior.pool()
	if p.replaces() {
		for _, name := range p.replacedBy {
			resp.RequiresReplace.Append(path.Root(name))
		}
		call.RemovePool(pool, m.prior.ids())
		// Terraform drops the warnings of the second planning call.
		created := planPool(m.config, poolModel{}, poolRecord{}, r.operation.workspaceID)
		if to, known := r.checkCreate(created, resp); known && !m.mayApply {
			if r.operation.ledger != nil {
				// The second call has the list, too; a failure is reported there.
				_, _ = r.operation.api.List(ctx, to.Scope)
			}
			resp.Diagnostics.Append(r.operation.moveDiagnostics(ctx, pool.Scope, to.Scope)...)
			resp.Diagnostics.Append(r.operation.addDiagnostics(ctx, call, to, created.additions(), planned.ids()...)...)
			resp.Diagnostics.Append(r.operation.endDiagnostics(ctx, call, pool)...)
			r.reportLeftAlone(ctx, call, created, to, planned, resp)
		}
		return ledger.Verdict{}
	}
	resp.Diagnostics.Append(newKeyDiagnostics(p)...)
	resp.Diagnostics.Append(r.operation.declaredDiagnostics(p)...)
	if !m.mayApply {
		resp.Diagnostics.Append(r.operation.unknownDefaultDiagnostics(m.config.scopeFields().values(), m.prior.scopeFields().values(), marked)...)
	}
	for _, key := range p.keys {
		if key.from == "" {
			continue
		}
		resp.Diagnostics.Append(within(key.name, updateDiagnostics(key.config, key.prior, key.record))...)
		if !m.mayApply { // an apply does not repeat the warnings of its plan
			resp.Diagnostics.Append(within(key.name, driftDiagnostics(key.config, key.prior, key.update))...)
		}
	}
	if p.planned.Keys.unknown && !m.mayApply {
		resp.Diagnostics.Append(unknownKeysDiagnostic(m.prior, p))
	}
	if !m.mayApply {
		resp.Diagnostics.Append(importedDiagnostics(pool, m.prior, m.record, p.removed)...)
	}
	verdict := call.Pool(ctx, pool, poolChange(m.prior, p))
	if !m.mayApply && p.stores() {
		resp.Diagnostics.Append(r.operation.addDiagnostics(ctx, call, pool, p.additions())...)
	}
	return verdict
}

// poolChange is what a plan tells the ledger about a pool that exists.
func poolChange(prior poolModel, p poolPlan) ledger.PoolChange {
	change := ledger.PoolChange{Added: p.adds(), Exclusive: p.planned.Exclusive.ValueBool(), Removed: append([]string(nil), p.unmanaged...)}
	going := map[string]bool{}
	for _, name := range p.removed {
		going[prior.Keys.elements[name].ID.ValueString()] = true
	}
	for _, id := range prior.ids() {
		if going[id] {
			change.Removed = append(change.Removed, id)
		} else {
			change.Kept = append(change.Kept, id)
		}
	}
	return change
}

func (r *poolResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	r.operation.beginApply()
	var config, plan poolModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	resp.Diagnostics.Append(plan.read(ctx, req.Plan)...)
	limits, diags := durationsOf(plan.Timeouts, defaultPoolTimeout)
	resp.Diagnostics.Append(diags...)
	config = config.withScope(plan.scopeFields().values())
	p := planPool(config, poolModel{}, poolRecord{}, plan.WorkspaceID)
	resp.Diagnostics.Append(newKeyDiagnostics(p)...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("create the " + plan.ref())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	w := newPoolWriter(r.operation, api, poolModel{}, poolRecord{}, p)
	w.create(ctx, limits.create)
	resp.Diagnostics.Append(w.diags...)
	if len(w.state.Keys.elements) == 0 {
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, w.state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, w.state.identity().value())...)
	resp.Diagnostics.Append(w.record.write(ctx, resp.Private, w.state)...)
}

// Read takes the keys from the list that all reads of a plan share.
func (r *poolResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	call := r.operation.beginRead()
	defer call.End()
	var prior poolModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	limits, diags := durationsOf(prior.Timeouts, defaultPoolTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.Identity.Set(ctx, prior.identity().value())...)
	api, diags := r.operation.client("read the pool")
	if diags.HasError() {
		return // at plan; the keys may be as they were
	}
	ctx, cancel := context.WithTimeout(ctx, limits.read)
	defer cancel()

	pool, _ := prior.pool()
	var keys []byok.Key
	err := fastpath.ReadError(ctx)
	if err == nil {
		keys, err = api.List(ctx, pool.Scope)
	}
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", keysRef(pool)))
		return
	}
	resp.Diagnostics.Append(r.operation.markWorkspace(ctx, resp.Private)...)
	refreshed := refreshPool(prior, readPoolRecord(ctx, req.Private, prior), inPool(keys, pool))
	for _, key := range refreshed.deleted {
		resp.Diagnostics.Append(deletedDiagnostic(key))
	}
	call.ReadPool(pool, refreshed.state.ids())
	if refreshed.changed {
		resp.Diagnostics.Append(resp.State.Set(ctx, refreshed.state.value(ctx))...)
		resp.Diagnostics.Append(refreshed.record.write(ctx, resp.Private, refreshed.state)...)
	}
}

func (r *poolResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	r.operation.beginApply()
	var config, plan, prior poolModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	resp.Diagnostics.Append(plan.read(ctx, req.Plan)...)
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	limits, diags := durationsOf(plan.Timeouts, defaultPoolTimeout)
	resp.Diagnostics.Append(diags...)
	record := readPoolRecord(ctx, req.Private, prior)
	p := planPool(config.asPlanned(plan, prior), prior, record, plan.WorkspaceID)
	resp.Diagnostics.Append(newKeyDiagnostics(p)...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("update the " + prior.ref())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limits.update)
	defer cancel()
	w := newPoolWriter(r.operation, api, prior, record, p)
	w.update(ctx)
	resp.Diagnostics.Append(w.diags...)
	resp.Diagnostics.Append(resp.State.Set(ctx, w.state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, w.state.identity().value())...)
	resp.Diagnostics.Append(w.record.write(ctx, resp.Private, w.state)...)
}

// Delete removes the keys in state, each by its ID, and leaves all others
// alone.
func (r *poolResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	r.operation.beginApply()
	var prior poolModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	limits, diags := durationsOf(prior.Timeouts, defaultPoolTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("delete the " + prior.ref())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limits.delete)
	defer cancel()

	pool, _ := prior.pool()
	for _, name := range prior.names() {
		err := api.Delete(ctx, pool, prior.Keys.elements[name].ID.ValueString())
		if err != nil && !client.IsKind(err, client.KindKeyNotFound) {
			resp.Diagnostics.Append(clientDiagnostic(err, "delete", prior.key(name).ref()))
			resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("keys"), prior.value(ctx).Attributes()["keys"])...)
			return
		}
		delete(prior.Keys.elements, name)
	}
}
