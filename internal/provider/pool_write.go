package provider

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

const (
	// capacityTimeout is how long an add to a full pool waits for other
	// resources of the apply to delete keys.
	capacityTimeout = 2 * time.Minute
	// rollbackTimeout is how long a failed create may take to remove what it
	// has added. Neither the create timeout nor an interrupt ends it.
	rollbackTimeout = 2 * time.Minute
	// addInterval keeps the creation times of two keys apart, which have
	// milliseconds: within one, the key ID would decide about the order.
	addInterval = time.Millisecond
)

// poolWriter carries a plan out. Whatever fails, state and record describe what
// is stored.
type poolWriter struct {
	operation *operation
	client    *client.Client
	pool      byok.Pool
	plan      poolPlan
	prior     poolModel

	state  poolModel
	record poolRecord
	diags  diag.Diagnostics
	// added are the new keys, by map key, whose full records a list has yet
	// to show.
	added map[string]addedKey
}

// addedKey is what an add returned.
type addedKey struct {
	config keyModel
	key    byok.Key
	err    error
}

func newPoolWriter(w *operation, api *client.Client, prior poolModel, record poolRecord, plan poolPlan) *poolWriter {
	state := plan.planned
	state.Keys.elements = maps.Clone(prior.Keys.elements)
	if state.Keys.elements == nil {
		state.Keys.elements = map[string]poolKey{}
	}
	pool, _ := state.pool()
	return &poolWriter{operation: w, client: api, pool: pool, plan: plan, prior: prior, state: state, record: record.clone(), added: map[string]addedKey{}}
}

// create adds every key, or none: a resource whose create failed is tainted,
// and the next apply would delete keys that serve.
func (w *poolWriter) create(ctx context.Context, timeout time.Duration) {
	addCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, key := range w.plan.keys {
		if err := w.add(addCtx, key, true); err != nil {
			w.diags.Append(w.addDiagnostic(addCtx, key, err))
			uncertain := ""
			if client.IsKind(err, client.KindAmbiguous) {
				uncertain = key.name
			}
			w.rollBack(context.WithoutCancel(ctx), uncertain)
			return
		}
	}
	stored := w.complete(addCtx)
	own := map[string]bool{}
	for _, id := range w.state.ids() {
		own[id] = true
	}
	w.state.Unmanaged = objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}}
	var others []byok.Key
	for _, key := range stored {
		if !own[key.ID] {
			others = append(others, key)
			w.state.Unmanaged.elements[key.ID] = unmanagedKeyOf(key)
		}
	}
	w.record.noteUnmanaged(others)
	if w.state.Exclusive.ValueBool() {
		w.diags.Append(leftAloneDiagnostics(w.pool, others)...)
	}
}

// rollBack removes what a failed create has added. What cannot be removed
// stays in state. uncertain is the map key of a key that may be stored, if there
// is one.
func (w *poolWriter) rollBack(ctx context.Context, uncertain string) {
	ctx, cancel := context.WithTimeout(ctx, rollbackTimeout)
	defer cancel()
	removed := 0
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(w.added))) {
		id := w.added[name].key.ID
		if err := w.client.Delete(ctx, w.pool, id); err != nil && !client.IsKind(err, client.KindKeyNotFound) {
			w.diags.Append(within(name, diag.Diagnostics{clientDiagnostic(err, "remove", keyRef{pool: w.pool, keyID: id, name: name})})...)
			continue
		}
		removed++
		delete(w.added, name)
		w.forget(name)
	}
	if left := w.state.ids(); removed+len(left) > 0 { // else the error of the add says it all
		w.diags.Append(rolledBackDiagnostic(w.pool, removed, left, uncertain))
	}
	if len(w.added) > 0 {
		w.complete(ctx)
		w.state.Unmanaged = objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}}
	}
}

// update makes the pool what is planned: replaces first, then adds, then
// removals, so that the pool is never empty in between. At the cap each add
// waits for one removal, so that the pool never exceeds it either. The first
// failure ends the update; the next apply does the rest.
func (w *poolWriter) update(ctx context.Context) {
	w.state.Unmanaged = objectMap[unmanagedKey]{elements: maps.Clone(w.prior.Unmanaged.elements)}
	done := w.makeAsPlanned(ctx)
	w.complete(ctx)
	if done {
		w.state.Unmanaged = w.plan.planned.Unmanaged
	}
}

// makeAsPlanned takes the steps of update, and reports whether all went through.
func (w *poolWriter) makeAsPlanned(ctx context.Context) bool {
	if err := w.replaceKeys(ctx); err != nil {
		return false
	}
	removals, room, ok := w.removals(ctx)
	if !ok {
		return false
	}
	for _, key := range w.plan.keys {
		if key.from != "" {
			continue
		}
		for room <= 0 && len(removals) > 0 {
			if !w.remove(ctx, removals[0]) {
				return false
			}
			removals, room = removals[1:], room+1
		}
		err := w.add(ctx, key, len(removals) == 0)
		// Another user may have added a key.
		for client.IsKind(err, client.KindCapReached) && len(removals) > 0 {
			if !w.remove(ctx, removals[0]) {
				return false
			}
			removals = removals[1:]
			err = w.add(ctx, key, len(removals) == 0)
		}
		if err != nil {
			w.diags.Append(w.addDiagnostic(ctx, key, err))
			return false
		}
		room--
	}
	for _, removal := range removals {
		if !w.remove(ctx, removal) {
			return false
		}
	}
	return true
}

// replaceKeys updates the keys that stay.
func (w *poolWriter) replaceKeys(ctx context.Context) error {
	for _, key := range w.plan.keys {
		if key.from == "" {
			continue
		}
		state, record, err := updateKey(ctx, w.client, key.config, key.prior, key.record, key.update)
		if err != nil {
			if client.IsUnconfirmed(err) {
				w.record.keys[key.from] = record
			}
			w.diags.Append(rebase(keyPath(key.name), updateDiagnostic(err, key.update.planned.ref())))
			return err
		}
		if key.from != key.name {
			w.forget(key.from)
		}
		w.state.Keys.elements[key.name], w.record.keys[key.name] = poolKeyOf(state), record
	}
	return nil
}

// removal is a key that goes: one of the resource, by its map key, or one that
// an exclusive pool removes.
type removal struct {
	name string // empty for a key of others
	id   string
}

// removals returns the keys that go, and how many keys can be added before the
// first of them. Keys of others go only while they are as the plan showed them.
func (w *poolWriter) removals(ctx context.Context) (removals []removal, room int, ok bool) {
	for _, name := range w.plan.removed {
		removals = append(removals, removal{name: name, id: w.prior.Keys.elements[name].ID.ValueString()})
	}
	if len(w.plan.unmanaged) == 0 && !w.plan.planned.Exclusive.ValueBool() && (len(removals) == 0 || w.plan.adds() == 0) {
		return removals, w.operation.cap, true
	}
	keys, err := w.client.List(ctx, w.pool.Scope)
	if err != nil {
		w.diags.Append(clientDiagnostic(err, "read", keysRef(w.pool)))
		return nil, 0, false
	}
	stored := inPool(keys, w.pool)
	own := map[string]bool{}
	for _, id := range append(w.prior.ids(), w.state.ids()...) {
		own[id] = true
	}
	var arrived, changed []byok.Key
	for _, key := range stored {
		planned, named := w.prior.Unmanaged.elements[key.ID]
		switch {
		case own[key.ID] || !w.plan.planned.Exclusive.ValueBool():
		case !named:
			arrived = append(arrived, key)
		case planned != unmanagedKeyOf(key) || w.record.unmanaged[key.ID] != "" && w.record.unmanaged[key.ID] != key.UpdatedAt:
			changed = append(changed, key)
		case slices.Contains(w.plan.unmanaged, key.ID):
			removals = append(removals, removal{id: key.ID})
		}
	}
	w.diags.Append(sinceThePlanDiagnostics(w.pool, arrived, changed)...)
	return removals, w.operation.cap - len(stored), true
}

// remove deletes a key and reports whether that succeeded.
func (w *poolWriter) remove(ctx context.Context, r removal) bool {
	err := w.client.Delete(ctx, w.pool, r.id)
	if err != nil && !client.IsKind(err, client.KindKeyNotFound) {
		w.diags.Append(clientDiagnostic(err, "remove", keyRef{pool: w.pool, keyID: r.id, name: r.name}))
		return false
	}
	if r.name != "" {
		w.forget(r.name)
		return true
	}
	delete(w.state.Unmanaged.elements, r.id)
	delete(w.record.unmanaged, r.id)
	return true
}

func (w *poolWriter) forget(name string) {
	delete(w.state.Keys.elements, name)
	delete(w.record.keys, name)
}

// add stores a new key. With wait, it waits for a while if the pool is full: a
// resource beside this one may be about to delete keys.
func (w *poolWriter) add(ctx context.Context, key poolKeyPlan, wait bool) error {
	in := key.config.addInput(key.config.secret().ValueString())
	in.SkipRecord, in.WaitForCapacity = true, false
	added, err := w.client.Add(ctx, w.pool, in)
	if client.IsKind(err, client.KindCapReached) && wait {
		waitCtx, cancel := context.WithTimeout(ctx, capacityTimeout)
		defer cancel()
		in.WaitForCapacity = true
		added, err = w.client.Add(waitCtx, w.pool, in)
	}
	if added.ID == "" {
		return err
	}
	w.added[key.name] = addedKey{config: key.config, key: added, err: err}
	w.stored(key.name, added, err)
	time.Sleep(addInterval)
	return nil
}

// stored enters an added key into state.
func (w *poolWriter) stored(name string, key byok.Key, err error) {
	added := w.added[name]
	config := added.config
	planned := planCreate(config, config, config.WorkspaceID)
	planned.APIKeyWO = types.StringNull()
	w.state.Keys.elements[name] = poolKeyOf(planned.withCreated(key))
	w.record.keys[name] = addedRecord(config, key, err)
}

// complete reads the full records of the added keys with one list, and returns
// the stored keys of the pool. What it cannot read, the next refresh does.
func (w *poolWriter) complete(ctx context.Context) []byok.Key {
	if len(w.added) == 0 {
		return nil
	}
	keys, err := w.client.List(ctx, w.pool.Scope)
	stored := inPool(keys, w.pool)
	byID := map[string]byok.Key{}
	for _, key := range stored {
		byID[key.ID] = key
	}
	for _, name := range slices.Sorted(maps.Keys(w.added)) {
		added := w.added[name]
		full, listed := byID[added.key.ID]
		switch {
		case added.err != nil:
			w.diags.Append(incompleteDiagnostic(added.err, w.state.key(name).ref()))
		case listed:
			w.stored(name, full, nil)
		case err != nil:
			w.diags.Append(incompleteDiagnostic(err, w.state.key(name).ref()))
		default:
			w.diags.Append(deletedDiagnostic(w.state.key(name).ref()))
		}
	}
	return stored
}

// addDiagnostic is about an add that stored nothing.
func (w *poolWriter) addDiagnostic(ctx context.Context, key poolKeyPlan, err error) diag.Diagnostic {
	if client.IsKind(err, client.KindCapReached) {
		return rebase(path.Root("keys"), refusedDiagnostic(ctx, w.operation, w.pool, err))
	}
	return rebase(keyPath(key.name), clientDiagnostic(err, "create", key.config.ref()))
}
