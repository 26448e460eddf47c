package doctest

import (
	"regexp"
	"slices"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The first page lists the provider IDs that the code knows, in the same order.
func TestIndexHasEveryProviderID(t *testing.T) {
	t.Parallel()
	section := regexp.MustCompile(`(?s)\n## Provider IDs\n(.*?)\n## `).FindStringSubmatch(read(t, "templates/index.md.tmpl"))
	if section == nil {
		t.Fatal("no section on provider IDs")
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(section[1], -1) {
		listed = append(listed, row[1])
	}
	if want := byok.ProviderIDs(); !slices.Equal(listed, want) {
		t.Errorf("the page lists %q, the code has %q", listed, want)
	}
}
