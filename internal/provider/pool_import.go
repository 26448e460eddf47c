package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// ImportState makes every stored key of the pool an element. Read, which
// follows, leaves a record of keys that are adopted as they are.
func (r *poolResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	call := r.operation.beginRead()
	defer call.End()
	api, diags := r.operation.client("import the pool")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	id, diags := poolIdentity.imported(ctx, req, r.operation.workspaceID)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	pool := byok.Pool{Scope: id.scope, ProviderID: id.name}
	keys, err := api.List(ctx, pool.Scope)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "import", keysRef(pool)))
		return
	}
	stored := inPool(keys, pool)
	if len(stored) == 0 {
		resp.Diagnostics.AddError("Cannot import pool: it is empty", fmt.Sprintf(
			"There are no %s.%s An empty pool needs no import: without the import, the plan creates its keys. The data source byok_keys lists the keys of %s %s.", keysRef(pool), nearestProviderID(pool.ProviderID), scopeKinds[pool.Scope.Kind].article, pool.Scope.Kind))
		return
	}
	state := importedPool(pool, stored)
	resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity().value())...)
}

// importedPool is the state of a pool with all its stored keys. What a
// configuration does not have to say has its default: an imported pool would
// otherwise never plan empty.
func importedPool(pool byok.Pool, stored []byok.Key) poolModel {
	m := poolModel{
		ProviderID: types.StringValue(pool.ProviderID),
		Keys:       objectMap[poolKey]{elements: map[string]poolKey{}},
		Unmanaged:  objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}},
		Timeouts:   nullTimeouts(),
	}.withDefaults().withScope(idsOf(pool.Scope))
	for name, key := range importNames(stored) {
		m.Keys.elements[name] = poolKeyOf(m.key(name).withRemote(key))
	}
	return m
}
