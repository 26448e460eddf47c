package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// randomPlan is a random plan: what is stored, what Terraform would call for it and
// under which constraints, and the outcome that the ledger has to find.
type randomPlan struct {
	cap         int
	parallelism int
	crowdedAt   int // from so many waiting creates on, there is a warning
	takeover    time.Duration
	stored      map[string][]byok.Key // by workspace ID
	listTakes   map[string]time.Duration
	listFails   map[string]bool
	nodes       []*node
	truth       map[byok.Pool]*truth

	// decidable says that the plan is inside of what can be decided: at least
	// two calls at a time, no key that goes waits for a call that may wait for
	// it, and nothing that is not ours takes as long as the quiet time.
	decidable bool
	// exact says that, in addition, nothing at all waits for a call that may
	// wait, so that a settled error shows the figures of the whole plan.
	exact bool
}

// node is one resource instance: Terraform makes its calls one after the other
// once those it depends on are done.
type node struct {
	steps     []step
	dependsOn []int
}

// step is one call of a node, or, without a call, work of another provider.
type step struct {
	op            op
	pool          byok.Pool
	keyID         string
	from          byok.Pool     // of a replace
	gap           time.Duration // before the call
	before, after time.Duration // within the call, around what it tells the ledger
}

type op uint8

const (
	opForeign op = iota // no call of ours
	opOther             // a call of ours that tells nothing: a data source
	opRead
	opKeep
	opRemove
	opReplace
	opCreate
)

// truth is what a plan really does to a pool.
type truth struct {
	going    map[string]bool // stored keys that go
	kept     map[string]bool
	declared map[string]bool
	added    int
	replaced int
	inPlace  int // of the replaced, those within the pool
}

const (
	simulatedQuiet = 3 * time.Second
	noTakeover     = time.Hour
)

var errList = errors.New("list failed")

func (w *randomPlan) over(pool byok.Pool) bool {
	t := w.truth[pool]
	if t.added == 0 || w.listFails[pool.Scope.ID] {
		return false
	}
	return len(w.pool(pool))-len(t.going)+t.added > w.cap
}

// waiting is the number of creates that wait for removals.
func (w *randomPlan) waiting(pool byok.Pool) int {
	t := w.truth[pool]
	if w.listFails[pool.Scope.ID] {
		return 0
	}
	return max(0, t.added-t.inPlace-max(0, w.cap-len(w.pool(pool))))
}

func (w *randomPlan) pool(pool byok.Pool) []byok.Key {
	var keys []byok.Key
	for _, key := range w.stored[pool.Scope.ID] {
		if key.ProviderID == pool.ProviderID {
			keys = append(keys, key)
		}
	}
	return keys
}

// want is what an error with the figures of the whole plan says.
func (w *randomPlan) want(pool byok.Pool) OverCap {
	t := w.truth[pool]
	want := OverCap{Pool: pool, Cap: w.cap, Added: t.added, Replaced: t.replaced, Settled: true}
	keys := w.pool(pool)
	want.Stored, want.Removed = len(keys), len(t.going)
	for _, key := range keys {
		if t.kept[key.ID] {
			want.Kept++
		}
		if !t.declared[key.ID] {
			want.Unmanaged = append(want.Unmanaged, key)
		}
	}
	slices.SortFunc(want.Unmanaged, rotationOrder)
	want.Certain = want.Kept+want.Added > w.cap
	return want
}

// newRandomPlan makes the plan of a seed.
func newRandomPlan(seed uint64) *randomPlan {
	r := rand.New(rand.NewPCG(seed, 0))
	g := &generator{Rand: r, randomPlan: &randomPlan{
		cap:         1 + r.IntN(10),
		parallelism: 1 + r.IntN(10),
		crowdedAt:   1 + r.IntN(10),
		takeover:    []time.Duration{noTakeover, noTakeover, noTakeover, DefaultTakeover, 5 * time.Second}[r.IntN(5)],
		stored:      map[string][]byok.Key{},
		listTakes:   map[string]time.Duration{},
		listFails:   map[string]bool{},
		truth:       map[byok.Pool]*truth{},
		decidable:   r.IntN(4) > 0,
	}}
	g.refresh = r.IntN(4) > 0
	if g.decidable {
		g.parallelism = max(2, g.parallelism)
	}
	for i := range 1 + r.IntN(4) {
		pool := byok.Pool{Scope: byok.WorkspaceScope(fmt.Sprintf("ws%d", i/2)), ProviderID: fmt.Sprintf("p%d", i)}
		g.pools = append(g.pools, pool)
		g.truth[pool] = &truth{going: map[string]bool{}, kept: map[string]bool{}, declared: map[string]bool{}}
		if i%2 == 0 {
			g.listTakes[pool.Scope.ID] = g.upTo(4 * time.Second)
			g.listFails[pool.Scope.ID] = r.IntN(12) == 0
		}
	}
	for _, pool := range g.pools {
		g.fill(pool)
	}
	for _, pool := range g.pools {
		g.addKeys(pool)
	}
	g.addOthers()
	r.Shuffle(len(g.nodes), func(i, j int) { g.nodes[i], g.nodes[j] = g.nodes[j], g.nodes[i] })
	g.addDependencies()
	return g.randomPlan
}

type generator struct {
	*rand.Rand
	*randomPlan
	refresh bool
	pools   []byok.Pool
	ids     int
}

// fill stores keys in a pool and plans what becomes of them.
func (g *generator) fill(pool byok.Pool) {
	t := g.truth[pool]
	stored := g.cap
	switch g.IntN(8) {
	case 0, 1, 2:
		stored = g.IntN(g.cap + 1)
	case 3:
		stored = g.cap + g.IntN(3) // the cap was larger once
	}
	unmanaged := 0
	if g.IntN(2) == 0 {
		unmanaged = g.IntN(stored + 1)
	}
	for i := range stored {
		id := g.newID()
		g.stored[pool.Scope.ID] = append(g.stored[pool.Scope.ID], byok.Key{ID: id, ProviderID: pool.ProviderID, CreatedAt: fmt.Sprint(g.IntN(5))})
		if i < unmanaged {
			if g.IntN(10) == 0 { // an import block
				t.kept[id], t.declared[id] = true, true
				g.add(opOther, byok.Pool{}, "", opRead, pool, id, opKeep, pool, id)
			}
			continue
		}
		g.plan(pool, id)
	}
	if g.IntN(6) == 0 { // deleted elsewhere
		id := g.newID()
		if g.refresh {
			t.added++
			g.add(opOther, byok.Pool{}, "", opCreate, pool, "")
		} else {
			g.add(opKeep, pool, id)
		}
	}
}

// plan decides the outcome of a managed key.
func (g *generator) plan(pool byok.Pool, id string) {
	t := g.truth[pool]
	var calls []any
	if g.refresh {
		calls = []any{opRead, pool, id}
	}
	switch n := g.IntN(100); {
	case n < 5: // not targeted
	case n < 55:
		t.kept[id], t.declared[id] = true, true
		g.add(append(calls, g.twice(opKeep, pool, id)...)...)
	case n < 75: // read before, after, or not at all
		t.going[id], t.declared[id] = true, true
		remove := g.twice(opRemove, pool, id)
		if g.IntN(2) == 0 {
			g.add(append(remove, calls...)...)
		} else {
			g.add(append(calls, remove...)...)
		}
	case n < 83: // an argument forces a replace
		t.going[id], t.declared[id] = true, true
		t.added++
		t.replaced++
		t.inPlace++
		g.add(slices.Concat(calls, g.twice(opReplace, pool, id), g.twice(opCreate, pool, id))...)
	case n < 88: // -replace
		t.going[id], t.declared[id] = true, true
		t.added++
		t.replaced++
		t.inPlace++
		g.add(slices.Concat(calls, g.twice(opKeep, pool, id), g.twice(opCreate, pool, id))...)
	case n < 95 && (g.refresh || !g.decidable): // tainted
		t.going[id] = true
		t.declared[id] = g.refresh
		if !g.refresh {
			delete(t.declared, id)
		}
		t.added++
		g.add(append(calls, opCreate, pool, "")...)
	default: // moves to another pool
		other := g.pools[g.IntN(len(g.pools))]
		if other == pool {
			other.ProviderID = "unknown at plan"
		}
		t.going[id], t.declared[id] = true, true
		if o := g.truth[other]; o != nil {
			o.added++
			o.replaced++
			n := len(g.nodes)
			g.add(slices.Concat(calls, g.twice(opReplace, other, id), g.twice(opCreate, other, id))...)
			for i := range g.nodes[n].steps {
				g.nodes[n].steps[i].from = pool
				if g.nodes[n].steps[i].op == opRead {
					g.nodes[n].steps[i].pool = pool
				}
			}
		} else {
			g.add(slices.Concat(calls, []any{opRemove, pool, id, opOther, other, ""})...)
		}
	}
}

// addKeys plans new keys so that the pool ends up near its cap.
func (g *generator) addKeys(pool byok.Pool) {
	t := g.truth[pool]
	end := len(g.randomPlan.pool(pool)) - len(t.going) + t.added
	for range g.cap + []int{-1, 0, 0, 1, 1, 2}[g.IntN(6)] - end {
		t.added++
		g.add(opCreate, pool, "")
	}
}

// addOthers adds data sources and resources of other providers.
func (g *generator) addOthers() {
	for range g.IntN(4) {
		g.add(opOther, byok.Pool{}, "")
	}
	foreign := g.IntN(4)
	for range foreign {
		most := 10 * time.Second
		if g.decidable { // all of them, one after the other, are not quiet enough
			most = (simulatedQuiet - 200*time.Millisecond) / time.Duration(foreign)
		}
		g.nodes = append(g.nodes, &node{steps: []step{{op: opForeign, gap: g.upTo(most)}}})
	}
}

// addDependencies lets nodes depend on earlier ones.
func (g *generator) addDependencies() {
	g.exact = g.decidable && g.takeover == noTakeover
	for _, n := range g.nodes { // the keep before a -replace
		if last := n.steps[len(n.steps)-1]; last.op == opCreate && g.mayWait(&node{steps: n.steps[:len(n.steps)-1]}) {
			g.exact = false
		}
	}
	if g.IntN(3) == 0 {
		return
	}
	// A node is held up by the calls that may wait in those it depends on.
	heldUp := make([]bool, len(g.nodes))
	for i, n := range g.nodes {
		if i == 0 {
			continue
		}
		for range g.IntN(3) {
			j := g.IntN(i)
			held := heldUp[j] || g.mayWait(g.nodes[j])
			if held && g.decidable && g.goes(n) {
				continue
			}
			n.dependsOn = append(n.dependsOn, j)
			heldUp[i] = heldUp[i] || held
		}
		if heldUp[i] && n.steps[0].op != opForeign {
			g.exact = false
		}
	}
}

// mayWait says whether a call of the node can be held up by the ledger: a
// create can, a keep only in the place of a create that was taken over, or where
// the list failed.
func (g *generator) mayWait(n *node) bool {
	return slices.ContainsFunc(n.steps, func(s step) bool {
		return s.op == opCreate || s.op == opReplace || s.op == opKeep && g.takeover != noTakeover
	})
}

// goes says whether the node tells of a key that goes: one that it removes, or
// the old key of a replace.
func (g *generator) goes(n *node) bool {
	return slices.ContainsFunc(n.steps, func(s step) bool {
		return s.op == opRemove || s.op == opReplace || s.op == opCreate && len(n.steps) > 1
	})
}

// add makes a node of calls: op, pool, key ID, and so on.
func (g *generator) add(calls ...any) {
	if len(calls) == 0 {
		return
	}
	n := &node{}
	longest := 200 * time.Millisecond
	if g.IntN(8) == 0 {
		longest = 8 * time.Second // a slow API
	}
	for i := 0; i < len(calls); i += 3 {
		gap := g.upTo(50 * time.Millisecond)
		if !g.decidable && g.IntN(16) == 0 {
			gap = g.upTo(6 * time.Second)
		}
		n.steps = append(n.steps, step{
			op: calls[i].(op), pool: calls[i+1].(byok.Pool), from: calls[i+1].(byok.Pool), keyID: calls[i+2].(string),
			gap: gap, before: g.upTo(longest), after: g.upTo(longest),
		})
	}
	g.nodes = append(g.nodes, n)
}

// twice is a call that Terraform makes again now and then.
func (g *generator) twice(call ...any) []any {
	if g.IntN(10) == 0 {
		return slices.Concat(call, call)
	}
	return call
}

func (g *generator) newID() string {
	g.ids++
	return fmt.Sprintf("key%d", g.ids)
}

// upTo is a duration, often none at all so that much happens at once.
func (g *generator) upTo(most time.Duration) time.Duration {
	if g.IntN(3) == 0 {
		return 0
	}
	return time.Duration(g.Int64N(int64(most)))
}
