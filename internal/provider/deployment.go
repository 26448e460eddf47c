package provider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The values of deployment. It decides which stored keys Sim uses; no route says
// which of the two a server is.
const (
	deploymentHosted     = "hosted"
	deploymentSelfHosted = "self_hosted"
)

// deploymentOf is the default of deployment: hosted for the hosts of sim.ai, as
// Sim itself decides, and for a server on loopback, which is there to try things
// out.
func deploymentOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return deploymentSelfHosted
	}
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	if host == "sim.ai" || strings.HasSuffix(host, ".sim.ai") || host == "localhost" || err == nil && ip.IsLoopback() {
		return deploymentHosted
	}
	return deploymentSelfHosted
}

// selfHostedUses says what a self-hosted Sim uses stored keys for, by provider
// ID: "" for all that a hosted one does. It uses no others of the provider IDs
// that are known. The workspaces guide has the same table.
var selfHostedUses = map[string]string{
	"fireworks":    "",
	"together":     "",
	"baseten":      "",
	"ollama-cloud": "",
	"cohere":       "", // embeddings and reranking
	"openai":       "embeddings, text that Sim writes in the editor, and the sandbox modes of the Pi block",
	"google":       "embeddings and the sandbox modes of the Pi block",
	"mistral":      "embeddings, text recognition in documents (OCR), and the sandbox modes of the Pi block",
	"anthropic":    piModes,
	"zai":          piModes,
	"kimi":         piModes,
	"xai":          piModes,
}

const piModes = "the sandbox modes of the Pi block"

// deploymentDiagnostics warns of a key that a self-hosted Sim stores, but does
// not use as a hosted one does: once for each provider ID, kind of scope and plan.
func (o *operation) deploymentDiagnostics(pool byok.Pool) (diags diag.Diagnostics) {
	const summary = "A self-hosted Sim does not use this key in workflows"
	uses, some := selfHostedUses[pool.ProviderID]
	isUsed := some && uses == "" || !byok.IsKnownProviderID(pool.ProviderID)
	never := scopeKinds[pool.Scope.Kind].selfHosted
	if o.deployment != deploymentSelfHosted || isUsed && never == "" ||
		!o.notices.once(notice{summary, byok.Pool{Scope: byok.Scope{Kind: pool.Scope.Kind}, ProviderID: pool.ProviderID}}) {
		return nil
	}
	detail := fmt.Sprintf("A self-hosted Sim stores keys of provider ID %q, but its workflows do not use them.", pool.ProviderID)
	if some {
		detail = fmt.Sprintf("A self-hosted Sim stores keys of provider ID %q, but uses them only for %s. The models of workflows need a key in the block.", pool.ProviderID, uses)
	}
	if never != "" {
		detail = never
	}
	diags.AddAttributeWarning(path.Root("provider_id"), about(summary, strconv.Quote(pool.ProviderID)), detail+
		"\n\nThe endpoint counts as self-hosted because its host is not one of sim.ai, or because deployment ("+envDeployment+`) says so. If it is a hosted Sim, set deployment = "hosted" in the provider block.`)
	return diags
}
