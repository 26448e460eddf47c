package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// Each check of the example fires for its own reason, and all are silent where
// there is none.
func TestAccChecks(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "data-sources", "byok_keys", "checks.tf"))
	if err != nil {
		t.Fatal(err)
	}
	warnings := map[string]string{
		"few": "Fewer than two OpenAI keys are left", "old": "more than 90 days ago", "foreign": "does not manage", "broken": "cannot be decrypted",
	}
	s := acctest.Start(t)
	tf := newTerraform(t, nil, s.ProviderConfig()+string(example))
	tf.Write(t, "terraform.tfvars.json", `{"openai_main_api_key": "`+secretA+`"}`)
	expect := func(step string, fires ...string) {
		t.Helper()
		_, text := tf.plan()
		text = strings.Join(strings.Fields(text), " ")
		for name, warning := range warnings {
			want := strings.Contains(strings.Join(fires, " "), name)
			if strings.Contains(text, warning) != want {
				t.Errorf("%s: the warning %q occurs: %v, want %v", step, name, !want, want)
			}
		}
	}
	tf.apply()
	expect("one key", "few")
	other := s.Add(t, s.WorkspaceID, "openai", secretB, "other")
	expect("another user's key", "foreign")
	s.Corrupt(t, other)
	s.Exec(t, "UPDATE workspace_byok_keys SET updated_at = $1 WHERE id = $2",
		time.Now().UTC().Add(-91*24*time.Hour).Format("2006-01-02 15:04:05.000000"), other)
	expect("an old and broken key", "foreign", "old", "broken")
}

// What a pool is described by, for workspaces and organizations.
func TestUsageOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	name := "twice"
	keys := []byok.Key{
		{ID: "a", Name: &name, MaskedKey: "sk-tes...aaaa", UpdatedAt: byok.FormatTime(now.Add(-49 * time.Hour))},
		{ID: "b", Name: &name, MaskedKey: byok.MaskUnknown, UpdatedAt: byok.FormatTime(now.Add(time.Hour))},
		{ID: "c", MaskedKey: "sk-tes...aaaa", UpdatedAt: byok.FormatTime(now)},
	}
	p := usageOf(keys, byok.OrganizationScope("o"), 3, now)
	if p.Count != 3 || p.Remaining != 0 || !p.Full || *p.OldestAgeDays != 2 || len(p.UndecryptableIDs) != 1 || p.UndecryptableIDs[0] != "b" ||
		len(p.RepeatedNames) != 1 || p.RepeatedNames[0] != name || p.EffectiveScope != "organization" {
		t.Errorf("%+v", p)
	}
	if p := usageOf(nil, byok.WorkspaceScope("w"), 3, now); p.OldestAgeDays != nil || p.EffectiveScope != "none" || p.Remaining != 3 {
		t.Errorf("%+v", p)
	}
}

// A workspace without keys of its own takes those of its organization; that is
// asked for once, and only where a pool is empty.
func TestAccEffectiveScope(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted())
	organizationID := s.NewOrganization(t)
	workspaceID := s.NewNamedWorkspace(t, "Heir", organizationID)
	s.AddTo(t, byok.Pool{Scope: byok.OrganizationScope(organizationID), ProviderID: "openai"}, secretA, "")
	s.AddTo(t, byok.Pool{Scope: byok.OrganizationScope(organizationID), ProviderID: "mistral"}, secretA, "")
	s.Add(t, workspaceID, "mistral", secretB, "")
	var config strings.Builder
	config.WriteString(s.ProviderConfig())
	for _, id := range []string{"openai", "mistral", "cohere"} {
		config.WriteString(`
data "byok_keys" "` + id + `" {
  workspace_id = "` + workspaceID + `"
  provider_id  = "` + id + `"
}
output "` + id + `" { value = data.byok_keys.` + id + `.pools["` + id + `"].effective_scope }
`)
	}
	config.WriteString(`
data "byok_keys" "shared" { organization_id = "` + organizationID + `" }
data "byok_inherited_providers" "heir" { workspace_id = "` + workspaceID + `" }
output "shared" { value = [for key in data.byok_keys.shared.keys : startswith(key.import_id, "organization/` + organizationID + `/")] }
output "inherited" { value = data.byok_inherited_providers.heir.provider_ids }
`)
	tf := newTerraform(t, nil, config.String())
	p, _ := tf.plan()
	// The session, a list of the workspace, one of the organization, and what is inherited.
	expectRequests(t, s, "plan", map[string]int{"GET": 4})
	expectOutputs(t, p, map[string]any{
		"openai": "organization", "mistral": "workspace", "cohere": "none", "shared": []any{true, true}, "inherited": []any{"openai"},
	})
}
