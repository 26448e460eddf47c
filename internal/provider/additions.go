package provider

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

// addition is a key that a plan adds.
type addition struct {
	at path.Path
	// name and secret are null for none.
	name, secret types.String
}

// addDiagnostics is about a plan that adds keys to a pool. replaced are the IDs of
// the keys that make way for them.
func (o *operation) addDiagnostics(ctx context.Context, call *ledger.Call, pool byok.Pool, added []addition, replaced ...string) diag.Diagnostics {
	diags := o.storeDiagnostics(pool)
	diags.Append(o.beginDiagnostics(ctx, pool)...)
	diags.Append(o.lookalikeDiagnostics(call, pool, added, replaced)...)
	return diags
}

// lookalikeDiagnostics warns of stored keys that look like those that the plan
// adds, and that no resource of the plan is known to have: after a lost state, a
// plan would add every key a second time. It needs the list that the plan has
// fetched.
func (o *operation) lookalikeDiagnostics(call *ledger.Call, pool byok.Pool, added []addition, replaced []string) (diags diag.Diagnostics) {
	if o.api == nil || call == nil {
		return nil
	}
	keys, _ := o.api.ListedKeys(pool.Scope)
	stored := slices.DeleteFunc(inPool(keys, pool), func(key byok.Key) bool {
		return slices.Contains(replaced, key.ID) || call.Declared(pool, key.ID)
	})
	for _, a := range added {
		var lines []string
		first := ""
		for _, key := range stored {
			if a.looksLike(key) {
				id := fmt.Sprintf("import ID %s/%s", pool, key.ID)
				lines, first = append(lines, fmt.Sprintf("  %s, %s", keyTitle(key), id)), cmp.Or(first, id)
			}
		}
		if len(lines) == 0 {
			continue
		}
		diags.AddAttributeWarning(a.at, about("A key like this is already stored", first), fmt.Sprintf(
			"This plan adds a key to the pool %q of %s %q. It may be stored already, under the same name and with the same masked key:\n\n%s\n\n"+
				"After the apply, both would be served in turn, and both would count towards the cap.\n\n"+
				"- If Terraform's state was lost, import what is stored. The import ID of the whole pool is %s.\n"+
				"- If another resource of this configuration has the key, add a moved block.\n"+
				"- If another team has stored the key, one of the two may be enough.",
			pool.ProviderID, pool.Scope.Kind, pool.Scope.ID, strings.Join(lines, "\n"), pool))
	}
	return diags
}

// looksLike reports whether a stored key has the name and the mask that a is going
// to have. A mask that shows nothing is no sign.
func (a addition) looksLike(key byok.Key) bool {
	secret := a.secret.ValueString()
	return secret != "" && key.MaskedKey != byok.MaskUnknown && key.MaskedKey == byok.Mask(secret) &&
		types.StringPointerValue(key.Name).ValueString() == byok.TrimName(a.name.ValueString())
}

// additions are the key itself.
func (m keyModel) additions(secret types.String) []addition {
	return []addition{{path.Root("provider_id"), m.Name, secret}}
}

// additions are the keys that the plan adds.
func (p poolPlan) additions() (all []addition) {
	for _, key := range p.keys {
		if key.from == "" {
			all = append(all, addition{keyPath(key.name), p.planned.Keys.elements[key.name].Name, key.config.secret()})
		}
	}
	return all
}
