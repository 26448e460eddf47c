package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// What is stored uncompressed in gzip's format is read back by a reader that
// checks lengths and sums, for every length.
func TestStoredGzip(t *testing.T) {
	t.Parallel()
	body := make([]byte, storedLimit)
	for i := range body {
		body[i] = byte(7 * i)
	}
	for n := range len(body) + 1 {
		r, err := gzip.NewReader(bytes.NewReader(storedGzip(body[:n])))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body[:n]) {
			t.Fatalf("%d bytes come back as %d, %v", n, len(got), err)
		}
	}
}
