package provider

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

var (
	nothing = map[string]string{}
	update  = map[string]string{"byok_key.test": "update"}
	create  = map[string]string{"byok_key.test": "create"}
)

func TestAccKeyDrift(t *testing.T) {
	t.Parallel()
	const changed, undecryptable = "Key changed outside of Terraform", "Key cannot be decrypted by the server"
	theirs, blank := "theirs", ""
	inState, noticed, versioned := `api_key = "`+secretA+`"`, `api_key_wo = "`+secretA+`"`, `api_key_wo_version = 1`
	for title, tc := range map[string]struct {
		arguments []string
		elsewhere func(t *testing.T, s *acctest.Server, id string)
		want      map[string]string
		says      []string
		// then, after an apply, the plan is empty and the server serves serves.
		serves string
	}{
		"replaced": {[]string{inState}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretB, nil)
		},
			update, []string{changed, "This plan restores the declared secret and name.", byok.Mask(secretB)}, secretA},
		"replaced, write-only": {[]string{noticed}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretB, nil)
		},
			update, []string{changed}, secretA},
		"replaced, version": {[]string{noticed, versioned}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretB, nil)
		},
			update, []string{changed}, secretA},
		"replaced, same mask": {[]string{noticed}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, strings.Replace(secretA, "AAAA", "ZZZZ", 1), nil)
		}, update, []string{changed}, secretA},
		"replaced, short": {[]string{noticed}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, "short", nil)
		},
			update, []string{changed}, secretA},
		"replaced, warn": {[]string{noticed, `on_remote_change = "warn"`}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretB, nil)
		},
			nothing, []string{changed, `on_remote_change is "warn", so this plan leaves it alone.`}, secretB},
		"renamed": {[]string{noticed, `name = "mine"`}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretA, &theirs)
		},
			update, []string{changed}, secretA},
		"renamed, warn": {[]string{noticed, `name = "mine"`, `on_remote_change = "warn"`}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretA, &theirs)
		},
			nothing, []string{changed, `Its name is now "theirs".`}, secretA},
		"name cleared, warn": {[]string{noticed, `name = "mine"`, `on_remote_change = "warn"`}, func(t *testing.T, s *acctest.Server, id string) {
			s.Replace(t, s.WorkspaceID, "openai", id, secretA, &blank)
		},
			nothing, []string{changed, `Its name is now "".`}, secretA},
		"deleted": {[]string{noticed}, func(t *testing.T, s *acctest.Server, id string) { s.Delete(t, s.WorkspaceID, "openai", id) },
			create, []string{"Key deleted outside of Terraform"}, secretA},
		"deleted, warn": {[]string{noticed, `on_remote_change = "warn"`}, func(t *testing.T, s *acctest.Server, id string) { s.Delete(t, s.WorkspaceID, "openai", id) },
			create, []string{"Key deleted outside of Terraform"}, secretA},
		"undecryptable": {[]string{noticed}, func(t *testing.T, s *acctest.Server, id string) { s.Corrupt(t, id) },
			nothing, []string{undecryptable}, ""},
		"none": {[]string{noticed}, func(*testing.T, *acctest.Server, string) {}, nothing, nil, secretA},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			tf := newTerraform(t, nil, key(s, append([]string{`provider_id = "openai"`}, tc.arguments...)...))
			tf.apply()
			tc.elsewhere(t, s, tf.id("byok_key.test"))

			s.Reset()
			_, text := tf.expect(tc.want)
			if tc.says == nil && strings.Contains(text, "Warning") {
				t.Errorf("a warning without a reason:\n%s", text)
			}
			for _, say := range tc.says {
				if !strings.Contains(text, say) {
					t.Errorf("the plan does not say %q:\n%s", say, text)
				}
			}
			// One list and the check of the session; where the pool begins anew,
			// also what the workspace inherits.
			want := 2
			if maps.Equal(tc.want, create) {
				want = 3
			}
			if gets, all := s.Count("GET", keysPath), s.Count("", ""); gets != 1 || all != want {
				t.Errorf("the plan took %d lists and %d requests, want one list and %d requests", gets, all, want)
			}
			tf.apply()
			if tc.serves != "" {
				expectServed(t, s, "openai", tc.serves)
			}
			tf.expect(nothing)
		})
	}
}

// A pipeline without the secret cannot put one back, and says so.
func TestAccKeyDriftWithoutSecret(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key = "`+secretA+`"`))
	tf.apply()
	s.Replace(t, s.WorkspaceID, "openai", tf.id("byok_key.test"), secretB, nil)
	tf.config(key(s, `provider_id = "openai"`))
	if _, text := tf.expect(nothing); !strings.Contains(text, "The configuration declares no secret, so this plan cannot restore one.") {
		t.Error(text)
	}
	// It stays noticed until the secret is back.
	tf.apply()
	tf.config(key(s, `provider_id = "openai"`, `api_key = "`+secretA+`"`))
	tf.expect(update)
}

// Terraform shows one of several warnings with the same summary, so that each
// names its key.
func TestAccWarningsNameEveryKey(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := func(settings string) string {
		return fmt.Sprintf(`
provider "byok" {
  endpoint      = %q
  workspace_id  = %q
  session_token = %q
  %s
}
resource "byok_key" "test" {
  for_each         = toset(["openai", "exa", "google"])
  provider_id      = each.key
  name             = each.key == "exa" ? null : "ci"
  api_key_wo       = %q
  on_remote_change = "warn"
}
resource "byok_pool" "test" {
  provider_id      = "anthropic"
  keys             = { for name in ["a", "b"] : name => { api_key_wo = %q } }
  on_remote_change = "warn"
}
`, s.URL, s.WorkspaceID, s.SessionToken, settings, secretA, secretA)
	}
	tf := newTerraform(t, nil, config(`deployment = "self_hosted"`))
	_, text := tf.plan()
	for _, providerID := range []string{"openai", "exa", "google", "anthropic"} {
		if want := fmt.Sprintf("Warning: A self-hosted Sim does not use this key in workflows: %q", providerID); strings.Count(unwrapped(text), want) != 1 {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
	tf.config(config(""))
	tf.apply()
	stored := s.List(t, s.WorkspaceID)
	for _, key := range stored {
		s.Replace(t, s.WorkspaceID, key.ProviderID, key.ID, secretB, nil)
	}
	_, text = tf.expect(nothing)
	for _, key := range stored {
		want := "Warning: Key changed outside of Terraform: ID " + key.ID
		if key.Name != nil {
			want = fmt.Sprintf("Warning: Key changed outside of Terraform: %q (ID %s)", *key.Name, key.ID)
		}
		if strings.Count(unwrapped(text), want) != 1 {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
	for _, key := range stored {
		s.Delete(t, s.WorkspaceID, key.ProviderID, key.ID)
	}
	_, text = tf.plan()
	for _, key := range stored {
		if strings.Count(unwrapped(text), "Warning: Key deleted outside of Terraform: ") != len(stored) || !strings.Contains(text, key.ID) {
			t.Errorf("the plan does not name %s:\n%s", key.ID, text)
		}
	}
}
