package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest   = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")
	inAMark     = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]*`)
	definedTest = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]*)\(t \*testing\.T\)`)
)

// Every test that the test report and the architecture name exists, and so does
// every one that a shell block names in place of being run.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	defined := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of this repository
		for _, match := range definedTest.FindAllSubmatch(text, -1) {
			defined[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, document := range []string{"TESTING.md", "ARCHITECTURE.md"} {
		for _, match := range namedTest.FindAllStringSubmatch(read(t, document), -1) {
			n++
			if !defined[match[1]] {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
	}
	for _, page := range pages(t) {
		for _, mark := range block.FindAllStringSubmatch(page.text, -1) {
			for _, name := range inAMark.FindAllString(mark[2], -1) {
				n++
				if !defined[name] {
					t.Errorf("%s names %s, which does not exist", page.path, name)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d names found", n)
	}
}
