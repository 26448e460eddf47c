package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

func TestWorkspacesLookup(t *testing.T) {
	t.Parallel()
	all := []byok.ListedWorkspace{
		{ID: "3", Name: "Prod", Permission: "admin"}, {ID: "2", Name: "Twice", Permission: "read"}, {ID: "1", Name: "Twice", Permission: "write"},
	}
	many := make([]byok.ListedWorkspace, maxNames+2)
	for i := range many {
		many[i] = byok.ListedWorkspace{ID: fmt.Sprint(i), Name: fmt.Sprintf("W%03d", i)}
	}
	for title, tc := range map[string]struct {
		all   []byok.ListedWorkspace
		name  types.String
		want  string // IDs
		fails string
	}{
		"all":          {all, types.StringNull(), "3 1 2", ""},
		"none at all":  {nil, types.StringNull(), "", ""},
		"one":          {all, types.StringValue("Prod"), "3", ""},
		"other case":   {all, types.StringValue("prod"), "", `no workspace with the name "prod". The names are: "Prod", "Twice".`},
		"ambiguous":    {all, types.StringValue("Twice"), "", "Use the ID of the one that you mean: 1, 2."},
		"none to name": {nil, types.StringValue("Prod"), "", "no workspaces at all"},
		"many":         {many, types.StringValue("x"), "", `"W049" and 2 more.`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m, diags := workspacesModel{Name: tc.name}.withWorkspaces(tc.all)
			if tc.fails != "" {
				if len(diags) != 1 || !strings.Contains(diags[0].Detail(), tc.fails) {
					t.Errorf("%v, want %q", diags, tc.fails)
				}
				return
			}
			var ids []string
			for _, w := range m.Workspaces {
				ids = append(ids, w.ID)
			}
			if got := strings.Join(ids, " "); got != tc.want || diags.HasError() || m.Workspaces == nil {
				t.Errorf("%q, %v; want %q", got, diags, tc.want)
			}
		})
	}
}

func TestAccWorkspacesDataSource(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted())
	organizationID := s.NewOrganization(t)
	prod, old := s.NewNamedWorkspace(t, "Prod", organizationID), s.NewNamedWorkspace(t, "Old", "")
	s.ArchiveWorkspace(t, old)
	tf := newTerraform(t, nil, s.ProviderConfig()+`
data "byok_workspaces" "all" {}
data "byok_workspaces" "prod" {
  name = "Prod"
}
output "all" { value = data.byok_workspaces.all.workspaces }
output "prod" { value = one(data.byok_workspaces.prod.workspaces).id }
`)
	p, _ := tf.plan()
	for _, r := range s.Requests() {
		if r.Path == byok.WorkspacesPath && r.Query != "scope=all" {
			t.Errorf("asked with %q", r.Query)
		}
	}
	// One for the session and one for both data sources.
	expectRequests(t, s, "plan", map[string]int{"GET": 2})
	expectOutputs(t, p, map[string]any{
		"all": []any{
			map[string]any{"id": s.WorkspaceID, "name": "Acceptance", "permission": "admin", "organization_id": nil},
			map[string]any{"id": prod, "name": "Prod", "permission": "admin", "organization_id": organizationID},
		},
		"prod": prod,
	})

	tf.config(s.ProviderConfig() + `
data "byok_workspaces" "none" {
  name = "Staging"
}`)
	tf.fails([]string{"No workspace with this name", `The names are: "Acceptance", "Prod".`}, "plan", "-no-color")
}

// A user without a workspace is given none.
func TestAccWorkspacesOfAStranger(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, fmt.Sprintf(`
provider "byok" {
  endpoint      = %q
  session_token = %q
}
data "byok_workspaces" "all" {}
output "all" { value = data.byok_workspaces.all.workspaces }
`, s.URL, s.NewUser(t, "").SessionToken))
	p, _ := tf.plan()
	if got, err := json.Marshal(p.OutputChanges["all"].After); err != nil || string(got) != "[]" {
		t.Errorf("%s, %v", got, err)
	}
}

// A Sim without the routes says so.
func TestAccDiscoveryOfAnOldSim(t *testing.T) {
	t.Parallel()
	var off atomic.Bool
	off.Store(true)
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler { return withoutDiscovery(&off, next) }))
	tf := newTerraform(t, nil, s.ProviderConfig()+`
data "byok_workspaces" "all" {}
data "byok_inherited_providers" "of" {}
`)
	tf.fails([]string{
		"Cannot read workspaces: the server cannot list this", "Cannot read inherited provider IDs: the server cannot list this",
		"this Sim is too old for it",
	}, "plan", "-no-color")
}
