package server_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A page that is open does not keep the server from stopping, and the timeouts
// of ordinary requests do not end its stream.
func TestShutdownEndsStreams(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	in := f.signIn(t, signInBody)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL()+"/workspace/"+testWorkspace+"/settings/byok/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie("session_token", in.cookies["session_token"]))
	stream, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if got := stream.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("the stream is %s, %s", stream.Status, got)
	}
	lines := bufio.NewScanner(stream.Body)
	if !lines.Scan() || lines.Text() != "event: state" || !lines.Scan() || !strings.HasPrefix(lines.Text(), `data: {"now":`) {
		t.Fatalf("the stream begins with %q", lines.Text())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	if err := f.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("shutdown took %s", took)
	}
	for lines.Scan() { // until the stream ends
	}
}
