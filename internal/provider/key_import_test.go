package provider

import (
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestParseImportID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]importID{
		"key":                         {keyID: "key"},
		"ws/key":                      {scope: byok.WorkspaceScope("ws"), keyID: "key"},
		"ws/openai/key":               {scope: byok.WorkspaceScope("ws"), providerID: "openai", keyID: "key"},
		"organization/org/openai/key": {scope: byok.OrganizationScope("org"), providerID: "openai", keyID: "key"},
		"organization/org/key":        {scope: byok.OrganizationScope("org"), keyID: "key"},
		"organization/key":            {scope: byok.WorkspaceScope("organization"), keyID: "key"},
	} {
		if got, diags := parseImportID(in); got != want || diags.HasError() {
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
		"organization/o/openai/": `Part 4 of "organization/o/openai/" is empty or contains whitespace. ` + expected,
		"organization/o/a/b/c":   `"organization/o/a/b/c" has 5 parts separated by slashes, which is more than expected: ` + importForms + ".",
		"a/b/c/d":                `"a/b/c/d" has 4 parts separated by slashes, which is more than expected: ` + importForms + ".",
		"https://a/b/":           `"https://a/b/" has 5 parts separated by slashes, which is more than expected: ` + importForms + ".",
	} {
		got, diags := parseImportID(in)
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
		id, diags := parseImportID(in)
		if diags.HasError() {
			return
		}
		parts := []string{id.keyID}
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
