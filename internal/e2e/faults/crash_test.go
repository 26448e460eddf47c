package faults

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite", to check the file

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

var (
	crashKills = flag.Int("crash.kills", 3, "how often a server is killed, on each database")
	crashSeed  = flag.Uint64("crash.seed", 1, "seed of the crash tests")
)

// TestCrash kills byok-server with SIGKILL at random moments while the provider
// applies and others write beside it. After each restart every acknowledged
// write must be there and no half of one that was not; the database must be
// sound; and the next apply must converge.
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "keys.db")
		crash(t, newSite(t, "sqlite:"+file), 1, keysOf, func() { checkSQLite(t, file) })
	})
	t.Run("sqlite, pools", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "keys.db")
		crash(t, newSite(t, "sqlite:"+file), 1, poolsOf, func() { checkSQLite(t, file) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		crash(t, newSite(t, cluster(t, pgtest.WithFsync()).Database(t)), 3, keysOf, func() {})
	})
	t.Run("postgres, pools", func(t *testing.T) {
		t.Parallel()
		crash(t, newSite(t, cluster(t, pgtest.WithFsync()).Database(t)), 3, poolsOf, func() {})
	})
}

// keysOf and poolsOf start a driver of byok_key and of byok_pool.
func keysOf(t *testing.T, provider map[string]any) driver {
	return protocol{newCore(t, provider, *crashSeed, patiently)}
}

func poolsOf(t *testing.T, provider map[string]any) driver {
	return newPooledProtocol(t, provider, *crashSeed, patiently)
}

// cluster starts a PostgreSQL for one test.
func cluster(t *testing.T, options ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	c, err := pgtest.Start(options...)
	if err != nil {
		t.Fatalf("needs PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// checkSQLite asks SQLite itself, in a connection of its own.
func checkSQLite(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %s, %v", verdict, err)
	}
}

// fleet is several byok-server processes on one database behind a balancer,
// which kills one of them when it is told to.
type fleet struct {
	*site
	balancer *httptest.Server

	mu        sync.Mutex
	instances []*byokserver.Process
	next      int
	countdown int // requests until the kill; negative for never
	kill      func(victim int)
}

func newFleet(t *testing.T, s *site, size int) *fleet {
	f := &fleet{site: s, countdown: -1}
	for range size {
		f.instances = append(f.instances, s.start(t))
	}
	f.balancer = httptest.NewServer(http.HandlerFunc(f.forward))
	t.Cleanup(f.balancer.Close)
	return f
}

// forward passes a request to the next instance. Where that one is gone, the
// client's connection breaks.
func (f *fleet) forward(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.next = (f.next + 1) % len(f.instances)
	victim := f.next
	to, _ := url.Parse(f.instances[victim].URL)
	if f.countdown > 0 {
		if f.countdown--; f.countdown == 0 {
			f.kill(victim)
		}
	}
	f.mu.Unlock()
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy.ServeHTTP(w, r)
}

func (f *fleet) instance(i int) *byokserver.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.instances[i]
}

// restart kills an instance with SIGKILL and starts another in its place.
func (f *fleet) restart(t *testing.T, victim int) {
	f.instance(victim).Kill()
	again, err := byokserver.Start(context.Background(), f.config)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(again.Kill)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances[victim] = again
}

// patiently sets a pace at which a client outlasts the restart of a server, as
// it does with the pace that users have.
func patiently(c *client.Config) {
	c.RetryWaitMin, c.RetryWaitMax = 20*time.Millisecond, 2*time.Second
	c.SettleTime = 500 * time.Millisecond
}

// crashTotals is what a crash test saw.
type crashTotals struct {
	acknowledged, lost, lostStored int
	applies, failed                int
	verdict                        verdict
}

func crash(t *testing.T, s *site, size int, start func(*testing.T, map[string]any) driver, check func()) {
	random := rand.New(rand.NewPCG(*crashSeed, uint64(size)))
	f := newFleet(t, s, size)
	session := s.session(t, f.balancer.URL)
	// No keep-alive: a connection to the balancer that broke is no news.
	plain := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	through := newDoor(plain, func() string { return f.balancer.URL }, session)
	// Each instance has its own rotation, so that only one of them serves every
	// key of a pool in turn.
	one := newDoor(plain, func() string { return f.instance(0).URL }, session)

	var writers []*writer
	for i := range 3 {
		writers = append(writers, &writer{door: through, one: one, random: rand.New(rand.NewPCG(*crashSeed, uint64(100+i))),
			providerID: byok.ProviderIDs()[i], keys: map[string]string{}})
	}
	g := &generator{random: random, free: map[pool]int{}, createTimeout: "20s"}
	for _, id := range byok.ProviderIDs()[len(writers) : len(writers)+3] {
		p := pool{siteWorkspace, id}
		g.pools = append(g.pools, p)
		g.free[p] = byok.Cap
	}
	d := start(t, map[string]any{"endpoint": f.balancer.URL, "workspace_id": siteWorkspace, "session_token": session})
	declared := spec{}
	g.grow(declared, 8)

	var totals crashTotals
	for range *crashKills {
		declared = g.mutate(declared)
		stop := make(chan struct{})
		var killed sync.WaitGroup
		killed.Add(1)
		f.mu.Lock()
		pause := time.Duration(random.IntN(4000)) * time.Microsecond
		f.kill = func(victim int) {
			f.countdown = -1
			go func() {
				defer killed.Done()
				time.Sleep(pause) // the moment is what is random here
				f.restart(t, victim)
			}()
		}
		f.countdown = 1 + random.IntN(60)
		f.mu.Unlock()

		var busy sync.WaitGroup
		for _, w := range writers {
			busy.Go(func() { w.run(stop) })
		}
		totals.applies++
		if err := d.apply(t, declared); err != nil {
			totals.failed++
			t.Logf("an apply fails: %s", summaries(err))
		}
		killed.Wait() // the writers go on until then
		close(stop)
		busy.Wait()
		if t.Failed() {
			return
		}

		for _, w := range writers {
			w.settle(t, &totals)
		}
		check()
		totals.applies++
		if err := d.apply(t, declared); err != nil {
			t.Fatalf("the apply after the restart fails: %v", err)
		}
		others := foreign{}
		for _, w := range writers {
			w.own(t, others)
		}
		v := judge(t, one, declared, d.ids(t), others)
		if changes := d.plan(t, declared); changes != "" {
			t.Errorf("the plan after it is not empty:\n%s", changes)
		}
		totals.verdict.duplicates += v.duplicates
		totals.verdict.losses += v.losses
		totals.verdict.wrongSecrets += v.wrongSecrets
		totals.verdict.wrongDeletes += v.wrongDeletes
		totals.verdict.foreignChanges += v.foreignChanges
		if !v.clean() {
			break
		}
	}
	v := totals.verdict
	t.Logf("seed %d: %d kills of %d instances, %d writes acknowledged to others than the provider, %d responses lost (%d of these had been stored); "+
		"%d applies, %d of them cut short; %d duplicates, %d losses, %d wrong secrets, %d wrong deletes, %d changes to keys of other owners",
		*crashSeed, *crashKills, size, totals.acknowledged, totals.lost, totals.lostStored, totals.applies, totals.failed,
		v.duplicates, v.losses, v.wrongSecrets, v.wrongDeletes, v.foreignChanges)
}

// writer adds, replaces and deletes keys of a pool of its own, one request at
// a time, and keeps books of what was acknowledged.
type writer struct {
	door
	one        door
	random     *rand.Rand
	providerID string
	n          int

	acknowledged int
	keys         map[string]string // key ID -> secret, as acknowledged
	// lost is the request whose response did not come, if any: afterwards either
	// outcome is right, but nothing in between.
	lost *byok.SaveRequest
	// lostDelete: it was a delete.
	lostDelete bool
}

func (w *writer) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if w.lost != nil {
			return
		}
		w.step()
	}
}

func (w *writer) step() {
	w.n++
	name := fmt.Sprintf("write %d", w.n)
	request := byok.SaveRequest{ProviderID: w.providerID, APIKey: fmt.Sprintf("sk-writer-%s-%06d", w.providerID, w.n), Name: &name}
	ids := sortedKeys(w.keys)
	switch choice := w.random.IntN(3); {
	case len(ids) == byok.Cap || choice == 0 && len(ids) > 0:
		request.KeyID = ids[w.random.IntN(len(ids))]
		status, _ := w.do(http.MethodDelete, byokserver.KeysPath(siteWorkspace), byok.DeleteRequest{ProviderID: w.providerID, KeyID: request.KeyID}, nil)
		if status != http.StatusOK {
			w.lost, w.lostDelete = &request, true
			return
		}
		delete(w.keys, request.KeyID)
	case choice == 1 && len(ids) > 0:
		request.KeyID = ids[w.random.IntN(len(ids))]
		if status, _ := w.do(http.MethodPost, byokserver.KeysPath(siteWorkspace), request, nil); status != http.StatusOK {
			w.lost = &request
			return
		}
		w.keys[request.KeyID] = request.APIKey
	default:
		var response byok.SaveResponse
		if status, _ := w.do(http.MethodPost, byokserver.KeysPath(siteWorkspace), request, &response); status != http.StatusOK {
			w.lost = &request
			return
		}
		w.keys[response.Key.ID] = request.APIKey
	}
	w.acknowledged++
}

// settle compares the pool with the books, and takes over what became of the
// request whose response was lost.
func (w *writer) settle(t *testing.T, totals *crashTotals) {
	t.Helper()
	totals.acknowledged += w.acknowledged
	w.acknowledged = 0
	stored := map[string]byok.Key{}
	for _, k := range w.List(t, siteWorkspace) {
		if k.ProviderID == w.providerID {
			stored[k.ID] = k
		}
	}
	secrets := served(t, w.one, pool{siteWorkspace, w.providerID}, byok.Cap)
	if lost := w.lost; lost != nil {
		totals.lost++
		id := lost.KeyID
		if id == "" { // an add: it made one more key, or none
			for other := range stored {
				if w.keys[other] == "" {
					id = other
				}
			}
		}
		k, there := stored[id]
		switch {
		case w.lostDelete && !there:
			delete(w.keys, id)
			totals.lostStored++
		case !w.lostDelete && there && secrets[id] == lost.APIKey:
			if nameOf(k) != *lost.Name {
				t.Errorf("half a write: key %s has the secret of %q and the name %q", id, *lost.Name, nameOf(k))
			}
			w.keys[id] = lost.APIKey
			totals.lostStored++
		}
		w.lost, w.lostDelete = nil, false
	}
	for id, secret := range w.keys {
		if _, ok := stored[id]; !ok {
			totals.verdict.losses++
			t.Errorf("key %s was acknowledged and is gone", id)
		} else if secrets[id] != secret {
			totals.verdict.wrongSecrets++
			t.Errorf("key %s serves another secret than was acknowledged", id)
		}
	}
	for id, k := range stored {
		if w.keys[id] == "" {
			totals.verdict.duplicates++
			t.Errorf("key %s (%q, %s) is stored, but nobody sent it", id, nameOf(k), k.MaskedKey)
		}
	}
}

// own hands the writer's keys over as those of another owner.
func (w *writer) own(t *testing.T, others foreign) {
	t.Helper()
	p := pool{siteWorkspace, w.providerID}
	others[p] = map[string]foreignKey{}
	for _, k := range w.List(t, siteWorkspace) {
		if k.ProviderID == w.providerID {
			others[p][k.ID] = foreignKey{k, w.keys[k.ID]}
		}
	}
}
