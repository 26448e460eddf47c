package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// metrics are what GET /reference/metrics shows.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	latencies *prometheus.HistogramVec
	served    *prometheus.CounterVec
	unopened  *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "byok_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "status"}),
		latencies: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "byok_http_request_duration_seconds", Help: "Time from the request's headers until its response is ready.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2.5, 12),
		}, []string{"route", "method"}),
		served: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "byok_keys_served_total", Help: "Keys that the rotation served.",
		}, []string{"scope", "provider_id"}), // not by owner: a busy server has 100,000 of them
		unopened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "byok_undecryptable_keys_total", Help: "Times that the rotation skipped a key that ENCRYPTION_KEY does not open, by pool.",
		}, []string{"scope", "owner", "provider_id"}),
	}
	m.registry.MustRegister(m.requests, m.latencies, m.served, m.unopened,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observe(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // anybody can make methods up; a label must stay small
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.latencies.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *metrics) serve(pool keystore.Pool) {
	m.served.WithLabelValues(string(pool.Scope), pool.ProviderID).Inc()
}

func (m *metrics) undecryptable(pool keystore.Pool) {
	m.unopened.WithLabelValues(string(pool.Scope), pool.ID, pool.ProviderID).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
