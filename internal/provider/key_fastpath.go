package provider

import (
	"context"
	"encoding/json"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
)

var _ fastpath.Resource = keyFastPath{}

// keyFastPath decides which keys do not change, by refresh, updatePlan and the
// validators, as keyResource does. TestFastPath compares the two.
type keyFastPath struct{ provider *byokProvider }

// Valid declines a configuration with timeouts, which are all that
// keyResource.ValidateConfig looks at.
func (k keyFastPath) Valid(config []byte) bool {
	m, ok := keyTable.decode(config)
	return ok && keyTable.valid(m)
}

// Read asks for the list that all reads of a plan share.
func (k keyFastPath) Read(ctx context.Context, state, private []byte) (identity []byte, unchanged bool, err error) {
	operation := k.provider.operation.Load()
	if operation == nil || operation.workspaceID.IsUnknown() { // the framework leaves a mark
		return nil, false, nil
	}
	api, diags := operation.client("read the key")
	if diags.HasError() {
		return nil, false, nil
	}
	prior, ok := keyTable.decode(state)
	if !ok {
		return nil, false, nil
	}
	record, ok := decodePrivate(private, *prior)
	if !ok {
		return nil, false, nil
	}
	call := operation.beginRead()
	defer call.End()
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	key, err := api.Key(ctx, prior.scope(), prior.ID.ValueString())
	if err != nil {
		return nil, false, err
	}
	if _, _, changed := refresh(*prior, record, key); changed {
		return nil, false, nil
	}
	pool, _ := prior.pool()
	call.Read(pool, key.ID)
	return prior.identity().encode(), true, nil
}

// Plan leaves it to the framework to report drift.
func (k keyFastPath) Plan(req fastpath.PlanRequest) (private []byte, unchanged bool) {
	operation := k.provider.operation.Load()
	if operation == nil || operation.workspaceID.IsUnknown() { // the framework warns
		return nil, false
	}
	prior, ok := keyTable.decode(req.Prior)
	if !ok {
		return nil, false
	}
	config, ok := keyTable.decode(req.Config)
	if !ok {
		return nil, false
	}
	record, ok := decodePrivate(req.Private, *prior)
	if !ok {
		return nil, false
	}
	p := updatePlan{planned: *prior}
	keyTable.setDefaults(&p.planned, config)
	p.complete(config, prior, record, operation.workspaceID)
	if p.upload || p.drift != (drift{}) || !keyTable.equal(&p.planned, prior) {
		return nil, false
	}
	private, err := encodePrivate(record)
	if err != nil {
		return nil, false
	}

	call := operation.beginPlan(req.DeferralAllowed, false)
	defer call.End()
	if pool, _ := prior.pool(); !call.KeepUnchanged(pool, prior.ID.ValueString()) {
		return nil, false
	}
	return private, true
}

// decodePrivate returns the record in private state as the framework stores
// it: JSON by name, in base64. Anything beside a record is unusual.
func decodePrivate(private []byte, state keyModel) (r keyRecord, ok bool) {
	var values map[string][]byte
	if json.Unmarshal(private, &values) != nil || len(values) != 1 {
		return keyRecord{}, false
	}
	r = decodeRecord(values[recordKey], state)
	return r, !r.absent()
}

// encodePrivate is private state with the record with all its fields,
// independent of the state.
func encodePrivate(r keyRecord) ([]byte, error) {
	data, err := r.encode(keyModel{})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string][]byte{recordKey: data})
}
