package secrets

import (
	"os"
	"sync"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/figures"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func TestMain(m *testing.M) {
	code := tfrun.Run(m)
	totals.print()
	os.Exit(code)
}

// totals is what all hunts of the test binary searched.
var totals sums

type sums struct {
	mu                                                     sync.Mutex
	hunts, places, bytes, canaries, texts, expected, leaks int
}

func (s *sums) add(places, bytes, canaries, texts, expected, leaks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hunts++
	s.places += places
	s.bytes += bytes
	s.canaries += canaries
	s.texts += texts
	s.expected += expected
	s.leaks += leaks
}

func (s *sums) print() {
	if s.hunts == 0 {
		return
	}
	figures.Report("leak hunt: searched %d places (%.1f MB) for %d encodings of %d canaries (%d texts): found api_key where it may be (state and plan) %d times, leaks: %d",
		s.places, float64(s.bytes)/1e6, len(encodings), s.canaries, s.texts, s.expected, s.leaks)
}
