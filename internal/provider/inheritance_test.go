package provider

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

const (
	beginSummary = "The organization's keys step aside"
	endSummary   = "The last key of a pool is removed"
)

// Where a pool begins in a workspace that inherited it, and where it ends in one
// that has an organization, the plan says so once; what it asks for that is one
// request, and none where no pool begins or ends.
func TestInheritanceWarnings(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		// shared are the provider IDs that the organization has keys of.
		shared []string
		// alone: the workspace belongs to no organization.
		alone bool
		// old: the server has neither of the routes.
		old        bool
		deployment string
		before     declaredKeys
		after      declaredKeys
		// providerID is that of after; openai where empty.
		providerID string
		want       []string
		gets       int
	}{
		"begins":                            {shared: []string{"openai"}, after: twoKeys, want: []string{beginSummary}, gets: 3},
		"begins, nothing inherited":         {after: twoKeys, gets: 3},
		"begins, another pool is inherited": {shared: []string{"anthropic"}, after: twoKeys, gets: 3},
		"begins, no organization":           {shared: []string{"openai"}, alone: true, after: twoKeys, gets: 3},
		"begins, old server":                {shared: []string{"openai"}, old: true, after: twoKeys, gets: 3},
		"begins, self-hosted":               {shared: []string{"openai"}, deployment: deploymentSelfHosted, after: twoKeys, want: []string{"A self-hosted Sim does not use this key in workflows"}, gets: 2},
		"grows":                             {shared: []string{"openai"}, before: oneKey, after: twoKeys, gets: 2},
		"shrinks":                           {shared: []string{"openai"}, before: twoKeys, after: oneKey, gets: 2},
		"stays":                             {shared: []string{"openai"}, before: twoKeys, after: twoKeys, gets: 2},
		"ends":                              {before: twoKeys, want: []string{endSummary}, gets: 3},
		"ends, no organization":             {alone: true, before: twoKeys, gets: 3},
		"ends, old server":                  {old: true, before: twoKeys, gets: 3},
		"ends, self-hosted":                 {deployment: deploymentSelfHosted, before: twoKeys, gets: 2},
		"moves": {
			shared: []string{"anthropic"}, before: oneKey, after: oneKey, providerID: "anthropic",
			want: []string{endSummary, beginSummary}, gets: 3,
		},
		"moves, nothing inherited": {before: oneKey, after: oneKey, providerID: "anthropic", want: []string{endSummary}, gets: 4},
		"moves, no organization":   {alone: true, before: oneKey, after: oneKey, providerID: "anthropic", gets: 4},
	} {
		for _, form := range resourceForms {
			t.Run(title+"/"+form.typeName, func(t *testing.T) {
				t.Parallel()
				w := newScopeWorld(t, byok.Workspace, form)
				organizationID := w.server.NewOrganization(t)
				if !tc.alone {
					w.pool.Scope = byok.WorkspaceScope(w.server.NewNamedWorkspace(t, "Team", organizationID))
					w.settings["workspace_id"] = w.pool.Scope.ID
				}
				for _, providerID := range tc.shared {
					w.server.AddTo(t, byok.Pool{Scope: byok.OrganizationScope(organizationID), ProviderID: providerID}, secretC, "shared")
				}
				w.noDiscovery.Store(tc.old)
				w.apply(tc.before)
				if tc.deployment != "" {
					w.Config["deployment"] = tc.deployment
				}
				if tc.providerID != "" {
					w.settings["provider_id"] = tc.providerID
				}
				w.server.Reset()
				_, _, found, err := w.Plan(t.Context(), w.resources(tc.after))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, d := range found {
					got = append(got, withoutSubject(d.Summary))
					if d.Severity != tfprotov6.DiagnosticSeverityWarning || !strings.Contains(d.Detail, `"`+w.pool.Scope.ID+`"`) && tc.deployment == "" {
						t.Errorf("%v", d)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, tc.want) {
					t.Errorf("the plan says %q, want %q", got, tc.want)
				}
				w.sends(map[string]int{"GET": tc.gets})
				if after := w.applyWarnings(tc.after); len(after) != len(tc.want) {
					t.Errorf("the apply says more than its plan: %v", after)
				}
			})
		}
	}
}

// A pool begins in a workspace where another one ends: the warnings are exact,
// whichever comes first, and cost at most one request for the workspace and one
// for the list of workspaces.
func TestBeginAndEnd(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		shared []string
		alone  bool
		want   []string
	}{
		"both of the organization": {shared: []string{"anthropic", "openai"}, want: []string{endSummary, beginSummary}},
		"the one that begins":      {shared: []string{"anthropic"}, want: []string{endSummary, beginSummary}},
		"the one that ends":        {shared: []string{"openai"}, want: []string{endSummary}},
		"nothing is shared":        {want: []string{endSummary}},
		"no organization":          {alone: true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newScopeWorld(t, byok.Workspace, resourceForms[0])
			organizationID := w.server.NewOrganization(t)
			workspaceID := w.server.WorkspaceID
			if !tc.alone {
				workspaceID = w.server.NewNamedWorkspace(t, "Team", organizationID)
			}
			for _, providerID := range tc.shared {
				w.server.AddTo(t, byok.Pool{Scope: byok.OrganizationScope(organizationID), ProviderID: providerID}, secretC, "shared")
			}
			declare := func(providerID string) map[string]map[string]any {
				return map[string]map[string]any{keyTypeName + "." + providerID: {"workspace_id": workspaceID, "provider_id": providerID, "api_key_wo": secretA}}
			}
			if _, err := w.Apply(t.Context(), declare("openai")); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				w.server.Reset()
				_, _, found, err := w.Plan(t.Context(), declare("anthropic"))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, d := range found {
					got = append(got, withoutSubject(d.Summary))
				}
				slices.Sort(got)
				if !slices.Equal(got, tc.want) {
					t.Errorf("the plan says %q, want %q", got, tc.want)
				}
				for suffix, most := range map[string]int{"/inherited-status": 1, byok.WorkspacesPath: 1, "/byok-keys": 1} {
					if sent := w.server.Count(http.MethodGet, suffix); sent > most {
						t.Errorf("%d GET ...%s", sent, suffix)
					}
				}
			}
		})
	}
}

// The keys of a pool are all swapped for others: it does not end, in whichever
// order Terraform visits them.
func TestSwapIsNoEnd(t *testing.T) {
	t.Parallel()
	for _, form := range resourceForms {
		t.Run(form.typeName, func(t *testing.T) {
			t.Parallel()
			w := newScopeWorld(t, byok.Workspace, form)
			w.pool.Scope = byok.WorkspaceScope(w.server.NewNamedWorkspace(t, "Team", w.server.NewOrganization(t)))
			w.settings["workspace_id"] = w.pool.Scope.ID
			w.apply(oneKey)
			for range 5 {
				w.plans(declaredKeys{"z": declared("z", secretB)}, map[string]int{keyTypeName: 2, poolTypeName: 1}[form.typeName])
			}
		})
	}
}

func TestDeploymentOf(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://sim.ai": deploymentHosted, "https://www.sim.ai": deploymentHosted, "https://SIM.AI:443/": deploymentHosted,
		"http://localhost:3000": deploymentHosted, "http://127.0.0.1:8080": deploymentHosted, "http://[::1]:8080": deploymentHosted,
		"https://sim.example.com": deploymentSelfHosted, "https://notsim.ai": deploymentSelfHosted, "https://sim.ai.example.com": deploymentSelfHosted,
		"http://10.0.0.1": deploymentSelfHosted, "": deploymentSelfHosted, "%": deploymentSelfHosted,
	} {
		if got := deploymentOf(endpoint); got != want {
			t.Errorf("%q: %s, want %s", endpoint, got, want)
		}
	}
}

// A self-hosted deployment warns of keys that it does not use once for each
// provider ID and plan, and only where keys are stored.
func TestDeploymentWarnings(t *testing.T) {
	t.Parallel()
	declare := func(secret string) map[string]map[string]any {
		all := map[string]map[string]any{
			"byok_pool.serper": {"provider_id": "serper", "keys": map[string]any{"a": map[string]any{"api_key_wo": secret}, "b": map[string]any{"api_key_wo": secret}}},
		}
		for _, providerID := range []string{"openai", "anthropic", "mistral", "fireworks", "together", "baseten", "ollama-cloud", "cohere", "serper", "not-known-here"} {
			for _, label := range []string{"one", "two"} {
				all[providerID+"_"+label] = map[string]any{"provider_id": providerID, "api_key_wo": secret}
			}
		}
		return all
	}
	const summary = "A self-hosted Sim does not use this key in workflows"
	for deployment, want := range map[string][]string{
		deploymentSelfHosted: {"anthropic", "mistral", "openai", "serper"}, deploymentHosted: nil, "": nil,
	} {
		t.Run("deployment "+deployment, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			config := map[string]any{"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken}
			if deployment != "" {
				config["deployment"] = deployment
			}
			core := tfcore.New(t, func() tfprotov6.ProviderServer { return newServer(nil) }, config, 1)
			warned := func(declared map[string]map[string]any) (providerIDs []string) {
				t.Helper()
				_, _, found, err := core.Plan(t.Context(), declared)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range found {
					if withoutSubject(d.Summary) == summary {
						providerIDs = append(providerIDs, strings.Split(d.Summary, `"`)[1])
					}
				}
				slices.Sort(providerIDs)
				return providerIDs
			}
			known := declare(secretA)
			if got := warned(known); !slices.Equal(got, want) {
				t.Errorf("creates warn of %q, want %q", got, want)
			}
			for _, label := range []string{"one", "two"} { // the server would refuse it
				delete(known, "not-known-here_"+label)
			}
			if _, err := core.Apply(t.Context(), known); err != nil {
				t.Fatal(err)
			}
			if got := warned(known); len(got) > 0 {
				t.Errorf("a plan without changes warns of %q", got)
			}
			changed := declare(secretA)
			for _, label := range []string{"one", "two"} {
				delete(changed, "not-known-here_"+label)
				changed["openai_"+label]["api_key_wo"] = secretB
			}
			if deployment != deploymentSelfHosted {
				return
			}
			if got := warned(changed); !slices.Equal(got, []string{"openai"}) {
				t.Errorf("an update warns of %q", got)
			}
		})
	}
}

// A self-hosted Sim uses keys of workspaces for some provider IDs, and never keys of
// an organization.
func TestDeploymentDiagnostics(t *testing.T) {
	t.Parallel()
	workspace, organization := byok.WorkspaceScope("w"), byok.OrganizationScope("o")
	const never = "A self-hosted Sim never uses keys of an organization."
	for _, tc := range []struct {
		scope      byok.Scope
		providerID string
		want       string
	}{
		{workspace, "fireworks", ""},
		{workspace, "openai", "uses them only for embeddings"},
		{workspace, "serper", "its workflows do not use them"},
		{workspace, "not-known-here", ""},
		{organization, "fireworks", never},
		{organization, "openai", never},
		{organization, "not-known-here", never},
	} {
		pool := byok.Pool{Scope: tc.scope, ProviderID: tc.providerID}
		o := operation{deployment: deploymentSelfHosted}
		var got string
		for _, d := range o.deploymentDiagnostics(pool) {
			got += d.Detail()
		}
		if tc.want == "" != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", pool, got, tc.want)
		}
		if again := o.deploymentDiagnostics(pool); len(again) > 0 {
			t.Errorf("%s is warned of twice in a plan", pool)
		}
	}
}

// The table of provider IDs says of each what the code says: a self-hosted Sim
// uses its keys as a hosted one does, in part, or not.
func TestSelfHostedUses(t *testing.T) {
	t.Parallel()
	for id := range selfHostedUses {
		if !byok.IsKnownProviderID(id) {
			t.Errorf("%q is no provider ID", id)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "templates", "index.md.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range byok.ProviderIDs() {
		want := "no"
		if uses, some := selfHostedUses[id]; some {
			if want = "only " + uses; uses == "" {
				want = "yes"
			}
		}
		row := regexp.MustCompile("(?m)^\\| `" + id + "` \\|.*\\| ([^|]+) \\|$").FindSubmatch(page)
		if row == nil || string(row[1]) != want {
			t.Errorf("%s: the table says %q, the code %q", id, row, want)
		}
	}
}

// withoutDiscovery is a server that has no routes to discover workspaces and
// inherited provider IDs.
func withoutDiscovery(off *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if off.Load() && (r.URL.Path == byok.WorkspacesPath || strings.HasSuffix(r.URL.Path, "/inherited-status")) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<!DOCTYPE html>")
			return
		}
		next.ServeHTTP(w, r)
	})
}
