package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "https://github.com/terraform-provider-byok/terraform-provider-byok/"

var (
	code       = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	fence      = regexp.MustCompile("(?s)```.*?```")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchors    = regexp.MustCompile(`<a id="([^"]+)">`)
	notInASlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// pictures is what the address of a picture begins with, for the registry.
const pictures = "https://raw.githubusercontent.com/terraform-provider-byok/terraform-provider-byok/main/"

// Every link between documents leads to a file, and to a heading or an anchor
// in it.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents := []string{"README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "SUPPORT.md", "CHANGELOG.md", "ARCHITECTURE.md", "TESTING.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			path, err = filepath.Rel(root, path)
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, document := range documents {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, document), "code"), -1) {
			n++
			if problem := followLink(t, document, match[1]); problem != "" {
				t.Errorf("%s: %s: %s", document, match[1], problem)
			}
		}
	}
	if n < 80 {
		t.Errorf("only %d links found", n)
	}
}

func followLink(t *testing.T, document, target string) string {
	t.Helper()
	file, anchor, _ := strings.Cut(target, "#")
	switch {
	case strings.HasPrefix(target, repository):
		kind, path, _ := strings.Cut(strings.TrimPrefix(target, repository), "/main/")
		if kind != "tree" && kind != "blob" {
			return "" // a page of GitHub
		}
		file = path
	case strings.HasPrefix(target, pictures):
		file = strings.TrimPrefix(target, pictures)
	case strings.HasPrefix(target, "https://"):
		return ""
	case strings.HasSuffix(file, ".webp") && strings.HasPrefix(document, "docs"):
		return "the registry shows no picture with a relative address"
	case file == "":
		file = document
	default:
		file = filepath.Join(filepath.Dir(document), file)
	}
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		return "no such file"
	}
	if anchor == "" {
		return ""
	}
	text := read(t, file)
	for _, match := range anchors.FindAllStringSubmatch(text, -1) {
		if match[1] == anchor {
			return ""
		}
	}
	for _, match := range headings.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.ReplaceAll(notInASlug.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-") == anchor {
			return ""
		}
	}
	return "no such heading or anchor"
}

// Every page has what the registry shows, and another page links to it.
func TestPages(t *testing.T) {
	t.Parallel()
	var linked strings.Builder
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(page.text, -1) {
			linked.WriteString(filepath.Base(match[1]) + "\n")
		}
	}
	for _, page := range pages(t) {
		path, ok := strings.CutPrefix(page.path, "templates/")
		if !ok {
			continue
		}
		if !regexp.MustCompile(`^---\npage_title: ".+"\n(subcategory: ".*"\n)?description: \|-\n  \S.*\n---\n\n# `).MatchString(page.text) {
			t.Errorf("%s does not begin with page_title, subcategory and description, and a heading", page.path)
		}
		if target := filepath.Base(strings.TrimSuffix(path, ".tmpl")); target != "index.md" && !strings.Contains(linked.String(), target) {
			t.Errorf("no page links to %s", path)
		}
	}
}
