package client

import (
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// An add to a full pool waits for a delete of the same apply. But it occupies
// one of Terraform's slots (10 by default), and deletes need slots, too. Where
// waiting adds have taken all of them, none can ever end: they have to fail,
// so that the deletes follow. The calls of this Client are all that it sees of
// an apply, which is enough to tell:
//
//   - Other calls are in flight: one of them may delete, so all wait.
//   - Only waiting adds are in flight, as many as there are slots, and nothing
//     has begun or ended for stuckAfter: nothing can begin. They fail.
//   - Only waiting adds are in flight, but fewer: a delete can still begin, so
//     they wait for idleAfter.
//
// The number of slots is not known. It is taken for Terraform's default, and
// for less once a call begins right after fewer adds have failed: it had
// waited for their slots.
const (
	defaultSlots = 10
	stuckAfter   = 3 * time.Second
	idleAfter    = 30 * time.Second
	// promptly is how soon Terraform begins a call that waits for a slot.
	promptly = time.Second
)

// calls counts the adds, replaces and deletes of a Client that are in flight.
type calls struct {
	mu       sync.Mutex
	inFlight int
	queues   map[byok.Pool]*queue
	slots    int
	timer    *time.Timer
	// deadlock is shared by all adds in flight and ends them together.
	deadlock *deadlock
	last     *deadlock // the one before
}

// queue is the adds of one pool that would wait for capacity.
type queue struct {
	adds int
	full bool // the server has refused the first of them
}

// deadlock is closed when adds that wait are all that is left.
type deadlock struct {
	closed  chan struct{}
	waiting int // so many adds have failed together; set before closed is
	at      time.Time
}

func newCalls() *calls {
	return &calls{queues: map[byok.Pool]*queue{}, slots: defaultSlots, deadlock: &deadlock{closed: make(chan struct{})}}
}

// begin counts a call in and returns the function that counts it out.
func (c *calls) begin() (end func()) {
	c.change(func() {
		c.inFlight++
		if last := c.last; last != nil && last.waiting < c.slots && time.Since(last.at) < promptly {
			c.slots = last.waiting
		}
	})
	return func() { c.change(func() { c.inFlight-- }) }
}

// enqueue counts an add in that waits for capacity where there is none, and
// returns what ends the wait, and the function that counts the add out.
func (c *calls) enqueue(pool byok.Pool) (d *deadlock, leave func()) {
	c.change(func() {
		q := c.queues[pool]
		if q == nil {
			q = &queue{}
			c.queues[pool] = q
		}
		q.adds++
		d = c.deadlock
	})
	return d, func() { c.change(func() { c.queues[pool].adds-- }) }
}

// setFull notes whether the first add of the pool waits for capacity.
func (c *calls) setFull(pool byok.Pool, full bool) {
	c.mu.Lock()
	same := c.queues[pool].full == full
	c.mu.Unlock()
	if !same {
		c.change(func() { c.queues[pool].full = full })
	}
}

// change notes that something has happened: the wait for a deadlock begins
// anew.
func (c *calls) change(edit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	waiting := c.waiting()
	if waiting == 0 || waiting < c.inFlight {
		return
	}
	after := idleAfter
	if waiting >= c.slots {
		after = stuckAfter
	}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timer == timer { // nothing has happened since
			c.timer = nil
			c.declare(waiting)
		}
	})
	c.timer = timer
}

// declare ends the adds that wait. The caller holds the lock.
func (c *calls) declare(waiting int) {
	d := c.deadlock
	d.waiting, d.at = waiting, time.Now()
	close(d.closed)
	c.last, c.deadlock = d, &deadlock{closed: make(chan struct{})}
}

// waiting is the number of adds that wait for capacity. The caller holds the
// lock.
func (c *calls) waiting() int {
	n := 0
	for _, q := range c.queues {
		if q.full {
			n += q.adds
		}
	}
	return n
}
