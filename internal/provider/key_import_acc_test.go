package provider

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

func importBlock(id string) string {
	return fmt.Sprintf("import {\n  to = byok_key.test\n  id = %q\n}\n", id)
}

func TestAccKeyImport(t *testing.T) {
	t.Parallel()
	inState, noticed, versioned := `api_key = "`+secretA+`"`, `api_key_wo = "`+secretA+`"`, `api_key_wo_version = 1`
	for title, tc := range map[string]struct {
		id        string // with %[1]s for the workspace, %[2]s for the key
		arguments []string
		want      map[string]string
		uploads   int
	}{
		"key":                       {"%[2]s", []string{noticed}, nothing, 0},
		"workspace and key":         {"%[1]s/%[2]s", []string{noticed}, nothing, 0},
		"workspace, provider, key":  {"%[1]s/openai/%[2]s", []string{noticed}, nothing, 0},
		"without a secret":          {"%[2]s", nil, nothing, 0},
		"api_key":                   {"%[2]s", []string{inState}, update, 0},
		"version":                   {"%[2]s", []string{noticed, versioned}, update, 0},
		"other settings":            {"%[2]s", []string{noticed, `on_remote_change = "warn"`}, update, 0},
		"other api_key":             {"%[2]s", []string{`api_key = "` + secretB + `"`}, update, 1},
		"other write-only":          {"%[2]s", []string{`api_key_wo = "` + secretB + `"`}, update, 1},
		"other write-only, version": {"%[2]s", []string{`api_key_wo = "` + secretB + `"`, versioned}, update, 1},
		"other name":                {"%[2]s", []string{noticed, `name = "mine"`}, update, 1},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			id := s.Add(t, s.WorkspaceID, "openai", secretA, "prod")
			arguments := append([]string{`provider_id = "openai"`}, tc.arguments...)
			if title != "other name" {
				arguments = append(arguments, `name = "prod"`)
			}
			tf := newTerraform(t, nil, key(s, arguments...)+importBlock(strings.NewReplacer("%[1]s", s.WorkspaceID, "%[2]s", id).Replace(tc.id)))

			s.Reset()
			p, text := tf.expect(tc.want)
			if got := s.Count("", ""); got != 2 || s.Count("GET", keysPath) != 1 {
				t.Errorf("the plan took %d requests, want one list and the check of the session", got)
			}
			if strings.Contains(text, "Key changed outside") {
				t.Errorf("an import is taken for drift:\n%s", text)
			}
			for _, c := range p.ResourceChanges {
				if c.Change.Importing == nil {
					t.Errorf("%s is not imported", c.Address)
				}
			}
			tf.apply("plan.tfplan")
			if got := s.Count("POST", keysPath); got != tc.uploads {
				t.Errorf("%d uploads, want %d", got, tc.uploads)
			}
			if got := tf.id("byok_key.test"); got != id {
				t.Errorf("ID %s, want %s", got, id)
			}
			tf.expect(nothing)
			if keys := s.List(t, s.WorkspaceID); len(keys) != 1 {
				t.Errorf("%d keys are stored", len(keys))
			}
		})
	}
}

// After an adoption without an upload, everything works as after a create.
func TestAccKeyImportThenChange(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct{ adopted, same, changed []string }{
		"write-only": {[]string{`api_key_wo = "` + secretA + `"`}, nil, []string{`api_key_wo = "` + secretB + `"`}},
		"version": {[]string{`api_key_wo = "` + secretA + `"`, `api_key_wo_version = 1`},
			[]string{`api_key_wo = "` + secretB + `"`, `api_key_wo_version = 1`}, []string{`api_key_wo = "` + secretB + `"`, `api_key_wo_version = 2`}},
		"api_key": {[]string{`api_key = "` + secretA + `"`}, nil, []string{`api_key = "` + secretB + `"`}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			id := s.Add(t, s.WorkspaceID, "openai", secretA, "")
			with := func(arguments []string) string {
				return key(s, append([]string{`provider_id = "openai"`}, arguments...)...)
			}
			tf := newTerraform(t, nil, with(tc.adopted)+importBlock(id))
			tf.apply()
			if tc.same != nil {
				tf.config(with(tc.same))
				tf.expect(nothing)
			}
			tf.config(with(tc.changed))
			tf.expect(update)
			tf.apply()
			expectServed(t, s, "openai", secretB)
			tf.expect(nothing)
			s.Replace(t, s.WorkspaceID, "openai", id, secretA, nil)
			tf.expect(update)
		})
	}
}

func TestAccKeyImportErrors(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	id := s.Add(t, s.WorkspaceID, "openai", secretA, "")
	for title, tc := range map[string]struct{ id, want string }{
		"form":          {"a/b/c/d", `"a/b/c/d" has 4 parts separated by slashes`},
		"empty part":    {"/" + id, `Part 1 of "/` + id + `" is empty or contains whitespace.`},
		"no such key":   {"nosuchkeynosuchkeynos", `There is no key (ID nosuchkeynosuchkeynos) in workspace "` + s.WorkspaceID + `".`},
		"workspace":     {"nosuchworkspace/" + id, "The workspace does not exist on this endpoint, or it is archived."},
		"other pool":    {s.WorkspaceID + "/anthropic/" + id, `belongs to the provider ID "openai", not to "anthropic". Use ` + s.WorkspaceID + "/openai/" + id},
		"two providers": {"openai/" + id, "The workspace does not exist on this endpoint"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tf := newTerraform(t, nil, key(s, `provider_id = "openai"`)+importBlock(tc.id))
			tf.fails([]string{tc.want}, "plan", "-no-color")
			// The command gives the same.
			tf.config(key(s, `provider_id = "openai"`))
			tf.fails([]string{tc.want}, "import", "-no-color", "byok_key.test", tc.id)
			if out, _ := tf.run("import", "-no-color", "byok_key.test", tc.id); strings.Contains(out, "state rm") {
				t.Errorf("nothing is in state, and the error advises to remove it:\n%s", out)
			}
		})
	}
}

func TestAccKeyImportWithAnEmptyID(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`))
	tf.fails([]string{"Invalid import ID", "The import ID is empty."}, "import", "-no-color", "byok_key.test", "")
}

// What -generate-config-out writes plans cleanly, before and after the secret
// is filled in.
func TestAccKeyImportGeneratesConfiguration(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	id := s.Add(t, s.WorkspaceID, "openai", secretA, "prod")
	tf := newTerraform(t, nil, s.ProviderConfig()+importBlock(id))
	tf.must("plan", "-no-color", "-generate-config-out=generated.tf")
	_, text := tf.expect(nothing)
	if !strings.Contains(text, "1 to import, 0 to add, 0 to change") {
		t.Error(text)
	}
	tf.apply()
	tf.expect(nothing)
	want := map[string]any{
		"workspace_id": s.WorkspaceID, "provider_id": "openai", "name": "prod", "masked_key": byok.Mask(secretA), "on_remote_change": "repair",
		"organization_id": nil, "id": id, "api_key": nil, "api_key_wo": nil, "api_key_wo_version": nil, "timeouts": nil,
	}
	got := tf.attributes("byok_key.test")
	for _, computed := range []string{"created_at", "created_by", "updated_at"} {
		delete(got, computed)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A workspace that was filled by hand is adopted by one block.
func TestAccKeyImportForEach(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for i := range 3 {
		s.Add(t, s.WorkspaceID, "openai", secretA, fmt.Sprintf("key %d", i))
	}
	tf := newTerraform(t, nil, s.ProviderConfig()+`
data "byok_keys" "all" {}
locals {
  adopted = { for key in data.byok_keys.all.keys : key.name => key }
}
import {
  for_each = local.adopted
  to       = byok_key.adopted[each.key]
  id       = each.value.import_id
}
resource "byok_key" "adopted" {
  for_each    = local.adopted
  provider_id = each.value.provider_id
  name        = each.key
}`)
	s.Reset()
	_, text := tf.expect(nothing)
	if !strings.Contains(text, "3 to import, 0 to add, 0 to change") {
		t.Error(text)
	}
	if got := s.Count("", ""); got != 2 {
		t.Errorf("%d requests, want one list and the check of the session", got)
	}
}
