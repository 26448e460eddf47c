package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
)

// TestOwners lets two Terraform states and a person change one pool at the same
// time, with and without faults in between: it never holds more keys than its
// cap, each state converges, and nobody's keys are touched by others.
func TestOwners(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, soakRate} {
		t.Run(fmt.Sprintf("faults at %g", rate), func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			proxy, endpoint := faulty(t, s.URL, faultproxy.Options{Seed: 7, Rate: rate})
			shared := pool{s.WorkspaceID, "openai"}
			type owner struct {
				generator
				driver
				declared spec
			}
			var owners []*owner
			for i, name := range []string{"A", "B"} {
				o := &owner{declared: spec{}}
				o.generator = generator{random: rand.New(rand.NewPCG(7, uint64(i))), pools: []pool{shared}, free: map[pool]int{shared: 4}, createTimeout: "20s"}
				if rate > 0 {
					// Keys of two owners that look alike and whose responses
					// get lost at the same moment cannot be told apart.
					o.generator.owner = name
				}
				provider := map[string]any{
					"endpoint": endpoint, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken,
					// The other owners' adds in the middle of a plan are their own.
					"max_retries": int64(8),
				}
				// One owner has single keys, the other a pool.
				o.driver = protocol{newCore(t, provider, uint64(i), quickly)}
				if i == 1 {
					o.driver = newPooledProtocol(t, provider, uint64(i), quickly)
				}
				owners = append(owners, o)
			}
			person, others := 0, foreign{}
			watched := watch(t, s, shared)
			for range 6 {
				var wg sync.WaitGroup
				for _, o := range owners {
					wg.Go(func() {
						o.declared = o.mutate(o.declared)
						if err := o.apply(t, o.declared); err != nil {
							t.Logf("an apply fails: %s", summaries(err))
						}
					})
				}
				wg.Go(func() { // a person keeps two keys, and changes one now and then
					for id := range others[shared] {
						if len(others[shared]) == 2 {
							s.Delete(t, shared.workspaceID, shared.providerID, id)
							delete(others[shared], id)
						}
					}
					for len(others[shared]) < 2 {
						person++
						others.add(t, s, shared, fmt.Sprintf("sk-person-%08d", person), "production")
					}
				})
				wg.Wait()
			}
			proxy.SetQuiet(true)
			proxy.Wait()
			declared, ids := spec{}, map[string]string{}
			for i, o := range owners {
				if err := o.apply(t, o.declared); err != nil {
					t.Errorf("owner %d does not converge: %v", i, err)
				}
				for address, k := range o.declared {
					declared[fmt.Sprint(i, address)] = k
				}
				for address, id := range o.ids(t) {
					ids[fmt.Sprint(i, address)] = id
				}
			}
			if v := judge(t, s, declared, ids, others); !v.clean() {
				t.Errorf("%+v", v)
			}
			for i, o := range owners {
				if changes := o.plan(t, o.declared); changes != "" {
					t.Errorf("the next plan of owner %d is not empty: %s", i, changes)
				}
			}

			// Together they want too much: each plan alone is fine, but the pool
			// is full halfway. Who gave way converges when there is free capacity.
			for _, o := range owners {
				o.free[shared] = 8
				o.grow(o.declared, 8-len(o.declared))
			}
			failures := make([]error, len(owners))
			var wg sync.WaitGroup
			for i, o := range owners {
				for address, k := range o.declared {
					k.createTimeout = "1s"
					o.declared[address] = k
				}
				wg.Go(func() { failures[i] = o.apply(t, o.declared) })
			}
			wg.Wait()
			if failures[0] == nil && failures[1] == nil {
				t.Error("16 keys and 2 others are in a pool of 10")
			}
			for _, err := range failures {
				if err != nil && !strings.Contains(err.Error(), "cap") {
					t.Errorf("the error does not tell of the cap: %v", err)
				}
			}
			for _, o := range owners {
				for i, address := range o.declared.addresses() {
					k := o.declared[address]
					k.createTimeout = "20s"
					if o.declared[address] = k; i >= 4 {
						delete(o.declared, address)
					}
				}
			}
			for i, o := range owners { // the first removes keys, if need be
				if err := o.apply(t, o.declared); err != nil {
					t.Errorf("owner %d does not converge: %v", i, err)
				}
			}
			for i, o := range owners {
				if changes := o.plan(t, o.declared); changes != "" {
					t.Errorf("the next plan of owner %d is not empty: %s", i, changes)
				}
			}
			if most := watched(); most > byok.Cap {
				t.Errorf("the pool held %d keys", most)
			}
		})
	}
}

// watch looks at a pool all the time; what it returns ends that and tells the
// largest size it has seen.
func watch(t *testing.T, s *acctest.Server, p pool) func() int {
	stop, most := make(chan struct{}), make(chan int)
	go func() {
		largest := 0
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			size := 0
			for _, k := range s.List(t, p.workspaceID) {
				if k.ProviderID == p.providerID {
					size++
				}
			}
			largest = max(largest, size)
			select {
			case <-stop:
				most <- largest
				return
			case <-tick.C:
			}
		}
	}()
	var once sync.Once
	end := func() (largest int) {
		once.Do(func() { close(stop); largest = <-most })
		return largest
	}
	t.Cleanup(func() { end() })
	return end
}
