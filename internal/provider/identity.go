package provider

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// identityKind describes the identities and import IDs of one type of resource:
// a scope, and one attribute that names a resource within it.
type identityKind struct {
	// typeName and noun are what messages call the resource.
	typeName, noun string
	// attribute names a resource within its scope; description is about it.
	attribute, description string
	// importForms is what an import ID can look like.
	importForms string
	// importParts is the largest number of parts that an import ID has after its
	// scope. The last one is attribute, the one before is provider_id.
	importParts int
}

var (
	keyIdentity = identityKind{
		typeName: keyTypeName, noun: "key", attribute: "id", description: "ID of the key.", importParts: 2,
		importForms: "WORKSPACE_ID/PROVIDER_ID/KEY_ID, WORKSPACE_ID/KEY_ID, or KEY_ID alone with the workspace_id of the provider; organization/ORGANIZATION_ID/PROVIDER_ID/KEY_ID for a key of an organization",
	}
	poolIdentity = identityKind{
		typeName: poolTypeName, noun: "pool", attribute: "provider_id", description: "AI provider that the keys belong to.", importParts: 1,
		importForms: "WORKSPACE_ID/PROVIDER_ID, or PROVIDER_ID alone with the workspace_id of the provider; organization/ORGANIZATION_ID/PROVIDER_ID for a pool of an organization",
	}
)

// schema is that of the identity.
func (k *identityKind) schema() identityschema.Schema {
	attributes := map[string]identityschema.Attribute{
		k.attribute: identityschema.StringAttribute{RequiredForImport: true, Description: k.description},
	}
	for _, of := range scopeKinds {
		attributes[of.attribute] = identityschema.StringAttribute{OptionalForImport: true, Description: fmt.Sprintf(of.identity, k.noun)}
	}
	return identityschema.Schema{Attributes: attributes}
}

// identity is what Terraform 1.12 and later know a resource by.
type identity struct {
	kind   *identityKind
	scopes scopeIDs
	name   types.String
}

// identityAttribute is one attribute of an identity.
type identityAttribute struct {
	name  string
	value types.String
}

// attributes are sorted by name, as in Terraform's protocol.
func (i identity) attributes() []identityAttribute {
	all := make([]identityAttribute, 0, len(i.scopes)+1)
	all = append(all, identityAttribute{i.kind.attribute, i.name})
	for kind, id := range i.scopes {
		all = append(all, identityAttribute{scopeKinds[kind].attribute, id})
	}
	slices.SortFunc(all, func(a, b identityAttribute) int { return cmp.Compare(a.name, b.name) })
	return all
}

// value is i as the framework's Set takes it.
func (i identity) value() types.Object {
	kinds, values := map[string]attr.Type{}, map[string]attr.Value{}
	for _, attribute := range i.attributes() {
		kinds[attribute.name], values[attribute.name] = types.StringType, attribute.value
	}
	return types.ObjectValueMust(kinds, values)
}

// encode is the identity as Terraform's protocol carries it.
func (i identity) encode() []byte {
	var b bytes.Buffer
	out, attributes := msgpack.NewEncoder(&b), i.attributes()
	// Nothing that is written to a buffer fails.
	_ = out.EncodeMapLen(len(attributes))
	for _, attribute := range attributes {
		_ = out.EncodeString(attribute.name)
		if attribute.value.IsNull() {
			_ = out.EncodeNil()
			continue
		}
		_ = out.EncodeString(attribute.value.ValueString())
	}
	return b.Bytes()
}

// importID is what an import is about.
type importID struct {
	scope byok.Scope
	// providerID is that of a key, if the import ID has it.
	providerID string
	// name is the attribute that names the resource in its scope.
	name string
}

// imported returns what an import is about, by its ID or identity. defaultID is
// the workspace of the provider.
func (k *identityKind) imported(ctx context.Context, req resource.ImportStateRequest, defaultID types.String) (id importID, diags diag.Diagnostics) {
	if req.ID != "" || req.Identity == nil || req.Identity.Raw.IsNull() {
		id, diags = k.parse(req.ID)
	} else {
		var object types.Object
		if diags = req.Identity.Get(ctx, &object); !diags.HasError() {
			id, diags = k.of(object)
		}
	}
	if diags.HasError() || id.scope.ID != "" {
		return id, diags
	}
	if id.scope = byok.WorkspaceScope(defaultID.ValueString()); id.scope.ID == "" {
		diags.AddError("Missing workspace ID", fmt.Sprintf(
			"The import ID of the %s %q has no workspace, and the provider has none either. Use WORKSPACE_ID/%s, or set workspace_id in the provider block (%s).", k.noun, id.name, id.name, envWorkspaceID))
	}
	return id, diags
}

// of is the import ID that an identity stands for.
func (k *identityKind) of(object types.Object) (id importID, diags diag.Diagnostics) {
	value := func(name string) types.String {
		text, _ := object.Attributes()[name].(types.String)
		return text
	}
	if id.name = value(k.attribute).ValueString(); id.name == "" {
		diags.AddError("Invalid identity", fmt.Sprintf("The identity of a %s needs %s (%s). workspace_id is optional; default: that of the provider. A %s of an organization needs organization_id.",
			k.typeName, k.attribute, k.description, k.noun))
	}
	var scopes scopeIDs
	set := 0
	for kind := range scopes {
		if scopes[kind] = value(scopeKinds[kind].attribute); !scopes[kind].IsNull() {
			set++
		}
	}
	if set > 1 {
		diags.AddError("Invalid identity", fmt.Sprintf("The identity of a %s has either workspace_id or organization_id, not both.", k.typeName))
	}
	id.scope, _ = scopes.scope()
	return id, diags
}

// parse takes an import ID apart.
func (k *identityKind) parse(text string) (id importID, diags diag.Diagnostics) {
	if text == "" {
		diags.AddError("Invalid import ID", fmt.Sprintf("The import ID is empty. Expected: %s.", k.importForms))
		return importID{}, diags
	}
	parts := strings.Split(text, "/")
	scope, rest := parseScope(parts, k.importParts)
	if len(rest) == 0 {
		diags.AddError("Invalid import ID", fmt.Sprintf("%q ends with the ID of the %s. Expected: %s.", text, scope.Kind, k.importForms))
		return importID{}, diags
	}
	if len(rest) > k.importParts {
		diags.AddError("Invalid import ID", fmt.Sprintf("%q has %d parts separated by slashes, which is more than expected: %s.", text, len(parts), k.importForms))
		return importID{}, diags
	}
	for i, part := range parts {
		if part == "" || strings.ContainsFunc(part, isBlank) {
			diags.AddError("Invalid import ID", fmt.Sprintf("Part %d of %q is empty or contains whitespace. Expected: %s.", i+1, text, k.importForms))
			return importID{}, diags
		}
	}
	id = importID{scope: scope, name: rest[len(rest)-1]}
	if len(rest) > 1 {
		id.providerID = rest[0]
	}
	return id, nil
}
