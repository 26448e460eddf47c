package settings_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// TestExport compares the exported configuration line by line.
func TestExport(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	if got, want := w.get(t, w.reader, w.page("")+"/terraform"), "# No keys are stored.\n"; got != want {
		t.Errorf("an empty workspace exports %q", got)
	}
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
		` = { api_key_wo = var.ollama-cloud_api_keys["primary"] }`,
		` = { name = "twice", api_key_wo = var.ollama-cloud_api_keys["` + label(1) + `"] }`,
		` = { name = "twice", api_key_wo = var.ollama-cloud_api_keys["` + label(2) + `"] }`,
		` = { name = "with space", api_key_wo = `,
		` = { name = "$${evil} \"q\"", api_key_wo = `,
		` = { api_key_wo = var.ollama-cloud_api_keys["` + label(5) + `"] }`,
		` = { name = "\u202eright", api_key_wo = `,
		` = { name = "5up", api_key_wo = `,
	} {
		begin := label(i)
		if i == 0 {
			begin = "primary"
		}
		if found := slices.ContainsFunc(strings.Split(pools, "\n"), func(line string) bool {
			return strings.HasPrefix(line, "    "+begin) && strings.Contains(line, want)
		}); !found {
			t.Errorf("key %d: no line has %s and %s in\n%s", i, begin, want, pools)
		}
	}
	single := w.get(t, w.reader, w.page("")+"/terraform?style=key")
	if n := strings.Count(single, "import {"); n != len(keys) {
		t.Errorf("%d of %d keys are imported", n, len(keys))
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
	for style, resources := range map[string]int{"key": 5, "pool": 2} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			secrets := map[string][]string{}
			add := func(providerID, secret, name string) {
				w.Add(t, w.WorkspaceID, providerID, secret, name)
				secrets[providerID] = append(secrets[providerID], secret)
			}
			for i, name := range []string{"primary", "with space", "${evil}"} {
				add("openai", fmt.Sprintf("sk-0123456789abcdef-%d", i), name)
			}
			for i := range 2 {
				add("ollama-cloud", fmt.Sprintf("ollama-0123456789-%d", i), "")
			}
			export := w.get(t, w.reader, w.page("")+"/terraform?style="+style)
			// Keys stand in rotation order, each with the name of its secret.
			variables := map[string]map[string]string{}
			for providerID, values := range secrets {
				name := providerID + "_api_keys"
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
			tf.Write(t, "provider.tf", w.ProviderConfig())
			tf.Write(t, "export.tf", export)
			tf.Write(t, "terraform.tfvars.json", string(values))
			before := w.List(t, w.WorkspaceID)
			applied := tf.Try(t, "apply", "-auto-approve", "-no-color")
			if want := fmt.Sprintf("Resources: %d imported, 0 added, 0 changed, 0 destroyed.", resources); !strings.Contains(applied.Output, want) {
				t.Errorf("want %s\n%s\n%s", want, applied.Output, export)
			}
			if planned := tf.Try(t, "plan", "-no-color"); !strings.Contains(planned.Output, "No changes.") {
				t.Errorf("after the import:\n%s", planned.Output)
			}
			for i, key := range w.List(t, w.WorkspaceID) {
				if key.UpdatedAt != before[i].UpdatedAt || key.ID != before[i].ID {
					t.Errorf("key %s was changed", key.ID)
				}
			}
		})
	}
}
