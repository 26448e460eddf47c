package provider

import (
	"maps"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// poolRefresh is what a look at the stored keys of a pool changes.
type poolRefresh struct {
	state   poolModel
	record  poolRecord
	deleted []keyRef // keys in state that are not stored any more
	changed bool
}

// refreshPool returns the state and the record of a pool after a look at its
// stored keys. Keys without a record are adopted as they are.
func refreshPool(prior poolModel, record poolRecord, stored []byok.Key) poolRefresh {
	byID := make(map[string]byok.Key, len(stored))
	for _, key := range stored {
		byID[key.ID] = key
	}
	r := poolRefresh{state: prior, changed: record.absent()}
	r.state.Keys.elements = make(map[string]poolKey, len(prior.Keys.elements))
	r.record.keys = make(map[string]keyRecord, len(prior.Keys.elements))
	for _, name := range prior.names() {
		before := prior.key(name)
		key, ok := byID[before.ID.ValueString()]
		if !ok {
			r.deleted, r.changed = append(r.deleted, before.ref()), true
			continue
		}
		delete(byID, key.ID)
		state, keyRecord, changed := refresh(before, record.keys[name], key)
		r.state.Keys.elements[name], r.record.keys[name] = poolKeyOf(state), keyRecord
		r.changed = r.changed || changed
	}
	var others []byok.Key
	r.state.Unmanaged = objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}}
	for _, key := range stored {
		if _, other := byID[key.ID]; other {
			others = append(others, key)
			r.state.Unmanaged.elements[key.ID] = unmanagedKeyOf(key)
		}
	}
	r.record.noteUnmanaged(others)
	r.changed = r.changed || len(record.keys) != len(r.record.keys) ||
		prior.Unmanaged.elements == nil || !maps.Equal(r.state.Unmanaged.elements, prior.Unmanaged.elements) || !maps.Equal(record.unmanaged, r.record.unmanaged)
	return r
}
