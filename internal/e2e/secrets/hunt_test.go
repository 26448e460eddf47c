package secrets

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// kind is a kind of place where a secret could turn up.
type kind string

const (
	kindState       kind = "state"
	kindPlan        kind = "plan"
	kindPlanJSON    kind = "plan JSON"
	kindStdout      kind = "stdout"
	kindStderr      kind = "stderr"
	kindCoreLog     kind = "log of Terraform"
	kindProviderLog kind = "log of the provider"
	kindCrash       kind = "crash output"
	kindServerLog   kind = "server log"
	kindAuditLog    kind = "audit log"
	kindDatabase    kind = "database"
	kindConfig      kind = "written configuration"
	kindQuery       kind = "results of a query"
)

// allowed says where a canary may be found. Everything else is a leak.
func allowed(c canary, k kind) bool {
	switch c.use {
	case useAPIKey:
		return k == kindState || k == kindPlan || k == kindPlanJSON
	case useBareSession:
		// Where the real server keeps it, too. WIRE.md section 2.
		return k == kindDatabase
	case useControl:
		return true
	}
	return false
}

// place is something that was written while a canary was in use.
type place struct {
	kind kind
	name string
	data []byte
}

// hit is a canary in a place.
type hit struct {
	canary   canary
	encoding string
	place    place
	at       int
}

func (h hit) String() string {
	from, to := max(0, h.at-120), min(len(h.place.data), h.at+80)
	return fmt.Sprintf("%s, %s, in %s %q at byte %d: ...%q...", h.canary, h.encoding, h.place.kind, h.place.name, h.at, h.place.data[from:to])
}

// hunt collects places and searches them for canaries. Safe for concurrent
// use while it collects.
type hunt struct {
	canaries []canary

	mu     sync.Mutex
	places []place
	// stored holds the values that are known to have reached the server.
	stored map[string]bool
	// controlled holds the kinds of places that are known to be searched.
	controlled map[kind]bool
}

func newHunt() *hunt { return &hunt{stored: map[string]bool{}, controlled: map[kind]bool{}} }

func (h *hunt) canary(use use, shape string) canary { return h.add(newCanary(use, shape)) }

func (h *hunt) add(c canary) canary {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canaries = append(h.canaries, c)
	return c
}

// look adds a place. An empty one is none.
func (h *hunt) look(k kind, name string, data []byte) {
	if len(data) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places = append(h.places, place{k, name, bytes.Clone(data)})
}

// has reports whether one place of kind k has all of texts. Such a kind needs
// no other control.
func (h *hunt) has(k kind, texts ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	has := slices.ContainsFunc(h.places, func(p place) bool {
		return p.kind == k && !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(p.data, []byte(text)) })
	})
	h.controlled[k] = h.controlled[k] || has
	return has
}

// search returns one hit for each canary, encoding and place, and how many
// texts it searched for.
func (h *hunt) search() (hits []hit, texts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	needles := newNeedles(h.canaries)
	for _, p := range h.places {
		hits = append(hits, needles.search(p)...)
	}
	return hits, needles.count
}

// report fails the test for every leak, and for every place or canary that the
// search would be blind to: each kind of place must show a control, and state
// and plan each api_key.
func (h *hunt) report(t *testing.T) {
	t.Helper()
	hits, texts := h.search()
	leaks, expected := map[string]bool{}, 0
	seen := map[kind]map[string]bool{}
	for _, hit := range hits {
		if allowed(hit.canary, hit.place.kind) {
			if hit.canary.use == useAPIKey {
				expected++
			}
			if seen[hit.place.kind] == nil {
				seen[hit.place.kind] = map[string]bool{}
			}
			seen[hit.place.kind][hit.canary.value] = true
			continue
		}
		// One line for each way out of a secret is enough to mend it.
		way := fmt.Sprint(hit.canary, hit.encoding, hit.place.kind)
		if !leaks[way] {
			leaks[way] = true
			t.Errorf("LEAK: %s", hit)
		}
	}
	kinds, bytes := map[kind]int{}, 0
	for _, p := range h.places {
		kinds[p.kind]++
		bytes += len(p.data)
	}
	for k := range kinds {
		controlled := h.controlled[k]
		for _, c := range h.canaries {
			controlled = controlled || c.use == useControl && seen[k][c.value]
			if h.stored[c.value] && c.use == useAPIKey && allowed(c, k) && !seen[k][c.value] {
				t.Errorf("the %s is in none of %d places of kind %q, where it must be", c, kinds[k], k)
			}
		}
		if !controlled {
			t.Errorf("no control is in any of %d places of kind %q: what is searched is not what was written", kinds[k], k)
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[k], k))
	}
	totals.add(len(h.places), bytes, len(h.canaries), texts, expected, len(leaks))
	t.Logf("searched %d places (%s; %.1f MB) for %d encodings of %d canaries (%d texts): found api_key where it may be (state and plan) %d times, leaks: %d",
		len(h.places), strings.Join(parts, ", "), float64(bytes)/1e6, len(encodings), len(h.canaries), texts, expected, len(leaks))
}

// needles finds many texts at once: it looks at the first 4 bytes of each in a
// small table, then at the first 8 in a map.
type needles struct {
	maybe [1 << 20 / 64]uint64
	begin map[uint64][]needle
	count int
}

type needle struct {
	text     []byte
	canary   canary
	encoding string
}

// beginLength is the shortest text that can be searched for.
const beginLength = 8

func newNeedles(canaries []canary) *needles {
	n := &needles{begin: map[uint64][]needle{}}
	for _, c := range canaries {
		known := map[string]bool{}
		for _, piece := range c.pieces {
			for _, e := range encodings {
				for _, text := range e.write(piece) {
					if known[text] {
						continue // written as it is in an earlier encoding
					}
					known[text] = true
					n.add(needle{[]byte(text), c, e.name})
				}
			}
		}
	}
	return n
}

func (n *needles) add(needle needle) {
	if len(needle.text) < beginLength {
		panic(fmt.Sprintf("%q is too short to search for", needle.text))
	}
	n.count++
	word, bit := slot(needle.text)
	n.maybe[word] |= bit
	begin := binary.LittleEndian.Uint64(needle.text)
	n.begin[begin] = append(n.begin[begin], needle)
}

// It runs for each of 200 million bytes, which nothing writes meanwhile: the race
// detector would take a minute for it.
//
//go:norace
func slot(text []byte) (word uint32, bit uint64) {
	hash := binary.LittleEndian.Uint32(text) * 2654435761 >> 12
	return hash / 64, 1 << (hash % 64)
}

//go:norace
func (n *needles) search(p place) (hits []hit) {
	type way struct{ canary, encoding string }
	found := map[way]bool{}
	for at := 0; at+beginLength <= len(p.data); at++ {
		rest := p.data[at:]
		word, bit := slot(rest)
		if n.maybe[word]&bit == 0 {
			continue
		}
		for _, needle := range n.begin[binary.LittleEndian.Uint64(rest)] {
			w := way{needle.canary.value, needle.encoding}
			if !found[w] && bytes.HasPrefix(rest, needle.text) {
				found[w] = true
				hits = append(hits, hit{needle.canary, needle.encoding, p, at})
			}
		}
	}
	return hits
}
