package provider

import (
	"net/http"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// A replacement deletes in one scope before it adds in another. Where the user
// could do the first and not the second, the plan fails, and nothing is lost.
func TestMoveWithoutPermission(t *testing.T) {
	t.Parallel()
	const refused = "Cannot move key: not an admin of the workspace"
	for title, tc := range map[string]struct {
		from byok.ScopeKind
		// source and destination are the permissions of the user who plans.
		source, destination string
		capCheck            string
		old                 bool // the server does not list workspaces
		want                []string
		lists               int
	}{
		"admin to reader":            {source: "admin", destination: "read", want: []string{refused}, lists: 1},
		"admin to writer":            {source: "admin", destination: "write", want: []string{refused}, lists: 1},
		"admin to admin":             {source: "admin", destination: "admin", lists: 1},
		"reader to reader":           {source: "read", destination: "read", lists: 1}, // an admin may apply the plan
		"organization to reader":     {from: byok.Organization, destination: "read", want: []string{refused}, lists: 1},
		"organization to admin":      {from: byok.Organization, destination: "admin", lists: 1},
		"admin to reader, old":       {source: "admin", destination: "read", old: true, lists: 0},
		"admin to reader, unchecked": {source: "admin", destination: "read", capCheck: capCheckOff},
	} {
		for _, form := range resourceForms {
			t.Run(title+"/"+form.typeName, func(t *testing.T) {
				t.Parallel()
				w := newScopeWorld(t, tc.from, form)
				w.apply(oneKey)
				to := w.newScope(byok.Workspace)
				user := w.server.NewUser(t, tc.destination, to.ID)
				if tc.from == byok.Organization {
					w.server.PutMember(t, w.pool.Scope.ID, user.Email, "admin")
				} else {
					w.server.PutPermission(t, w.pool.Scope.ID, user.Email, tc.source)
				}
				w.Config["session_token"] = user.SessionToken
				if tc.capCheck != "" {
					w.Config["cap_check"] = tc.capCheck
				}
				w.noDiscovery.Store(tc.old)
				w.settings = map[string]any{"workspace_id": to.ID, "provider_id": "openai"}
				w.server.Reset()
				changes := 1
				if len(tc.want) > 0 {
					changes = 0
				}
				found := w.planDiagnostics(oneKey, changes, tc.want...)
				if len(tc.want) > 0 && (!strings.Contains(found.Error(), to.ID) || !strings.Contains(found.Error(), w.pool.Scope.ID) || !strings.Contains(found.Error(), tc.destination+" permission")) {
					t.Errorf("%v", found)
				}
				if sent := w.server.Count(http.MethodGet, byok.WorkspacesPath); !tc.old && sent != tc.lists {
					t.Errorf("%d lists of workspaces, want %d", sent, tc.lists)
				}
			})
		}
	}
}
