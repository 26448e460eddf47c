package settings

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
)

//go:embed assets templates
var files embed.FS

// assets are the stylesheet, the modules and the icon. Their path contains a
// hash over all of them: modules import each other by relative URLs, and a
// browser keeps what it has for as long as nothing changed.
type assets struct {
	prefix string // /assets/HASH/
	files  map[string]asset
}

type asset struct {
	contentType      string
	plain, compacted []byte
}

// comments are the lines of a module that only its readers need.
var comments = regexp.MustCompile(`(?m)^ *//.*\n`)

// loadAssets reads and compresses the files once for all servers of a process.
var loadAssets = sync.OnceValues(func() (assets, error) {
	loaded := assets{files: map[string]asset{}}
	sum := sha256.New()
	err := fs.WalkDir(files, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("asset %s: no content type is known", name)
		}
		if path.Ext(name) == ".js" {
			text = comments.ReplaceAll(text, nil)
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
		loaded.files[strings.TrimPrefix(name, "assets/")] = asset{contentType: kind, plain: text, compacted: compact(text)}
		return nil
	})
	loaded.prefix = "/assets/" + hex.EncodeToString(sum.Sum(nil))[:16] + "/"
	return loaded, err
})

func compact(text []byte) []byte {
	var b bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = zip.Write(text) // to memory
	_ = zip.Close()
	return b.Bytes()
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := a.files[strings.TrimPrefix(r.URL.Path, a.prefix)]
	if !ok || !strings.HasPrefix(r.URL.Path, a.prefix) {
		http.Error(w, "There is no such file. Reload the page: the server may have been updated.", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", found.contentType)
	write(w, r, http.StatusOK, found.plain, found.compacted)
}
