package provider

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// poolRecordKey is where the record of a pool stands in private state.
const poolRecordKey = "pool"

// poolRecord is what the provider remembers about a pool from one operation to
// the next: a record for each of its keys, and when the keys of others were last
// written. An exclusive pool removes such a key only while it is as the plan
// showed it, and state does not show updated_at.
type poolRecord struct {
	keys      map[string]keyRecord // by map key
	unmanaged map[string]string    // updated_at by key ID
}

// storedPoolRecord is the form in private state.
type storedPoolRecord struct {
	Keys      map[string]json.RawMessage `json:"keys"`
	Unmanaged map[string]string          `json:"unmanaged,omitempty"`
}

// absent reports that there is no record.
func (r poolRecord) absent() bool { return r.keys == nil }

func (r poolRecord) clone() poolRecord {
	clone := poolRecord{keys: maps.Clone(r.keys), unmanaged: maps.Clone(r.unmanaged)}
	if clone.keys == nil {
		clone.keys = map[string]keyRecord{}
	}
	return clone
}

// ids returns the IDs of the keys that the record is about.
func (r poolRecord) ids() (ids []string) {
	for _, record := range r.keys {
		if record.ID != "" {
			ids = append(ids, record.ID)
		}
	}
	return ids
}

// noteUnmanaged remembers how the keys of others are.
func (r *poolRecord) noteUnmanaged(keys []byok.Key) {
	r.unmanaged = nil
	for _, key := range keys {
		if r.unmanaged == nil {
			r.unmanaged = map[string]string{}
		}
		r.unmanaged[key.ID] = key.UpdatedAt
	}
}

// readPoolRecord returns the record that is stored beside state, or an absent
// one. Where there is no state, as in the second half of a replace, it is the
// zero poolModel.
func readPoolRecord(ctx context.Context, private privateReader, state poolModel) poolRecord {
	data, diags := private.GetKey(ctx, poolRecordKey)
	if diags.HasError() {
		return poolRecord{}
	}
	return decodePoolRecord(data, state)
}

func decodePoolRecord(data []byte, state poolModel) poolRecord {
	var stored storedPoolRecord
	if len(data) == 0 || json.Unmarshal(data, &stored) != nil || stored.Keys == nil {
		return poolRecord{}
	}
	r := poolRecord{keys: make(map[string]keyRecord, len(stored.Keys)), unmanaged: stored.Unmanaged}
	for name, data := range stored.Keys {
		r.keys[name] = decodeRecord(data, state.key(name))
	}
	return r
}

// write stores the record beside state, which has to be stored with it. The
// zero poolModel makes a record with all its fields.
func (r poolRecord) write(ctx context.Context, private privateWriter, state poolModel) diag.Diagnostics {
	data, err := r.encode(state)
	if err != nil {
		return diag.Diagnostics{diag.NewErrorDiagnostic("Private state cannot be written", err.Error())}
	}
	return private.SetKey(ctx, poolRecordKey, data)
}

func (r poolRecord) encode(state poolModel) ([]byte, error) {
	stored := storedPoolRecord{Keys: make(map[string]json.RawMessage, len(r.keys)), Unmanaged: r.unmanaged}
	for name, record := range r.keys {
		data, err := record.encode(state.key(name))
		if err != nil {
			return nil, err
		}
		stored.Keys[name] = data
	}
	return json.Marshal(stored)
}
