package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

const benchWorkspace = "00000000-0000-4000-8000-000000000001"

// benchServer is a server on a SQLite file, and how to call it.
func benchServer(b *testing.B) (*server.Server, func(method, path, body string) (int, []byte)) {
	b.Helper()
	s, err := server.Start(b.Context(), server.Config{
		Database: "sqlite:" + filepath.Join(b.TempDir(), "bench.db"), PasswordCost: 2, Development: true,
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

// BenchmarkResolveHandler is BenchmarkResolve without the network.
func BenchmarkResolveHandler(b *testing.B) {
	s, call := benchServer(b)
	fill(b, call, "openai")
	var failed atomic.Int64
	body := `{"workspaceId":"` + benchWorkspace + `","providerId":"openai"}`
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/reference/resolve", strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer internal")
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				failed.Add(1)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resolves/s")
	if failed.Load() > 0 {
		b.Errorf("%d failed", failed.Load())
	}
}
