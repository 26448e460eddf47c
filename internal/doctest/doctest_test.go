package doctest

import (
	"os"
	"path/filepath"
	"testing"
)

const root = "../.."

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
