package faultproxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
)

// TestKinds: each kind fails as it says, and does or does not do the request.
func TestKinds(t *testing.T) {
	t.Parallel()
	for kind, tc := range map[faultproxy.Kind]struct {
		done bool
		want string // what the client sees: a status and body, or an error
	}{
		faultproxy.Refuse:   {false, "error"},
		faultproxy.Delay:    {true, "200 done"},
		faultproxy.CutFirst: {false, "error"},
		faultproxy.CutAfter: {true, "error"},
		faultproxy.Late:     {true, "error"},
		faultproxy.Truncate: {true, "error"},
		faultproxy.Status:   {false, "50"},
		faultproxy.Lost:     {true, "50"},
		faultproxy.Limit:    {false, "429"},
		faultproxy.Garbage:  {true, "200 "},
		faultproxy.Redirect: {false, "302"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var done atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				done.Add(1)
				_, _ = io.WriteString(w, "done")
			}))
			t.Cleanup(server.Close)
			target, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			proxy := faultproxy.New(target, faultproxy.Options{Rate: 1, Kinds: []faultproxy.Kind{kind}})
			front := httptest.NewServer(proxy)
			t.Cleanup(front.Close)
			if got := post(t, front.URL, "x"); !strings.HasPrefix(got, tc.want) || kind == faultproxy.Garbage && strings.Contains(got, "done") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			proxy.Wait()
			if (done.Load() == 1) != tc.done {
				t.Errorf("the request was done %d times", done.Load())
			}
			proxy.SetQuiet(true)
			if got := post(t, front.URL, "x"); got != "200 done" {
				t.Errorf("quiet, but got %q", got)
			}
			if requests, faults := proxy.Counts(); requests != 2 || faults[kind] != 1 || len(faults) != 1 {
				t.Errorf("%d requests, faults %v", requests, faults)
			}
		})
	}
}

// TestSeed: the same seed fails the same requests, in whatever order they come.
func TestSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, backwards bool) string {
		proxy := faultproxy.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), faultproxy.Options{
			Seed: seed, Rate: 0.3, Kinds: []faultproxy.Kind{faultproxy.Limit, faultproxy.Status}})
		outcome := make([]string, 60)
		for i := range outcome {
			if backwards {
				i = len(outcome) - 1 - i
			}
			response := httptest.NewRecorder()
			proxy.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/x", strings.NewReader(fmt.Sprint(i))))
			outcome[i] = fmt.Sprint(response.Code)
		}
		return strings.Join(outcome, " ")
	}
	if a, b := run(1, false), run(1, true); a != b {
		t.Errorf("one seed, two outcomes:\n%s\n%s", a, b)
	}
	if run(1, false) == run(2, false) {
		t.Error("two seeds, one outcome")
	}
}

func TestListenerRefuses(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), faultproxy.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(proxy)
	_ = server.Listener.Close()
	server.Listener = proxy.Listener(listener, 1)
	server.Start()
	t.Cleanup(server.Close)
	if got := post(t, server.URL, ""); got != "error" {
		t.Errorf("got %q", got)
	}
	proxy.SetQuiet(true)
	if got := post(t, server.URL, ""); got != "200 " {
		t.Errorf("quiet, but got %q", got)
	}
}

func post(t *testing.T, target, body string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(httptest.NewRequest(http.MethodPost, target, strings.NewReader(body)))
	if err != nil {
		return "error"
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, text)
}
