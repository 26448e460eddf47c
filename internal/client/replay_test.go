package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/figures"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

// replayed are the groups of the transcripts that a client has to do with.
var replayed = []string{
	"get", "post-add", "mask", "apikey", "body", "perm", "update", "cap", "delete", "method", "archived", "concurrent",
	"auth", "auth-https", "auth-disabled", "org", "org-hosted",
}

// notReplayed are the exchanges of these groups whose response no call of the
// client can get, and why.
var notReplayed = map[string]string{
	"signup": signUpRoute, "signup-existing": signUpRoute, "signup-short-password": signUpRoute, "https-signup": signUpRoute,
	"get-session": sessionRoute, "get-session-anonymous": sessionRoute, "noauth-get-session": sessionRoute,
	"signout-no-origin": sessionRoute, "signout-own-origin": sessionRoute,
}

const (
	signUpRoute  = "the client never signs up"
	sessionRoute = "the client neither asks for the session nor ends it"
)

var placeholder = regexp.MustCompile(`\{[A-Za-z][A-Za-z0-9_:-]*\}`)

// fill puts values in place of the placeholders of a recorded text.
func fillIn(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		switch name {
		case "{ts}":
			return "2026-01-02T03:04:05.000Z"
		case "{requestId}":
			return "1a2b3c4d"
		}
		return strings.Map(func(r rune) rune {
			if r == '{' || r == '}' || r == ':' {
				return '-'
			}
			return r
		}, name)
	})
}

// TestReplay feeds the recorded responses of the real server to the client and
// checks what it makes of them.
func TestReplay(t *testing.T) {
	t.Parallel()
	entries, err := transcripts.Baseline()
	if err != nil {
		t.Fatal(err)
	}
	total, done, skipped := 0, 0, map[string][]string{}
	for _, entry := range entries {
		if !slices.Contains(replayed, entry.Group) {
			continue
		}
		total++
		reason, ok := notReplayed[entry.ID]
		if !ok {
			reason = inapplicable(entry)
		}
		if reason != "" {
			skipped[reason] = append(skipped[reason], entry.ID)
			continue
		}
		done++
		t.Run(entry.Group+"/"+entry.ID, func(t *testing.T) {
			t.Parallel()
			replay(t, entry)
		})
	}
	figures.Report("replay against the client: %d of %d recorded exchanges", done, total)
	for reason, ids := range skipped {
		t.Logf("not replayed, %s: %s", reason, strings.Join(ids, " "))
	}
}

// inapplicable says why no call of the client can get the response of an entry,
// by the form of its request.
func inapplicable(entry transcripts.Entry) string {
	path, _, _ := strings.Cut(entry.Request.Path, "?")
	switch {
	case path == signInPath && entry.Request.Method == http.MethodPost:
	case !strings.HasPrefix(path, "/api/workspaces/") && !strings.HasPrefix(path, "/api/organizations/") || !strings.HasSuffix(path, "/byok-keys") || strings.Contains(path, "//"):
		return "the client never asks for this path"
	case !slices.Contains([]string{"GET", "POST", "DELETE"}, entry.Request.Method):
		return "the client never uses this method"
	}
	if text, err := entry.Response.Text(); err != nil || entry.Response.Status == 0 || strings.HasPrefix(text, "(") || strings.Contains(text, "[10 entries]") || strings.Contains(text, "{...}") {
		return "the recording summarises the response"
	}
	return ""
}

func replay(t *testing.T, entry transcripts.Entry) {
	status := entry.Response.Status
	recorded, err := entry.Response.Text()
	if err != nil {
		t.Fatal(err)
	}
	recorded = fillIn(recorded)
	var sent struct {
		ProviderID any `json:"providerId"`
		KeyID      any `json:"keyId"`
	}
	if body, err := entry.Request.Bytes(); err == nil {
		_ = json.Unmarshal([]byte(fillIn(string(body))), &sent)
	}
	var said struct {
		Success  bool       `json:"success"`
		Keys     []byok.Key `json:"keys"`
		Entitled *bool      `json:"entitled"`
		Key      byok.Key   `json:"key"`
		Error    string     `json:"error"`
		Code     string     `json:"code"`
		Details  []struct {
			Message string `json:"message"`
		} `json:"details"`
	}
	_ = json.Unmarshal([]byte(recorded), &said)
	providerID, _ := sent.ProviderID.(string)
	if !isID(providerID) {
		providerID = "openai"
	}
	keyID, _ := sent.KeyID.(string)
	isReplace := keyID != ""
	if !isID(keyID) {
		keyID = "some-key"
	}
	signIn := strings.HasPrefix(entry.Request.Path, signInPath)
	scope := w1
	if strings.HasPrefix(entry.Request.Path, "/api/organizations/") {
		scope = byok.OrganizationScope("o1")
	}
	pool := byok.Pool{Scope: scope, ProviderID: providerID}
	edit := func(c *Config) {
		c.MaxRetries = 0
		if signIn {
			byPassword(c)
		}
	}
	play(t, edit, func(s *scene) {
		var headers []string
		for name, value := range entry.Response.Headers {
			var text string
			if json.Unmarshal(value, &text) == nil && name != "transfer-encoding" && name != "content-length" && name != "content-encoding" {
				headers = append(headers, name+": "+fillIn(text))
			}
		}
		for _, cookie := range entry.Response.SetCookie {
			headers = append(headers, "Set-Cookie: "+strings.Replace(cookie, "<value>", "tok.c2ln%3D", 1))
		}
		op := map[string]Op{"GET": OpList, "POST": OpAdd, "DELETE": OpDelete}[entry.Request.Method]
		asked := 0 // the request that gets the recorded response
		if op == OpAdd && !signIn && !isReplace {
			asked = 1 // an add looks first what is there
		}
		s.model.script = func(n int, r *http.Request, _ []byte) act {
			switch {
			case r.URL.Path == sessionPath && !signIn:
				return respond(404, "") // a 401 of a list alone has two causes
			case n == asked:
				return respond(status, recorded, headers...)
			case n < asked, signIn, said.Key.ID == "":
				return respond(200, `{"keys":[]}`)
			}
			// the list that an add or a replace reads back
			key := said.Key
			key.CreatedAt, key.UpdatedAt = "2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05.000Z"
			return respond(200, mustJSON(byok.ListResponse{Keys: []byok.Key{key}}))
		}

		var got byok.Key
		var keys []byok.Key
		var err error
		switch {
		case signIn:
			op = OpSignIn
			_, err = s.client.List(s.ctx, w1)
		case op == OpList:
			keys, err = s.client.List(s.ctx, scope)
		case op == OpDelete:
			err = s.client.Delete(s.ctx, pool, keyID)
		case isReplace:
			op = OpReplace
			got, err = s.client.Replace(s.ctx, pool, ReplaceInput{KeyID: keyID, APIKey: canary})
		default:
			got, err = s.client.Add(s.ctx, pool, AddInput{APIKey: canary})
		}

		if status == 200 {
			switch {
			case err != nil:
				s.Fatalf("%s: %v", recorded, err)
			case op == OpList && fmt.Sprint(mustJSON(keys)) != mustJSON(said.Keys):
				s.Errorf("got %s, want %s", mustJSON(keys), mustJSON(said.Keys))
			case op == OpList:
				if entitled, err := s.client.Entitled(s.ctx, scope); err != nil || entitled != (said.Entitled == nil || *said.Entitled) {
					s.Errorf("entitled %t, %v; want as in %s", entitled, err, recorded)
				}
			case (op == OpAdd || op == OpReplace) && (got.ID != said.Key.ID || got.MaskedKey != said.Key.MaskedKey || mustJSON(got.Name) != mustJSON(said.Key.Name)):
				s.Errorf("got %s, want %s", mustJSON(got), recorded)
			}
			return
		}
		want := wantedKind(op, status, said.Error)
		e := s.wantKind(err, want)
		if e.Op != op || e.Status != status || (e.RequestID != "") != strings.Contains(strings.Join(headers, "\n"), "x-request-id") {
			s.Errorf("%+v for %d %v", e, status, headers)
		}
		for _, issue := range said.Details {
			if !strings.Contains(e.Detail, issue.Message) && !strings.HasPrefix(issue.Message, "Invalid option") {
				s.Errorf("the detail %q does not say %q", e.Detail, issue.Message)
			}
		}
		if op == OpSignIn && want == KindSignIn && said.Code != "" && e.Detail != knownSignInTexts[said.Code] && said.Code != "BAD_REQUEST" && status != 415 {
			s.Errorf("detail %q for code %s", e.Detail, said.Code)
		}
		if status >= 500 && (strings.Contains(e.Error(), "Failed query") || strings.Contains(e.Error(), "params")) {
			s.Errorf("a server's own words are shown: %v", e)
		}
	})
}

// wantedKind is WIRE.md sections 2 to 6 once more, in the words of a test.
func wantedKind(op Op, status int, said string) Kind {
	switch {
	case status == 429:
		return KindRateLimited
	case status >= 500:
		return KindServer
	case status >= 300 && status < 400:
		return KindRedirect
	case op == OpSignIn:
		return KindSignIn
	case status == 401:
		return KindUnauthorized
	case said == "Not a member of the requested organization":
		return KindNotMember
	case said == "Organization admin or owner role required":
		return KindRoleRequired
	case said == "An active organization plan is required for organization BYOK":
		return KindNotEntitled
	case status == 403:
		return KindForbidden
	case said == "Workspace not found":
		return KindWorkspaceNotFound
	case said == "BYOK key not found":
		return KindKeyNotFound
	case said == "A workspace can store at most 10 keys per provider", said == "An organization can store at most 10 keys per provider":
		return KindCapReached
	}
	return KindInvalid
}
