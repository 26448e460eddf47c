package provider

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// examples/organization runs an organization with ten workspaces from one
// configuration. A workspace of another organization is left alone.
func TestAccOrganizationExample(t *testing.T) {
	t.Parallel()
	const workspaces = 10
	s := acctest.Start(t, acctest.Hosted())
	organizationID := s.NewOrganization(t)
	var ids []string
	for i := range workspaces {
		ids = append(ids, s.NewNamedWorkspace(t, fmt.Sprintf("Team %d", i), organizationID))
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "organization", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	tf := newTerraform(t, map[string]string{envEndpoint: s.URL, envSessionToken: s.SessionToken}, string(example))
	declare := func(names ...string) {
		t.Helper()
		secrets := map[string]string{}
		for i, name := range names {
			secrets[name] = fmt.Sprintf("%s-%04d", secretA, i)
		}
		own := map[string]string{}
		for _, id := range ids {
			own[id] = secretB
		}
		text, err := json.Marshal(map[string]any{
			"organization_id": organizationID, "shared_openai_api_keys": secrets, "shared_openai_names": names, "anthropic_api_keys": own,
		})
		if err != nil {
			t.Fatal(err)
		}
		tf.Write(t, "terraform.tfvars.json", string(text))
	}

	declare("first", "second")
	p, _ := tf.plan()
	if got := len(actions(p)); got != workspaces+1 {
		t.Errorf("the plan does %d things, want %d", got, workspaces+1)
	}
	// The session, the workspaces, a list of each scope, and what each workspace
	// inherits.
	expectRequests(t, s, "plan of creates", map[string]int{"GET": 2 + workspaces + 1 + workspaces})
	tf.apply("plan.tfplan")
	for _, id := range ids {
		if served := s.Resolve(t, id, "openai"); served == nil || served.Scope != "organization" {
			t.Errorf("openai in %s: %+v", id, served)
		}
		if served := s.Resolve(t, id, "anthropic"); served == nil || served.Scope != "workspace" || served.APIKey != secretB {
			t.Errorf("anthropic in %s: %+v", id, served)
		}
	}
	s.Reset()
	tf.expect(nothing)
	expectRequests(t, s, "plan without changes", map[string]int{"GET": 2 + workspaces + 1})

	declare("first")
	_, text := tf.expect(map[string]string{"byok_pool.shared": "update"})
	if !strings.Contains(text, `- "second" = {`) {
		t.Errorf("the plan does not show the key that goes:\n%s", text)
	}
	tf.apply("plan.tfplan")
	if left := s.ListIn(t, byok.OrganizationScope(organizationID)); len(left) != 1 || *left[0].Name != "first" {
		t.Errorf("%+v", left)
	}
	// A workspace gets OpenAI keys of its own, and loses them again.
	own := func(name, workspaceID string) string {
		return fmt.Sprintf("resource \"byok_pool\" %q {\n  workspace_id = %q\n  provider_id = \"openai\"\n  keys = { own = { api_key_wo = %q } }\n}\n", name, workspaceID, secretB)
	}
	named := func(text, summary string, workspaceIDs ...string) {
		t.Helper()
		for _, id := range workspaceIDs {
			if want := fmt.Sprintf("%s: \"openai\" in workspace %q", summary, id); strings.Count(unwrapped(text), want) != 1 {
				t.Errorf("the plan does not say %q:\n%s", want, text)
			}
		}
	}
	tf.Write(t, "own.tf", own("own", ids[0])+own("other", ids[1]))
	_, text = tf.expect(map[string]string{"byok_pool.own": "create", "byok_pool.other": "create"})
	named(text, beginSummary, ids[0], ids[1])
	tf.apply("plan.tfplan")
	if served := s.Resolve(t, ids[0], "openai"); served == nil || served.Scope != "workspace" {
		t.Errorf("openai in %s: %+v", ids[0], served)
	}
	tf.Write(t, "own.tf", "")
	_, text = tf.expect(map[string]string{"byok_pool.own": "delete", "byok_pool.other": "delete"})
	named(text, endSummary, ids[0], ids[1])
	tf.apply("plan.tfplan")
	if served := s.Resolve(t, ids[0], "openai"); served == nil || served.Scope != "organization" {
		t.Errorf("openai in %s: %+v", ids[0], served)
	}
	if foreign := s.List(t, s.WorkspaceID); len(foreign) > 0 {
		t.Errorf("the workspace outside the organization has %+v", foreign)
	}
	tf.must("destroy", "-auto-approve", "-no-color")
	if left := s.ListIn(t, byok.OrganizationScope(organizationID)); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
