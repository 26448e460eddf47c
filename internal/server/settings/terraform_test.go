package settings_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// TestExport compares the exported configuration line by line.
func TestExport(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	if got, want := w.get(t, w.reader, w.page("")+"/terraform"), "# No keys are stored.\n"; got != want {
		t.Errorf("an empty workspace exports %q", got)
	}
	// A mask is text, too, and ends no comment.
	w.Add(t, w.WorkspaceID, "exa", "a\nb = ${c} and more of it", "")
	for _, style := range []string{"pool", "key"} {
		text := w.get(t, w.reader, w.page("")+"/terraform?style="+style)
		if want := `# required_providers { byok = { source = "terraform-provider-byok/byok" } }` + "\n\nimport {"; !strings.HasPrefix(text, "# ") || !strings.Contains(text, want) {
			t.Errorf("the export does not begin with the provider that it needs:\n%s", text)
		}
		if want := ` # "a\nb = ...f it"`; !strings.Contains(text, want) {
			t.Errorf("the export lacks the comment%s:\n%s", want, text)
		}
		checkFormatted(t, text)
	}
	w.Exec(t, "DELETE FROM workspace_byok_keys")
	names := []string{"primary", "twice", "twice", "with space", "${evil} \"q\"", "", "\u202eright", "5up"}
	for i, name := range names {
		w.Add(t, w.WorkspaceID, "ollama-cloud", fmt.Sprintf("secret-0123456789-%d", i), name)
	}
	keys := w.List(t, w.WorkspaceID)
	label := func(i int) string {
		id := keys[i].ID
		if strings.ContainsAny(id[:1], "0123456789-") {
			return "key_" + id
		}
		return id
	}
	pools := w.get(t, w.reader, w.page("")+"/terraform")
	for i, want := range []string{
		` = { api_key_wo = var.ollama_cloud_api_keys["primary"] }`,
		` = { name = "twice", api_key_wo = var.ollama_cloud_api_keys["` + label(1) + `"] }`,
		` = { name = "twice", api_key_wo = var.ollama_cloud_api_keys["` + label(2) + `"] }`,
		` = { name = "with space", api_key_wo = `,
		` = { name = "$${evil} \"q\"", api_key_wo = `,
		` = { api_key_wo = var.ollama_cloud_api_keys["` + label(5) + `"] }`,
		` = { name = "\u202eright", api_key_wo = `,
		` = { name = "5up", api_key_wo = `,
	} {
		begin := label(i)
		if i == 0 {
			begin = "primary"
		}
		if found := slices.ContainsFunc(strings.Split(pools, "\n"), func(line string) bool {
			return strings.HasPrefix(line, "    "+begin) && strings.Contains(line, want) && strings.HasSuffix(line, ` # "`+keys[i].MaskedKey+`"`)
		}); !found {
			t.Errorf("key %d: no line has %s and %s in\n%s", i, begin, want, pools)
		}
	}
	single := w.get(t, w.reader, w.page("")+"/terraform?style=key")
	if n := strings.Count(single, "import {"); n != len(keys) {
		t.Errorf("%d of %d keys are imported", n, len(keys))
	}
	for _, key := range keys {
		if want := `"] # "` + key.MaskedKey + "\"\n"; !strings.Contains(single, want) {
			t.Errorf("no resource says which secret it takes: %s", want)
		}
	}
	for _, text := range []string{pools, single} {
		if strings.Contains(text, "secret-0") || strings.Contains(text, "\u202e") {
			t.Errorf("the export has a secret or a mark that turns the direction:\n%s", text)
		}
		checkFormatted(t, text)
	}
}

// TestAccExport applies what was exported: everything is imported, nothing
// changes.
func TestAccExport(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		scope, style string
		resources    int
	}{{"workspace", "key", 5}, {"workspace", "pool", 2}, {"organization", "key", 5}, {"organization", "pool", 2}} {
		t.Run(tc.scope+" "+tc.style, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			scope, user := byok.WorkspaceScope(w.WorkspaceID), w.reader
			if tc.scope == "organization" {
				scope, user = byok.Scope{Kind: byok.Organization, ID: organizationID}, w.superuser
			}
			list := func() []byok.Key {
				var stored byok.ListResponse
				w.Call(t, user, http.MethodGet, scope.KeysPath(), nil, &stored)
				return stored.Keys
			}
			secrets := map[string][]string{}
			add := func(providerID, secret, name string) {
				w.Call(t, w.superuser, http.MethodPost, scope.KeysPath(), byok.SaveRequest{ProviderID: providerID, APIKey: secret, Name: &name}, nil)
				secrets[providerID] = append(secrets[providerID], secret)
			}
			for i, name := range []string{"primary", "with space", "${evil}"} {
				add("openai", fmt.Sprintf("sk-0123456789abcdef-%d", i), name)
			}
			for i := range 2 {
				add("ollama-cloud", fmt.Sprintf("ollama-0123456789-%d", i), "")
			}
			export := w.get(t, user, w.page("")+"/terraform?scope="+tc.scope+"&style="+tc.style)
			// Keys stand in rotation order, each with the name of its secret.
			variables := map[string]map[string]string{}
			for providerID, values := range secrets {
				name := strings.ReplaceAll(providerID, "-", "_") + "_api_keys"
				variables[name] = map[string]string{}
				read := regexp.MustCompile(`var\.`+name+`\["([^"]+)"\]`).FindAllStringSubmatch(export, -1)
				if len(read) != len(values) {
					t.Fatalf("%d of %d secrets are read in\n%s", len(read), len(values), export)
				}
				for i, match := range read {
					variables[name][match[1]] = values[i]
				}
			}
			values, err := json.Marshal(variables)
			if err != nil {
				t.Fatal(err)
			}
			tf := tfrun.New(t)
			tf.Write(t, "provider.tf", strings.ReplaceAll(w.ProviderConfig(), w.SessionToken, w.superuser.SessionToken))
			tf.Write(t, "export.tf", export)
			tf.Write(t, "terraform.tfvars.json", string(values))
			before := list()
			applied := tf.Try(t, "apply", "-auto-approve", "-no-color")
			if want := fmt.Sprintf("Resources: %d imported, 0 added, 0 changed, 0 destroyed.", tc.resources); !strings.Contains(applied.Output, want) {
				t.Errorf("want %s\n%s\n%s", want, applied.Output, export)
			}
			if planned := tf.Try(t, "plan", "-no-color"); !strings.Contains(planned.Output, "No changes.") {
				t.Errorf("after the import:\n%s", planned.Output)
			}
			for i, key := range list() {
				if key.UpdatedAt != before[i].UpdatedAt || key.ID != before[i].ID {
					t.Errorf("key %s was changed", key.ID)
				}
			}
		})
	}
}
