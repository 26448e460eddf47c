package provider

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

func TestPlanScope(t *testing.T) {
	t.Parallel()
	null, unknown := types.StringNull(), types.StringUnknown()
	id := types.StringValue
	for title, tc := range map[string]struct {
		config, prior scopeIDs
		defaultID     types.String
		want          scopeIDs
		known         bool
	}{
		"default":                         {scopeIDs{}, scopeIDs{}, id("d"), scopeIDs{id("d"), null}, true},
		"none":                            {scopeIDs{}, scopeIDs{}, null, scopeIDs{}, true},
		"configured":                      {scopeIDs{id("w"), null}, scopeIDs{}, id("d"), scopeIDs{id("w"), null}, true},
		"organization":                    {scopeIDs{null, id("o")}, scopeIDs{}, id("d"), scopeIDs{null, id("o")}, true},
		"unknown default keeps":           {scopeIDs{}, scopeIDs{id("w"), null}, unknown, scopeIDs{id("w"), null}, true},
		"no default keeps":                {scopeIDs{}, scopeIDs{id("w"), null}, null, scopeIDs{id("w"), null}, true},
		"another default moves":           {scopeIDs{}, scopeIDs{id("w"), null}, id("d"), scopeIDs{id("d"), null}, true},
		"out of an organization":          {scopeIDs{}, scopeIDs{null, id("o")}, id("d"), scopeIDs{id("d"), null}, true},
		"out of an organization, nowhere": {scopeIDs{}, scopeIDs{null, id("o")}, null, scopeIDs{}, true},
		"unknown organization":            {scopeIDs{null, unknown}, scopeIDs{}, id("d"), scopeIDs{unknown, unknown}, false},
		"unknown workspace":               {scopeIDs{unknown, null}, scopeIDs{}, id("d"), scopeIDs{unknown, null}, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			got := planScope(tc.config, tc.prior, tc.defaultID)
			if _, known := got.scope(); got != tc.want || known != tc.known {
				t.Errorf("%v, known %v; want %v, %v", got, known, tc.want, tc.known)
			}
		})
	}
}

// scopeCase is a test of byok_key that runs once per kind of scope. config
// completes a configuration with the scope.
type scopeCase func(t *testing.T, s *acctest.Server, scope byok.Scope, config func(map[string]any) map[string]any)

var scopeCases = map[string]scopeCase{
	"lifecycle": func(t *testing.T, s *acctest.Server, scope byok.Scope, config func(map[string]any) map[string]any) {
		p := newProtocol(t, s)
		state, private, diags := p.apply(p.plan(nil, config(map[string]any{"provider_id": "openai", "name": "a", "api_key_wo": secretA}), nil))
		p.check(diags, nil)
		stored := s.ListIn(t, scope)
		if len(stored) != 1 || stored[0].ID != state["id"] || state["masked_key"] != byok.Mask(secretA) || state["updated_at"] != stored[0].UpdatedAt {
			t.Fatalf("stored %+v, state %v", stored, state)
		}
		// Nothing changes, then the secret does.
		p = newProtocol(t, s)
		same := p.plan(state, config(map[string]any{"provider_id": "openai", "name": "a", "api_key_wo": secretA}), private)
		p.check(same.resp.Diagnostics, nil)
		if diff := cmp.Diff(state, p.attributes(p.resource, same.resp.PlannedState)); diff != "" {
			t.Errorf("the plan is not empty: %s", diff)
		}
		update := p.plan(state, config(map[string]any{"provider_id": "openai", "name": "b", "api_key_wo": secretB}), private)
		p.check(update.resp.Diagnostics, nil)
		state, private, diags = p.apply(update)
		p.check(diags, nil)
		if stored = s.ListIn(t, scope); stored[0].MaskedKey != byok.Mask(secretB) || *stored[0].Name != "b" || state["id"] != stored[0].ID {
			t.Errorf("stored %+v, state %v", stored, state)
		}
		deleted, _, diags := p.apply(p.plan(state, nil, private))
		if p.check(diags, nil); deleted != nil || len(s.ListIn(t, scope)) > 0 {
			t.Errorf("the key is left: %v", deleted)
		}
	},
	"drift": func(t *testing.T, s *acctest.Server, scope byok.Scope, config func(map[string]any) map[string]any) {
		p := newProtocol(t, s)
		declared := config(map[string]any{"provider_id": "openai", "api_key_wo": secretA})
		plan := p.plan(nil, declared, nil)
		state, private, diags := p.apply(plan)
		p.check(diags, nil)
		pool := byok.Pool{Scope: scope, ProviderID: "openai"}
		s.ReplaceIn(t, pool, state["id"].(string), secretB, nil)

		p = newProtocol(t, s)
		read := p.read(p.value(p.resource, state), private, nil)
		repair := p.plan(p.attributes(p.resource, read.NewState), declared, read.Private)
		if len(repair.resp.Diagnostics) != 1 || repair.resp.Diagnostics[0].Summary != "Key changed outside of Terraform" {
			t.Errorf("%v", repair.resp.Diagnostics)
		}
		state, private, diags = p.apply(repair)
		p.check(diags, nil)
		if got := s.ListIn(t, scope)[0].MaskedKey; got != byok.Mask(secretA) {
			t.Errorf("the secret is not restored: %s", got)
		}
		s.DeleteFrom(t, pool, state["id"].(string))
		p = newProtocol(t, s)
		if read := p.read(p.value(p.resource, state), private, nil); p.attributes(p.resource, read.NewState) != nil {
			t.Error("a deleted key is still in state")
		}
	},
	"import": func(t *testing.T, s *acctest.Server, scope byok.Scope, _ func(map[string]any) map[string]any) {
		id := s.AddTo(t, byok.Pool{Scope: scope, ProviderID: "openai"}, secretA, "prod")
		identity := map[string]any{"workspace_id": nil, "organization_id": nil, "id": id}
		identity[idAttribute(scope)] = scope.ID
		p := newProtocol(t, s)
		for form, req := range map[string]*tfprotov6.ImportResourceStateRequest{
			"ID":       {ID: byok.Pool{Scope: scope, ProviderID: "openai"}.String() + "/" + id},
			"identity": {Identity: &tfprotov6.ResourceIdentityData{IdentityData: p.value(p.identity, identity)}},
		} {
			req.TypeName = keyTypeName
			resp, err := p.server.ImportResourceState(t.Context(), req)
			p.check(resp.Diagnostics, err)
			imported := resp.ImportedResources[0]
			read := p.read(imported.State, imported.Private, imported.Identity)
			state := p.attributes(p.resource, read.NewState)
			if state[idAttribute(scope)] != scope.ID || state["name"] != "prod" || state["masked_key"] != byok.Mask(secretA) {
				t.Errorf("%s: %v", form, state)
			}
			if diff := cmp.Diff(identity, p.attributes(p.identity, read.NewIdentity.IdentityData)); diff != "" {
				t.Errorf("%s: identity: %s", form, diff)
			}
		}
	},
	"cap": func(t *testing.T, s *acctest.Server, scope byok.Scope, config func(map[string]any) map[string]any) {
		for range byok.Cap {
			s.AddTo(t, byok.Pool{Scope: scope, ProviderID: "openai"}, secretA, "")
		}
		p := newProtocol(t, s)
		plan := p.plan(nil, config(map[string]any{"provider_id": "openai", "api_key_wo": secretA}), nil)
		if len(plan.resp.Diagnostics) != 1 || plan.resp.Diagnostics[0].Summary != `Pool "openai" would hold 11 keys, its cap is 10` ||
			!strings.Contains(plan.resp.Diagnostics[0].Detail, scope.ID) {
			t.Errorf("%v", tfcore.Diagnostics(plan.resp.Diagnostics))
		}
	},
}

// The cases of byok_key run once per kind of scope, each.
func TestScopes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ran := map[string]int{}
	t.Run("cases", func(t *testing.T) {
		for title, run := range scopeCases {
			for kind := range scopeKinds {
				kind := byok.ScopeKind(kind)
				t.Run(title+"/"+kind.String(), func(t *testing.T) {
					t.Parallel()
					s := acctest.Start(t, acctest.Hosted())
					scope := map[byok.ScopeKind]byok.Scope{
						byok.Workspace:    byok.WorkspaceScope(s.NewWorkspace(t)),
						byok.Organization: byok.OrganizationScope(s.NewOrganization(t)),
					}[kind]
					run(t, s, scope, func(attributes map[string]any) map[string]any {
						attributes[idAttribute(scope)] = scope.ID
						return attributes
					})
					mu.Lock()
					defer mu.Unlock()
					ran[title+"/"+kind.String()]++
				})
			}
		}
	})
	for title := range scopeCases {
		for _, kind := range []string{"workspace", "organization"} {
			if n := ran[title+"/"+kind]; n != 1 && !t.Failed() {
				t.Errorf("%s ran %d times for a %s, want once", title, n, kind)
			}
		}
	}
}

// Without entitlement, a plan of a create or of an update fails with the
// reason; reading, planning nothing, and deleting go on.
func TestEntitlementLapses(t *testing.T) {
	t.Parallel()
	database := "sqlite:" + filepath.Join(t.TempDir(), "byok.db")
	var entitled sync.Map
	entitled.Store("yes", true)
	lapse := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if yes, _ := entitled.Load("yes"); yes == true || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, keysPath) {
				next.ServeHTTP(w, r)
				return
			}
			r.Header.Del("Accept-Encoding")
			next.ServeHTTP(&replacingWriter{w, `"entitled":true`, `"entitled":false`}, r)
		})
	}
	s := acctest.Start(t, acctest.Hosted(), acctest.WithDatabase(database), acctest.WithMiddleware(lapse))
	organizationID := s.NewOrganization(t)
	config := func(secret string) map[string]any {
		return map[string]any{"organization_id": organizationID, "provider_id": "openai", "api_key_wo": secret}
	}
	p := newProtocol(t, s)
	state, private, diags := p.apply(p.plan(nil, config(secretA), nil))
	p.check(diags, nil)
	entitled.Store("yes", false)

	p = newProtocol(t, s)
	read := p.read(p.value(p.resource, state), private, nil)
	same := p.plan(state, config(secretA), read.Private)
	p.check(same.resp.Diagnostics, nil)
	for title, plan := range map[string]planned{
		"create": p.plan(nil, config(secretB), nil), "update": p.plan(state, config(secretB), read.Private),
	} {
		found := plan.resp.Diagnostics
		if len(found) != 1 || found[0].Severity != tfprotov6.DiagnosticSeverityError || found[0].Summary != "Cannot store key: the organization has no active plan" {
			t.Errorf("%s: %v", title, tfcore.Diagnostics(found))
		}
	}
	deleted, _, diags := p.apply(p.plan(state, nil, read.Private))
	if p.check(diags, nil); deleted != nil {
		t.Errorf("left: %v", deleted)
	}
}

// replacingWriter replaces text in what is written at once.
type replacingWriter struct {
	http.ResponseWriter
	from, to string
}

func (w *replacingWriter) Write(b []byte) (int, error) {
	_, err := w.ResponseWriter.Write([]byte(strings.ReplaceAll(string(b), w.from, w.to)))
	return len(b), err
}

// The three reasons why an organization cannot be used are told apart.
func TestOrganizationErrors(t *testing.T) {
	t.Parallel()
	noRoutes := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/organizations/") {
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, "<!DOCTYPE html>")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	for title, tc := range map[string]struct {
		role string
		old  bool
		want string
	}{
		"not a member": {"", false, "not a member of the organization"},
		"no role":      {"member", false, "not an admin of the organization"},
		"no routes":    {"owner", true, "the server has no keys of organizations"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			options := []acctest.Option{acctest.Hosted()}
			if tc.old {
				options = append(options, acctest.WithMiddleware(noRoutes))
			}
			s := acctest.Start(t, options...)
			organizationID := s.NewOrganization(t)
			user := s.NewUser(t, "")
			if tc.role != "" {
				s.PutMember(t, organizationID, user.Email, tc.role)
			}
			s.SessionToken = user.SessionToken
			p := newProtocol(t, s)
			plan := p.plan(nil, map[string]any{"organization_id": organizationID, "provider_id": "openai", "api_key_wo": secretA}, nil)
			if found := plan.resp.Diagnostics; len(found) != 1 || found[0].Summary != "Cannot plan keys: "+tc.want {
				t.Errorf("%v, want %q", tfcore.Diagnostics(found), tc.want)
			}
		})
	}
}

// workspace_id and organization_id exclude each other, and a key moves from one
// to the other by a replace.
func TestScopeIsExclusiveAndReplaces(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted())
	organizationID := s.NewOrganization(t)
	p := newProtocol(t, s)
	both := map[string]any{"workspace_id": s.WorkspaceID, "organization_id": organizationID, "provider_id": "openai", "api_key_wo": secretA}
	resp, err := p.server.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{
		TypeName: keyTypeName, Config: p.value(p.resource, both),
		ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
	})
	if err != nil || len(resp.Diagnostics) != 1 || resp.Diagnostics[0].Severity != tfprotov6.DiagnosticSeverityError {
		t.Errorf("%v, %v", resp.Diagnostics, err)
	}
	here := map[string]any{"provider_id": "openai", "api_key_wo": secretA}
	there := map[string]any{"organization_id": organizationID, "provider_id": "openai", "api_key_wo": secretA}
	state, private, diags := p.apply(p.plan(nil, here, nil))
	p.check(diags, nil)
	p = newProtocol(t, s)
	moved := p.plan(state, there, private)
	if p.check(moved.resp.Diagnostics, nil); len(moved.resp.RequiresReplace) != 2 {
		t.Errorf("replaced by %v", moved.resp.RequiresReplace)
	}
	if planned := p.attributes(p.resource, moved.resp.PlannedState); planned["workspace_id"] != nil || planned["organization_id"] != organizationID {
		t.Errorf("planned %v", planned)
	}
}
