package provider

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/list/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

var _ list.ListResourceWithConfigure = (*listResource)(nil)

// everyScope among IDs stands for all scopes of that kind that the user has.
const everyScope = "*"

const providerIDsAttribute = "provider_ids"

// listResource finds the instances of one resource type for terraform query.
type listResource struct {
	configuredResource
	// typeName is that of the resource.
	typeName, description string
	// noun is what the resource stores, in the plural.
	noun string
	// find returns the instances that the keys of one scope make up, sorted.
	// The keys are those that the list block asks for.
	find func(in byok.Scope, keys []byok.Key) []found
}

// found is one instance.
type found struct {
	displayName string
	identity    identity
	// resource is the state that an import of the instance would have.
	resource interface {
		value(context.Context) types.Object
	}
}

func (r *listResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = r.typeName
}

// listAttribute is the attribute of a list block with the IDs of scopes.
func (k scopeKind) listAttribute() string { return k.attribute + "s" }

func (r *listResource) ListResourceConfigSchema(_ context.Context, _ list.ListResourceSchemaRequest, resp *list.ListResourceSchemaResponse) {
	attributes := map[string]schema.Attribute{
		providerIDsAttribute: schema.ListAttribute{
			ElementType:         types.StringType,
			Optional:            true,
			MarkdownDescription: "List only " + r.noun + " of these AI providers, such as `openai`. Default: all.",
			Validators:          eachOf(providerIDCheck),
		},
	}
	for kind, of := range scopeKinds {
		attributes[of.listAttribute()] = schema.ListAttribute{
			ElementType:         types.StringType,
			Optional:            true,
			MarkdownDescription: fmt.Sprintf(of.listed, r.noun),
			Validators:          eachOf(listedIDCheck(byok.ScopeKind(kind))),
		}
	}
	resp.Schema = schema.Schema{MarkdownDescription: r.description, Attributes: attributes}
}

func eachOf(check stringCheck) []validator.List {
	return []validator.List{listvalidator.NoNullValues(), listvalidator.ValueStringsAre(check)}
}

// listedIDCheck is the check of a scope ID for the IDs of a list block.
func listedIDCheck(kind byok.ScopeKind) stringCheck {
	check := idChecks[kind]
	if scopeKinds[kind].canListEvery {
		return check
	}
	return stringCheck{describes: check.describes, check: func(id string) (summary, problem, warning string) {
		if id == everyScope {
			return "Invalid " + kind.String() + " ID", fmt.Sprintf("%q is not supported here: name each %s. %s", id, kind, scopeKinds[kind].whereID), ""
		}
		return check.check(id)
	}}
}

// List leaves the requests to the iterator: Terraform may not want all results.
// The context lasts until the iterator has ended; contextReleasingServer sees
// to that.
func (r *listResource) List(ctx context.Context, req list.ListRequest, stream *list.ListResultsStream) {
	query, diags := r.read(ctx, req)
	if diags.HasError() {
		stream.Results = list.ListResultsStreamDiagnostics(diags)
		return
	}
	stream.Results = func(push func(list.ListResult) bool) {
		call := r.operation.beginList()
		defer call.End()
		query.limited(r.results(ctx, query))(push)
	}
}

// query is what a list block asks for.
type query struct {
	list.ListRequest
	scopes []byok.Scope
	// everyWorkspace: all workspaces of the user are wanted as well.
	everyWorkspace bool
	// providerIDs are the wanted ones; all is for all of them.
	providerIDs []string
	all         bool
}

func (r *listResource) read(ctx context.Context, req list.ListRequest) (q query, diags diag.Diagnostics) {
	q.ListRequest = req
	chosen := false
	for kind, of := range scopeKinds {
		ids, null, more := stringsAt(ctx, req, of.listAttribute())
		diags.Append(more...)
		chosen = chosen || !null
		for _, id := range ids {
			if id == everyScope && of.canListEvery {
				q.everyWorkspace = true
				continue
			}
			q.scopes = append(q.scopes, byok.Scope{Kind: byok.ScopeKind(kind), ID: id})
		}
	}
	if !chosen {
		id := r.operation.workspaceID
		switch {
		case id.IsNull():
			diags.Append(missingListScopeDiagnostic())
		case id.IsUnknown():
			diags.Append(unknownConfigurationDiagnostic("list "+r.noun, []string{scopeKinds[defaultKind].attribute}))
		}
		q.scopes = append(q.scopes, byok.Scope{Kind: defaultKind, ID: id.ValueString()})
	}
	var more diag.Diagnostics
	q.providerIDs, q.all, more = stringsAt(ctx, req, providerIDsAttribute)
	diags.Append(more...)
	return q, diags
}

// stringsAt returns the elements of a list of strings, and whether it is null.
func stringsAt(ctx context.Context, req list.ListRequest, attribute string) (values []string, null bool, diags diag.Diagnostics) {
	var elements types.List
	if diags = req.Config.GetAttribute(ctx, path.Root(attribute), &elements); diags.HasError() || elements.IsNull() {
		return nil, true, diags
	}
	return values, false, elements.ElementsAs(ctx, &values, false)
}

// results asks one scope after the other. What fails is a result as well, and
// the other scopes follow.
func (r *listResource) results(ctx context.Context, q query) iter.Seq2[list.ListResult, outlook] {
	return func(push func(list.ListResult, outlook) bool) {
		api, diags := r.operation.client("list " + r.noun)
		if diags.HasError() {
			push(list.ListResult{Diagnostics: diags}, outlook{})
			return
		}
		scopes, names, err := q.resolve(ctx, api)
		if err != nil {
			push(failed(clientDiagnostic(err, "list", workspacesRef{})), outlook{})
			return
		}
		for n, scope := range scopes {
			keys, err := listKeys(ctx, api, scope)
			if err != nil {
				if !push(failed(listDiagnostic(err, scope)), outlook{}) || ctx.Err() != nil {
					return
				}
				continue
			}
			keys = slices.DeleteFunc(keys, func(key byok.Key) bool { return !q.all && !slices.Contains(q.providerIDs, key.ProviderID) })
			instances := r.find(scope, keys)
			for i, instance := range instances {
				if name, ok := names[scope]; ok {
					instance.displayName += fmt.Sprintf(" in %s %q", scope.Kind, name)
				}
				result := q.result(ctx, instance)
				if !push(result, outlook{more: i+1 < len(instances), unasked: len(scopes) - n - 1}) {
					return
				}
			}
		}
	}
}

// resolve returns the scopes that are wanted, sorted, and the names of those
// that the user did not name.
func (q query) resolve(ctx context.Context, api *client.Client) (scopes []byok.Scope, names map[byok.Scope]string, err error) {
	scopes, names = slices.Clone(q.scopes), map[byok.Scope]string{}
	if q.everyWorkspace {
		ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
		workspaces, err := api.Workspaces(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, w := range workspaces {
			scope := byok.WorkspaceScope(w.ID)
			scopes, names[scope] = append(scopes, scope), w.Name
		}
	}
	slices.SortFunc(scopes, byok.Scope.Compare)
	return slices.Compact(scopes), names, nil
}

// listKeys returns the keys of a scope by provider ID, then in rotation order.
func listKeys(ctx context.Context, api *client.Client, in byok.Scope) ([]byok.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	keys, err := api.List(ctx, in)
	slices.SortStableFunc(keys, func(a, b byok.Key) int { return strings.Compare(a.ProviderID, b.ProviderID) })
	return keys, err
}

// result is what Terraform is told about one instance.
func (q query) result(ctx context.Context, instance found) list.ListResult {
	result := q.NewListResult(ctx)
	result.DisplayName = printable(instance.displayName)
	result.Diagnostics.Append(result.Identity.Set(ctx, instance.identity.value())...)
	if q.IncludeResource {
		result.Diagnostics.Append(result.Resource.Set(ctx, instance.resource.value(ctx))...)
	}
	return result
}

// printable replaces what a terminal may take for more than text: a name is
// what another user has typed.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// outlook is what may follow a result: more instances of the same scope, and
// scopes that have not been asked yet.
type outlook struct {
	more    bool
	unasked int
}

// limited ends with the result that reaches the limit, which carries a warning
// if more may follow: Terraform does not say that it has cut the results off,
// and ignores all that comes later.
func (q query) limited(results iter.Seq2[list.ListResult, outlook]) iter.Seq[list.ListResult] {
	return func(push func(list.ListResult) bool) {
		n := int64(0)
		for result, next := range results {
			if !result.Diagnostics.HasError() {
				n++
			}
			last := q.Limit > 0 && n == q.Limit
			if last && (next.more || next.unasked > 0) {
				result.Diagnostics.Append(limitDiagnostic(q.Limit, next))
			}
			if !push(result) || last {
				return
			}
		}
	}
}

func failed(d diag.Diagnostic) list.ListResult {
	return list.ListResult{Diagnostics: diag.Diagnostics{d}}
}

func limitDiagnostic(limit int64, next outlook) diag.Diagnostic {
	detail := fmt.Sprintf("The list stops after %d, its limit.", limit)
	if next.more {
		detail += " The last workspace or organization has more."
	}
	if next.unasked > 0 {
		detail += fmt.Sprintf(" Workspaces and organizations that were not asked: %d.", next.unasked)
	}
	return diag.NewWarningDiagnostic("Results end at the limit", detail+
		" Set limit in the list block (default: 100), or ask for fewer workspaces or provider IDs.")
}

// listDiagnostic is about a scope whose keys cannot be listed.
func listDiagnostic(err error, in byok.Scope) diag.Diagnostic {
	d := clientDiagnostic(err, "list", keysRef{Scope: in})
	detail, advice := d.Detail(), ""
	for _, of := range scopeKinds {
		detail = strings.ReplaceAll(detail, of.attribute, of.listAttribute())
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Kind {
		case client.KindUnauthorized, client.KindNoAccess, client.KindForbidden, client.KindWorkspaceNotFound, client.KindNotMember, client.KindRoleRequired:
			advice = fmt.Sprintf("Terraform shows no results of a list block that has an error. To list what else there is, leave this %s out: set %s to the other IDs.", in.Kind, scopeKinds[in.Kind].listAttribute())
		}
	}
	return diag.NewErrorDiagnostic(d.Summary(), joinParagraphs(detail, advice))
}

// missingListScopeDiagnostic says how a list block chooses where to look.
func missingListScopeDiagnostic() diag.Diagnostic {
	return diag.NewErrorDiagnostic("Missing workspace_ids", "Set workspace_ids or organization_ids in the config block of the list, or workspace_id in the provider block ("+envWorkspaceID+"). "+
		`workspace_ids = ["*"] is every workspace of the user.`)
}
