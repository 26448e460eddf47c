package provider

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
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
type keyResource struct{ operation *operation }

func newKeyResource() resource.Resource { return &keyResource{operation: &operation{}} }

func (r *keyResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = keyTypeName
}

func (r *keyResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"workspace_id": identityschema.StringAttribute{
				OptionalForImport: true,
				Description:       "ID of the workspace. Default: that of the provider.",
			},
			"id": identityschema.StringAttribute{
				RequiredForImport: true,
				Description:       "ID of the key.",
			},
		},
	}
}

func (r *keyResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Version:             keySchemaVersion,
		MarkdownDescription: "An AI provider API key that a Sim workspace brings along. Sim serves the keys of one provider ID in rotation, in the order of their creation; a workspace holds up to 10 of them.",
		Attributes:          keyTable.attributes(),
		Blocks:              keyTable.blocks(),
	}
}

func (r *keyResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if w, ok := req.ProviderData.(*operation); ok {
		r.operation = w
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

// ModifyPlan decides what becomes of the key, tells the ledger, and reports
// what the ledger and the key's own history have to say.
func (r *keyResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	call := r.operation.ledger.Begin()
	defer call.End()
	// A hint of Terraform's that this is the apply walk.
	applying := req.ClientCapabilities.DeferralAllowed
	if applying {
		r.operation.ledger.Applying()
	}

	var m plannedModels
	creates, deletes := req.State.Raw.IsNull(), req.Plan.Raw.IsNull()
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

	switch {
	case deletes:
		pool, _ := m.prior.pool()
		call.Remove(pool, m.prior.ID.ValueString())
	case creates:
		r.modifyCreate(ctx, call, m, resp)
	default:
		p := r.modifyUpdate(ctx, call, m, resp)
		if !p.replaces() && !applying {
			resp.Diagnostics.Append(driftDiagnostics(m.config, m.prior, p)...)
		}
	}
}

// plannedModels is what Terraform hands over for a plan. proposed is config
// with the state's values where config has none.
type plannedModels struct {
	config, proposed, prior keyModel
	record                  keyRecord
}

func (r *keyResource) modifyCreate(ctx context.Context, call *ledger.Call, m plannedModels, resp *resource.ModifyPlanResponse) {
	planned := planCreate(m.config, m.proposed, r.operation.workspaceID)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, planned.value(ctx))...)
	if m.config.secret().IsNull() {
		resp.Diagnostics.Append(missingSecretDiagnostic())
	}
	if planned.WorkspaceID.IsNull() {
		resp.Diagnostics.Append(missingWorkspaceDiagnostic())
		return
	}
	if pool, known := planned.pool(); known {
		// The record of a replace is that of the key that goes.
		verdict := call.Create(ctx, pool, m.record.ID)
		resp.Diagnostics.Append(verdictDiagnostics(verdict, r.operation.capCheck)...)
	}
}

func (r *keyResource) modifyUpdate(ctx context.Context, call *ledger.Call, m plannedModels, resp *resource.ModifyPlanResponse) updatePlan {
	p := planUpdate(m.config, m.proposed, m.prior, m.record, r.operation.workspaceID)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, p.planned.value(ctx))...)
	resp.Diagnostics.Append(m.plannedRecord().write(ctx, resp.Private, keyModel{})...)
	pool, _ := m.prior.pool()
	if p.replaces() {
		call.Remove(pool, m.prior.ID.ValueString())
		for _, name := range p.replacedBy {
			resp.RequiresReplace.Append(path.Root(name))
		}
		return p
	}
	verdict := call.Keep(ctx, pool, m.prior.ID.ValueString())
	resp.Diagnostics.Append(verdictDiagnostics(verdict, r.operation.capCheck)...)
	resp.Diagnostics.Append(updateDiagnostics(m.config, m.prior, m.record)...)
	return p
}

// plannedRecord is the record that goes with the plan of a key that exists. A
// replace shows in a second call, which has no state, and for -replace and
// replace_triggered_by in that one only: the record tells it which key goes.
func (m plannedModels) plannedRecord() keyRecord {
	if m.record.absent() {
		return adoptedRecord(m.prior.key())
	}
	return m.record
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
	r.operation.ledger.Applying()
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
	addCtx, cancel := context.WithTimeout(ctx, timeouts.create)
	defer cancel()

	pool, _ := plan.pool()
	key, err := r.operation.client.Add(addCtx, pool, plan.addInput(config.secret().ValueString()))
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
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity().value(ctx))...)
	resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
}

// Read takes the key from the list that all reads of a walk share.
func (r *keyResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	call := r.operation.ledger.Begin()
	defer call.End()
	var prior keyModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := prior.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.Identity.Set(ctx, prior.identity().value(ctx))...)
	if r.operation.client == nil {
		return // nothing can be known yet
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.read)
	defer cancel()

	key, err := r.operation.client.Key(ctx, prior.scope(), prior.ID.ValueString())
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

	state, record, changed := refresh(prior, readRecord(ctx, req.Private, prior), key)
	if changed {
		resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
		resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
	}
}

func (r *keyResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	r.operation.ledger.Applying()
	var config, plan, prior keyModel
	resp.Diagnostics.Append(config.read(ctx, req.Config)...)
	resp.Diagnostics.Append(plan.read(ctx, req.Plan)...)
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := plan.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.update)
	defer cancel()

	record := readRecord(ctx, req.Private, prior)
	p := planUpdate(config, plan, prior, record, r.operation.workspaceID)
	p.upload = p.upload && plan.UpdatedAt.IsUnknown()
	p.planned.MaskedKey, p.planned.UpdatedAt = plan.MaskedKey, plan.UpdatedAt
	state, record, err := r.operation.updateKey(ctx, config, prior, record, p)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "update", plan.ref()))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity().value(ctx))...)
	resp.Diagnostics.Append(record.write(ctx, resp.Private, state)...)
}

// updateKey carries out what p plans for one stored key.
func (w *operation) updateKey(ctx context.Context, config, prior keyModel, record keyRecord, p updatePlan) (keyModel, keyRecord, error) {
	state := p.planned
	if p.upload {
		pool, _ := state.pool()
		key, err := w.client.Replace(ctx, pool, state.replaceInput(config.secret().ValueString(), prior))
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
	r.operation.ledger.Applying()
	var prior keyModel
	resp.Diagnostics.Append(prior.read(ctx, req.State)...)
	timeouts, diags := prior.durations()
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.delete)
	defer cancel()

	pool, _ := prior.pool()
	err := r.operation.client.Delete(ctx, pool, prior.ID.ValueString())
	if err != nil && !client.IsKind(err, client.KindKeyNotFound) {
		resp.Diagnostics.Append(clientDiagnostic(err, "delete", prior.ref()))
	}
}
