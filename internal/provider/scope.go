package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// scopeKind is in what one kind of scope differs from the others for
// Terraform. In what they differ on the wire is a row in package byok, and one in
// package client.
type scopeKind struct {
	// article is that of the noun: "a" or "an".
	article string
	// attribute is the one with the ID of the scope.
	attribute string
	// description is that of the attribute, identity that of the attribute of
	// an identity, listed that of the attribute of a list block; %s is what is
	// stored there.
	description, identity, listed string
	// canListEvery: a list block can ask for every scope of the kind.
	canListEvery bool
	// whereID tells where a user finds the ID.
	whereID string
	// selfHosted says that a self-hosted Sim never uses keys of the scope, "" where it
	// depends on the provider ID.
	selfHosted string
	// inherits: what a pool of the scope lacks can come from an organization.
	inherits bool
	// importPrefix is what an import ID begins with.
	importPrefix string
	// listRefused, forbidden and noRoutes explain a 401 of a list, a 403 of a
	// write, and a 404 that is not of the API.
	listRefused, forbidden, noRoutes explanation
	// readable is the advice of forbidden where the user can read the scope, ""
	// where whoever can read the keys can also change them.
	readable string
}

// explanation is a title, and what it means and what to do.
type explanation struct{ title, advice string }

// defaultKind is the only kind that the provider block can have an ID for: a
// scope that many workspaces share is chosen where it is used.
const defaultKind = byok.Workspace

// notSignedIn is what a 401 means where it means nothing else.
var notSignedIn = explanation{"not signed in",
	"The session is not valid, or no longer valid. session_token (" + envSessionToken + ") is the whole value of the session cookie, with the dot and the signature, for this endpoint. " +
		"Sign in again and use the new value, or use email and password."}

// notTheAPI is what a response means that is not of the API.
var notTheAPI = explanation{"this is not the API of Sim",
	"The response is not one of this API. Check that endpoint (" + envEndpoint + ") is the base URL of Sim, without /api, and that no gateway or login page is in between (headers)."}

// noDiscovery is what a 404 means for a route that only newer versions of Sim have.
var noDiscovery = explanation{"the server cannot list this",
	"The server does not have this route: this Sim is too old for it, or endpoint (" + envEndpoint + ") is not the base URL of Sim. Update Sim, or write the IDs yourself."}

// scopeKinds has one row for each kind.
var scopeKinds = [...]scopeKind{
	byok.Workspace: {
		article:     "a",
		attribute:   "workspace_id",
		description: "ID of the workspace. Default: `workspace_id` of the provider. A change replaces the %s.",
		identity:    "ID of the workspace of the %s. Default: that of the provider.",
		listed: "IDs of the workspaces whose %s are listed. `[\"*\"]` is every workspace that the user has any permission on. " +
			"Default: `workspace_id` of the provider, unless `organization_ids` is set.",
		canListEvery: true,
		whereID:      "The ID is in the URL of the workspace, after /workspace/.",
		listRefused: explanation{"not signed in, or no access to the workspace",
			"Sim responds in the same way (401) to a session that is not valid and to a user without any permission on the workspace, and did not tell which it is. Check both:\n\n" +
				"- May the user read the workspace? Correct workspace_id (" + envWorkspaceID + "), or ask an admin of the workspace to invite the user; read permission is enough for a plan.\n" +
				"- Is the session valid? session_token (" + envSessionToken + ") is the whole value of the session cookie, with the dot and the signature, for this endpoint; it expires, and it ends at a sign-out."},
		forbidden: explanation{"not an admin of the workspace",
			"Only admins of a workspace, and admins of its organization, can add, replace and delete its keys. Sim responds in the same way (403) when the workspace does not exist or is archived. Check both:\n\n" +
				"- Is workspace_id (" + envWorkspaceID + ") right, and is the workspace on this endpoint?\n" +
				"- Is the user an admin? Read permission is enough for a plan, not for an apply."},
		readable: "The user can read the workspace, but is not an admin of it. Only admins of a workspace, and admins of its organization, can add, replace and delete its keys. " +
			"Ask an admin of the workspace to make the user one, or apply as another user.",
		noRoutes: notTheAPI,
		inherits: true,
	},
	byok.Organization: {
		article:   "an",
		attribute: "organization_id",
		description: "ID of the organization, for a %s that its workspaces inherit. Conflicts with `workspace_id`, and has no default. " +
			"Needs an admin or owner of the organization, and a hosted Sim where the organization has a paid subscription. A change replaces the %[1]s.",
		identity:     "ID of the organization, for a %s of an organization.",
		listed:       "IDs of organizations whose %s are listed, for an admin or owner of each.",
		whereID:      "The data source byok_workspaces lists the ID of the organization of each workspace.",
		selfHosted:   "A self-hosted Sim never uses keys of an organization.",
		importPrefix: "organization/",
		listRefused:  notSignedIn,
		forbidden: explanation{"no access to the organization",
			"The server, or a gateway in front of it, refuses access to the keys of the organization. Check organization_id, and the role of the user."},
		noRoutes: explanation{"the server has no keys of organizations",
			"The server does not have the routes for keys of organizations: this Sim is too old for them, or endpoint (" + envEndpoint + ") is not the base URL of Sim. " +
				"Update Sim, or store the keys in workspaces."},
	},
}

// scopeFields are the fields of a model with the IDs of scopes, by kind.
type scopeFields [len(scopeKinds)]*types.String

// scopeIDs are their values. At most one is set.
type scopeIDs [len(scopeKinds)]types.String

func (f scopeFields) values() (ids scopeIDs) {
	for kind, field := range f {
		ids[kind] = *field
	}
	return ids
}

func (f scopeFields) set(ids scopeIDs) {
	for kind, field := range f {
		*field = ids[kind]
	}
}

// idsOf is the reverse of scopeIDs.scope.
func idsOf(scope byok.Scope) (ids scopeIDs) {
	ids[scope.Kind] = types.StringValue(scope.ID)
	return ids
}

// scope is where the keys are stored; known is false while that is not known.
func (ids scopeIDs) scope() (scope byok.Scope, known bool) {
	known = true
	for kind, id := range ids {
		known = known && !id.IsUnknown()
		if !id.IsNull() {
			scope = byok.Scope{Kind: byok.ScopeKind(kind), ID: id.ValueString()}
		}
	}
	return scope, known
}

// isNull reports whether no scope is chosen.
func (ids scopeIDs) isNull() bool { return ids == scopeIDs{} }

// planScope plans where keys are stored: the configured scope, else that of the
// provider, else the prior one. An unknown default does not move keys that
// exist: it is often the same in the end.
func planScope(config, prior scopeIDs, defaultID types.String) scopeIDs {
	planned := config
	switch {
	case config.isNull() && !prior[defaultKind].IsNull() && (defaultID.IsNull() || defaultID.IsUnknown()):
		planned[defaultKind] = prior[defaultKind]
	case config.isNull():
		planned[defaultKind] = defaultID
	default:
		if _, known := config.scope(); !known && config[defaultKind].IsNull() {
			// If the configured one turns out to be null, the default counts.
			planned[defaultKind] = types.StringUnknown()
		}
	}
	return planned
}

// scopeRows are the rows of the attributes with the IDs of scopes. noun is what
// is stored there.
func scopeRows[M any](noun string, fields func(*M) scopeFields) []row[M] {
	rows := make([]row[M], len(scopeKinds))
	for kind, of := range scopeKinds {
		validators := []validator.String{idChecks[kind]}
		for _, before := range scopeKinds[:kind] {
			validators = append(validators, whenSet{stringvalidator.ConflictsWith(path.MatchRoot(before.attribute))})
		}
		rows[kind] = row[M]{
			name:  of.attribute,
			role:  placing,
			field: func(m *M) any { return fields(m)[kind] },
			schema: schema.StringAttribute{
				Optional:            true,
				Computed:            kind == int(defaultKind),
				MarkdownDescription: fmt.Sprintf(of.description, noun),
				Validators:          validators,
			},
		}
	}
	return rows
}

// idChecks are for IDs that end up in a URL path and an import ID.
var idChecks = func() (checks [len(scopeKinds)]stringCheck) {
	for kind, of := range scopeKinds {
		checks[kind] = newIDCheck(of.article, byok.ScopeKind(kind).String(), of.whereID)
	}
	return checks
}()

// idAttribute is the attribute with the ID of a scope.
func idAttribute(scope byok.Scope) string { return scopeKinds[scope.Kind].attribute }

// parseScope takes the scope of an import ID apart from the rest of its parts:
// the zero Scope where there is none. keep is how many parts the rest has at
// most. Nothing may be left of an ID that ends with its scope.
func parseScope(parts []string, keep int) (scope byok.Scope, rest []string) {
	for kind, of := range scopeKinds {
		if prefix := of.importPrefix; prefix != "" && parts[0]+"/" == prefix && len(parts) > 1 {
			return byok.Scope{Kind: byok.ScopeKind(kind), ID: parts[1]}, parts[2:]
		}
	}
	if len(parts) > 1 && len(parts) <= keep+1 {
		return byok.WorkspaceScope(parts[0]), parts[1:]
	}
	return byok.Scope{}, parts
}

// storeDiagnostics is about a plan that adds or replaces keys of a pool.
func (o *operation) storeDiagnostics(pool byok.Pool) diag.Diagnostics {
	if o.api != nil && o.api.ListedNotEntitled(pool.Scope) {
		return o.entitlementDiagnostics(pool.Scope) // what Sim would use the key for does not matter then
	}
	return o.deploymentDiagnostics(pool)
}

// unknownDefaultDiagnostics warns, once in each plan, of a key or pool that stays
// where it is because the workspace of the provider is not known, or was not when
// the key or pool was last read.
func (o *operation) unknownDefaultDiagnostics(config, prior scopeIDs, marked bool) (diags diag.Diagnostics) {
	const summary = "Default workspace not known"
	attribute, stays := scopeKinds[defaultKind].attribute, prior[defaultKind]
	unknown := o.workspaceID.IsUnknown()
	if !config.isNull() || stays.IsNull() || !unknown && (!marked || o.workspaceID.IsNull() || o.workspaceID.Equal(stays)) || !o.notices.once(notice{summary, byok.Pool{}}) {
		return nil
	}
	detail := fmt.Sprintf("Keys that were last read while the provider byok did not know %s stay in their workspace (here %q) and are changed there, although it is %q now. "+
		"The next plan moves them, unless it has -refresh=false.", attribute, stays.ValueString(), o.workspaceID.ValueString())
	if unknown {
		detail = fmt.Sprintf("The provider byok does not know %s, because the value follows from a resource that this plan creates or changes. "+
			"Keys that exist stay in their workspace (here %q) and are changed there. If %s turns out to be that of another workspace, the next plan moves them.",
			attribute, stays.ValueString(), attribute)
	}
	diags.AddAttributeWarning(path.Root(attribute), summary, detail)
	return diags
}

// moveDiagnostics reports a replacement that would delete keys in a scope where the
// user can, and fail to add them in another, where the user can only read. Where
// the user can change neither, an admin may apply the plan.
func (o *operation) moveDiagnostics(ctx context.Context, from, to byok.Scope) diag.Diagnostics {
	if o.ledger == nil || from == to || scopeKinds[to.Kind].readable == "" {
		return nil
	}
	source, known := o.listedWorkspace(ctx, from)
	changes := known && source.CanChangeKeys() || scopeKinds[from.Kind].readable == ""
	destination, known := o.listedWorkspace(ctx, to)
	if !changes || !known || destination.CanChangeKeys() {
		return nil
	}
	title, advice, attribute := explain(&client.Error{Kind: client.KindForbidden, Op: client.OpAdd, Pool: byok.Pool{Scope: to}, Listed: true})
	return diag.Diagnostics{diag.NewAttributeErrorDiagnostic(path.Root(attribute), "Cannot move key: "+title, joinParagraphs(
		fmt.Sprintf("This plan moves keys from %s %q to %s %q, where the user has %s permission: the apply would delete the keys, and could not add them again.",
			from.Kind, from.ID, to.Kind, to.ID, destination.Permission), advice))}
}

// entitlementDiagnostics reports, once in each plan, that no key can be stored in a
// scope. Reading and deleting need no entitlement.
func (o *operation) entitlementDiagnostics(scope byok.Scope) diag.Diagnostics {
	if !o.notices.once(notice{"not entitled", byok.Pool{Scope: scope}}) {
		return nil
	}
	title, advice, attribute := explain(&client.Error{Kind: client.KindNotEntitled, Pool: byok.Pool{Scope: scope}})
	return diag.Diagnostics{diag.NewAttributeErrorDiagnostic(path.Root(attribute), "Cannot store key: "+title,
		joinParagraphs(fmt.Sprintf("This plan adds or changes keys in %s %q.", scope.Kind, scope.ID), advice+
			" If you ran terraform destroy, run it with -refresh=false. Without it, Terraform first plans the changes of the configuration, and that plan fails."))}
}

// missingScopeDiagnostic says which attributes choose a scope.
func missingScopeDiagnostic() diag.Diagnostic {
	var others []string
	for kind, of := range scopeKinds {
		if kind != int(defaultKind) {
			others = append(others, of.attribute)
		}
	}
	return missingDefaultDiagnostic(" For keys that workspaces inherit, set " + strings.Join(others, " or ") + " here.")
}

// missingDefaultDiagnostic says where the default scope is set, and what else can
// be chosen.
func missingDefaultDiagnostic(otherwise string) diag.Diagnostic {
	attribute := scopeKinds[defaultKind].attribute
	return diag.NewAttributeErrorDiagnostic(path.Root(attribute), "Missing "+attribute, fmt.Sprintf(
		"Set %s here or in the provider block, or the environment variable %s.", attribute, envWorkspaceID)+otherwise)
}
