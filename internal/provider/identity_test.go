package provider

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestParseKeyImportID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]importID{
		"key":                         {name: "key"},
		"ws/key":                      {scope: byok.WorkspaceScope("ws"), name: "key"},
		"ws/openai/key":               {scope: byok.WorkspaceScope("ws"), providerID: "openai", name: "key"},
		"organization/org/openai/key": {scope: byok.OrganizationScope("org"), providerID: "openai", name: "key"},
		"organization/org/key":        {scope: byok.OrganizationScope("org"), name: "key"},
	} {
		if got, diags := keyIdentity.parse(in); got != want || diags.HasError() {
			t.Errorf("%q: %+v, %s", in, got, text(diags))
		}
	}
	const expected = "Expected: WORKSPACE_ID/PROVIDER_ID/KEY_ID, WORKSPACE_ID/KEY_ID, or KEY_ID alone with the workspace_id of the provider; organization/ORGANIZATION_ID/PROVIDER_ID/KEY_ID for a key of an organization."
	for in, want := range map[string]string{
		"/key":                   `Part 1 of "/key" is empty or contains whitespace. ` + expected,
		"ws/":                    `Part 2 of "ws/" is empty or contains whitespace. ` + expected,
		"ws//key":                `Part 2 of "ws//key" is empty or contains whitespace. ` + expected,
		"ws/openai/":             `Part 3 of "ws/openai/" is empty or contains whitespace. ` + expected,
		" ":                      `Part 1 of " " is empty or contains whitespace. ` + expected,
		"ws/key\n":               `Part 2 of "ws/key\n" is empty or contains whitespace. ` + expected,
		"":                       "The import ID is empty. " + expected,
		"organization/o":         `"organization/o" ends with the ID of the organization. ` + expected,
		"organization/o/openai/": `Part 4 of "organization/o/openai/" is empty or contains whitespace. ` + expected,
		"organization/o/a/b/c":   `"organization/o/a/b/c" has 5 parts separated by slashes, which is more than expected: ` + keyIdentity.importForms + ".",
		"a/b/c/d":                `"a/b/c/d" has 4 parts separated by slashes, which is more than expected: ` + keyIdentity.importForms + ".",
		"https://a/b/":           `"https://a/b/" has 5 parts separated by slashes, which is more than expected: ` + keyIdentity.importForms + ".",
	} {
		got, diags := keyIdentity.parse(in)
		if want = "error : Invalid import ID: " + want; got != (importID{}) || text(diags) != want {
			t.Errorf("%q: %+v\n%s\nwant\n%s", in, got, text(diags), want)
		}
	}
}

// The examples of the documentation show every form of an import ID.
func TestExamplesHaveEveryImportForm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind *identityKind
		want []importID
	}{
		{&keyIdentity, []importID{
			{scope: byok.WorkspaceScope("11111111-2222-4333-8444-555555555555"), providerID: "openai", name: "V1StGXR8_Z5jdHi6B-myT"},
			{scope: byok.WorkspaceScope("11111111-2222-4333-8444-555555555555"), name: "V1StGXR8_Z5jdHi6B-myT"},
			{name: "V1StGXR8_Z5jdHi6B-myT"},
			{scope: byok.OrganizationScope("org-7f3a"), providerID: "openai", name: "V1StGXR8_Z5jdHi6B-myT"},
		}},
		{&poolIdentity, []importID{
			{scope: byok.WorkspaceScope("11111111-2222-4333-8444-555555555555"), name: "openai"},
			{name: "openai"},
			{scope: byok.OrganizationScope("org-7f3a"), name: "openai"},
		}},
	} {
		script, err := os.ReadFile("../../examples/resources/" + test.kind.typeName + "/import.sh")
		if err != nil {
			t.Fatal(err)
		}
		var got []importID
		for _, match := range regexp.MustCompile(`(?m)^terraform import \S+ (\S+)$`).FindAllStringSubmatch(string(script), -1) {
			id, diags := test.kind.parse(match[1])
			if diags.HasError() {
				t.Errorf("%s: %s", match[0], text(diags))
			}
			got = append(got, id)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.kind.typeName, got, test.want)
		}
	}
}

func TestParsePoolImportID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]importID{
		"openai":                  {name: "openai"},
		"ws/openai":               {scope: byok.WorkspaceScope("ws"), name: "openai"},
		"organization/org/openai": {scope: byok.OrganizationScope("org"), name: "openai"},
	} {
		if got, diags := poolIdentity.parse(in); got != want || diags.HasError() {
			t.Errorf("%q: %+v, %s", in, got, text(diags))
		}
	}
	for in, want := range map[string]string{
		"":                       "The import ID is empty. Expected: " + poolIdentity.importForms + ".",
		"/openai":                `Part 1 of "/openai" is empty or contains whitespace. Expected: ` + poolIdentity.importForms + ".",
		"ws/ openai":             `Part 2 of "ws/ openai" is empty or contains whitespace. Expected: ` + poolIdentity.importForms + ".",
		"organization/openai":    `"organization/openai" ends with the ID of the organization. Expected: ` + poolIdentity.importForms + ".",
		"organization//openai":   `Part 2 of "organization//openai" is empty or contains whitespace. Expected: ` + poolIdentity.importForms + ".",
		"ws/openai/key":          `"ws/openai/key" has 3 parts separated by slashes, which is more than expected: ` + poolIdentity.importForms + ".",
		"organization/o/openai/": `"organization/o/openai/" has 4 parts separated by slashes, which is more than expected: ` + poolIdentity.importForms + ".",
	} {
		got, diags := poolIdentity.parse(in)
		if want = "error : Invalid import ID: " + want; got != (importID{}) || text(diags) != want {
			t.Errorf("%q: %+v\n%s\nwant\n%s", in, got, text(diags), want)
		}
	}
}

func FuzzParseImportID(f *testing.F) {
	for _, seed := range []string{"", "key", "ws/key", "ws/openai/key", "a/b/c/d", " / ", "organization/o/openai/key"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, diags := keyIdentity.parse(in)
		if diags.HasError() {
			return
		}
		parts := []string{id.name}
		if id.providerID != "" {
			parts = append([]string{id.providerID}, parts...)
		}
		if id.scope.ID != "" {
			parts = append([]string{id.scope.String()}, parts...)
		}
		if strings.Join(parts, "/") != in {
			t.Errorf("%q is taken apart into %+v", in, id)
		}
	})
}
