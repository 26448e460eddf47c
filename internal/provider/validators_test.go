package provider

import (
	"strings"
	"testing"
)

func TestChecks(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		check   stringCheck
		value   string
		problem string // beginning of the error, if any
		warning string // beginning of the warning, if any
	}{
		"known provider ID":      {providerIDCheck, "openai", "", ""},
		"new provider ID":        {providerIDCheck, "newcomer", "", `"newcomer" is not a provider ID that this version of the provider recognizes. It is sent`},
		"misspelt provider ID":   {providerIDCheck, "antropic", "", `"antropic" is not a provider ID that this version of the provider recognizes. Did you mean "anthropic"?`},
		"provider ID in capital": {providerIDCheck, "OpenAI", `"OpenAI" is not a provider ID: 1 to 64 lower-case letters, digits, underscores and hyphens, with a letter or digit at both ends. Did you mean "openai"?`, ""},
		"empty provider ID":      {providerIDCheck, "", `"" is not a provider ID`, ""},
		"API key in its place":   {providerIDCheck, secretA, "The value of 24 characters is not a provider ID", ""},
		"name":                   {nameCheck, "prod", "", ""},
		"name of 120":            {nameCheck, " " + strings.Repeat("🔑", 60) + "\t", "", ""},
		"name of 121":            {nameCheck, strings.Repeat("🔑", 60) + "a", "The name has 121 characters, at most 120 are allowed.", ""},
		"NUL in a name":          {nameCheck, "a\x00", "A name cannot contain a NUL character (U+0000).", ""},
		"API key":                {apiKeyCheck, secretA, "", ""},
		"empty API key":          {apiKeyCheck, "", "The API key is empty. To leave it out, use null.", ""},
		"NUL in an API key":      {apiKeyCheck, "a\x00", "An API key cannot contain a NUL character (U+0000).", ""},
		"blank API key":          {apiKeyCheck, " \n", "", "The API key is nothing but whitespace."},
		"newline at the end":     {apiKeyCheck, secretA + "\n", "", "The API key begins or ends with whitespace"},
		"BOM at the beginning":   {apiKeyCheck, "\ufeff" + secretA, "", "The API key begins or ends with whitespace"},
		"newline inside":         {apiKeyCheck, "-----BEGIN\nEND-----", "", ""},
		"workspace ID":           {idChecks[defaultKind], "0b8b5f9e-0000-4000-8000-000000000000", "", ""},
		"empty workspace ID":     {idChecks[defaultKind], "", `"" is not a workspace ID`, ""},
		"URL for a workspace ID": {idChecks[defaultKind], "https://sim.test/workspace/x", `"https://sim.test/workspace/x" is not a workspace ID`, ""},
	} {
		summary, problem, warning := tc.check.check(tc.value)
		if (problem == "") != (tc.problem == "") || !strings.HasPrefix(problem, tc.problem) {
			t.Errorf("%s: error %q, want %q", title, problem, tc.problem)
		}
		if (warning == "") != (tc.warning == "") || !strings.HasPrefix(warning, tc.warning) {
			t.Errorf("%s: warning %q, want %q", title, warning, tc.warning)
		}
		if (summary != "") != (problem+warning != "") {
			t.Errorf("%s: summary %q", title, summary)
		}
		if strings.Contains(problem+warning, secretA) {
			t.Errorf("%s: the text holds the secret", title)
		}
	}
}
