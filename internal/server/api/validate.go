package api

import (
	"strconv"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// saveRequest is a valid POST: an add without keyID, a replace with it.
type saveRequest struct {
	providerID string
	// apiKey has lone surrogates yet: its mask is cut from the request's own units.
	apiKey text
	keyID  string
	// name is trimmed; nil when the request has none.
	name *text
}

// deleteRequest is a valid DELETE: of a pool without keyID.
type deleteRequest struct {
	providerID string
	keyID      string
}

// The fields that a POST and a DELETE read.
var (
	saveFields   = []string{"providerId", "apiKey", "keyId", "name"}
	deleteFields = []string{"providerId", "keyId"}
)

// readSave validates the body of a POST. WIRE.md section 5.
func readSave(body value) (saveRequest, *failure) {
	v := validation{body: body}
	if !v.isObject() {
		return saveRequest{}, v.failure()
	}
	var r saveRequest
	r.providerID = v.providerID()
	r.apiKey = v.required("apiKey", "API key is required")
	r.keyID = v.optional("keyId", "keyId cannot be empty")
	r.name = v.name()
	v.refuseNUL("apiKey", "keyId", "name")
	return r, v.failure()
}

// readDelete validates the body of a DELETE. WIRE.md section 6.
func readDelete(body value) (deleteRequest, *failure) {
	v := validation{body: body}
	if !v.isObject() {
		return deleteRequest{}, v.failure()
	}
	var r deleteRequest
	r.providerID = v.providerID()
	r.keyID = v.optional("keyId", "keyId cannot be empty")
	v.refuseNUL("keyId")
	return r, v.failure()
}

// validation collects the issues of one body, each a JSON object.
type validation struct {
	body   value
	issues [][]byte
}

func (v *validation) failure() *failure {
	if len(v.issues) == 0 {
		return nil
	}
	details := []byte{'['}
	for i, issue := range v.issues {
		if i > 0 {
			details = append(details, ',')
		}
		details = append(details, issue...)
	}
	return &failure{status: 400, message: "Validation error", details: string(append(details, ']'))}
}

func (v *validation) isObject() bool {
	if v.body.kind == objectKind {
		return true
	}
	v.wrongType("object", "[]", v.body.kind)
	return false
}

func (v *validation) wrongType(expected, path string, got kind) {
	v.issues = append(v.issues, new(object).string("expected", expected).string("code", "invalid_type").raw("path", path).
		string("message", "Invalid input: expected "+expected+", received "+string(got)).end())
}

func (v *validation) providerID() string {
	f := v.body.field("providerId")
	id := f.string()
	if f.kind == stringKind && byok.IsKnownProviderID(id) {
		return id
	}
	v.issues = append(v.issues, unknownProviderID())
	return ""
}

func unknownProviderID() []byte {
	var values, options []string
	for _, id := range byok.ProviderIDs() {
		quoted := strconv.Quote(id)
		values, options = append(values, quoted), append(options, quoted)
	}
	return new(object).string("code", "invalid_value").raw("values", "["+strings.Join(values, ",")+"]").raw("path", `["providerId"]`).
		string("message", "Invalid option: expected one of "+strings.Join(options, "|")).end()
}

// required reads a string of at least one unit.
func (v *validation) required(name, emptyMessage string) text {
	f := v.body.field(name)
	switch {
	case f.kind != stringKind:
		v.wrongType("string", `["`+name+`"]`, f.kind)
	case len(f.text) == 0:
		v.issues = append(v.issues, new(object).string("origin", "string").string("code", "too_small").raw("minimum", "1").
			raw("inclusive", "true").raw("path", `["`+name+`"]`).string("message", emptyMessage).end())
	}
	return f.text
}

// optional is required, but for an absent field.
func (v *validation) optional(name, emptyMessage string) string {
	if v.body.field(name).kind == undefinedKind {
		return ""
	}
	return v.required(name, emptyMessage).string()
}

func (v *validation) name() *text {
	f := v.body.field("name")
	if f.kind == undefinedKind {
		return nil
	}
	if f.kind != stringKind {
		v.wrongType("string", `["name"]`, f.kind)
		return nil
	}
	name := f.text.trim()
	if name.length() > byok.MaxNameLength {
		v.issues = append(v.issues, new(object).string("origin", "string").string("code", "too_big").
			raw("maximum", strconv.Itoa(byok.MaxNameLength)).raw("inclusive", "true").raw("path", `["name"]`).
			string("message", "Name must be "+strconv.Itoa(byok.MaxNameLength)+" characters or fewer").end())
	}
	return &name
}

// refuseNUL reports the first field that holds U+0000, once the rest is valid:
// PostgreSQL cannot store it.
func (v *validation) refuseNUL(names ...string) {
	if len(v.issues) > 0 {
		return
	}
	for _, name := range names {
		if strings.IndexByte(string(v.body.field(name).text), 0) >= 0 {
			v.issues = append(v.issues, new(object).string("code", "custom").raw("path", `["`+name+`"]`).
				string("message", "Value cannot contain a NUL character (U+0000)").end())
			return
		}
	}
}
