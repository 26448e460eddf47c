package provider

import (
	"context"
	"encoding/json"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
)

var _ fastpath.Resource = poolFastPath{}

// poolFastPath decides which pools do not change, by refreshPool, planPool and
// the validators, as poolResource does. TestPoolFastPath compares the two.
type poolFastPath struct{ provider *byokProvider }

// Valid declines a configuration with timeouts.
func (f poolFastPath) Valid(config []byte) bool {
	m, ok := poolTable.decode(config)
	return ok && poolTable.valid(m) && len(mapKeyDiagnostics(*m)) == 0
}

// Read asks for the list that all reads of a plan share.
func (f poolFastPath) Read(ctx context.Context, state, private []byte) (identity []byte, unchanged bool, err error) {
	operation := f.provider.operation.Load()
	if operation == nil || operation.workspaceID.IsUnknown() { // the framework leaves a mark
		return nil, false, nil
	}
	api, diags := operation.client("read the pool")
	if diags.HasError() {
		return nil, false, nil
	}
	prior, ok := poolTable.decode(state)
	if !ok {
		return nil, false, nil
	}
	record, ok := decodePoolPrivate(private, *prior)
	if !ok {
		return nil, false, nil
	}
	call := operation.beginRead()
	defer call.End()
	ctx, cancel := context.WithTimeout(ctx, defaultPoolTimeout)
	defer cancel()
	pool, _ := prior.pool()
	keys, err := api.List(ctx, pool.Scope)
	if err != nil || refreshPool(*prior, record, inPool(keys, pool)).changed {
		return nil, false, err
	}
	call.ReadPool(pool, prior.ids())
	return prior.identity().encode(), true, nil
}

// Plan leaves it to the framework to report drift.
func (f poolFastPath) Plan(req fastpath.PlanRequest) (private []byte, unchanged bool) {
	operation := f.provider.operation.Load()
	if operation == nil || operation.workspaceID.IsUnknown() { // the framework warns
		return nil, false
	}
	prior, ok := poolTable.decode(req.Prior)
	if !ok {
		return nil, false
	}
	config, ok := poolTable.decode(req.Config)
	if !ok {
		return nil, false
	}
	record, ok := decodePoolPrivate(req.Private, *prior)
	if !ok {
		return nil, false
	}
	p := planPool(*config, *prior, record, operation.workspaceID)
	if p.changes() || !poolTable.equal(&p.planned, prior) {
		return nil, false
	}
	private, err := encodePoolPrivate(record)
	if err != nil {
		return nil, false
	}

	call := operation.beginPlan(req.DeferralAllowed, false)
	defer call.End()
	if pool, _ := prior.pool(); !call.KeepPoolUnchanged(pool, prior.ids(), prior.Exclusive.ValueBool()) {
		return nil, false
	}
	return private, true
}

// changes reports whether the plan sends anything to the API, or has drift or
// errors to report.
func (p poolPlan) changes() bool {
	if len(p.removed)+len(p.unmanaged) > 0 || p.adds() > 0 {
		return true
	}
	for _, key := range p.keys {
		if key.from != key.name || key.update.upload || key.update.drift != (drift{}) || len(updateDiagnostics(key.config, key.prior, key.record)) > 0 {
			return true
		}
	}
	return false
}

// decodePoolPrivate returns the record in private state as the framework
// stores it: JSON by name, in base64. Anything beside a record is unusual, and
// so is a record that lacks a key.
func decodePoolPrivate(private []byte, state poolModel) (r poolRecord, ok bool) {
	var values map[string][]byte
	if json.Unmarshal(private, &values) != nil || len(values) != 1 {
		return poolRecord{}, false
	}
	r = decodePoolRecord(values[poolRecordKey], state)
	if r.absent() || len(r.keys) != len(state.Keys.elements) {
		return poolRecord{}, false
	}
	for name := range state.Keys.elements {
		if r.keys[name].absent() {
			return poolRecord{}, false
		}
	}
	return r, true
}

// encodePoolPrivate is private state with the record with all its fields,
// independent of the state.
func encodePoolPrivate(r poolRecord) ([]byte, error) {
	data, err := r.encode(poolModel{})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string][]byte{poolRecordKey: data})
}
