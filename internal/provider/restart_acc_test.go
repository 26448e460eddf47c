package provider

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// restartedServer passes requests on to a server, until the first key has been
// added. Then it refuses connections for a while.
func restartedServer(t *testing.T, target string, down time.Duration) (endpoint string) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	// While it is down, no other test may get its port: they listen on 127.0.0.1.
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		host = "127.0.0.2"
	}
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	quiet := log.New(io.Discard, "", 0)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = quiet
	serve := func(listener net.Listener, handler http.Handler) *http.Server {
		server := &http.Server{Handler: handler, ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		return server
	}

	var restart sync.WaitGroup
	var once sync.Once
	var before *http.Server
	started := make(chan struct{})
	before = serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-started
		proxy.ServeHTTP(w, r)
		if r.Method != http.MethodPost {
			return
		}
		once.Do(func() {
			restart.Go(func() {
				_ = before.Shutdown(t.Context()) // refuses connections, and lets responses end
				time.Sleep(down)
				again, err := net.Listen("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				after := serve(again, proxy)
				t.Cleanup(func() { _ = after.Close() })
			})
		})
	}))
	close(started)
	t.Cleanup(func() { _ = before.Close(); restart.Wait() })
	return "http://" + address
}

// An apply survives a restart of the server that takes longer than all retries
// of a request. TestRestart of package client shows a minute.
func TestAccApplySurvivesARestart(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	endpoint := restartedServer(t, s.URL, 10*time.Second)
	config := strings.Replace(keys(s, 5, `api_key_wo = "`+secretA+`"`), s.URL, endpoint, 1)
	tf := newTerraform(t, nil, config)
	tf.apply()
	tf.expect(nothing)
	if got := len(s.List(t, s.WorkspaceID)); got != 5 {
		t.Errorf("%d keys are stored", got)
	}
}
