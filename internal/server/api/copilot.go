package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/singlekeys"
)

// The mothership's keys: /api/copilot/byok, for platform superusers. In the
// real product another service responds behind these routes; page and form of
// the responses are all that is known of it.

// copilotScope names these keys in the audit log.
const copilotScope keystore.Scope = "copilot"

// copilotProviders are the providers that the mothership uses.
var copilotProviders = []string{"openai", "anthropic"}

var errCrossOrigin = &failure{status: http.StatusForbidden, message: "Requests from other sites are refused"}

// authorizeSuperuser admits platform superusers alone. Other users get the
// response to a request without a session.
func (x *exchange) authorizeSuperuser() error {
	if err := x.SameOrigin.Check(x.Request); err != nil {
		return errCrossOrigin
	}
	if err := x.authenticate(); err != nil {
		return err
	}
	yes, err := x.Access.IsSuperuser(x.ctx(), x.actor.ID)
	if err == nil && !yes {
		err = errUnauthorized
	}
	return err
}

func listCopilotKeys(x *exchange) response {
	if err := x.authorizeSuperuser(); err != nil {
		return x.fail(err, copilotScope)
	}
	v := validation{body: x.query("workspaceId")}
	workspaceID := v.needed("workspaceId")
	v.refuseNUL("workspaceId")
	if f := v.failure(); f != nil {
		return f.response("")
	}
	records, err := x.Single.List(x.ctx(), workspaceID)
	if err != nil {
		return x.fail(err, copilotScope)
	}
	keys := []byte{'['}
	for i, r := range records {
		if i > 0 {
			keys = append(keys, ',')
		}
		keys = append(keys, new(object).string("provider", r.Provider).string("keyLastFour", x.lastFour(r)).string("createdBy", r.CreatedBy).
			string("createdAt", byok.FormatTime(r.CreatedAt)).string("updatedAt", byok.FormatTime(r.UpdatedAt)).end()...)
	}
	return ok(new(object).raw("keys", string(append(keys, ']'))).end())
}

// lastFour is the end of a key. Of one that is too short to show any of it, or
// that does not open, it shows nothing.
func (x *exchange) lastFour(r singlekeys.Record) string {
	const hidden = "••••"
	apiKey, err := x.Sealer.Open(r.Sealed)
	units := utf16.Encode([]rune(apiKey))
	if err != nil || len(units) <= 8 {
		return hidden
	}
	return string(utf16.Decode(units[len(units)-4:]))
}

func saveCopilotKey(x *exchange) response {
	if err := x.authorizeSuperuser(); err != nil {
		return x.fail(err, copilotScope)
	}
	body, err := x.body("workspaceId", "provider", "apiKey")
	if err != nil {
		return x.fail(err, copilotScope)
	}
	v := validation{body: body}
	if !v.isObject() {
		return v.failure().response("")
	}
	workspaceID, provider, apiKey := v.needed("workspaceId"), v.copilotProvider(), v.needed("apiKey")
	v.refuseNUL("workspaceId", "apiKey")
	if f := v.failure(); f != nil {
		return f.response("")
	}
	if err := x.MaySeal(x.writeCtx()); err != nil {
		return x.fail(err, copilotScope)
	}
	replaced, err := x.Single.Put(x.writeCtx(), workspaceID, provider, x.Sealer.Seal(apiKey), x.actor.ID)
	if err != nil {
		return x.fail(err, copilotScope)
	}
	action := "add"
	if replaced {
		action = "replace"
	}
	x.audit(action, copilotPool(workspaceID, provider))
	return ok(success)
}

func deleteCopilotKey(x *exchange) response {
	if err := x.authorizeSuperuser(); err != nil {
		return x.fail(err, copilotScope)
	}
	v := validation{body: x.query("workspaceId", "provider")}
	workspaceID, provider := v.needed("workspaceId"), v.copilotProvider()
	v.refuseNUL("workspaceId")
	if f := v.failure(); f != nil {
		return f.response("")
	}
	if err := x.Single.Delete(x.writeCtx(), workspaceID, provider); err != nil {
		return x.fail(err, copilotScope)
	}
	x.audit("delete", copilotPool(workspaceID, provider))
	return ok(success)
}

func copilotPool(workspaceID, provider string) keystore.Pool {
	return keystore.Pool{Owner: keystore.Owner{Scope: copilotScope, ID: workspaceID}, ProviderID: provider}
}

// query returns query parameters in the form of a body.
func (x *exchange) query(names ...string) value {
	v := value{kind: objectKind, fields: map[string]value{}}
	given := x.Request.URL.Query()
	for _, name := range names {
		if given.Has(name) {
			v.fields[name] = value{kind: stringKind, text: text(strings.ToValidUTF8(given.Get(name), "\uFFFD"))}
		}
	}
	return v
}

// needed reads a string that must be there and not be empty.
func (v *validation) needed(name string) string {
	if f := v.body.field(name); f.kind == undefinedKind {
		v.issues = append(v.issues, new(object).string("expected", "string").string("code", "invalid_type").raw("path", `["`+name+`"]`).
			string("message", name+" is required").end())
		return ""
	}
	return value{text: v.required(name, name+" is required")}.string()
}

func (v *validation) copilotProvider() string {
	before := len(v.issues)
	provider := v.needed("provider")
	if len(v.issues) == before && !slices.Contains(copilotProviders, provider) {
		values := strconv.Quote(copilotProviders[0]) + "," + strconv.Quote(copilotProviders[1])
		v.issues = append(v.issues, new(object).string("code", "invalid_value").raw("values", "["+values+"]").raw("path", `["provider"]`).
			string("message", `Invalid option: expected one of "openai"|"anthropic"`).end())
	}
	return provider
}

// newSameOrigin refuses what a page of another site sends. The public URL's own
// origin is trusted, whatever name a proxy calls this server by.
func newSameOrigin(origin string) *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	_ = p.AddTrustedOrigin(origin) // an origin that is none is not trusted
	return p
}
