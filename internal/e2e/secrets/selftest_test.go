package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The hunt finds every canary in every encoding. What is planted is made by
// other means than the search: whole documents are encoded, not the secret.
func TestHuntFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	escaped := func(s string) string { // as an encoder does that leaves only letters and digits alone
		var b strings.Builder
		for _, c := range []byte(s) {
			if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("-_.~", rune(c)) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
		return b.String()
	}
	document := func(s string) []byte {
		text, err := json.Marshal(map[string]any{"providerId": "openai", "apiKey": s, "nested": []string{"x", s}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plants := map[string]func(s string) string{
		"plain":        func(s string) string { return "apiKey=" + s + " " },
		"JSON":         func(s string) string { return string(document(s)) },
		"JSON in JSON": func(s string) string { return string(document(string(document(s)))) },
		"Go":           func(s string) string { return fmt.Sprintf("%#v", struct{ APIKey string }{s}) },
		"Go in ASCII":  func(s string) string { return fmt.Sprintf("%+q", s) },
		"Go in Go":     func(s string) string { return fmt.Sprintf("msg=%q", "err="+s) },
		"URL query":    func(s string) string { return "/?" + url.Values{"key": {s}, "z": {"1"}}.Encode() },
		"URL path":     func(s string) string { return (&url.URL{Path: "/keys/" + url.PathEscape(s)}).Path },
		"percent":      func(s string) string { return "/?key=" + escaped(s) + "&z" },
		"hex":          func(s string) string { return hex.EncodeToString(document2(s)) },
		"HEX":          func(s string) string { return fmt.Sprintf("%X", document2(s)) },
		"bytes":        func(s string) string { return fmt.Sprintf("%v", document2(s)) },
		"cut":          func(s string) string { return "apiKey=" + s[len(s)/4:len(s)/4+len(s)*3/5] },
		"wrapped": func(s string) string {
			return "│ " + strings.ReplaceAll(s, "\n", "\n│ ")
		},
	}
	for offset := range 3 {
		before := strings.Repeat("x", offset)
		plants[fmt.Sprintf("base64 %d", offset)] = func(s string) string {
			return base64.StdEncoding.EncodeToString([]byte(before + s + "tail"))
		}
		plants[fmt.Sprintf("base64 URL %d", offset)] = func(s string) string {
			return base64.RawURLEncoding.EncodeToString([]byte(before + s + "tail"))
		}
	}
	h, planted := newHunt(), map[string]string{}
	for _, shape := range shapes {
		secret := h.canary(useWriteOnly, shape).value
		for name, plant := range plants {
			if shape == "short" && name == "cut" {
				continue // half of 8 characters can occur by chance
			}
			place := shape + ", " + name
			planted[place] = secret
			h.look(kindStdout, place, []byte(randomText(1000)+plant(secret)+randomText(1000)))
		}
	}
	hits, _ := h.search()
	for _, hit := range hits {
		if planted[hit.place.name] != hit.canary.value {
			t.Errorf("not planted there: %s", hit)
		}
	}
	for place, secret := range planted {
		if !slices.ContainsFunc(hits, func(hit hit) bool { return hit.place.name == place && hit.canary.value == secret }) {
			t.Errorf("%s: %q is not found", place, secret)
		}
	}
	t.Logf("planted %d, found %d times", len(planted), len(hits))
}

// A secret in a response of the server is found in everything that Terraform
// writes of the data source that reads it.
func TestHuntFindsWhatDataSourcesRead(t *testing.T) {
	t.Parallel()
	s := newStageWithoutReport(t)
	planted := map[string]canary{}
	for _, source := range []string{"byok_keys.workspace", "byok_keys.organization", "byok_workspaces", "byok_inherited_providers"} {
		planted[source] = s.canary(useForeign, "ascii")
	}
	for scope, source := range map[byok.Scope]string{
		byok.WorkspaceScope(s.server.WorkspaceID): "byok_keys.workspace", byok.OrganizationScope(s.organizationID): "byok_keys.organization",
	} {
		s.server.AddTo(t, byok.Pool{Scope: scope, ProviderID: "openai"}, "sk-not-looked-for-1", planted[source].value)
	}
	s.server.NewNamedWorkspace(t, planted["byok_workspaces"].value, "")
	s.faults.set(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if !strings.HasSuffix(r.URL.Path, "/inherited-status") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"inheritedProviderIds":[%q]}`, planted["byok_inherited_providers"].value)
		return true
	})
	s.configure("", 0)
	s.must("plan", "-no-color", "-out=read.tfplan")
	s.must("show", "-json", "read.tfplan")
	s.must("apply", "-no-color", "read.tfplan")
	hits, _ := s.search()
	for source, secret := range planted {
		for _, k := range []kind{kindPlan, kindPlanJSON, kindState, kindStdout} {
			if !slices.ContainsFunc(hits, func(h hit) bool {
				return h.canary.value == secret.value && h.place.kind == k && !allowed(h.canary, k)
			}) {
				t.Errorf("what %s reads is not found in %s", source, k)
			}
		}
	}
}

// document2 is a text around a secret that is not escaped.
func document2(s string) []byte { return []byte("{" + s + "}") }

// Each encoding that is searched for finds something: none is there for show.
func TestEveryEncodingIsFound(t *testing.T) {
	t.Parallel()
	c := newCanary(useWriteOnly, "quotes")
	c.value = c.value + "ключ"
	c.pieces = split(c.value)
	n := newNeedles([]canary{c})
	for _, e := range encodings {
		for i, text := range e.write(c.pieces[len(c.pieces)-1]) {
			hits := n.search(place{kindStdout, "planted", []byte(randomText(100) + text + randomText(100))})
			if !slices.ContainsFunc(hits, func(h hit) bool { return h.at <= 100 }) {
				t.Errorf("%s, form %d is not found: %q", e.name, i, text)
			}
		}
	}
}

// What is shown of secrets on purpose is no leak.
func TestMasksAreNoLeak(t *testing.T) {
	t.Parallel()
	h := newHunt()
	var b bytes.Buffer
	for _, shape := range shapes {
		masked, err := json.Marshal(byok.Mask(h.canary(useWriteOnly, shape).value))
		if err != nil {
			t.Fatal(err)
		}
		b.Write(masked)
	}
	b.WriteString(randomText(1 << 20))
	h.look(kindStdout, "masks", b.Bytes())
	hits, _ := h.search()
	for _, hit := range hits {
		t.Error(hit)
	}
}

// Where a canary may be found is a short list.
func TestAllowed(t *testing.T) {
	t.Parallel()
	kinds := []kind{kindState, kindPlan, kindPlanJSON, kindStdout, kindStderr, kindCoreLog, kindProviderLog, kindCrash, kindServerLog, kindAuditLog, kindDatabase, kindConfig, kindQuery}
	for use, want := range map[use][]kind{
		useAPIKey: {kindState, kindPlan, kindPlanJSON}, useBareSession: {kindDatabase},
		useWriteOnly: nil, usePassword: nil, useSession: nil, useHeader: nil, useForeign: nil,
	} {
		for _, k := range kinds {
			if got := allowed(canary{use: use}, k); got != slices.Contains(want, k) {
				t.Errorf("%s in %s: allowed %v", use, k, got)
			}
		}
	}
}
