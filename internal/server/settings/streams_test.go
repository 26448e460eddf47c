package settings

import "testing"

// The number of streams is bounded, and one that ends makes way for another.
func TestStreamLimit(t *testing.T) {
	t.Parallel()
	var p Pages
	for i := range maxStreams {
		if !p.enter() {
			t.Fatalf("stream %d is refused", i+1)
		}
	}
	if p.enter() {
		t.Fatal("one more is not refused")
	}
	p.leave()
	if !p.enter() {
		t.Fatal("after one has ended, another is refused")
	}
}
