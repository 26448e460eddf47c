package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// renderedBytes bounds the bodies that a cache of lists holds, uncompressed.
const renderedBytes = 32 << 20

// renderedLists remembers the responses to lists. An entry is found by a digest
// of the very rows that it was made of, sealed keys included, so that it can
// never be out of date: what changes is another entry. It spares opening each
// key for its mask, and compressing. It holds what the API shows, no API key.
type renderedLists struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]*rendered
	bytes   int
}

// shownList says which list a response is of.
type shownList struct {
	owner  keystore.Owner
	suffix string
}

// shownBytes bounds a list that API.shown keeps.
const shownBytes = 64 << 10

// rendered is a body and its compressed form, made when it is first asked for.
type rendered struct {
	body   []byte
	once   sync.Once
	zipped []byte
}

func newRenderedLists() *renderedLists {
	return &renderedLists{entries: map[[sha256.Size]byte]*rendered{}}
}

func (l *renderedLists) get(digest [sha256.Size]byte) *rendered {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[digest]
}

func (l *renderedLists) put(digest [sha256.Size]byte, body []byte) *rendered {
	r := &rendered{body: body}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(body) > renderedBytes/16 || l.entries[digest] != nil {
		return r
	}
	for old, entry := range l.entries { // in no order
		if l.bytes+len(body) <= renderedBytes {
			break
		}
		l.bytes -= len(entry.body)
		delete(l.entries, old)
	}
	l.entries[digest] = r
	l.bytes += len(body)
	return r
}

func (r *rendered) gzip() []byte {
	r.once.Do(func() {
		var out bytes.Buffer
		zip := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(zip)
		zip.Reset(&out)
		_, _ = zip.Write(r.body) // a Buffer takes everything
		_ = zip.Close()
		r.zipped = out.Bytes()
	})
	return r.zipped
}

// digestOf digests everything that a list shows, and what it is opened from.
func digestOf(suffix string, records []keystore.Record) (digest [sha256.Size]byte) {
	text := make([]byte, 0, len(suffix)+400*len(records))
	add := func(part string) {
		text = append(binary.AppendUvarint(text, uint64(len(part))), part...)
	}
	optional := func(part *string) {
		if part == nil {
			text = append(text, 0)
			return
		}
		text = append(text, 1)
		add(*part)
	}
	add(suffix)
	for _, r := range records {
		add(r.ID)
		add(r.ProviderID)
		optional(r.Name)
		add(r.Sealed)
		optional(r.CreatedBy)
		text = binary.AppendVarint(text, r.CreatedAt.UnixMicro())
		text = binary.AppendVarint(text, r.UpdatedAt.UnixMicro())
	}
	return sha256.Sum256(text)
}
