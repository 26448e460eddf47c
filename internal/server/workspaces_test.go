//go:build unix

package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

// notListed are the recorded fields of a workspace that have nothing to do with
// keys, which the reference server leaves out.
var notListed = []string{
	"color", "logoUrl", "workspaceMode", "billedAccountUserId", "storageUsedBytes", "allowPersonalApiKeys", "inboxEnabled", "inboxAddress",
	"inboxProviderId", "inboxSecretScope", "inboxMountedSecrets", "organizationAssignedAt", "forkedFromWorkspaceId", "inviteMembersEnabled",
	"inviteDisabledReason", "inviteUpgradeRequired",
}

// randomFields differ in each deployment. They are compared by their form.
var randomFields = []string{"id", "ownerId", "createdAt", "updatedAt", "billedAccountUserId"}

// workspacesList is a response to GET /api/workspaces.
type workspacesList struct {
	Workspaces []map[string]any `json:"workspaces"`
	Rest       map[string]any   `json:"-"`
}

func decodeWorkspaces(t *testing.T, body []byte) workspacesList {
	t.Helper()
	var list workspacesList
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if err := json.Unmarshal(body, &list.Rest); err != nil {
		t.Fatal(err)
	}
	delete(list.Rest, "workspaces")
	// Where the user was last is not a matter of this server.
	delete(list.Rest, "lastActiveWorkspaceId")
	for _, w := range append(slices.Clone(list.Workspaces), list.Rest) {
		for _, name := range notListed {
			if _, isPolicy := w["creationPolicy"]; !isPolicy {
				delete(w, name)
			}
		}
	}
	return list
}

// masked replaces values that differ in each deployment by their length.
func masked(object map[string]any) map[string]any {
	object = maps.Clone(object)
	for _, name := range randomFields {
		if text, ok := object[name].(string); ok {
			object[name] = fmt.Sprintf("%d characters", len(text))
		}
	}
	for name, value := range object {
		if nested, ok := value.(map[string]any); ok {
			object[name] = masked(nested)
		}
	}
	return object
}

func TestWorkspacesReplay(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "sqlite::memory:" },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorkspaces(t, name, target(t))
			entries, err := transcripts.Workspaces()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				t.Run(e.As+" "+e.Request, func(t *testing.T) {
					status, body := w.get(t, e.As, strings.TrimPrefix(e.Request, "GET "))
					if status != e.Status {
						t.Fatalf("status %d, want %d: %s", status, e.Status, body)
					}
					if status != http.StatusOK {
						var got, want any
						if err := json.Unmarshal(body, &got); err != nil {
							t.Fatal(err)
						}
						if err := json.Unmarshal(e.Body, &want); err != nil {
							t.Fatal(err)
						}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Error(diff)
						}
						return
					}
					got, want := decodeWorkspaces(t, body), decodeWorkspaces(t, e.Body)
					if len(got.Workspaces) != e.WorkspacesInAll {
						t.Fatalf("%d workspaces, want %d", len(got.Workspaces), e.WorkspacesInAll)
					}
					if diff := cmp.Diff(masked(want.Rest), masked(got.Rest)); diff != "" {
						t.Error(diff)
					}
					for i, workspace := range want.Workspaces {
						if diff := cmp.Diff(masked(workspace), masked(got.Workspaces[i])); diff != "" {
							t.Errorf("workspace %d: %s", i, diff)
						}
					}
				})
			}
		})
	}
}

// Without a scope, and with active, the route creates a workspace for a user
// who has none; with all and archived it does not.
func TestWorkspacesCreatesTheFirst(t *testing.T) {
	t.Parallel()
	w := startWorkspaces(t, "sqlite", "sqlite::memory:")
	if _, err := w.server.DB().Write.ExecContext(t.Context(), `DELETE FROM workspace WHERE owner_id = $1`, w.vars["user:stranger"]); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		query string
		want  int
	}{
		{"?scope=all", 0}, {"?scope=archived", 0}, {"", 1}, {"?scope=active", 1}, {"?scope=all", 1},
	} {
		status, body := w.get(t, "stranger", "/api/workspaces"+step.query)
		list := decodeWorkspaces(t, body)
		if status != http.StatusOK || len(list.Workspaces) != step.want {
			t.Fatalf("%q: %d, %d workspaces, want %d", step.query, status, len(list.Workspaces), step.want)
		}
		if step.want == 1 && list.Workspaces[0]["name"] != "Stranger's Workspace" {
			t.Errorf("name %v", list.Workspaces[0]["name"])
		}
	}
}

// Admins of an organization see its workspaces without a permission of their
// own, members do not; an archived workspace is part of all and archived.
func TestWorkspacesOfAnOrganization(t *testing.T) {
	t.Parallel()
	w := startWorkspaces(t, "sqlite", "sqlite::memory:")
	if err := w.server.Apply(t.Context(), &server.Bootstrap{
		Organizations: []server.BootstrapOrganization{{ID: "org", Name: "O", Members: []server.BootstrapMember{
			{Email: w.vars["email:stranger"], Role: "admin"}, {Email: w.vars["email:writer"], Role: "member"},
		}}},
		Workspaces: []server.BootstrapWorkspace{
			{ID: "theirs", Name: "Theirs", Owner: w.vars["email:admin"], OrganizationID: "org"},
			{ID: "old", Name: "Old", Owner: w.vars["email:admin"], OrganizationID: "org"},
		},
	}); err != nil {
		t.Fatal(err)
	}
	w.sql(t, "UPDATE workspace SET archived_at = $1 WHERE id = 'old'", database.At(time.Now()))
	for _, tc := range []struct {
		who, scope string
		want       []string
	}{
		{"stranger", "all", []string{"Old", "Stranger's Workspace", "Theirs"}},
		{"stranger", "active", []string{"Stranger's Workspace", "Theirs"}},
		{"stranger", "archived", []string{"Old"}},
		{"writer", "all", nil},
	} {
		_, body := w.get(t, tc.who, "/api/workspaces?scope="+tc.scope)
		var names []string
		for _, workspace := range decodeWorkspaces(t, body).Workspaces {
			names = append(names, workspace["name"].(string))
			if name := workspace["name"]; name == "Theirs" && (workspace["isOrgAdmin"] != true || workspace["permissions"] != "admin" || workspace["organizationId"] != "org") {
				t.Errorf("%v", workspace)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, tc.want) {
			t.Errorf("%s, %s: %q, want %q", tc.who, tc.scope, names, tc.want)
		}
	}
}

// startWorkspaces is a server as it was recorded: owner and reader of 12
// workspaces, and a stranger with one.
func startWorkspaces(t *testing.T, backend, target string) *replayer {
	t.Helper()
	r := start(t, backend, target, nil)
	r.reset(t)
	r.sql(t, "DELETE FROM workspace")
	doc := &server.Bootstrap{}
	for i := range 12 {
		doc.Workspaces = append(doc.Workspaces, server.BootstrapWorkspace{
			ID: uuid(), Name: fmt.Sprintf("WS%d", i), Owner: r.vars["email:admin"],
			Members: []server.BootstrapPermission{{Email: r.vars["email:reader"], Permission: "read"}},
		})
	}
	doc.Workspaces = append(doc.Workspaces, server.BootstrapWorkspace{ID: uuid(), Name: "Stranger's Workspace", Owner: r.vars["email:stranger"]})
	if err := r.server.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	return r
}

// get sends a GET as one of the people, or without a session.
func (r *replayer) get(t *testing.T, as, target string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL()+target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if as == "owner" {
		as = "admin"
	}
	if as != "" {
		request.Header.Set("Cookie", "better-auth.session_token="+r.vars["session:"+as])
	}
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType := response.Header.Get("Content-Type"); contentType != "application/json" {
		t.Errorf("content type %q", contentType)
	}
	return response.StatusCode, body
}
