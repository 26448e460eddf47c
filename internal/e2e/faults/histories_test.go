package faults

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
)

var (
	historyOperations = flag.Int("history.operations", 1000, "how many operations are recorded and checked, on each database")
	historySeed       = flag.Uint64("history.seed", 1, "seed of the histories")
	historyPause      = flag.Duration("history.pause", 2*time.Second, "how long a server is stopped with SIGSTOP, at most")
)

const (
	historyClients = 8
	// roundOperations is the length of a history. Each has pools of its own.
	roundOperations = 2000
	// impatience is how long a client waits for a response.
	impatience = time.Second
	// retryPause is how long a client waits after a request without a response.
	retryPause = 20 * time.Millisecond
)

// TestHistories records what concurrent clients do to a few pools, and what
// they are told, while a server is killed with SIGKILL, another stops for
// seconds, and connections are cut before and after a request is done. The
// history of each pool must be linearizable.
func TestHistories(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "keys.db")
		histories(t, newSite(t, "sqlite:"+file), 1)
		checkSQLite(t, file)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		target := cluster(t).Database(t)
		// Servers that do not wait for each other are noticed by chance otherwise.
		slowAdds(t, target)
		histories(t, newSite(t, target), 4)
	})
}

func histories(t *testing.T, s *site, size int) {
	begin := time.Now()
	workspaces := s.workspaces((*historyOperations + roundOperations - 1) / roundOperations)
	f := newFleet(t, s, size)
	session := s.session(t, f.balancer.URL)
	proxy, front := faulty(t, f.balancer.URL, faultproxy.Options{
		Seed: *historySeed, Rate: 0.05,
		Kinds: []faultproxy.Kind{faultproxy.Refuse, faultproxy.Delay, faultproxy.CutFirst, faultproxy.CutAfter, faultproxy.Late, faultproxy.Truncate},
	})
	clients := newDoor(&http.Client{Timeout: impatience, Transport: &http.Transport{MaxIdleConnsPerHost: historyClients}},
		func() string { return front }, session)
	var instances []door
	for i := range size {
		instances = append(instances, newDoor(s.client, func() string { return f.instance(i).URL }, session))
	}
	var kills, pauses int
	total := tally{}
	for round, workspaceID := range workspaces {
		random := rand.New(rand.NewPCG(*historySeed, uint64(round)))
		h := newHistory(workspaceID, byok.ProviderIDs()[:4])
		operations := min(roundOperations, *historyOperations-round*roundOperations)
		proxy.SetQuiet(false)
		var faults sync.WaitGroup
		faults.Go(func() {
			h.wait(operations / 4)
			f.restart(t, random.IntN(size))
			kills++
			h.wait(operations / 2)
			pause := time.Second + time.Duration(random.Int64N(int64(*historyPause-time.Second)+1))
			if err := f.pause(random.IntN(size), pause); err != nil {
				t.Error(err)
			}
			pauses++
		})
		h.run(clients, historyClients, operations, random.Uint64())
		faults.Wait()
		proxy.SetQuiet(true)
		if t.Failed() {
			return
		}
		h.rotate(t, instances)
		h.check(t)
		total.add(h.tally)
		if t.Failed() {
			t.Fatalf("round %d of seed %d", round, *historySeed)
		}
	}
	_, faults := proxy.Counts()
	t.Logf("seed %d, %d servers, %d pools: %d operations with a known and %d with an unknown outcome in %.0f s, all linearizable: %v; "+
		"%d kills, %d pauses, connections: %v",
		*historySeed, size, 4*len(workspaces), total.sum()-total.unknown(), total.unknown(), time.Since(begin).Seconds(), total, kills, pauses, faults)
}

// workspaces adds n workspaces to the site and returns their IDs.
func (s *site) workspaces(n int) (ids []string) {
	for i := range n {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		ids = append(ids, id)
		s.config.Bootstrap.Workspaces = append(s.config.Bootstrap.Workspaces, server.BootstrapWorkspace{ID: id, Name: "History", Owner: siteUser})
	}
	return ids
}

// pause stops an instance where it is.
func (f *fleet) pause(i int, long time.Duration) error {
	p := f.instance(i)
	if err := p.Pause(); err != nil {
		return err
	}
	time.Sleep(long) // the pause is what the test is about
	return p.Resume()
}

// history is what was done to some pools of a workspace.
type history struct {
	workspaceID string
	providerIDs []string
	begin       time.Time
	decided     atomic.Int64 // operations of known outcome
	writes      atomic.Int64 // numbers what is written

	mu    sync.Mutex
	pools map[string][]operation
	// known are key IDs that were seen, by pool, the newest last; some of them
	// have been deleted since.
	known      map[string][]string
	tally      tally
	unexpected []string // responses
}

func newHistory(workspaceID string, providerIDs []string) *history {
	return &history{
		workspaceID: workspaceID, providerIDs: providerIDs, begin: time.Now(),
		pools: map[string][]operation{}, known: map[string][]string{}, tally: tally{},
	}
}

// tally counts operations.
type tally map[string]int

func (n tally) add(more tally) {
	for what, count := range more {
		n[what] += count
	}
}

func (n tally) sum() (sum int) {
	for _, count := range n {
		sum += count
	}
	return sum
}

func (n tally) unknown() (sum int) {
	for what, count := range n {
		if strings.HasSuffix(what, string(unknown)) {
			sum += count
		}
	}
	return sum
}

func (n tally) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, n[what]))
	}
	return strings.Join(parts, ", ")
}

// wait returns once the outcome of as many operations is known.
func (h *history) wait(operations int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for h.decided.Load() < int64(operations) {
		<-tick.C
	}
}

// run lets clients do random operations until the outcome of as many is known.
func (h *history) run(through door, clients, operations int, seed uint64) {
	var busy sync.WaitGroup
	for client := range clients {
		busy.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(client)))
			for h.decided.Load() < int64(operations) {
				if h.step(through, client, random) == unknown {
					time.Sleep(retryPause) // most likely no server is there
				}
			}
		})
	}
	busy.Wait()
}

// step does one random operation. Adds outnumber deletes, so that pools are
// full most of the time.
func (h *history) step(through door, client int, random *rand.Rand) outcome {
	providerID := h.providerIDs[random.IntN(len(h.providerIDs))]
	o := operation{client: client, outcome: unknown}
	id := h.knownKey(providerID, random)
	switch choice := random.IntN(20); {
	case choice < 2:
		_, outcome := h.list(through, o)
		return outcome
	case choice < 6:
		_, outcome := h.resolve(through, providerID, o)
		return outcome
	case choice < 14 || id == "":
		o.action, o.key, o.renames = add, written("", int(h.writes.Add(1))), true
	case choice < 17:
		o.action, o.key, o.renames = replace, written(id, int(h.writes.Add(1))), random.IntN(2) == 0
		if !o.renames {
			o.key.name = ""
		}
	default:
		o.action, o.key = remove, storedKey{id: id}
	}
	return h.write(through, providerID, o)
}

func (h *history) knownKey(providerID string, random *rand.Rand) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := h.known[providerID]
	if len(ids) == 0 {
		return ""
	}
	return ids[random.IntN(len(ids))]
}

func (h *history) now() int64 { return int64(time.Since(h.begin)) }

// record takes an operation over into the histories of its pools: that of
// providerID, or those that the response shows.
func (h *history) record(o operation, providerID string, pools map[string][]storedKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.outcome != unknown {
		h.decided.Add(1)
	}
	h.tally[string(o.action)+" "+string(o.outcome)]++
	for id, seen := range pools {
		o.seen = seen
		h.pools[id] = append(h.pools[id], o)
		for _, k := range seen {
			h.known[id] = slices.DeleteFunc(h.known[id], func(known string) bool { return known == k.id })
			h.known[id] = append(h.known[id], k.id)
			h.known[id] = h.known[id][max(0, len(h.known[id])-byok.Cap-2):]
		}
	}
	if len(pools) == 0 {
		h.pools[providerID] = append(h.pools[providerID], o)
	}
}

// outcomeOf says what a response means for the pool.
func (h *history) outcomeOf(status int, text string) outcome {
	switch {
	case status == http.StatusOK:
		return done
	case status == http.StatusBadRequest && text == `{"error":"A workspace can store at most 10 keys per provider"}`:
		return full
	case status == http.StatusNotFound && text == `{"error":"BYOK key not found"}`:
		return notFound
	case status == http.StatusInternalServerError && strings.Contains(text, "nothing was changed"):
		return unchanged
	case status != 0 && status < http.StatusInternalServerError:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.unexpected = append(h.unexpected, fmt.Sprintf("%d %s", status, text))
	}
	return unknown
}

func (h *history) write(through door, providerID string, o operation) outcome {
	o.call = h.now()
	path := byokserver.KeysPath(h.workspaceID)
	var status int
	var text string
	var pools map[string][]storedKey
	if o.action == remove {
		status, text = through.do(http.MethodDelete, path, byok.DeleteRequest{ProviderID: providerID, KeyID: o.key.id}, nil)
	} else {
		request := byok.SaveRequest{ProviderID: providerID, APIKey: o.key.secret, KeyID: o.key.id}
		if o.renames {
			request.Name = &o.key.name
		}
		var response byok.SaveResponse
		if status, text = through.do(http.MethodPost, path, request, &response); status == http.StatusOK {
			if o.action == add {
				o.key.id = response.Key.ID
			}
			pools = map[string][]storedKey{providerID: {shown(response.Key)}}
		}
	}
	o.end, o.outcome = h.now(), h.outcomeOf(status, text)
	h.record(o, providerID, pools)
	return o.outcome
}

// list reads all pools at one moment, and returns what it saw.
func (h *history) list(through door, o operation) (map[string][]storedKey, outcome) {
	o.action, o.call = list, h.now()
	var response byok.ListResponse
	status, text := through.do(http.MethodGet, byokserver.KeysPath(h.workspaceID), nil, &response)
	o.end, o.outcome = h.now(), h.outcomeOf(status, text)
	pools := map[string][]storedKey{}
	for _, id := range h.providerIDs {
		pools[id] = nil
	}
	if o.outcome == done {
		for _, k := range response.Keys {
			pools[k.ProviderID] = append(pools[k.ProviderID], shown(k))
		}
	}
	h.record(o, "", pools)
	return pools, o.outcome
}

// resolve returns the ID of the key that serves, empty for none.
func (h *history) resolve(through door, providerID string, o operation) (id string, _ outcome) {
	o.action, o.call = resolveKey, h.now()
	key, err := through.Door.Resolve(context.Background(), h.workspaceID, providerID)
	o.end = h.now()
	var seen []storedKey
	if err == nil {
		o.outcome = done
		if key != nil {
			id, seen = key.KeyID, []storedKey{{id: key.KeyID, secret: key.APIKey, mask: byok.Mask(key.APIKey)}}
		}
	}
	h.record(o, providerID, map[string][]storedKey{providerID: seen})
	return id, o.outcome
}

func shown(k byok.Key) storedKey { return storedKey{id: k.ID, name: nameOf(k), mask: k.MaskedKey} }

// settleTime is how long requests whose clients have gone may take to end.
const settleTime = time.Minute

// rotate asks each instance for every key of each pool: in a pool that does not
// change they serve in the order of the list, each once. Writes may still be
// under way, so that it tries until two lists agree. The second is the list with
// which a history ends.
func (h *history) rotate(t *testing.T, instances []door) {
	t.Helper()
	o := operation{client: historyClients, outcome: unknown}
	for deadline := time.Now().Add(settleTime); time.Now().Before(deadline); {
		before, began := h.list(instances[0], o)
		wrong, served := h.turns(instances, before, o)
		after, ended := h.list(instances[0], o)
		if began == done && served && ended == done && maps.EqualFunc(before, after, slices.Equal) {
			for _, turn := range wrong {
				t.Error(turn)
			}
			return
		}
	}
	t.Errorf("%s after the last write there are no two lists that agree", settleTime)
}

// turns reports which instances do not serve the keys of a list in turn, and
// whether all of them responded.
func (h *history) turns(instances []door, pools map[string][]storedKey, o operation) (wrong []string, complete bool) {
	for _, providerID := range h.providerIDs {
		var order []string
		for _, k := range pools[providerID] {
			order = append(order, k.id)
		}
		for i, instance := range instances {
			var served []string
			for range max(1, len(order)) {
				id, outcome := h.resolve(instance, providerID, o)
				if outcome != done {
					return nil, false
				}
				served = append(served, id)
			}
			if !rotationOf(served, order) {
				wrong = append(wrong, fmt.Sprintf("instance %d serves %v of the pool %v", i, served, order))
			}
		}
	}
	return wrong, true
}

// rotationOf reports whether keys were served in turn, from any of them on.
func rotationOf(served, order []string) bool {
	if len(order) == 0 {
		return len(served) == 1 && served[0] == ""
	}
	at := slices.Index(order, served[0])
	return at >= 0 && slices.Equal(served, slices.Concat(order[at:], order[:at]))
}

// violations checks the history of each pool, which ends with a list.
func (h *history) violations(t *testing.T) (found []string) {
	for _, providerID := range h.providerIDs {
		if why := linearizable(h.pools[providerID], t.ArtifactDir()); why != "" {
			found = append(found, providerID+": "+why)
		}
	}
	return found
}

func (h *history) check(t *testing.T) {
	t.Helper()
	for _, response := range h.unexpected {
		t.Errorf("unexpected response: %s", response)
	}
	for _, why := range h.violations(t) {
		t.Error(why)
	}
}
