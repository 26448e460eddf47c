package provider

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

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
