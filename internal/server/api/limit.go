package api

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// The rate limit of sign-in and sign-up. WIRE.md section 2.
const (
	limitRequests = 3
	limitWindow   = 10 * time.Second
	// limitBuckets bounds the memory that made-up addresses can take.
	limitBuckets = 100_000
)

// limiter counts requests per client address and path. Every accepted request
// restarts the window.
type limiter struct {
	now     func() time.Time
	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	count int
	last  time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, buckets: map[string]bucket{}}
}

// take counts a request, or returns in how many seconds to try again.
func (l *limiter) take(address, path string) int {
	key := subnet(address) + "|" + path
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[key]
	switch {
	case now.Sub(b.last) >= limitWindow:
		b.count = 0
	case b.count >= limitRequests:
		return int(math.Ceil(b.last.Add(limitWindow).Sub(now).Seconds()))
	}
	if len(l.buckets) >= limitBuckets {
		l.prune(now)
	}
	l.buckets[key] = bucket{count: b.count + 1, last: now}
	return 0
}

// prune forgets what has expired, and everything where nothing has.
func (l *limiter) prune(now time.Time) {
	for key, b := range l.buckets {
		if now.Sub(b.last) >= limitWindow {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) >= limitBuckets {
		clear(l.buckets)
	}
}

// subnet is an address as the limit counts it: IPv6 by /64, which one client
// has as a whole.
func subnet(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}
