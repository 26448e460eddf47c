package provider

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

const (
	unconfirmedSummary = "Earlier upload not confirmed"
	changedSummary     = "Key changed outside of Terraform"
)

// losesResponses is a server that stores keys, but while lost is set cuts the
// connection in place of the response.
func losesResponses(t *testing.T) (s *acctest.Server, lost *atomic.Bool) {
	t.Helper()
	lost = &atomic.Bool{}
	s = acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, keysPath) || !lost.Load() {
				next.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(discard{}, r)
			panic(http.ErrAbortHandler)
		})
	}))
	return s, lost
}

// discard is a response that the client never gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// newUnrepeated is a provider that sends each request once.
func newUnrepeated(t *testing.T, s *acctest.Server) *protocol {
	t.Helper()
	return newProtocolTo(t, s, newProtocolServer(&byokProvider{
		version: "test", getenv: func(string) string { return "" },
		edits: []func(*client.Config){func(c *client.Config) { c.MaxRetries = 0 }},
	}))
}

// The response to an update is lost: the server serves the new secret while
// state shows the old one. The next plan uploads what is declared by then, also
// if that is what state shows, and reports no change by another user.
func TestProtocolUnconfirmedUpdate(t *testing.T) {
	t.Parallel()
	const theSame, theOld, none = "the same", "the old one", "none"
	type secretBy = func(config map[string]any, secret string)
	for title, set := range map[string]secretBy{
		"api_key":    func(config map[string]any, secret string) { config["api_key"] = secret },
		"write-only": func(config map[string]any, secret string) { config["api_key_wo"] = secret },
		"version": func(config map[string]any, secret string) {
			config["api_key_wo"], config["api_key_wo_version"] = secret, map[string]int{secretA: 1, secretB: 2}[secret]
		},
	} {
		for _, onRemoteChange := range []string{onRemoteChangeRepair, onRemoteChangeWarn} {
			for _, then := range []string{theSame, theOld, none} {
				t.Run(title+"/"+onRemoteChange+"/"+then, func(t *testing.T) {
					t.Parallel()
					s, lost := losesResponses(t)
					config := func(secret, name string) map[string]any {
						all := map[string]any{"provider_id": "openai", "on_remote_change": onRemoteChange, "name": name}
						set(all, secret)
						return all
					}
					p := newUnrepeated(t, s)
					state, private, diags := p.apply(p.plan(nil, config(secretA, "old"), nil))
					p.check(diags, nil)

					update := p.plan(state, config(secretB, "new"), private)
					p.check(update.resp.Diagnostics, nil)
					lost.Store(true)
					after, private, diags := p.apply(update)
					lost.Store(false)
					if len(diags) != 1 || diags[0].Severity != tfprotov6.DiagnosticSeverityError || !strings.Contains(diags[0].Detail, "The server may have stored the new secret and name all the same.") {
						t.Fatalf("%v", diags)
					}
					if diff := cmp.Diff(state, after); diff != "" {
						t.Errorf("state has changed: %s", diff)
					}
					expectServed(t, s, "openai", secretB)

					declared, wants := config(secretB, "new"), secretB
					switch then {
					case theOld:
						declared, wants = config(secretA, "old"), secretA
					case none:
						declared = map[string]any{"provider_id": "openai", "on_remote_change": onRemoteChange, "name": "new", "api_key_wo_version": state["api_key_wo_version"]}
					}
					p = newUnrepeated(t, s)
					read := p.read(p.value(p.resource, after), private, nil)
					if len(read.Diagnostics) > 0 {
						t.Errorf("the read says %v", shortForms(read.Diagnostics))
					}
					state, private = p.attributes(p.resource, read.NewState), read.Private
					plan := p.plan(state, declared, private)
					if got := shortForms(plan.resp.Diagnostics); !slices.Equal(got, []string{"WARNING " + unconfirmedSummary}) {
						t.Fatalf("the plan says %v", got)
					}
					if uploads := p.attributes(p.resource, plan.resp.PlannedState)["updated_at"] == "(unknown)"; uploads != (then != none) {
						t.Fatalf("the plan uploads: %v", uploads)
					}
					if then == none {
						return // and so it goes on until a secret is declared
					}
					state, private, diags = p.apply(plan)
					p.check(diags, nil)
					expectServed(t, s, "openai", wants)
					if name := *s.List(t, s.WorkspaceID)[0].Name; name != declared["name"] || state["name"] != name {
						t.Errorf("the name is %q, in state %q, want %q", name, state["name"], declared["name"])
					}

					p = newUnrepeated(t, s)
					read = p.read(p.value(p.resource, state), private, nil)
					plan = p.plan(p.attributes(p.resource, read.NewState), declared, read.Private)
					if len(plan.resp.Diagnostics) > 0 || string(plan.resp.PlannedState.MsgPack) != string(read.NewState.MsgPack) {
						t.Errorf("it is not settled: %v", shortForms(plan.resp.Diagnostics))
					}
				})
			}
		}
	}
}

// An update that the API certainly did not store leaves nothing behind.
func TestProtocolRefusedUpdate(t *testing.T) {
	t.Parallel()
	refuse := &atomic.Bool{}
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && refuse.Load() {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(`{"error":"Only workspace admins can manage BYOK keys"}`))
				return
			}
			next.ServeHTTP(w, r)
		})
	}))
	p := newUnrepeated(t, s)
	config := func(secret string) map[string]any {
		return map[string]any{"provider_id": "openai", "api_key_wo": secret}
	}
	state, private, diags := p.apply(p.plan(nil, config(secretA), nil))
	p.check(diags, nil)
	update := p.plan(state, config(secretB), private)
	refuse.Store(true)
	state, private, diags = p.apply(update)
	if len(diags) != 1 || strings.Contains(diags[0].Detail, "may have stored") {
		t.Errorf("%v", diags)
	}
	p = newUnrepeated(t, s)
	plan := p.plan(state, config(secretA), private)
	if len(plan.resp.Diagnostics) > 0 || p.attributes(p.resource, plan.resp.PlannedState)["updated_at"] == "(unknown)" {
		t.Errorf("the plan uploads: %v", shortForms(plan.resp.Diagnostics))
	}
}

// Terraform keeps the private state of an update that failed.
func TestAccKeyUnconfirmedUpdate(t *testing.T) {
	t.Parallel()
	s, lost := losesResponses(t)
	config := func(secret string) string {
		return key(s, `provider_id = "openai"`, `on_remote_change = "warn"`, `api_key_wo = "`+secret+`"`)
	}
	tf := newTerraform(t, map[string]string{envMaxRetries: "0"}, config(secretA))
	tf.apply()
	tf.config(config(secretB))
	lost.Store(true)
	tf.fails([]string{"The server may have stored the new secret and name all the same."}, "apply", "-no-color", "-auto-approve")
	lost.Store(false)
	expectServed(t, s, "openai", secretB)

	tf.config(config(secretA)) // the new secret is given up
	_, text := tf.expect(update)
	if !strings.Contains(text, unconfirmedSummary) || strings.Contains(text, changedSummary) {
		t.Error(text)
	}
	tf.apply()
	expectServed(t, s, "openai", secretA)
	if _, text := tf.expect(nothing); strings.Contains(text, "Warning") {
		t.Error(text)
	}
}
