package client

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
)

// settleTime is longer than the network of TestSoak holds a request back.
const settleTime = 100 * time.Millisecond

// TestSoak lets several goroutines add, replace and delete through a network
// that fails a fifth of all requests in every way there is. Each owner keeps
// its own books; in the end the server must hold what the books say: every
// key once, with the last secret that was declared, and nothing else.
//
// It runs in virtual time: a network that delivers a request later than the
// settle time is excluded, and a slow machine must not look like one.
func TestSoak(t *testing.T) {
	t.Parallel()
	const owners, steps = 6, 120
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			var proxy *faultproxy.Proxy
			playThrough(t, func(m *model) http.Handler {
				proxy = faultproxy.Wrap(m, faultproxy.Options{Seed: seed, Rate: 0.2})
				return proxy
			}, func(cfg *Config) {
				cfg.MaxRetries, cfg.RequestTimeout = 8, 5*time.Second
				cfg.RetryWaitMin, cfg.RetryWaitMax, cfg.SettleTime = time.Millisecond, 5*time.Millisecond, settleTime
			}, func(s *scene) {
				foreign := s.model.seed("w0/openai", "sk-foreign-secret-0001", "k0-0", time.Now().Add(-time.Hour))
				declared := make([]map[string]string, owners) // pool+" "+key ID -> secret
				var wg sync.WaitGroup
				for owner := range owners {
					declared[owner] = map[string]string{}
					wg.Go(func() { own(s, owner, steps, rand.New(rand.NewPCG(seed, uint64(owner))), declared[owner]) })
				}
				wg.Wait()
				proxy.Wait()

				stored := s.model.secrets()
				want := map[string]string{"w0/openai " + foreign: "sk-foreign-secret-0001"}
				for _, books := range declared {
					for key, secret := range books {
						want[key] = secret
					}
				}
				lost, extra, wrong := 0, 0, 0
				for key, secret := range want {
					switch got, ok := stored[key]; {
					case !ok:
						lost++
						s.Errorf("lost: %s", key)
					case got != secret:
						wrong++
						s.Errorf("%s holds another secret than declared", key)
					}
				}
				for key := range stored {
					if _, ok := want[key]; !ok {
						extra++
						s.Errorf("undeclared key: %s", key)
					}
				}
				requests, faults := proxy.Counts()
				s.Logf("%d steps, %d requests, faults %v: %d duplicates, %d losses, %d wrong secrets", owners*steps, requests, faults, extra, lost, wrong)
				if len(faults) < len(faultproxy.Kinds()) {
					s.Errorf("only these faults occurred: %v", faults)
				}
			})
		})
	}
}

// own works on keys of one owner. Names are not unique between owners.
func own(s *scene, owner, steps int, random *rand.Rand, books map[string]string) {
	c, ctx := s.client, s.ctx
	type held struct {
		pool byok.Pool
		id   string
	}
	var keys []held
	for step := range steps {
		secret := fmt.Sprintf("sk-soak-%d-%d-%08d", owner, step, random.IntN(1e8))
		switch choice := random.IntN(3); {
		case choice == 0 && len(keys) > 0:
			at := random.IntN(len(keys))
			k := keys[at]
			if err := c.Delete(ctx, k.pool, k.id); err != nil {
				s.Errorf("owner %d: %v", owner, err)
			}
			delete(books, k.pool.String()+" "+k.id)
			keys = append(keys[:at], keys[at+1:]...)
		case choice == 1 && len(keys) > 0:
			// A replace that a network holds back and delivers after the next
			// one wins, and no client can prevent that. Such a replace may be
			// the one before, or the one by which an add confirmed its secret.
			time.Sleep(settleTime)
			k := keys[0]
			key, err := c.Replace(ctx, k.pool, ReplaceInput{KeyID: k.id, APIKey: secret})
			if err != nil || key.ID != k.id || key.CreatedAt == "" {
				s.Errorf("owner %d: %+v, %v", owner, key, err)
			}
			books[k.pool.String()+" "+k.id] = secret
		case len(keys) < 4:
			k := held{pool: byok.Pool{Scope: byok.WorkspaceScope(fmt.Sprintf("w%d", random.IntN(2))), ProviderID: byok.ProviderIDs()[owner/2]}}
			name := fmt.Sprintf("k%d-%d", owner%2, random.IntN(2))
			key, err := c.Add(ctx, k.pool, AddInput{APIKey: secret, Name: &name, WaitForCapacity: true})
			if err != nil || key.UpdatedAt == "" {
				s.Errorf("owner %d: %+v, %v", owner, key, err)
				continue
			}
			k.id = key.ID
			keys = append(keys, k)
			books[k.pool.String()+" "+k.id] = secret
		}
	}
}
