package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
)

// TestSoak lets several goroutines add, replace and delete through a network
// that fails a fifth of all requests in every way there is. Each owner keeps
// its own books; in the end the server must hold what the books say: every
// key once, with the last secret that was declared, and nothing else.
func TestSoak(t *testing.T) {
	t.Parallel()
	const owners, steps = 6, 120
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			sim := client.NewModel()
			proxy := faultproxy.Wrap(sim, faultproxy.Options{Seed: seed, Rate: 0.2})
			server := httptest.NewServer(proxy)
			t.Cleanup(server.Close)
			c, err := client.New(client.Config{
				Endpoint: server.URL, SessionToken: "a.b", MaxRetries: 8, RequestTimeout: 5 * time.Second,
				RetryWaitMin: time.Millisecond, RetryWaitMax: 5 * time.Millisecond, SettleTime: 100 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			foreign := sim.Seed("w0/openai", "sk-foreign-secret-0001", "k0-0")
			declared := make([]map[string]string, owners) // pool+" "+key ID -> secret
			var wg sync.WaitGroup
			for owner := range owners {
				declared[owner] = map[string]string{}
				wg.Go(func() { own(t, c, owner, steps, rand.New(rand.NewPCG(seed, uint64(owner))), declared[owner]) })
			}
			wg.Wait()
			proxy.Wait()

			stored := sim.Secrets()
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
					t.Errorf("lost: %s", key)
				case got != secret:
					wrong++
					t.Errorf("%s holds another secret than declared", key)
				}
			}
			for key := range stored {
				if _, ok := want[key]; !ok {
					extra++
					t.Errorf("nobody's key: %s", key)
				}
			}
			requests, faults := proxy.Counts()
			t.Logf("%d steps, %d requests, faults %v: %d duplicates, %d losses, %d wrong secrets", owners*steps, requests, faults, extra, lost, wrong)
			if len(faults) < len(faultproxy.Kinds()) {
				t.Errorf("only these faults occurred: %v", faults)
			}
		})
	}
}

// own works on keys of one owner. Names are not unique between owners.
func own(t *testing.T, c *client.Client, owner, steps int, random *rand.Rand, books map[string]string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type held struct {
		pool     byok.Pool
		id       string
		replaced bool
	}
	var keys []held
	for step := range steps {
		secret := fmt.Sprintf("sk-soak-%d-%d-%08d", owner, step, random.IntN(1e8))
		switch choice := random.IntN(3); {
		case choice == 0 && len(keys) > 0:
			at := random.IntN(len(keys))
			k := keys[at]
			if err := c.Delete(ctx, k.pool, k.id); err != nil {
				t.Errorf("owner %d: %v", owner, err)
			}
			delete(books, k.pool.String()+" "+k.id)
			keys = append(keys[:at], keys[at+1:]...)
		case choice == 1 && len(keys) > 0 && !keys[0].replaced:
			// Once per key: a replace that a network holds back and delivers
			// after the next one would win, and no client can help that.
			k := keys[0]
			keys[0].replaced = true
			key, err := c.Replace(ctx, k.pool, client.ReplaceInput{KeyID: k.id, APIKey: secret})
			if err != nil || key.ID != k.id || key.CreatedAt == "" {
				t.Errorf("owner %d: %+v, %v", owner, key, err)
			}
			books[k.pool.String()+" "+k.id] = secret
		case len(keys) < 4:
			k := held{pool: byok.Pool{Scope: byok.WorkspaceScope(fmt.Sprintf("w%d", random.IntN(2))), ProviderID: byok.ProviderIDs()[owner/2]}}
			name := fmt.Sprintf("k%d-%d", owner%2, random.IntN(2))
			key, err := c.Add(ctx, k.pool, client.AddInput{APIKey: secret, Name: &name, WaitForCapacity: true})
			if err != nil || key.UpdatedAt == "" {
				t.Errorf("owner %d: %+v, %v", owner, key, err)
				continue
			}
			k.id = key.ID
			keys = append(keys, k)
			books[k.pool.String()+" "+k.id] = secret
		}
	}
}
