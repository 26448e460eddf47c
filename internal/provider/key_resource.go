package provider

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
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
	_ resource.ResourceWithConfigure      = (*keyResource)(nil)
	_ resource.ResourceWithIdentity       = (*keyResource)(nil)
	_ resource.ResourceWithImportState    = (*keyResource)(nil)
	_ resource.ResourceWithModifyPlan     = (*keyResource)(nil)
	_ resource.ResourceWithValidateConfig = (*keyResource)(nil)
)

// defaultTimeout is how long an operation may take unless a timeouts block
// says otherwise. A create has to be able to wait for deletes of its apply.
const defaultTimeout = 2 * time.Minute

const (
	keyTypeName = "byok_key"
	// keySchemaVersion is that of the state. A change of it takes an upgrade
	// from the versions before.
	keySchemaVersion = 0
)

// keyResource is byok_key: one stored key. Terraform makes one for each call.
type keyResource struct{ configuredResource }

func newKeyResource() resource.Resource { return &keyResource{configuredResource{&operation{}}} }

func (r *keyResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = keyTypeName
}

func (r *keyResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = keyIdentity.schema()
}

func (r *keyResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Version:             keySchemaVersion,
		MarkdownDescription: "An API key of an AI provider, stored in Sim. Sim serves the keys of one provider ID in rotation, in the order of their creation; a workspace holds up to 10 of them.",
		Attributes:          keyTable.attributes(),
		Blocks:              keyTable.blocks(),
	}
}

// ValidateConfig covers what one attribute alone cannot tell.
func (r *keyResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config keyModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	_, diags := config.durations()
	resp.Diagnostics.Append(diags...)
}

// ModifyPlan decides what happens to the key, declares it to the ledger, and
// reports what the ledger and the key's history show.
func (r *keyResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	creates, deletes := req.State.Raw.IsNull(), req.Plan.Raw.IsNull()
	hint := req.ClientCapabilities.DeferralAllowed
	call := r.operation.beginPlan(hint, deletes)
	defer func() { call.End() }()

	var m plannedModels
	if !creates {
		resp.Diagnostics.Append(m.prior.read(ctx, req.State)...)
	}
	if !deletes {
		resp.Diagnostics.Append(m.config.read(ctx, req.Config)...)
		resp.Diagnostics.Append(m.proposed.read(ctx, req.Plan)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	m.record = readRecord(ctx, req.Private, m.prior)

	var verdict ledger.Verdict
	mayApply := r.operation.phase.mayApply(hint)
	switch {
	case deletes:
		pool, _ := m.prior.pool()
		call.Remove(pool, m.prior.ID.ValueString())
		resp.Diagnostics.Append(r.operation.endDiagnostics(ctx, call, pool)...)
	case creates:
		planned := planCreate(m.config, m.proposed, r.operation.workspaceID)
		call = r.beginCreate(call, m, planned)
		verdict = r.modifyCreate(ctx, call, m, planned, mayApply, resp)
	default:
		verdict = r.modifyUpdate(ctx, call, m, mayApply, resp)
	}
	if !creates {
		pool, _ := m.prior.pool()
		resp.Diagnostics.Append(contestedDiagnostics(path.Root("provider_id"), call.Contested(pool, m.prior.ID.ValueString()))...)
	}
	// While the call has waited, another one may have shown that this is a plan.
	resp.Diagnostics.Append(verdictDiagnostics(verdict, r.operation.capCheck, r.operation.phase.mayApply(hint))...)
}

// plannedModels is what Terraform sends for a plan. proposed is config with the
// state's values where config has none.
type plannedModels struct {
	config, proposed, prior keyModel
	record                  keyRecord
}

// beginCreate is operation.beginCreate for a key that replaces none.
func (r *keyResource) beginCreate(call *ledger.Call, m plannedModels, planned keyModel) *ledger.Call {
	pool, known := planned.pool()
	if !known || !m.record.absent() {
		return call
	}
	return r.operation.beginCreate(call, types.StringValue(pool.String()), m.config.Name, m.config.secret())
}

func (r *keyResource) modifyCreate(ctx context.Context, call *ledger.Call, m plannedModels, planned keyModel, mayApply bool, resp *resource.ModifyPlanResponse) ledger.Verdict {
	resp.Diagnostics.Append(resp.Plan.Set(ctx, planned.value(ctx))...)
	if m.config.secret().IsNull() {
		resp.Diagnostics.Append(missingSecretDiagnostic())
	}
	if planned.scopeFields().values().isNull() {
		resp.Diagnostics.Append(missingScopeDiagnostic())
		return ledger.Verdict{}
	}
	pool, known := planned.pool()
	if !known {
		return ledger.Verdict{}
	}
	// The record of a replace is that of the replaced key.
	verdict := call.Create(ctx, pool, m.record.ID)
	if !mayApply {
		resp.Diagnostics.Append(r.operation.addDiagnostics(ctx, call, pool, planned.additions(m.config.secret()), m.record.ID)...)
	}
	return verdict
}

func (r *keyResource) modifyUpdate(ctx context.Context, call *ledger.Call, m plannedModels, mayApply bool, resp *resource.ModifyPlanResponse) ledger.Verdict {
	workspaceID := r.operation.workspaceID
	marked, diags := workspaceMarked(ctx, resp.Private)
	resp.Diagnostics.Append(diags...)
	if mayApply || marked {
		// An apply plans only updates with a prior state. It has to keep the
		// workspace of the plan, which may not have known the provider's.
		workspaceID = types.StringUnknown()
	}
	p := planUpdate(m.config, m.proposed, m.prior, m.record, workspaceID)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, p.planned.value(ctx))...)
	resp.Diagnostics.Append(m.plannedRecord().write(ctx, resp.Private, keyModel{})...)
	pool, _ := m.prior.pool()
	if p.replaces() {
		for _, name := range p.replacedBy {
			resp.RequiresReplace.Append(path.Root(name))
		}
		return r.modifyReplace(ctx, call, m, pool, mayApply, resp)
	}
	resp.Diagnostics.Append(updateDiagnostics(m.config, m.prior, m.record)...)
	if !mayApply { // an apply does not repeat the warnings of its plan
		resp.Diagnostics.Append(r.operation.unknownDefaultDiagnostics(m.config.scopeFields().values(), m.prior.scopeFields().values(), marked)...)
		resp.Diagnostics.Append(driftDiagnostics(m.config, m.prior, p)...)
	}
	if !mayApply && p.upload {
		resp.Diagnostics.Append(r.operation.storeDiagnostics(pool)...)
	}
	return call.Keep(ctx, pool, m.prior.ID.ValueString())
}

// modifyReplace checks what the new key needs, so that the old one is not
// deleted in vain. It does so in the first planning call of the replace, because
// Terraform drops the warnings of the second.
func (r *keyResource) modifyReplace(ctx context.Context, call *ledger.Call, m plannedModels, from byok.Pool, mayApply bool, resp *resource.ModifyPlanResponse) ledger.Verdict {
	id := m.prior.ID.ValueString()
	if m.config.secret().IsNull() {
		resp.Diagnostics.Append(missingSecretDiagnostic())
	}
	created := planCreate(m.config, m.proposed, r.operation.workspaceID)
	if created.scopeFields().values().isNull() {
		resp.Diagnostics.Append(missingScopeDiagnostic())
		return ledger.Verdict{}
	}
	to, known := created.pool()
	if !known {
		call.Remove(from, id)
		return ledger.Verdict{}
	}
	verdict := call.Replace(ctx, from, id, to)
	if !mayApply {
		resp.Diagnostics.Append(r.operation.moveDiagnostics(ctx, from.Scope, to.Scope)...)
		resp.Diagnostics.Append(r.operation.addDiagnostics(ctx, call, to, created.additions(m.config.secret()), id)...)
		resp.Diagnostics.Append(r.operation.endDiagnostics(ctx, call, from)...)
	}
	return verdict
}

// plannedRecord is the planned private state of a key that exists. The second
// planning call of a replace has no state, and with -replace or
// replace_triggered_by it is the first sign of the replace: the record tells it
// which key is replaced.
func (m plannedModels) plannedRecord() keyRecord { return presentRecord(m.record, m.prior) }

// presentRecord is the record beside a state, or that of a key that is adopted
// as the state shows it.
func presentRecord(record keyRecord, state keyModel) keyRecord {
	if record.absent() {
		return adoptedRecord(state.key())
	}
	return record
}

// updateDiagnostics reports changes that the API takes only with a secret.
func updateDiagnostics(config, prior keyModel, record keyRecord) (diags diag.Diagnostics) {
	if !config.secret().IsNull() {
		return nil
	}
	if !config.Name.IsUnknown() && renames(config, prior, record) {
		diags.Append(renameWithoutSecretDiagnostic(prior.ref()))
	}
	if v := config.APIKeyWOVersion; !v.IsNull() && !v.IsUnknown() && changesVersion(config, prior) {
		diags.Append(versionWithoutSecretDiagnostic())
	}
	return diags
}

func (r *keyResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	r.operation.beginApply()
	var config, plan keyModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	resp.Diagnostics.Append(plan.read(ctx, req.Plan)...)
	timeouts, diags := plan.durations()
	resp.Diagnostics.Append(diags...)
	if config.secret().IsNull() {
		resp.Diagnostics.Append(missingSecretDiagnostic())
	}
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("create the " + plan.ref().String())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.create)
	defer cancel()

	pool, _ := plan.pool()
	key, err := api.Add(ctx, pool, plan.addInput(config.secret().ValueString()))
	switch {
	case client.IsKind(err, client.KindCapReached):
		resp.Diagnostics.Append(refusedDiagnostic(ctx, r.operation, pool, err))
		return
	case key.ID == "":
		resp.Diagnostics.Append(clientDiagnostic(err, "create", plan.ref()))
		return
	}
	state, record := plan.withCreated(key), addedRecord(config, key, err)
	if err != nil {
		// A key with an ID is stored, whatever else went wrong: an error
		// here would taint it, and the next apply would delete it.
		resp.Diagnostics.Append(incompleteDiagnostic(err, state.ref()))
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity().value())...)
	resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
}

// Read takes the key from the list that all reads of an operation share.
func (r *keyResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	call := r.operation.beginRead()
	defer call.End()
	var prior keyModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := prior.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.Identity.Set(ctx, prior.identity().value())...)
	api, diags := r.operation.client("read the key")
	if diags.HasError() {
		return // at plan; the key may be as it was
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.read)
	defer cancel()

	var key byok.Key
	err := fastpath.ReadError(ctx)
	if err == nil {
		key, err = api.Key(ctx, prior.scope(), prior.ID.ValueString())
	}
	switch {
	case client.IsKind(err, client.KindKeyNotFound):
		resp.Diagnostics.Append(deletedDiagnostic(prior.ref()))
		resp.State.RemoveResource(ctx)
		return
	case err != nil:
		resp.Diagnostics.Append(clientDiagnostic(err, "read", prior.ref()))
		return
	}
	pool, _ := prior.pool()
	call.Read(pool, key.ID)

	resp.Diagnostics.Append(r.operation.markWorkspace(ctx, resp.Private)...)
	state, record, changed := refresh(prior, readRecord(ctx, req.Private, prior), key)
	if changed {
		resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
		resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
	}
}

func (r *keyResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	r.operation.beginApply()
	var config, plan, prior keyModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	resp.Diagnostics.Append(plan.read(ctx, req.Plan)...)
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := plan.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("update the " + prior.ref().String())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.update)
	defer cancel()

	config = config.asPlanned(plan)
	record := readRecord(ctx, req.Private, prior)
	// An update never moves a key, whatever the provider's default has become.
	p := planUpdate(config, plan, prior, record, types.StringUnknown())
	p.upload = p.upload && plan.UpdatedAt.IsUnknown()
	p.planned.MaskedKey, p.planned.UpdatedAt = plan.MaskedKey, plan.UpdatedAt
	state, record, err := updateKey(ctx, api, config, prior, record, p)
	if err != nil {
		resp.Diagnostics.Append(updateDiagnostic(err, plan.ref()))
		if client.IsUnconfirmed(err) {
			resp.Diagnostics.Append(record.write(ctx, resp.Private, prior)...)
		}
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity().value())...)
	resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
}

// updateKey carries out what p plans for one stored key. With an error, state is
// that of before, and the record says whether the key may have been written.
func updateKey(ctx context.Context, api *client.Client, config, prior keyModel, record keyRecord, p updatePlan) (keyModel, keyRecord, error) {
	state := p.planned
	if p.upload {
		pool, _ := state.pool()
		key, err := api.Replace(ctx, pool, state.replaceInput(config.secret().ValueString(), prior))
		if client.IsUnconfirmed(err) {
			return prior, presentRecord(record, prior).unconfirmed(), err
		}
		if err != nil {
			return prior, record, err
		}
		state, record = state.withReplaced(key), writtenRecord(key)
	} else {
		// Nothing to send: the plan says so, or left it open and the values
		// at apply are those that are stored.
		state.MaskedKey, state.UpdatedAt = prior.MaskedKey, prior.UpdatedAt
	}
	if !config.secret().IsNull() {
		record = record.declared(config)
	}
	return state, record, nil
}

// Delete always names the key: without an ID the API would remove all keys of
// the provider ID. WIRE.md section 6.
func (r *keyResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	r.operation.beginApply()
	var prior keyModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := prior.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := r.operation.client("delete the " + prior.ref().String())
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.delete)
	defer cancel()

	pool, _ := prior.pool()
	err := api.Delete(ctx, pool, prior.ID.ValueString())
	if err != nil && !client.IsKind(err, client.KindKeyNotFound) {
		resp.Diagnostics.Append(clientDiagnostic(err, "delete", prior.ref()))
	}
}
