package cap

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	measured "github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/figures"
)

var (
	renamePools  = flag.String("renames.pools", "2", "numbers of full pools whose keys are all renamed in one apply, separated by commas")
	renameRounds = flag.Int("renames.rounds", 1, "how often each number of pools is renamed")
)

const (
	// mostApplies is how many applies a rename of full pools may take.
	mostApplies = 2
	// mostSilence is how long an apply may go without storing or deleting a
	// key, with some allowance for a slow machine.
	mostSilence = 30*time.Second + 10*time.Second
)

// progress measures the longest time in which no key is stored or deleted.
type progress struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

func (p *progress) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !p.last.IsZero() {
		p.longest = max(p.longest, now.Sub(p.last))
	}
	p.last = time.Now()
}

func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.longest = time.Now(), 0
}

func (p *progress) silence() time.Duration {
	p.note()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest
}

func (p *progress) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &statusWriter{ResponseWriter: rw, status: http.StatusOK}
		next.ServeHTTP(w, r)
		if r.Method != http.MethodGet && w.status == http.StatusOK {
			p.note()
		}
	})
}

// TestRenames renames all ten keys of several full pools in one apply, at the
// default parallelism. Creates that wait for deletes must not keep Terraform
// from starting these deletes.
func TestRenames(t *testing.T) {
	t.Parallel()
	for text := range strings.SplitSeq(*renamePools, ",") {
		pools, err := strconv.Atoi(text)
		if err != nil || pools < 1 || pools > len(byok.ProviderIDs()) {
			t.Fatalf("-renames.pools has %q, want numbers from 1 to %d", text, len(byok.ProviderIDs()))
		}
		t.Run(text, func(t *testing.T) { renamePoolsOf(t, pools) })
	}
}

func renamePoolsOf(t *testing.T, pools int) {
	var p progress
	w := newWorld(t, acctest.WithMiddleware(p.middleware))
	w.Timeout = 20 * time.Minute
	config := func(generation int) string {
		var b strings.Builder
		for _, providerID := range byok.ProviderIDs()[:pools] {
			var names []string
			for i := range byok.Cap {
				names = append(names, fmt.Sprintf("g%d-k%02d", generation, i))
			}
			b.WriteString(keys(providerID, names...))
		}
		return b.String()
	}
	w.configure(t, config(0))
	w.Apply(t)

	for round := range *renameRounds {
		w.configure(t, config(round+1))
		failed, applies := 0, 0
		started := time.Now()
		var silence time.Duration
		for applies < 4 {
			applies++
			p.start()
			ctx, cancel := context.WithTimeout(t.Context(), w.Timeout)
			out, err := w.Command(ctx, "apply", "-auto-approve", "-no-color").CombinedOutput()
			cancel()
			silence = max(silence, p.silence())
			failed += strings.Count(string(out), "Error: ")
			if err == nil {
				break
			}
			if applies == 1 && testing.Verbose() {
				t.Log(firstError(string(out)))
			}
		}
		seconds := time.Since(started).Round(time.Second / 10)
		measured.Report("renames of %d full pools: %d creates failed, %s, %d applies, at most %s without progress",
			pools, failed, seconds, applies, silence.Round(time.Second/10))
		if applies > mostApplies {
			t.Errorf("%d applies, want at most %d", applies, mostApplies)
		}
		if silence > mostSilence {
			t.Errorf("%s without progress, want at most %s", silence, mostSilence)
		}
		w.wantSettled(t)
	}
}

func firstError(output string) string {
	at := strings.Index(output, "Error: ")
	if at < 0 {
		return output
	}
	return output[at:min(len(output), at+2500)]
}
