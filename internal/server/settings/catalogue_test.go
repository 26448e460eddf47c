package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The documentation's table of provider IDs has the names and uses of the page.
func TestCatalogueInDocumentation(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile(filepath.Join("..", "..", "..", "templates", "index.md.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range catalogue() {
		for _, p := range section.Providers {
			if want := "\n| `" + p.ID + "` | " + p.Name + " | " + p.Use + " | "; !strings.Contains(string(table), want) {
				t.Errorf("the table lacks the row %s", want)
			}
		}
	}
}
