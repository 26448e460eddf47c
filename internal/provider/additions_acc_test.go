package provider

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

const lookalike = "A key like this is already stored"

// Replaced and tainted keys look like those that take their place, and are
// nobody else's. A lost state is told, and importing what is stored mends it.
func TestAccLookalike(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := s.ProviderConfig() + fmt.Sprintf(`
resource "byok_key" "test" {
  provider_id = "openai"
  name        = "prod"
  api_key_wo  = %[1]q
}
resource "byok_pool" "test" {
  provider_id = "anthropic"
  keys        = { prod = { api_key_wo = %[1]q } }
}
`, secretA)
	tf := newTerraform(t, nil, config)
	tf.apply()
	silent := func(what string, changes int, args ...string) {
		t.Helper()
		if p, out := tf.plan(args...); len(actions(p)) != changes || strings.Contains(out, lookalike) {
			t.Errorf("%s: %v\n%s", what, actions(p), out)
		}
	}
	silent("replaced", 2, "-replace=byok_key.test", "-replace=byok_pool.test")
	addresses := []string{"byok_key.test", "byok_pool.test"}
	for _, address := range addresses {
		tf.must("taint", "-no-color", address)
	}
	silent("tainted", 2)
	for _, address := range addresses {
		tf.must("untaint", "-no-color", address)
	}

	if err := os.Remove(filepath.Join(tf.Dir, "terraform.tfstate")); err != nil {
		t.Fatal(err)
	}
	id := inPool(s.List(t, s.WorkspaceID), byok.Pool{ProviderID: "openai"})[0].ID
	_, out := tf.plan()
	for _, text := range []string{lookalike, `openai key "prod" (` + byok.Mask(secretA) + ")", s.WorkspaceID + "/openai/" + id, lookalike + ": import ID " + s.WorkspaceID + "/anthropic/"} {
		if !strings.Contains(out, text) {
			t.Errorf("the plan without state does not say %q:\n%s", text, out)
		}
	}
	tf.must("import", "-no-color", "byok_key.test", s.WorkspaceID+"/openai/"+id)
	tf.must("import", "-no-color", "byok_pool.test", s.WorkspaceID+"/anthropic")
	silent("after the imports", 0)
}
