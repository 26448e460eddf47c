package faults

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// operation is one request about one pool, with its outcome.
type operation struct {
	client  int
	action  action
	key     storedKey // what a write sends; the ID of an add is that of the response
	renames bool      // of a replace: it sends a name
	outcome outcome
	// seen is what the response shows: all keys of a list; the key of a resolve,
	// or none; the key of an add or a replace.
	seen []storedKey
	// call and end are when the client sent the request and got the outcome, in
	// nanoseconds since the history began.
	call, end int64
}

type action string

const (
	add        action = "add"
	replace    action = "replace"
	remove     action = "delete"
	list       action = "list"
	resolveKey action = "resolve"
)

type outcome string

const (
	done      outcome = "done"
	full      outcome = "refused: full"
	notFound  outcome = "refused: not found"
	unchanged outcome = "refused: nothing was changed"
	unknown   outcome = "unknown"
)

// storedKey is a key of the model. What shows a part of it leaves the others
// empty: a list shows no secret, a resolve no name. Each write of a history has
// a name, a secret and a mask of its own.
type storedKey struct{ id, name, secret, mask string }

func (k storedKey) String() string { return k.id + "(" + k.name + " " + k.mask + ")" }

// shows reports whether what a response shows fits a key.
func (k storedKey) shows(of storedKey) bool {
	return k.id == of.id && (k.name == "" || k.name == of.name) && (k.secret == "" || k.secret == of.secret) && k.mask == of.mask
}

func (o operation) String() string {
	return fmt.Sprintf("client %d, %.3f to %.3f s: %s %v %s %v", o.client, float64(o.call)/1e9, float64(o.end)/1e9, o.action, o.key, o.outcome, o.seen)
}

// poolState is the state of the model: a pool by key ID. It can be compared with
// ==, as porcupine does. Rotation order is checked apart (outOfOrder): adds that
// run side by side would have as many outcomes as orders.
type poolState struct {
	size int
	keys [byok.Cap]storedKey
}

func byID(a, b storedKey) int { return cmp.Compare(a.id, b.id) }

func (s poolState) index(id string) int {
	return slices.IndexFunc(s.keys[:s.size], func(k storedKey) bool { return k.id == id })
}

// step is what a pool promises: at most byok.Cap keys; a replace keeps the name
// where it sends none; a list shows the whole pool; a resolve returns a key of
// the pool, and none only if the pool is empty. Which key that is depends on the
// instance, so that rotation is checked apart. It reports whether the operation
// can have had its outcome.
func (s poolState) step(o operation) (poolState, bool) {
	at := s.index(o.key.id)
	switch {
	case o.outcome == full:
		return s, s.size == byok.Cap
	case o.outcome == notFound:
		return s, at < 0
	case o.action == add:
		if s.size == byok.Cap || at >= 0 {
			return s, false
		}
		at, _ = slices.BinarySearchFunc(s.keys[:s.size], o.key, byID)
		copy(s.keys[at+1:], s.keys[at:s.size])
		s.keys[at] = o.key
		s.size++
		return s, len(o.seen) == 0 || o.seen[0].shows(o.key)
	case o.action == replace:
		if at < 0 {
			return s, false
		}
		name := s.keys[at].name
		s.keys[at] = o.key
		if !o.renames {
			s.keys[at].name = name
		}
		return s, len(o.seen) == 0 || o.seen[0].shows(s.keys[at])
	case o.action == remove:
		if at < 0 {
			return s, o.outcome == unknown
		}
		s.size--
		copy(s.keys[at:], s.keys[at+1:])
		s.keys[s.size] = storedKey{}
		return s, true
	case o.action == list:
		return s, slices.EqualFunc(o.seen, s.keys[:s.size], storedKey.shows)
	case len(o.seen) == 0: // a resolve
		return s, s.size == 0
	default:
		at := s.index(o.seen[0].id)
		return s, at >= 0 && o.seen[0].shows(s.keys[at])
	}
}

// settle says when requests with an unknown outcome can have had an effect, and
// leaves out those that had none that matters, so that a check need not try each
// of them at every later moment. The last operation is a list, sent when all
// others had ended.
//
//   - A write whose name or mask was seen was done before the first response that
//     shows it had arrived.
//   - A write of which nothing was ever seen can be left out. A key that nobody
//     saw can be deleted by nobody, so that an add that filled the pool would be
//     in the last list.
//   - A delete was done after the last request that still saw the key, and before
//     the last list. It had no effect where the key is in that list, or where
//     another delete was acknowledged.
func settle(history []operation) []operation {
	last := history[len(history)-1]
	ids, firstSeen := map[string]string{}, map[string]int64{} // by name and by mask
	lastSeen := map[string]int64{}                            // by ID
	deleted := map[string]bool{}
	for _, o := range history {
		deleted[o.key.id] = deleted[o.key.id] || o.action == remove && o.outcome == done
		for _, k := range o.seen {
			lastSeen[k.id] = max(lastSeen[k.id], o.call)
			for _, token := range []string{k.name, k.mask} {
				if first, ok := firstSeen[token]; !ok || o.end < first {
					ids[token], firstSeen[token] = k.id, o.end
				}
			}
		}
	}
	var settled []operation
	for _, o := range history {
		o.seen = slices.SortedFunc(slices.Values(o.seen), byID)
		if o.outcome != unknown {
			if o.outcome != unchanged {
				settled = append(settled, o)
			}
			continue
		}
		switch o.action {
		case list, resolveKey:
			continue
		case remove:
			if deleted[o.key.id] || slices.ContainsFunc(last.seen, func(k storedKey) bool { return k.id == o.key.id }) {
				continue
			}
			o.call, o.end = max(o.call, lastSeen[o.key.id]), last.end
		default:
			seen := false
			o.end = last.end
			for _, token := range []string{o.key.name, o.key.mask} {
				if first, ok := firstSeen[token]; ok && token != "" {
					seen = true
					o.key.id, o.end = ids[token], min(o.end, first)
				}
			}
			if !seen {
				continue
			}
			o.end = max(o.end, o.call) // seen before it was sent: no order fits
		}
		settled = append(settled, o)
	}
	return settled
}

// outOfOrder checks rotation order: every list shows a pool in the same order,
// with each key behind those whose add had ended before its own was sent. It
// returns what contradicts that, or "".
func outOfOrder(history []operation) string {
	adds := map[string]operation{}
	for _, o := range history {
		if o.action == add && o.outcome == done {
			adds[o.key.id] = o
		}
	}
	type pair struct{ first, second string }
	shown := map[pair]bool{}
	for _, o := range history {
		if o.action != list {
			continue
		}
		for i, first := range o.seen {
			for _, second := range o.seen[i+1:] {
				shown[pair{first.id, second.id}] = true
				a, b := adds[first.id], adds[second.id]
				if shown[pair{second.id, first.id}] || a.end != 0 && b.end != 0 && b.end < a.call {
					return fmt.Sprintf("wrong order: %v before %v in %v, after\n  %v\n  %v\n", first, second, o, b, a)
				}
			}
		}
	}
	return ""
}

// checkTimeout bounds the search for an order.
const checkTimeout = 2 * time.Minute

// linearizable looks for an order of a pool's operations in which each takes
// effect at one moment between its call and its end. It returns why there is
// none, or "". artifacts is a folder for the picture of a history without one.
func linearizable(history []operation, artifacts string) string {
	model := porcupine.Model{
		Init: func() any { return poolState{} },
		Step: func(state, input, _ any) (bool, any) {
			next, ok := state.(poolState).step(input.(operation))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return input.(operation).String() },
		DescribeState: func(state any) string {
			s := state.(poolState)
			return fmt.Sprint(s.keys[:s.size])
		},
	}
	if why := outOfOrder(history); why != "" {
		return why
	}
	settled := settle(history)
	operations := make([]porcupine.Operation, len(settled))
	for i, o := range settled {
		operations[i] = porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: o.end}
	}
	switch porcupine.CheckOperationsTimeout(model, operations, checkTimeout) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("%d operations were not checked within %s", len(operations), checkTimeout)
	}
	_, info := porcupine.CheckOperationsVerbose(model, operations, checkTimeout)
	picture := filepath.Join(artifacts, "history.html")
	if err := porcupine.VisualizePath(model, info, picture); err != nil {
		picture = err.Error()
	}
	return explain(settled, info.PartialLinearizationsOperations()[0]) + "picture: " + picture
}

// explain says where the longest order that fits comes to its end.
func explain(settled []operation, orders [][]porcupine.Operation) string {
	var longest []porcupine.Operation
	for _, order := range orders {
		if len(order) > len(longest) {
			longest = order
		}
	}
	state := poolState{}
	placed := map[string]bool{}
	for _, o := range longest {
		state, _ = state.step(o.Input.(operation))
		placed[o.Input.(operation).String()] = true
	}
	left := slices.DeleteFunc(slices.Clone(settled), func(o operation) bool { return placed[o.String()] })
	slices.SortFunc(left, func(a, b operation) int { return cmp.Compare(a.end, b.end) })
	var text strings.Builder
	fmt.Fprintf(&text, "no order fits: after %d of %d operations the pool is %v, and then none of these fits:\n", len(longest), len(settled), state.keys[:state.size])
	for _, o := range left[:min(len(left), 5)] {
		fmt.Fprintf(&text, "  %v\n", o)
	}
	return text.String()
}

// written is a key as write n of a history sends it.
func written(id string, n int) storedKey {
	k := storedKey{id: id, name: fmt.Sprintf("w%d", n), secret: fmt.Sprintf("sk-%03d-history-%04d", n/10000, n%10000)}
	k.mask = byok.Mask(k.secret)
	return k
}

// listed and served are what a list and a resolve show of a key.
func (k storedKey) listed() storedKey { k.secret = ""; return k }
func (k storedKey) served() storedKey { k.name = ""; return k }

// The check of a history finds what it is to find, and nothing else. Each
// operation lasts from its place in the row to the next; those with an unknown
// outcome last until the end.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	a, b, c := written("a", 1), written("b", 2), written("c", 3)
	anew := written("a", 4)
	rotated := anew
	rotated.name = a.name
	added := func(k storedKey) operation {
		return operation{action: add, key: k, outcome: done, seen: []storedKey{k.listed()}}
	}
	lists := func(keys ...storedKey) operation {
		o := operation{action: list, outcome: done}
		for _, k := range keys {
			o.seen = append(o.seen, k.listed())
		}
		return o
	}
	resolves := func(keys ...storedKey) operation {
		o := operation{action: resolveKey, outcome: done}
		for _, k := range keys {
			o.seen = append(o.seen, k.served())
		}
		return o
	}
	replaces := func(k storedKey, outcome outcome) operation {
		return operation{action: replace, key: k, renames: true, outcome: outcome}
	}
	removes := func(id string, outcome outcome) operation {
		return operation{action: remove, key: storedKey{id: id}, outcome: outcome}
	}
	lost := func(k storedKey) operation { k.id = ""; return operation{action: add, key: k, outcome: unknown} }
	var ten []operation
	var tenKeys []storedKey
	for i := range byok.Cap {
		k := written(fmt.Sprintf("k%d", i), 100+i)
		ten, tenKeys = append(ten, added(k)), append(tenKeys, k)
	}
	after := func(first []operation, rest ...operation) []operation { return append(slices.Clone(first), rest...) }
	for name, tc := range map[string]struct {
		history []operation
		want    bool
	}{
		"a pool's life": {[]operation{
			lists(), resolves(), added(a), added(b), lists(a, b), resolves(b), replaces(anew, done), lists(anew, b),
			removes("b", done), removes("b", notFound), replaces(b, notFound), resolves(anew), lists(anew),
		}, true},
		"a full pool":                     {after(ten, operation{action: add, key: storedKey{}, outcome: full}, lists(tenKeys...)), true},
		"an eleventh key":                 {after(ten, added(a), lists(tenKeys...)), false},
		"full too early":                  {[]operation{added(a), {action: add, outcome: full}, lists(a)}, false},
		"an add that was lost":            {[]operation{added(a), lists()}, false},
		"an add that stands first":        {[]operation{added(a), added(b), lists(b, a)}, false},
		"a name without its secret":       {[]operation{added(a), replaces(anew, done), lists(storedKey{a.id, anew.name, a.secret, a.mask})}, false},
		"a replace that was lost":         {[]operation{added(a), replaces(anew, done), lists(a)}, false},
		"a name that is kept":             {[]operation{added(a), {action: replace, key: rotated, outcome: done}, lists(rotated)}, true},
		"a name that is lost":             {[]operation{added(a), {action: replace, key: anew, outcome: done}, lists(anew)}, false},
		"a key that moved":                {[]operation{added(a), added(b), replaces(anew, done), lists(b, anew)}, false},
		"a key that moves":                {[]operation{lost(a), lost(b), lists(b, a), lists(a, b)}, false},
		"a deleted key in a list":         {[]operation{added(a), removes("a", done), lists(a)}, false},
		"a deleted key that serves":       {[]operation{added(a), added(b), removes("a", done), resolves(a), lists(b)}, false},
		"an old secret that serves":       {[]operation{added(a), replaces(anew, done), resolves(a), lists(anew)}, false},
		"none of a pool with keys":        {[]operation{added(a), resolves(), lists(a)}, false},
		"a delete twice":                  {[]operation{added(a), removes("a", done), removes("a", done), lists()}, false},
		"not found, though it is there":   {[]operation{added(a), removes("a", notFound), lists(a)}, false},
		"a list that goes back":           {[]operation{added(a), lists(a), lists(), lists(a)}, false},
		"unknown add, done":               {[]operation{lost(a), added(b), lists(a, b)}, true},
		"unknown add, done later":         {[]operation{lost(a), added(b), lists(b), lists(b, a)}, true},
		"unknown add, not done":           {[]operation{lost(a), added(b), lists(b)}, true},
		"unknown add, done twice":         {[]operation{lost(a), lists(a, storedKey{"x", a.name, a.secret, a.mask})}, false},
		"unknown add, undone":             {[]operation{lost(a), lists(a), lists()}, false},
		"seen before it was sent":         {[]operation{lists(a), lost(a), lists(a)}, false},
		"unknown replace, done":           {[]operation{added(a), replaces(anew, unknown), lists(a), resolves(anew), lists(anew)}, true},
		"unknown replace, not done":       {[]operation{added(a), replaces(anew, unknown), lists(a)}, true},
		"unknown replace, done by halves": {[]operation{added(a), replaces(anew, unknown), lists(storedKey{a.id, anew.name, a.secret, a.mask})}, false},
		"unknown replace, undone":         {[]operation{added(a), replaces(anew, unknown), resolves(anew), lists(a)}, false},
		"unknown delete, done later":      {[]operation{added(a), removes("a", unknown), resolves(a), added(c), lists(c)}, true},
		"unknown delete, not done":        {[]operation{added(a), removes("a", unknown), lists(a)}, true},
		"unknown delete, done by another": {[]operation{added(a), removes("a", unknown), removes("a", done), lists()}, true},
		"unknown delete of another key":   {[]operation{added(a), added(b), removes("a", unknown), lists(a)}, false},
		"refused, but done":               {[]operation{added(a), replaces(anew, unchanged), lists(anew)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range tc.history {
				tc.history[i].call, tc.history[i].end = int64(10*i), int64(10*i+9)
			}
			if why := linearizable(tc.history, t.TempDir()); (why == "") != tc.want {
				t.Errorf("fits %t, want %t\n%s", why == "", tc.want, why)
			}
		})
	}
}
