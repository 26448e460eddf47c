package rotation_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
)

var pool = poolOf(keystore.Workspace, "w", "openai")

func poolOf(scope keystore.Scope, owner, providerID string) keystore.Pool {
	return keystore.Pool{Owner: keystore.Owner{Scope: scope, ID: owner}, ProviderID: providerID}
}

// serve calls the rotation n times over keys, of which lower-case ones do not
// open, and returns what was served, "-" for nothing.
func serve(r *rotation.Rotation, p keystore.Pool, keys string, n int) string {
	var served strings.Builder
	for range n {
		index := r.Next(p, len(keys), func(i int) bool { return keys[i] >= 'A' && keys[i] <= 'Z' })
		if index < 0 {
			served.WriteByte('-')
		} else {
			served.WriteByte(keys[index])
		}
	}
	return served.String()
}

// The sequences of WIRE.md section 8, in one process each.
func TestNext(t *testing.T) {
	t.Parallel()
	type calls struct {
		keys string
		n    int
		want string
	}
	for name, steps := range map[string][]calls{
		"three keys":              {{"ABC", 7, "ABCABCA"}},
		"one key":                 {{"A", 3, "AAA"}},
		"growing and shrinking":   {{"ABC", 10, "ABCABCABCA"}, {"ABCD", 5, "CDABC"}, {"ACD", 4, "ACDA"}},
		"empty does not advance":  {{"", 3, "---"}, {"ABC", 3, "ABC"}},
		"outlives an empty pool":  {{"AB", 19, "ABABABABABABABABABA"}, {"", 3, "---"}, {"PQRST", 6, "TPQRST"}},
		"undecryptable middle":    {{"AxC", 6, "ACCACC"}},
		"undecryptable first":     {{"xBC", 6, "BBCBBC"}},
		"undecryptable last":      {{"ABx", 6, "ABAABA"}},
		"all bad, then repaired":  {{"xx", 3, "---"}, {"AB", 3, "BAB"}},
		"replaced keeps position": {{"AB", 2, "AB"}, {"ZB", 3, "ZBZ"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rotation.New()
			for _, step := range steps {
				if got := serve(r, pool, step.keys, step.n); got != step.want {
					t.Errorf("%d calls on %q served %s, want %s", step.n, step.keys, got, step.want)
				}
			}
		})
	}
}

func TestCursorsAreIndependent(t *testing.T) {
	t.Parallel()
	r := rotation.New()
	serve(r, pool, "ABC", 2)
	for _, other := range []keystore.Pool{
		poolOf(keystore.Workspace, "w", "anthropic"),
		poolOf(keystore.Workspace, "v", "openai"),
		poolOf(keystore.Organization, "w", "openai"),
	} {
		if got := serve(r, other, "ABC", 1); got != "A" {
			t.Errorf("%v begins with %s, want A", other, got)
		}
	}
	if got := serve(r, pool, "ABC", 1); got != "C" {
		t.Errorf("third call served %s, want C", got)
	}
}

// Over n x k calls each of n keys is served exactly k times, whoever calls.
func TestFairUnderConcurrency(t *testing.T) {
	t.Parallel()
	const goroutines, keys, rounds = 64, 7, 300
	r := rotation.New()
	var served [keys]atomic.Int64
	var wg sync.WaitGroup
	calls := make(chan struct{}, keys*rounds)
	for range keys * rounds {
		calls <- struct{}{}
	}
	close(calls)
	for range goroutines {
		wg.Go(func() {
			for range calls {
				served[r.Next(pool, keys, func(int) bool { return true })].Add(1)
			}
		})
	}
	wg.Wait()
	counts := make([]int64, keys)
	for i := range served {
		counts[i] = served[i].Load()
	}
	if slices.Min(counts) != rounds || slices.Max(counts) != rounds {
		t.Errorf("served %v times, want %d each", counts, rounds)
	}
}

func BenchmarkNext(b *testing.B) {
	r := rotation.New()
	b.ReportAllocs()
	for b.Loop() {
		r.Next(pool, 10, func(int) bool { return true })
	}
}
