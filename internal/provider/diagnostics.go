package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

// keyRef names a key in messages: everything about it but the secret.
type keyRef struct {
	pool        byok.Pool
	keyID, name string
}

func (k keyRef) String() string {
	var b strings.Builder
	b.WriteString("key ")
	if name := byok.TrimName(k.name); name != "" {
		fmt.Fprintf(&b, "%q ", name)
	}
	if k.keyID != "" {
		fmt.Fprintf(&b, "(ID %s) ", k.keyID)
	}
	if k.pool.ProviderID != "" {
		fmt.Fprintf(&b, "of provider ID %q ", k.pool.ProviderID)
	}
	fmt.Fprintf(&b, "in %s %q", k.pool.Scope.Kind, k.pool.Scope.ID)
	return b.String()
}

// title names the key in the summary of a warning.
func (k keyRef) title() string {
	name := byok.TrimName(k.name)
	switch {
	case name == "":
		return "ID " + k.keyID
	case k.keyID == "":
		return strconv.Quote(name)
	}
	return fmt.Sprintf("%q (ID %s)", name, k.keyID)
}

// about is the summary of a warning that a plan can have several times. Terraform
// shows only the first of those that are the same.
func about(summary, what string) string { return summary + ": " + what }

// keysRef names all keys of a scope, or those of one provider ID.
type keysRef byok.Pool

func (k keysRef) String() string {
	if k.ProviderID == "" {
		return fmt.Sprintf("keys in %s %q", k.Scope.Kind, k.Scope.ID)
	}
	return fmt.Sprintf("keys of provider ID %q in %s %q", k.ProviderID, k.Scope.Kind, k.Scope.ID)
}

// workspacesRef names the workspaces of the user.
type workspacesRef struct{}

func (workspacesRef) String() string { return "the workspaces of the user" }

// inheritedRef names what a workspace takes from its organization.
type inheritedRef byok.Scope

func (r inheritedRef) String() string {
	return fmt.Sprintf("the provider IDs that %s %q inherits", r.Kind, r.ID)
}

// clientDiagnostic says what a failed request means and what to do about it.
// doing is a verb for the summary: "read", "create", "update", "delete",
// "import". what is a keyRef or one of the types above that name several things.
func clientDiagnostic(err error, doing string, what fmt.Stringer) diag.Diagnostic {
	noun, several, isDiscovery := "key", true, false
	switch what.(type) {
	case keysRef:
		noun = "keys"
	case workspacesRef:
		noun, isDiscovery = "workspaces", true
	case inheritedRef:
		noun, isDiscovery = "inherited provider IDs", true
	default:
		several = false
	}
	summary := "Cannot " + doing + " " + noun
	var e *client.Error
	if !errors.As(err, &e) {
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("Failed to %s %s.\n\n%v", doing, what, err))
	}
	title, advice, attribute := explain(e)
	if isDiscovery && e.Kind == client.KindProtocol && e.Status == http.StatusNotFound {
		title, advice = noDiscovery.title, noDiscovery.advice
	}
	if e.Kind == client.KindWorkspaceNotFound && doing != "import" && !several {
		advice += " If the workspace is gone for good, run terraform state rm for its keys."
	}
	if doing == "import" && attribute != "" {
		advice += " The ID is the one in the import ID, or that of the provider block where the import ID has none."
	}
	detail := joinParagraphs(fmt.Sprintf("Failed to %s %s.", doing, what), advice, candidates(e), facts(e))
	if attribute == "" {
		return diag.NewErrorDiagnostic(summary+": "+title, detail)
	}
	return diag.NewAttributeErrorDiagnostic(path.Root(attribute), summary+": "+title, detail)
}

// sessionDiagnostic is about the request that Configure sends. It points at the
// attribute of the provider that is wrong. fromEnv is joiner.fromEnv.
func sessionDiagnostic(err error, fromEnv map[string]string) diag.Diagnostic {
	const summary = "Cannot connect to Sim"
	var e *client.Error
	if !errors.As(err, &e) {
		return diag.NewErrorDiagnostic(summary, err.Error())
	}
	title, advice, _ := explain(e)
	attribute := "endpoint"
	switch e.Kind {
	case client.KindSignIn:
		attribute = "password"
	case client.KindUnauthorized:
		attribute = "session_token"
	case client.KindCertificate:
		attribute = "ca_cert_pem"
	}
	return diag.NewAttributeErrorDiagnostic(path.Root(attribute), summary+": "+title, joinParagraphs(advice+origin(fromEnv, attribute), facts(e)))
}

func joinParagraphs(paragraphs ...string) string {
	return strings.Join(slices.DeleteFunc(paragraphs, func(text string) bool { return text == "" }), "\n\n")
}

// explain turns a kind into a title, what it means and what to do, and the
// attribute of byok_key that it is about, or "". What a status can mean is
// WIRE.md section 3.
func explain(e *client.Error) (title, advice, attribute string) {
	kind := scopeKinds[e.Pool.Scope.Kind]
	switch e.Kind {
	case client.KindUnauthorized:
		if e.Op == client.OpList {
			return kind.listRefused.title, kind.listRefused.advice, ""
		}
		return notSignedIn.title, notSignedIn.advice, ""
	case client.KindNoAccess:
		return "no access to the workspace",
			"The session is valid, but its user has no permission on the workspace. Correct workspace_id (" + envWorkspaceID + "), or ask an admin of the workspace to invite the user; read permission is enough for a plan.", kind.attribute
	case client.KindForbidden:
		if e.Listed && kind.readable != "" {
			return kind.forbidden.title, kind.readable, kind.attribute
		}
		return kind.forbidden.title, kind.forbidden.advice, kind.attribute
	case client.KindNotMember:
		return "not a member of the organization",
			"The user is not a member of the organization, or the organization does not exist on this endpoint: Sim responds in the same way to both. Correct organization_id or endpoint, or ask an admin of the organization to invite the user.", kind.attribute
	case client.KindRoleRequired:
		return "not an admin of the organization",
			"The user is a member of the organization, but only its admins and owners can see and change its keys. Ask an owner to change the role of the user.", kind.attribute
	case client.KindNotEntitled:
		return "the organization has no paid subscription",
			"Keys of an organization need a paid subscription of the organization (Sim calls it an active plan) and a hosted Sim: a self-hosted one never stores them. Without it, keys that are stored can be read and deleted, but none can be created or changed. " +
				"Renew the subscription, or store the keys in workspaces.", kind.attribute
	case client.KindWorkspaceNotFound:
		return "workspace not found",
			"The workspace does not exist on this endpoint, or it is archived. Correct workspace_id (" + envWorkspaceID + ") or endpoint (" + envEndpoint + "), or restore the workspace.", kind.attribute
	case client.KindKeyNotFound:
		return "the key does not exist",
			"The key no longer exists. Another user deleted it after the plan was made. Plan again: the next plan creates it.", ""
	case client.KindInvalid:
		return "the API refused the request",
			"The API does not accept a value of this key. If it does not recognize the provider ID, this version of Sim does not support it yet, or the ID is misspelled.", refusedAttribute(e)
	case client.KindRateLimited:
		return "too many requests",
			"The server, or a gateway in front of it, limits the rate of requests, and kept refusing. Wait and try again, or lower the load with -parallelism. " +
				"Signing in is limited to 3 attempts in 10 seconds for each client address: with several provider blocks or pipelines at a time, use session_token.", ""
	case client.KindServer:
		advice = "The server, or a gateway in front of it, reported a failure. The text of its response is left out, because it can contain stored values"
		if e.RequestID == "" {
			return "the server failed", advice + ".", ""
		}
		return "the server failed", advice + "; use the request ID to find it in the server's log.", ""
	case client.KindNetwork:
		return "the server cannot be reached",
			fmt.Sprintf("%s from %s: %s.\n\nCheck endpoint ("+envEndpoint+"), the network, and a proxy (HTTPS_PROXY).", map[bool]string{false: "No response", true: "Incomplete response"}[e.Status != 0], e.URL, e.Detail), ""
	case client.KindCertificate:
		return "the certificate of the server is not trusted",
			fmt.Sprintf("The certificate of %s is signed by an unknown authority. If the authority is your own, set ca_cert_pem ("+envCACertPEM+") to its certificate.", e.URL), ""
	case client.KindProtocol:
		if e.Status == http.StatusNotFound {
			return kind.noRoutes.title, kind.noRoutes.advice, ""
		}
		return notTheAPI.title, notTheAPI.advice, ""
	case client.KindRedirect:
		return "the endpoint redirects",
			"The provider does not follow redirects, so that secrets are sent to the configured endpoint only. If the target is right, set endpoint (" + envEndpoint + ") to it.", ""
	case client.KindSignIn:
		return "the sign-in was refused",
			"Sim does not accept email (" + envEmail + ") and password (" + envPassword + "), or does not let this user sign in with them, as with single sign-on. Correct them, or use session_token (" + envSessionToken + ").", ""
	case client.KindAmbiguous:
		return "it is not known whether it was stored",
			"The connection broke while the key was being added, and the API may or may not have stored it. It was not sent again, so that it is not stored twice. " +
				"Look at the keys of the pool: import the key if it is there, otherwise apply again.", ""
	case client.KindCanceled:
		if errors.Is(e, context.DeadlineExceeded) {
			return "timed out", "The time for this operation ran out. The timeouts block of the resource sets how long it may take.", ""
		}
		return "interrupted", "Terraform was interrupted.", ""
	}
	return "request failed", "The request failed.", ""
}

// refusedAttribute is the attribute for a field that the API refused, or "".
func refusedAttribute(e *client.Error) string {
	for _, field := range e.Fields {
		switch field {
		case "providerId":
			return "provider_id"
		case "name":
			return "name"
		}
	}
	return ""
}

func candidates(e *client.Error) string {
	if len(e.Candidates) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("Keys that may be the one, as import IDs:\n")
	for _, id := range e.Candidates {
		fmt.Fprintf(&b, "\n  %s/%s", e.Pool, id)
	}
	return b.String()
}

// facts is what helps to find the request in a log.
func facts(e *client.Error) string {
	var facts []string
	if e.Status != 0 && e.URL != "" {
		facts = append(facts, fmt.Sprintf("HTTP status %d from %s", e.Status, e.URL))
	}
	if e.RequestID != "" {
		facts = append(facts, "request ID "+e.RequestID)
	}
	if e.Attempts > 1 {
		facts = append(facts, fmt.Sprintf("%d attempts", e.Attempts))
	}
	line := strings.Join(facts, ", ")
	switch {
	case e.Detail == "" || e.Kind == client.KindNetwork || e.Kind == client.KindCertificate: // explain has the detail
		if line == "" {
			return ""
		}
		return "(" + line + ")"
	case line == "":
		return "Cause: " + e.Detail
	}
	return "Cause: " + e.Detail + " (" + line + ")"
}

// refusedDiagnostic is a create that the API refused at the cap. ctx is that of
// the create: the list of what fills the pool must not outlive it.
func refusedDiagnostic(ctx context.Context, o *operation, pool byok.Pool, err error) diag.Diagnostic {
	refused := &ledger.Refused{Pool: pool, Cap: o.cap, Expect: o.cap, Repeated: !o.notices.once(notice{"full", pool})}
	if e, ok := errors.AsType[*client.Error](err); ok {
		refused.Waiting = e.Waiting
		if e.Cap > 0 {
			refused.Cap = e.Cap // the cap of the server decides
		}
	}
	if refused.Repeated {
		return diag.NewAttributeErrorDiagnostic(path.Root("provider_id"), refused.Summary(), refused.Detail())
	}
	// What is stored helps the reader; without it the error stands all the same.
	if api, diags := o.client("list keys"); !diags.HasError() {
		keys, _ := api.List(ctx, pool.Scope)
		for _, key := range keys {
			if key.ProviderID == pool.ProviderID {
				refused.Stored = append(refused.Stored, key)
			}
		}
	}
	return diag.NewAttributeErrorDiagnostic(path.Root("provider_id"), refused.Summary(), refused.Detail())
}

// verdictDiagnostics returns what the ledger reports. It points at provider_id,
// the attribute that puts a key into a pool. In what may be an apply, removals
// are not planned again, so that only what is certain without them is an error.
func verdictDiagnostics(v ledger.Verdict, capCheck string, mayApply bool) diag.Diagnostics {
	var diags diag.Diagnostics
	if v.Shared != nil {
		diags.AddAttributeError(path.Root("provider_id"), v.Shared.Summary(), v.Shared.Detail())
	}
	for _, over := range v.Over {
		d := diag.NewAttributeErrorDiagnostic(path.Root("provider_id"), over.Summary(), over.Detail())
		if capCheck == capCheckWarning || mayApply && !over.Certain {
			diags.Append(asWarning(d))
			continue
		}
		diags.Append(d)
	}
	if v.Crowded != nil {
		diags.AddWarning(v.Crowded.Summary(), v.Crowded.Detail())
	}
	if failed := v.ListFailed; failed != nil {
		d := clientDiagnostic(failed.Err, "plan", keysRef{Scope: failed.Scope})
		if mayApply { // the create itself comes next, with its own timeout
			d = asWarning(d)
		}
		diags.Append(d)
	}
	return diags
}

// contestedDiagnostics reports keys that another resource manages, too.
func contestedDiagnostics(at path.Path, c *ledger.Contested) (diags diag.Diagnostics) {
	if c != nil {
		diags.AddAttributeError(at, c.Summary(), c.Detail())
	}
	return diags
}

// asWarning returns the error d as a warning.
func asWarning(d diag.Diagnostic) diag.Diagnostic {
	if d, ok := d.(diag.DiagnosticWithPath); ok {
		return diag.NewAttributeWarningDiagnostic(d.Path(), d.Summary(), d.Detail())
	}
	return diag.NewWarningDiagnostic(d.Summary(), d.Detail())
}

func missingSecretDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("api_key_wo"), "Missing API key",
		"A new key needs its secret: set api_key_wo (Terraform 1.11 and later, never stored) or api_key (stored in state).")
}

func renameWithoutSecretDiagnostic(key keyRef) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("name"), "A rename needs the API key",
		fmt.Sprintf("The configuration gives another name to the %s. The API accepts a new name only together with the secret, and the configuration declares none. "+
			"Declare the secret, or set name = %q, as it is stored.", key, key.name))
}

func versionWithoutSecretDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("api_key_wo_version"), "A new version needs the API key",
		"api_key_wo_version has changed, which asks for an upload of api_key_wo, but api_key_wo is not set. Set it, or leave the version as it is.")
}

// driftDiagnostics says what another user changed, and what this plan does
// about it.
func driftDiagnostics(config, prior keyModel, p updatePlan) diag.Diagnostics {
	var diags diag.Diagnostics
	key, when := prior.ref(), readableTime(prior.UpdatedAt.ValueString())
	if p.drift.unconfirmed {
		diags.Append(unconfirmedDiagnostic(config, prior, key, when))
	}
	if p.drift.replaced {
		detail := fmt.Sprintf("The secret or the name of the %s was replaced at %s, after Terraform's own last write. Its masked key is now %s.\n\n",
			key, when, prior.MaskedKey.ValueString())
		if p.drift.renamedTo != nil {
			detail += fmt.Sprintf("Its name is now %q.\n\n", *p.drift.renamedTo)
		}
		switch {
		case config.OnRemoteChange.ValueString() == onRemoteChangeWarn && !p.upload:
			detail += `on_remote_change is "warn", so this plan leaves it alone. To restore the declared secret, set it to "repair".`
		case config.secret().IsNull():
			detail += "The configuration declares no secret, so this plan cannot restore one."
		default:
			detail += `This plan restores the declared secret and name. To keep what is stored, cancel and set on_remote_change = "warn", or declare the new secret.`
		}
		diags.AddAttributeWarning(path.Root("masked_key"), about("Key changed outside of Terraform", key.title()), detail)
	}
	if p.drift.undecryptable && !p.upload {
		diags.AddAttributeWarning(path.Root("masked_key"), about("Key cannot be decrypted by the server", key.title()),
			fmt.Sprintf("Sim shows the %s as %s although it was not changed since %s: the server cannot decrypt it, and skips it in the rotation. "+
				"Often the server was given another encryption key (ENCRYPTION_KEY). If that cannot be undone, upload the secret again: "+
				"change api_key_wo_version, or run terraform apply -replace for this resource.", key, byok.MaskUnknown, when))
	}
	return diags
}

// unconfirmedDiagnostic is about an upload whose response was lost.
func unconfirmedDiagnostic(config, prior keyModel, key keyRef, when string) diag.Diagnostic {
	detail := fmt.Sprintf("An earlier apply uploaded a secret for the %s and got no confirmation, so the server stores either that secret or the one before. "+
		"The key was last written at %s and shows the masked key %s.\n\n", key, when, prior.MaskedKey.ValueString())
	if config.secret().IsNull() {
		detail += "The configuration declares no secret, so this plan cannot upload one. To settle which secret is stored, set api_key_wo or api_key and apply."
	} else {
		detail += "This plan uploads the declared secret and name again."
	}
	return diag.NewAttributeWarningDiagnostic(path.Root("masked_key"), about("Earlier upload not confirmed", key.title()), detail)
}

// updateDiagnostic is about an update that failed.
func updateDiagnostic(err error, key keyRef) diag.Diagnostic {
	if client.IsUnconfirmed(err) {
		return unconfirmedUpdateDiagnostic(err, key)
	}
	return clientDiagnostic(err, "update", key)
}

// unconfirmedUpdateDiagnostic is about an update that the API may have stored.
func unconfirmedUpdateDiagnostic(err error, key keyRef) diag.Diagnostic {
	d := clientDiagnostic(err, "update", key)
	detail := d.Detail() + "\n\nThe server may have stored the new secret and name all the same. The state keeps the previous values; the next plan uploads the declared secret and name again."
	if at, ok := d.(diag.DiagnosticWithPath); ok {
		return diag.NewAttributeErrorDiagnostic(at.Path(), d.Summary(), detail)
	}
	return diag.NewErrorDiagnostic(d.Summary(), detail)
}

func deletedDiagnostic(key keyRef) diag.Diagnostic {
	return diag.NewWarningDiagnostic(about("Key deleted outside of Terraform", key.title()),
		fmt.Sprintf("The %s no longer exists. If it is still in the configuration, this plan creates it.", key))
}

// incompleteDiagnostic is about an add that stored a key and then failed.
func incompleteDiagnostic(err error, key keyRef) diag.Diagnostic {
	detail := fmt.Sprintf("The %s is stored and in state, but reading its details failed. The next plan reads them, and uploads the secret again where it could not be confirmed.\n\n%v", key, err)
	var e *client.Error
	if errors.As(err, &e) {
		detail = joinParagraphs(detail, candidates(e))
	}
	return diag.NewWarningDiagnostic(about("Key created, but its details could not be read", key.title()), detail)
}

// unreadDiagnostic warns of a plan that cannot ask the server anything.
func unreadDiagnostic(unknown []string) diag.Diagnostic {
	return diag.NewAttributeWarningDiagnostic(path.Root(unknown[0]), "Provider configuration not known",
		unknownConfigurationDetail("This plan reads nothing from the server: it does not see keys that were changed or deleted elsewhere, and does not check what the server stores against the cap", unknown))
}

// unknownConfigurationDiagnostic says which attributes of the provider are not
// known. doing completes "Cannot ...".
func unknownConfigurationDiagnostic(doing string, unknown []string) diag.Diagnostic {
	return diag.NewErrorDiagnostic("Provider configuration not known", unknownConfigurationDetail("Cannot "+doing, unknown)+
		" To destroy without that resource, write the value itself.")
}

// unknownConfigurationDetail says why a value is not known and what to do.
func unknownConfigurationDetail(consequence string, unknown []string) string {
	what := "its configuration"
	if len(unknown) > 0 {
		what = strings.Join(unknown, ", ")
	}
	return fmt.Sprintf("%s, because the provider byok does not know %s: the value follows from a resource that has not been created yet, or is no longer in state.\n\n"+
		"Apply that resource first, with terraform apply -target, or give the provider a value that is known at plan, such as a variable.", consequence, what)
}

// readableTime formats a time of the API for messages; other text is unchanged.
func readableTime(at string) string {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return at
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
