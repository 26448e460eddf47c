package provider

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

// keyPath is the path of an element of keys.
func keyPath(name string) path.Path { return path.Root("keys").AtMapKey(name) }

// within moves diagnostics about a byok_key to the element that they are about.
func within(name string, diags diag.Diagnostics) (moved diag.Diagnostics) {
	for _, d := range diags {
		moved.Append(rebase(keyPath(name), d))
	}
	return moved
}

// rebase moves a diagnostic to base, and to the same attribute below it if base
// has one.
func rebase(base path.Path, d diag.Diagnostic) diag.Diagnostic {
	at := base
	if d, ok := d.(diag.DiagnosticWithPath); ok && !base.Equal(path.Root("keys")) {
		steps := d.Path().Steps()
		if name, ok := steps[len(steps)-1].(path.PathStepAttributeName); ok {
			if _, nested := poolKeyTable.types[string(name)]; nested {
				at = base.AtName(string(name))
			} else {
				return d // about the pool as a whole
			}
		}
	}
	if d.Severity() == diag.SeverityWarning {
		return diag.NewAttributeWarningDiagnostic(at, d.Summary(), d.Detail())
	}
	return diag.NewAttributeErrorDiagnostic(at, d.Summary(), d.Detail())
}

// poolVerdictDiagnostics is what the ledger has to report about a pool.
func poolVerdictDiagnostics(v ledger.Verdict, capCheck string, mayApply bool) (diags diag.Diagnostics) {
	for _, d := range verdictDiagnostics(v, capCheck, mayApply) {
		if at, ok := d.(diag.DiagnosticWithPath); ok && at.Path().Equal(path.Root("provider_id")) && (v.Shared == nil || d.Summary() != v.Shared.Summary()) {
			d = rebase(path.Root("keys"), d)
		}
		diags.Append(d)
	}
	return diags
}

// newKeyDiagnostics reports new keys without a secret.
func newKeyDiagnostics(p poolPlan) (diags diag.Diagnostics) {
	for _, key := range p.keys {
		if key.from == "" && key.config.secret().IsNull() {
			diags.AddAttributeError(keyPath(key.name).AtName("api_key_wo"), "Missing API key",
				fmt.Sprintf("The key %q is to be created, and a new key needs its secret: set api_key_wo.", key.name))
		}
	}
	return diags
}

// declaredDiagnostics reports a pool that declares more keys than the cap where
// the ledger cannot: it needs a server to ask, and to know the pool.
func (o *operation) declaredDiagnostics(p poolPlan) (diags diag.Diagnostics) {
	_, known := p.planned.pool()
	declared := len(p.planned.Keys.elements)
	if o.capCheck == capCheckOff || o.ledger != nil && known || declared <= o.cap {
		return nil
	}
	var d diag.Diagnostic = diag.NewAttributeErrorDiagnostic(path.Root("keys"), fmt.Sprintf("Pool %q would hold %s, its cap is %d", cmp.Or(p.planned.ProviderID.ValueString(), "not known yet"), count(declared), o.cap),
		fmt.Sprintf("This pool declares %d keys, and the API stores at most %d for one provider ID. What the server stores was not counted.\n\n"+
			"Remove %d of the keys. If the server has another cap, set max_keys_per_provider in the provider block.", declared, o.cap, declared-o.cap))
	if o.capCheck == capCheckWarning {
		d = asWarning(d)
	}
	return diag.Diagnostics{d}
}

func unknownExclusiveDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("exclusive"), "exclusive is not known at plan",
		"The plan has to show which keys an exclusive pool removes. Set exclusive to a value that is known at plan.")
}

// unknownKeysDiagnostic is about a pool whose keys are wholly unknown.
func unknownKeysDiagnostic(prior poolModel, p poolPlan) diag.Diagnostic {
	const advice = "Make the map keys of keys known at plan (values from other resources belong in the elements, not into the map keys), or create what they depend on first, with terraform apply -target."
	pool, _ := prior.pool()
	if p.planned.Exclusive.ValueBool() && len(prior.Unmanaged.elements) > 0 {
		return diag.NewAttributeErrorDiagnostic(path.Root("keys"), "keys is not known at plan",
			fmt.Sprintf("The pool %q is exclusive and holds keys that this configuration does not declare. Whether an apply would remove them cannot be shown while keys is unknown.\n\n%s\n%s",
				pool.ProviderID, strings.Join(keyLines(prior.Unmanaged), "\n"), "\n"+advice))
	}
	return diag.NewAttributeWarningDiagnostic(path.Root("keys"), about("keys is not known at plan", poolName(pool)),
		fmt.Sprintf("Terraform shows every key of the pool %q as removed, because the map keys are not known yet. The apply keeps the keys that the final map declares and removes the others. "+
			"Neither the cap nor the removals can be checked at plan.\n\n%s", pool.ProviderID, advice))
}

// importedDiagnostics names the keys that an update removes and that the provider has
// only imported: they may be keys of others.
func importedDiagnostics(pool byok.Pool, prior poolModel, record poolRecord, removed []string) (diags diag.Diagnostics) {
	var keys []byok.Key
	for _, name := range removed {
		if record.absent() || record.keys[name].Adopted {
			key := prior.key(name)
			stored := key.key()
			stored.Name = key.Name.ValueStringPointer()
			keys = append(keys, stored)
		}
	}
	if len(keys) > 0 {
		diags.AddAttributeWarning(path.Root("keys"), about("Imported keys are removed", poolName(pool)),
			fmt.Sprintf("An import takes every key of the pool %q of %s %q. The configuration does not declare these of them, so the apply removes them, with exclusive = false too. "+
				"To keep a key, declare it in keys; api_key_wo can be left out. In a pool that others fill, too, manage your own keys with byok_key.\n\n%s",
				pool.ProviderID, pool.Scope.Kind, pool.Scope.ID, strings.Join(storedLines(keys), "\n")))
	}
	return diags
}

// leftAloneDiagnostics names the keys that the create of an exclusive pool
// leaves alone.
func leftAloneDiagnostics(pool byok.Pool, others []byok.Key) (diags diag.Diagnostics) {
	if len(others) > 0 {
		diags.AddAttributeWarning(path.Root("exclusive"), about("Exclusive pool holds other keys", poolName(pool)),
			fmt.Sprintf("The pool %q of %s %q holds keys that this configuration does not declare. A create leaves them alone. "+
				"The next plan shows them as removed, and its apply removes them. To keep one, import the pool and declare the key, or set exclusive = false.\n\n%s",
				pool.ProviderID, pool.Scope.Kind, pool.Scope.ID, strings.Join(storedLines(others), "\n")))
	}
	return diags
}

// sinceThePlanDiagnostics names the keys of others that an exclusive pool
// leaves alone because the plan did not show them as they are.
func sinceThePlanDiagnostics(pool byok.Pool, arrived, changed []byok.Key) (diags diag.Diagnostics) {
	if len(arrived) > 0 {
		diags.AddAttributeWarning(path.Root("unmanaged"), about("Keys added since the plan", poolName(pool)),
			fmt.Sprintf("Another user has added keys to the exclusive pool %q since the plan was made. They are left alone; the next plan shows them as removed.\n\n%s",
				pool.ProviderID, strings.Join(storedLines(arrived), "\n")))
	}
	if len(changed) > 0 {
		diags.AddAttributeWarning(path.Root("unmanaged"), about("Keys changed since the plan", poolName(pool)),
			fmt.Sprintf("Another user has changed keys since the plan to remove them from the exclusive pool %q was made. They are left alone; the next plan shows them as removed.\n\n%s",
				pool.ProviderID, strings.Join(storedLines(changed), "\n")))
	}
	return diags
}

// rolledBackDiagnostic says what a create that failed has left behind. uncertain is
// that of poolWriter.rollBack.
func rolledBackDiagnostic(pool byok.Pool, removed int, left []string, uncertain string) diag.Diagnostic {
	if len(left) == 0 {
		next := "Apply again once the cause is fixed."
		if uncertain != "" {
			next = fmt.Sprintf("Whether the key %q was stored is not known. Look at the pool before you apply again: if the key is there, delete it in Sim, or import the pool.", uncertain)
		}
		return diag.NewErrorDiagnostic("The pool was not created",
			fmt.Sprintf("A pool is created as a whole or not at all. What this apply had added to pool %q was removed again: %s. %s", pool.ProviderID, count(removed), next))
	}
	return diag.NewErrorDiagnostic("The pool was created in part",
		fmt.Sprintf("The create failed, and %s that it had added to pool %q could not be removed again. They are in state and serve. "+
			"Terraform marks the resource as tainted and would delete them: run terraform untaint for it, then apply again, which adds what is missing.\n\n  %s",
			count(len(left)), pool.ProviderID, strings.Join(left, "\n  ")))
}

func count(keys int) string {
	if keys == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", keys)
}

// storedLines describes keys, one a line.
func storedLines(keys []byok.Key) []string {
	unmanaged := objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}}
	for _, key := range keys {
		unmanaged.elements[key.ID] = unmanagedKeyOf(key)
	}
	return keyLines(unmanaged)
}

func keyLines(keys objectMap[unmanagedKey]) (lines []string) {
	type row struct{ id, line, at string }
	var rows []row
	for id, key := range keys.elements {
		name := "no name"
		if text := byok.TrimName(key.Name.ValueString()); text != "" {
			name = fmt.Sprintf("name %q", text)
		}
		rows = append(rows, row{id, fmt.Sprintf("  %s  %s, %s, added %s", id, name, key.MaskedKey.ValueString(), readableTime(key.CreatedAt.ValueString())), key.CreatedAt.ValueString()})
	}
	slices.SortFunc(rows, func(x, y row) int { return strings.Compare(x.at+x.id, y.at+y.id) })
	for _, row := range rows {
		lines = append(lines, row.line)
	}
	return lines
}

// mapKeyDiagnostics checks the map keys of keys.
func mapKeyDiagnostics(config poolModel) (diags diag.Diagnostics) {
	if config.Keys.elements != nil && len(config.Keys.elements) == 0 {
		diags.AddAttributeError(path.Root("keys"), "Empty pool", "keys has no element. A byok_pool owns at least one key; to remove the last one, remove the resource.")
	}
	for _, name := range config.names() {
		if byok.TrimName(name) == "" {
			diags.AddAttributeError(keyPath(name), "Invalid map key", `A map key of keys cannot be blank. For a key without a name, set name = "".`)
		} else if _, problem, _ := nameCheck.check(name); problem != "" {
			diags.AddAttributeError(keyPath(name), "Invalid map key", "The map key is the default of the name. "+problem)
		}
	}
	return diags
}
