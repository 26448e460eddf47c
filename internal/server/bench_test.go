//go:build unix

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

const benchWorkspace = "00000000-0000-4000-8000-000000000001"

// benchServer is a server on a SQLite file, and how to call it.
func benchServer(b *testing.B) (*server.Server, func(method, path, body string) (int, []byte)) {
	b.Helper()
	return benchServerOn(b, "sqlite:"+filepath.Join(b.TempDir(), "bench.db"))
}

func benchServerOn(b *testing.B, target string) (*server.Server, func(method, path, body string) (int, []byte)) {
	b.Helper()
	log, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	s, err := server.Start(b.Context(), server.Config{
		Database: target, PasswordCost: 2, Development: true, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Secrets: server.Secrets{EncryptionKey: strings.Repeat("ab", 32), AuthSecret: "secret", InternalSecret: "internal"},
		Bootstrap: &server.Bootstrap{
			Users:      []server.BootstrapUser{{Email: "a@example.com", Password: "password"}},
			Workspaces: []server.BootstrapWorkspace{{ID: benchWorkspace, Owner: "a@example.com"}},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	token, err := s.MintSession(b.Context(), "a@example.com")
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(client.CloseIdleConnections)
	return s, func(method, path, body string) (int, []byte) {
		r, err := http.NewRequestWithContext(context.Background(), method, s.URL()+path, strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return 0, nil
		}
		r.Header.Set("Cookie", "better-auth.session_token="+token)
		r.Header.Set("Authorization", "Bearer internal")
		response, err := client.Do(r)
		if err != nil {
			b.Error(err)
			return 0, nil
		}
		defer response.Body.Close()
		var text bytes.Buffer
		if _, err := io.Copy(&text, response.Body); err != nil {
			b.Error(err)
		}
		return response.StatusCode, text.Bytes()
	}
}

const benchPath = "/api/workspaces/" + benchWorkspace + "/byok-keys"

func fill(b *testing.B, call func(method, path, body string) (int, []byte), providerIDs ...string) {
	b.Helper()
	for _, providerID := range providerIDs {
		for i := range 10 {
			if status, text := call(http.MethodPost, benchPath, fmt.Sprintf(`{"providerId":%q,"apiKey":"sk-bench-%010d","name":"key %d"}`, providerID, i, i)); status != http.StatusOK {
				b.Fatalf("add: %d %s", status, text)
			}
		}
	}
}

// reportMedian runs f b.N times and reports the median beside the mean.
func reportMedian(b *testing.B, f func()) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		f()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "p95-µs")
}

// BenchmarkList is a GET of 30 keys with a session token alone.
func BenchmarkList(b *testing.B) {
	_, call := benchServer(b)
	fill(b, call, "openai", "anthropic", "google")
	reportMedian(b, func() {
		if status, text := call(http.MethodGet, benchPath, ""); status != http.StatusOK {
			b.Fatalf("%d %s", status, text)
		}
	})
}

// BenchmarkAdd is an add, each synced to disk, to a pool that is emptied when
// it is full.
func BenchmarkAdd(b *testing.B) {
	_, call := benchServer(b)
	n := 0
	reportMedian(b, func() {
		if status, text := call(http.MethodPost, benchPath, `{"providerId":"openai","apiKey":"sk-bench-0000000000"}`); status != http.StatusOK {
			b.Fatalf("%d %s", status, text)
		}
		if n++; n%10 == 0 {
			b.StopTimer()
			call(http.MethodDelete, benchPath, `{"providerId":"openai"}`)
			b.StartTimer()
		}
	})
}

// BenchmarkResolve is the rotation over a pool of ten, from many clients.
func BenchmarkResolve(b *testing.B) {
	_, call := benchServer(b)
	fill(b, call, "openai")
	var failed atomic.Int64
	body := `{"workspaceId":"` + benchWorkspace + `","providerId":"openai"}`
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if status, _ := call(http.MethodPost, "/reference/resolve", body); status != http.StatusOK {
				failed.Add(1)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resolves/s")
	if failed.Load() > 0 {
		b.Errorf("%d failed", failed.Load())
	}
}

// BenchmarkHandler is the server without the network: what it does itself for a
// list of 30 keys with a session token alone, for a resolve over a pool of three
// and for a replace, with one client and with several.
func BenchmarkHandler(b *testing.B) {
	for _, database := range []string{"sqlite", "postgres"} {
		target := "sqlite:" + filepath.Join(b.TempDir(), "bench.db")
		if database == "postgres" {
			target = pgtest.URL(b)
		}
		s, call := benchServerOn(b, target)
		fill(b, call, "openai", "anthropic")
		var replaced string
		for i := range 10 {
			provider := "google"
			if i < 3 {
				provider = "mistral"
			}
			_, text := call(http.MethodPost, benchPath, fmt.Sprintf(`{"providerId":%q,"apiKey":"sk-bench-%010d"}`, provider, i))
			var saved struct{ Key struct{ ID string } }
			if err := json.Unmarshal(text, &saved); err != nil || saved.Key.ID == "" {
				b.Fatalf("add: %s", text)
			}
			if i == 0 {
				replaced = saved.Key.ID
			}
		}
		token, err := s.MintSession(b.Context(), "a@example.com")
		if err != nil {
			b.Fatal(err)
		}
		for _, op := range []struct{ name, method, path, body string }{
			{"list", http.MethodGet, benchPath, ""},
			{"resolve", http.MethodPost, "/reference/resolve", `{"workspaceId":"` + benchWorkspace + `","providerId":"mistral"}`},
			{"replace", http.MethodPost, benchPath, `{"providerId":"mistral","apiKey":"sk-bench-0000000000","keyId":"` + replaced + `"}`},
		} {
			do := func() error {
				r := httptest.NewRequestWithContext(context.Background(), op.method, op.path, strings.NewReader(op.body))
				r.Header.Set("Authorization", "Bearer internal")
				r.Header.Set("Cookie", "better-auth.session_token="+token)
				r.Header.Set("Accept-Encoding", "gzip")
				w := &discard{header: http.Header{}}
				s.Handler().ServeHTTP(w, r)
				if w.status != http.StatusOK {
					return fmt.Errorf("%s: %d", op.name, w.status)
				}
				return nil
			}
			b.Run(database+"/"+op.name+"/clients=1", func(b *testing.B) {
				b.ReportAllocs()
				before := processorTime()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
			})
			b.Run(database+"/"+op.name+"/clients=16", func(b *testing.B) {
				b.ReportAllocs()
				before := processorTime()
				defer func() { b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op") }()
				b.SetParallelism(max(1, 16/runtime.GOMAXPROCS(0)))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := do(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// processorTime is what this process has used of the processors, whatever else
// runs on the machine.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// discard is a connection that nothing comes back from.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
