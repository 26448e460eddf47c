package ledger

import (
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var (
	interleavings = flag.Int("ledger.interleavings", 10_000, "number of random plans to simulate")
	firstSeed     = flag.Uint64("ledger.seed", 1, "seed of the first plan; each further plan has the next one")
)

// TestRandomPlans plays random plans in random order and compares the verdict
// with what the plan really does:
//
//   - a pool that ends up over its cap is always reported, exactly once;
//   - a pool that does not is never reported if the plan is decidable, and
//     otherwise only if a key that goes was not known to go after the plan had
//     been quiet for the quiet time;
//   - the figures of an error are those of the plan;
//   - a call waits only while there may be something to report.
//
// A failure names its seed: -ledger.seed=SEED -ledger.interleavings=1 repeats
// it.
func TestRandomPlans(t *testing.T) {
	t.Parallel()
	var next atomic.Uint64
	var mu sync.Mutex
	var all tally
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			var mine tally
			for !t.Failed() {
				n := next.Add(1) - 1
				if n >= uint64(*interleavings) {
					break
				}
				seed := *firstSeed + n
				w := newRandomPlan(seed)
				s := simulate(w, seed)
				if err := s.check(); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				mine.count(s)
			}
			mu.Lock()
			defer mu.Unlock()
			all.add(mine)
		})
	}
	group.Wait()
	t.Logf("%d plans from seed %d: %+v", *interleavings, *firstSeed, all)
	if *interleavings < 10_000 || t.Failed() {
		return
	}
	// Plans that never come near the cap would prove nothing.
	for name, n := range map[string]int{
		"Over": all.Over, "Under": all.Under, "Settled": all.Settled, "Certain": all.Certain, "Exact": all.Exact,
		"Waits": all.Waits, "Cleared": all.Cleared, "TakenOver": all.TakenOver, "ListsFailed": all.ListsFailed, "Crowded": all.Crowded,
	} {
		if n < *interleavings/100 {
			t.Errorf("only %d %s in %d plans", n, name, *interleavings)
		}
	}
}

// tally counts what the plans of a run had in them.
type tally struct {
	Decidable   int // plans inside of what can be decided
	Over, Under int // pools with creates that are over their cap, and that are not
	Settled     int // errors after the plan was quiet
	Certain     int // errors before that
	Exact       int // errors compared figure by figure
	Undecidable int // errors that are false, outside of what is decidable
	Waits       int // calls that waited
	Cleared     int // waits that ended because no pool was overfull any more
	TakenOver   int // waits that another call took over
	ListsFailed int // lists that failed
	Crowded     int // warnings about waiting creates
}

func (t *tally) count(s *simulation) {
	if s.input.decidable {
		t.Decidable++
	}
	for pool, truth := range s.input.truth {
		switch {
		case s.input.over(pool):
			t.Over++
		case truth.added > 0:
			t.Under++
		}
	}
	t.add(s.tally)
}

func (t *tally) add(o tally) {
	t.Decidable += o.Decidable
	t.Over += o.Over
	t.Under += o.Under
	t.Settled += o.Settled
	t.Certain += o.Certain
	t.Exact += o.Exact
	t.Undecidable += o.Undecidable
	t.Waits += o.Waits
	t.Cleared += o.Cleared
	t.TakenOver += o.TakenOver
	t.ListsFailed += o.ListsFailed
	t.Crowded += o.Crowded
}

// simulation plays a plan on a plan, in virtual time and without goroutines.
// It keeps its own count of what is in flight, independent of the plan's.
type simulation struct {
	input *randomPlan
	rand  *rand.Rand
	plan  *plan
	now   time.Time

	events    events
	instances []*instance
	ready     []*instance
	slots     int

	lists    map[string]*simulatedList
	waiter   *waiter
	waiting  *instance
	inFlight int
	active   time.Time
	going    map[byok.Pool]int // keys that go and are known to go

	reported map[byok.Pool]int
	errs     []error
	tally    tally
}

// instance is a node in play.
type instance struct {
	*node
	at         int // next step
	takesOver  bool
	unfinished int // nodes that it depends on
	dependents []*instance
}

type simulatedList struct {
	queue []*instance
}

// event is something to do at a time; events of the same time come in random
// order.
type event struct {
	at  time.Time
	tie uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if c := e[i].at.Compare(e[j].at); c != 0 {
		return c < 0
	}
	return e[i].tie < e[j].tie
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func simulate(w *randomPlan, seed uint64) *simulation {
	s := &simulation{
		input:    w,
		rand:     rand.New(rand.NewPCG(seed, 1)),
		plan:     newPlan(w.cap, w.crowdedAt, simulatedQuiet, w.takeover),
		now:      time.Unix(0, 0),
		slots:    w.parallelism,
		lists:    map[string]*simulatedList{},
		going:    map[byok.Pool]int{},
		reported: map[byok.Pool]int{},
	}
	for _, n := range w.nodes {
		p := &instance{node: n, unfinished: len(n.dependsOn)}
		for _, i := range n.dependsOn {
			s.instances[i].dependents = append(s.instances[i].dependents, p)
		}
		s.instances = append(s.instances, p)
		if p.unfinished == 0 {
			s.ready = append(s.ready, p)
		}
	}
	s.start()
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
		if s.plan.waiter != nil && len(s.plan.overfull) == 0 && !s.plan.isCrowded() {
			s.errs = append(s.errs, errors.New("a call waits and has nothing to report"))
		}
	}
	return s
}

func (s *simulation) in(d time.Duration, do func()) {
	heap.Push(&s.events, event{s.now.Add(d), s.rand.Uint64(), do})
}

// start gives the free slots to nodes that are ready.
func (s *simulation) start() {
	for s.slots > 0 && len(s.ready) > 0 {
		i := s.rand.IntN(len(s.ready))
		p := s.ready[i]
		s.ready = slices.Delete(s.ready, i, i+1)
		s.slots--
		s.step(p)
	}
}

// step takes the next step of a node, or ends it.
func (s *simulation) step(p *instance) {
	if p.at == len(p.steps) {
		for _, d := range p.dependents {
			if d.unfinished--; d.unfinished == 0 {
				s.ready = append(s.ready, d)
			}
		}
		s.slots++
		s.start()
		return
	}
	step := p.steps[p.at]
	p.at++
	s.in(step.gap, func() {
		if step.op == opForeign {
			s.step(p)
			return
		}
		s.plan.begin(s.now)
		s.inFlight++
		s.active = s.now
		s.in(step.before, func() { s.tell(p) })
	})
}

// tell tells the plan what the call of p is about.
func (s *simulation) tell(p *instance) {
	step := p.steps[p.at-1]
	switch step.op {
	case opOther:
		s.end(p)
	case opRead:
		s.plan.read(step.pool, step.keyID)
		s.end(p)
	case opRemove:
		s.plan.remove(step.pool, step.keyID)
		s.end(p)
	case opKeep:
		verdict, waiter := s.plan.keep(s.now, step.pool, step.keyID)
		s.decided(p, verdict, waiter)
	case opReplace:
		s.plan.remove(step.from, step.keyID)
		s.create(p, true)
	case opCreate:
		s.create(p, step.keyID == "")
	}
	s.checkWaiter()
}

// create does what Call.create does: it lists the scope, once, and decides.
func (s *simulation) create(p *instance, takesOver bool) {
	step := p.steps[p.at-1]
	p.takesOver = takesOver
	scope := step.pool.Scope
	if !s.plan.create(step.pool, step.keyID) {
		s.end(p)
		return
	}
	if !s.plan.listDue(scope) {
		s.decide(p)
		return
	}
	if l := s.lists[scope.ID]; l != nil {
		l.queue = append(l.queue, p)
		return
	}
	l := &simulatedList{queue: []*instance{p}}
	s.lists[scope.ID] = l
	s.in(s.input.listTakes[scope.ID], func() {
		if s.input.listFails[scope.ID] {
			s.plan.addList(scope, nil, true)
			s.tally.ListsFailed++
		} else {
			s.plan.addList(scope, s.input.stored[scope.ID], false)
		}
		s.rand.Shuffle(len(l.queue), func(i, j int) { l.queue[i], l.queue[j] = l.queue[j], l.queue[i] })
		for _, p := range l.queue {
			s.decide(p)
			s.checkWaiter()
		}
	})
}

func (s *simulation) decide(p *instance) {
	if !p.takesOver && s.plan.waiter != nil {
		s.end(p)
		return
	}
	verdict, waiter := s.plan.decide(s.now, p.steps[p.at-1].pool)
	s.decided(p, verdict, waiter)
}

func (s *simulation) decided(p *instance, verdict Verdict, waiter *waiter) {
	if waiter == nil {
		s.report(verdict)
		s.end(p)
		return
	}
	if s.waiter != nil { // the one before has just been taken over
		s.tally.TakenOver++
		s.checkWaiter()
	}
	s.tally.Waits++
	s.waiter, s.waiting = waiter, p
	s.tick(waiter)
}

func (s *simulation) tick(w *waiter) {
	next := s.plan.tick(s.now, w)
	s.checkWaiter()
	if s.waiter == w {
		s.in(next.Sub(s.now), func() {
			if s.waiter == w {
				s.tick(w)
			}
		})
	}
}

// checkWaiter lets the call that waits go on once it is released.
func (s *simulation) checkWaiter() {
	if s.waiter == nil || s.plan.waiter == s.waiter {
		return
	}
	verdict, p := s.waiter.verdict, s.waiting
	s.waiter, s.waiting = nil, nil
	if len(verdict.Over) == 0 {
		s.tally.Cleared++
	}
	s.report(verdict)
	s.end(p)
}

// end ends the call of p after what it still has to do.
func (s *simulation) end(p *instance) {
	s.in(p.steps[p.at-1].after, func() {
		s.plan.end(s.now)
		s.inFlight--
		s.active = s.now
		s.step(p)
	})
}

// report checks errors as they are raised.
func (s *simulation) report(verdict Verdict) {
	if c := verdict.Crowded; c != nil {
		s.tally.Crowded++
		if err := s.input.checkCrowded(c); err != nil {
			s.errs = append(s.errs, err)
		}
	}
	for _, o := range verdict.Over {
		s.reported[o.Pool]++
		if o.Settled {
			s.tally.Settled++
		} else {
			s.tally.Certain++
		}
		if err := s.input.checkOver(o); err != nil {
			s.errs = append(s.errs, err)
		}
		if o.Settled && s.input.exact {
			s.tally.Exact++
		}
		if s.input.over(o.Pool) {
			continue
		}
		s.tally.Undecidable++
		switch quiet := s.now.Sub(s.active); {
		case s.input.decidable:
			s.errs = append(s.errs, fmt.Errorf("false alarm: %+v", o))
		case !o.Settled || o.Certain:
			s.errs = append(s.errs, fmt.Errorf("false alarm that was certain: %+v", o))
		case s.inFlight != 1 || quiet < simulatedQuiet:
			s.errs = append(s.errs, fmt.Errorf("false alarm with %d calls in flight, %v after the last: %+v", s.inFlight-1, quiet, o))
		}
	}
}

// check compares what was reported with the truth.
func (s *simulation) check() error {
	for _, p := range s.instances {
		if p.at != len(p.steps) {
			return fmt.Errorf("the plan hangs")
		}
	}
	for _, err := range s.errs {
		return err
	}
	return s.input.checkReported(s.reported, s.tally.Crowded)
}

// checkReported compares how often each pool was reported, and how often the
// warning about waiting creates was, with the truth.
func (w *randomPlan) checkReported(reported map[byok.Pool]int, crowded int) error {
	waiting := 0
	for pool := range w.truth {
		switch n := reported[pool]; {
		case n > 1:
			return fmt.Errorf("%v is reported %d times", pool, n)
		case n == 0 && w.over(pool):
			return fmt.Errorf("%v is over its cap and was missed: %+v", pool, w.want(pool))
		case n == 0:
			waiting += w.waiting(pool)
		}
	}
	switch {
	case crowded > 1:
		return fmt.Errorf("%d warnings about waiting creates", crowded)
	case crowded == 0 && waiting >= w.crowdedAt:
		return fmt.Errorf("%d creates wait for removals, and no warning", waiting)
	}
	return nil
}

// checkCrowded compares the figures of the warning with those of the plan.
func (w *randomPlan) checkCrowded(c *Crowded) error {
	all, under := 0, 0
	for pool := range w.truth {
		all += w.waiting(pool)
		if !w.over(pool) {
			under += w.waiting(pool)
		}
	}
	if c.Creates < w.crowdedAt || c.Creates > all || w.exact && c.Creates != under {
		return fmt.Errorf("%d creates wait for removals, want %d", c.Creates, under)
	}
	return nil
}

// checkOver compares the figures of an error with those of the plan.
func (w *randomPlan) checkOver(o *OverCap) error {
	if o.Total() <= o.Cap || o.Added == 0 {
		return fmt.Errorf("an error for nothing: %+v", o)
	}
	want := w.want(o.Pool)
	want.Sequential = o.Sequential
	if w.exact && o.Settled {
		if diff := cmp.Diff(want, *o); diff != "" {
			return fmt.Errorf("figures (-want +got):\n%s", diff)
		}
		return nil
	}
	removed := want.Removed
	if !w.decidable { // a key that is read long before it is planned looks like a tainted one
		removed += want.Kept
	}
	if o.Stored != want.Stored || o.Kept > want.Kept+want.Replaced || o.Added > want.Added || o.Removed > removed {
		return fmt.Errorf("figures beyond those of the plan: %+v, the plan has %+v", o, want)
	}
	return nil
}
