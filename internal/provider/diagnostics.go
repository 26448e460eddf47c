package provider

import (
	"context"
	"errors"
	"fmt"
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

// keysRef names all keys of a scope, or those of one provider ID.
type keysRef byok.Pool

func (k keysRef) String() string {
	if k.ProviderID == "" {
		return fmt.Sprintf("keys in %s %q", k.Scope.Kind, k.Scope.ID)
	}
	return fmt.Sprintf("keys of provider ID %q in %s %q", k.ProviderID, k.Scope.Kind, k.Scope.ID)
}

// clientDiagnostic says what a failed request means and what to do about it.
// doing is a verb for the summary: "read", "create", "update", "delete",
// "import". what is a keyRef or a keysRef.
func clientDiagnostic(err error, doing string, what fmt.Stringer) diag.Diagnostic {
	summary := "Cannot " + doing + " key"
	if _, several := what.(keysRef); several {
		summary += "s"
	}
	var e *client.Error
	if !errors.As(err, &e) {
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("Failed to %s %s.\n\n%v", doing, what, err))
	}
	title, advice, attribute := explain(e)
	detail := fmt.Sprintf("Failed to %s %s.\n\n%s", doing, what, advice)
	if facts := facts(e); facts != "" {
		detail += "\n\n" + facts
	}
	if attribute == "" {
		return diag.NewErrorDiagnostic(summary+": "+title, detail)
	}
	return diag.NewAttributeErrorDiagnostic(path.Root(attribute), summary+": "+title, detail)
}

// explain turns a kind into a title, what it means and what to do, and the
// attribute of byok_key that it is about, or "". What a status can mean is
// WIRE.md section 3.
func explain(e *client.Error) (title, advice, attribute string) {
	switch e.Kind {
	case client.KindUnauthorized:
		if e.Op == client.OpList {
			return "not signed in, or no access to the workspace",
				"Sim gives the same answer (401) to a session that is not valid and to a user without any permission on the workspace. Check both:\n\n" +
					"- Is the session valid? session_token (" + envSessionToken + ") is the whole value of the session cookie, with the dot and the signature, of this very endpoint; it expires and ends at a sign-out.\n" +
					"- May the user read the workspace? An admin of the workspace can invite them; read permission is enough for a plan.", ""
		}
		return "not signed in",
			"The session is not valid, or not any more. session_token (" + envSessionToken + ") is the whole value of the session cookie, with the dot and the signature, of this very endpoint. " +
				"Sign in again and take the new value, or use email and password.", ""
	case client.KindForbidden:
		return "not an admin of the workspace",
			"Only admins of a workspace, and admins of its organization, can add, replace and delete its keys. Sim gives the same answer (403) when the workspace does not exist or is archived. Check both:\n\n" +
				"- Is workspace_id right, and is the workspace on this endpoint?\n" +
				"- Is the user an admin? Read permission is enough for a plan, not for an apply.", "workspace_id"
	case client.KindWorkspaceNotFound:
		return "workspace not found",
			"The workspace does not exist on this endpoint, or it is archived. Correct workspace_id or endpoint, or restore the workspace. " +
				"If it is gone for good, run terraform state rm for its keys.", "workspace_id"
	case client.KindKeyNotFound:
		return "the key does not exist",
			"There is no such key any more. Somebody deleted it after the plan was made. Plan again: the next plan creates it anew.", ""
	case client.KindInvalid:
		return "the API refused the request",
			"The API does not accept a value of this key. If it does not know the provider ID, the server is older than the provider ID, or the ID is misspelt.", ""
	case client.KindRateLimited:
		return "too many requests",
			"The server, or a gateway in front of it, limits how often it may be called, and kept refusing. Wait and try again, or lower the load with -parallelism. " +
				"Signing in is limited to 3 attempts in 10 seconds for each client address: with several provider blocks or pipelines at a time, use session_token.", ""
	case client.KindServer:
		return "the server failed",
			"The server answered with an error of its own. Its text is left out, because it can carry stored values; the request ID finds it in the server's log.", ""
	case client.KindNetwork:
		return "the server cannot be reached",
			"There was no answer. Check endpoint (" + envEndpoint + "), the network, a proxy (HTTPS_PROXY), and for an own certificate authority ca_cert_pem (" + envCACertPEM + ").", ""
	case client.KindProtocol:
		return "this is not the API of Sim",
			"The answer is not one that this API gives. Check that endpoint (" + envEndpoint + ") is the base URL of Sim, without /api, and that no gateway or login page is in between (headers).", ""
	case client.KindRedirect:
		return "the endpoint redirects",
			"The provider does not follow redirects, so that no secret goes to another place than the one that is configured. Set endpoint (" + envEndpoint + ") to where it redirects to, if that is right.", ""
	case client.KindSignIn:
		return "the sign-in was refused",
			"Sim does not accept email (" + envEmail + ") and password (" + envPassword + "), or does not let this user sign in with them, as with single sign-on. Correct them, or use session_token (" + envSessionToken + ").", ""
	case client.KindAmbiguous:
		return "it is not known whether it was stored",
			"The connection broke while the key was being added, and it cannot be told whether the API has stored it. It was not sent again, so that it is not stored twice. " +
				"Look at the keys of the pool: import the key if it is there, otherwise apply again." + candidates(e), ""
	case client.KindCanceled:
		return "interrupted",
			"Time ran out, or Terraform was interrupted. The timeouts block sets how long an operation may take.", ""
	}
	return "request failed", "The request failed.", ""
}

func candidates(e *client.Error) string {
	if len(e.Candidates) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\nKeys that may be the one, as import IDs:\n")
	for _, id := range e.Candidates {
		fmt.Fprintf(&b, "\n  %s/%s", e.Pool, id)
	}
	return b.String()
}

// facts is what helps to find the request in a log.
func facts(e *client.Error) string {
	var facts []string
	if e.Status != 0 {
		facts = append(facts, fmt.Sprintf("HTTP status %d", e.Status))
	}
	if e.RequestID != "" {
		facts = append(facts, "request ID "+e.RequestID)
	}
	if e.Attempts > 1 {
		facts = append(facts, fmt.Sprintf("%d attempts", e.Attempts))
	}
	line := strings.Join(facts, ", ")
	switch {
	case e.Detail == "" && line == "":
		return ""
	case e.Detail == "":
		return "(" + line + ")"
	case line == "":
		return "The answer: " + e.Detail
	}
	return "The answer: " + e.Detail + " (" + line + ")"
}

// refusedDiagnostic is a create that the API refused at the cap.
func refusedDiagnostic(ctx context.Context, w *operation, pool byok.Pool, err error) diag.Diagnostic {
	refused := &ledger.Refused{Pool: pool, Cap: w.cap, Expect: w.cap}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Cap > 0 {
		refused.Cap = e.Cap // the server's own answer rules
	}
	// What is stored helps the reader; without it the error stands all the same.
	if keys, err := w.client.List(ctx, pool.Scope); err == nil {
		for _, key := range keys {
			if key.ProviderID == pool.ProviderID {
				refused.Stored = append(refused.Stored, key)
			}
		}
	}
	return diag.NewAttributeErrorDiagnostic(path.Root("provider_id"), refused.Summary(), refused.Detail())
}

// verdictDiagnostics is what the ledger has to report. It points at
// provider_id, the attribute that puts a key into a pool.
func verdictDiagnostics(v ledger.Verdict, capCheck string) diag.Diagnostics {
	var diags diag.Diagnostics
	if v.Shared != nil {
		diags.AddAttributeError(path.Root("provider_id"), v.Shared.Summary(), v.Shared.Detail())
	}
	for _, over := range v.Over {
		if capCheck == capCheckWarning {
			diags.AddAttributeWarning(path.Root("provider_id"), over.Summary(), over.Detail())
			continue
		}
		diags.AddAttributeError(path.Root("provider_id"), over.Summary(), over.Detail())
	}
	if v.Unchecked != nil {
		diags.AddWarning(v.Unchecked.Summary(), v.Unchecked.Detail())
	}
	return diags
}

func missingSecretDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("api_key_wo"), "Missing API key",
		"The key is to be created, and a new key needs its secret: set api_key_wo (Terraform 1.11 and later, never stored) or api_key (stored in state).")
}

func missingWorkspaceDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("workspace_id"), "Missing workspace_id",
		"Set workspace_id here or in the provider block, or the environment variable "+envWorkspaceID+".")
}

func renameWithoutSecretDiagnostic(key keyRef) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("name"), "A rename needs the API key",
		fmt.Sprintf("The name of the %s is to change. The API takes a new name only together with the secret, and the configuration declares none. "+
			"Declare the secret, or leave the name as it is.", key))
}

func versionWithoutSecretDiagnostic() diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("api_key_wo_version"), "A new version needs the API key",
		"api_key_wo_version has changed, which asks for an upload of api_key_wo, but api_key_wo is not set. Set it, or leave the version as it is.")
}

// driftDiagnostics says what somebody else did to a key, and what becomes of
// it.
func driftDiagnostics(config, prior keyModel, p updatePlan) diag.Diagnostics {
	var diags diag.Diagnostics
	key, when := prior.ref(), readableTime(prior.UpdatedAt.ValueString())
	if p.drift.replaced {
		detail := fmt.Sprintf("Somebody replaced the secret or the name of the %s at %s, after Terraform's own last write. It now shows the masked key %s.\n\n",
			key, when, prior.MaskedKey.ValueString())
		if p.drift.renamedTo != nil {
			detail += fmt.Sprintf("Its name is now %q.\n\n", *p.drift.renamedTo)
		}
		switch {
		case config.OnRemoteChange.ValueString() == onRemoteChangeWarn && !p.upload:
			detail += `on_remote_change is "warn", so that this plan leaves it alone. To put the declared secret back, set it to "repair".`
		case config.secret().IsNull():
			detail += "The configuration declares no secret, so that this plan cannot put one back."
		default:
			detail += `This plan puts the declared secret and name back. To keep what is stored, cancel and set on_remote_change = "warn", or declare the new secret.`
		}
		diags.AddAttributeWarning(path.Root("masked_key"), "Key changed outside of Terraform", detail)
	}
	if p.drift.undecryptable && !p.upload {
		diags.AddAttributeWarning(path.Root("masked_key"), "Key cannot be decrypted by the server",
			fmt.Sprintf("Sim shows the %s as %s although nobody has changed it since %s: the server cannot decrypt it, and skips it in the rotation. "+
				"Often the server has been given another encryption key (ENCRYPTION_KEY). If that is not to be undone, upload the secret once more: "+
				"change api_key_wo_version, or run terraform apply -replace for this resource.", key, byok.MaskUnknown, when))
	}
	return diags
}

func deletedDiagnostic(key keyRef) diag.Diagnostic {
	return diag.NewWarningDiagnostic("Key deleted outside of Terraform",
		fmt.Sprintf("The %s does not exist any more. If it is still in the configuration, it is planned for creation.", key))
}

// incompleteDiagnostic is about an add that stored a key and then failed.
func incompleteDiagnostic(err error, key keyRef) diag.Diagnostic {
	detail := fmt.Sprintf("The %s is stored and in state, but what followed failed. The next plan reads its full record, and uploads the secret once more if it is in doubt.\n\n%v", key, err)
	var e *client.Error
	if errors.As(err, &e) {
		detail += candidates(e)
	}
	return diag.NewWarningDiagnostic("Key created, but not all is well", detail)
}

func unknownConfigurationDiagnostic(doing string) diag.Diagnostic {
	return diag.NewErrorDiagnostic("Provider configuration not known",
		"Cannot "+doing+": the configuration of the provider byok depends on a value that is not known yet. Create what it depends on first, with terraform apply -target, or use a value that is known at plan.")
}

// readableTime writes a time of the API for people; anything else as it is.
func readableTime(at string) string {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return at
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
