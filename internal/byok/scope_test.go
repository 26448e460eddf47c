package byok_test

import (
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestScope(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scope            byok.Scope
		kind, path, pool string
	}{
		"workspace":    {byok.WorkspaceScope("w 1/x"), "workspace", "/api/workspaces/w%201%2Fx/byok-keys", "w 1/x/openai"},
		"organization": {byok.OrganizationScope("o1"), "organization", "/api/organizations/o1/byok-keys", "organization/o1/openai"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := byok.Pool{Scope: tc.scope, ProviderID: "openai"}
			if tc.scope.Kind.String() != tc.kind || tc.scope.KeysPath() != tc.path || pool.String() != tc.pool {
				t.Errorf("got %s, %s, %s, want %s, %s, %s", tc.scope.Kind, tc.scope.KeysPath(), pool, tc.kind, tc.path, tc.pool)
			}
		})
	}
	ordered := []byok.Pool{
		{Scope: byok.WorkspaceScope("a"), ProviderID: "x"},
		{Scope: byok.WorkspaceScope("a"), ProviderID: "y"},
		{Scope: byok.WorkspaceScope("b"), ProviderID: "x"},
		{Scope: byok.OrganizationScope("a"), ProviderID: "x"},
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := a.Compare(b), min(max(i-j, -1), 1); got != want {
				t.Errorf("%s against %s: %d, want %d", a, b, got, want)
			}
		}
	}
}
