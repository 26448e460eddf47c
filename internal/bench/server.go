//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// serverBench times a byok-server on each database, first while it is all but
// empty, then with many keys in it.
type serverBench struct {
	bin string
	dir string
	log io.Writer
	// duration is how long each operation is repeated.
	duration time.Duration
	clients  int
	// crowd is the number of workspaces in the large store, each with ten
	// keys.
	crowd int
}

func (b *serverBench) run(ctx context.Context) (*table, error) {
	t := &table{header: []string{"database", "operation", "bare, p50", "1 client, p50", "p99", "/ bare",
		fmt.Sprintf("%d clients, p50", b.clients), "p99", "a second", "bare, a second", "of bare", fmt.Sprintf("with %d keys", b.crowd*keysPerPool)}}
	if err := b.database(ctx, t, "SQLite", "sqlite:"+filepath.Join(b.dir, "speed.db")); err != nil {
		return nil, fmt.Errorf("SQLite: %w", err)
	}
	cluster, err := pgtest.Start(pgtest.WithFsync(), asInProduction)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	err = b.database(ctx, t, "PostgreSQL", cluster.URL("postgres"))
	return t, errors.Join(err, cluster.Stop())
}

// asInProduction undoes what makes a test's cluster fast.
func asInProduction(args *[]string) {
	*args = append(*args, "-c", "full_page_writes=on", "-c", "autovacuum=on", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB")
}

// database adds the rows of one database to the table.
func (b *serverBench) database(ctx context.Context, t *table, name, target string) (err error) {
	dir, err := os.MkdirTemp(b.dir, "server")
	if err != nil {
		return err
	}
	s, err := startServer(ctx, b.bin, dir, target, max(b.clients, 32))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	load := &load{server: s, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.clients, MaxConnsPerHost: b.clients}}}
	if err := load.prepare(ctx); err != nil {
		return err
	}
	direct, stop, err := b.inProcess(ctx, s, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	bare, err := load.bare(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	operations := []struct {
		name     string
		do, bare operation
	}{
		{"list of 30 keys", load.list, bare.list},
		{"add", load.add, bare.write},
		{"replace", load.replace, bare.write},
		{"delete", load.remove, bare.write},
		{"resolve, over HTTP", load.resolve, bare.resolve},
		{"resolve, in process", direct, nil},
	}
	type row struct{ one, many, bareOne, bareMany []time.Duration }
	rows := make([]row, len(operations))
	for i, op := range operations {
		for _, m := range []struct {
			do      operation
			clients int
			into    *[]time.Duration
		}{{op.bare, 1, &rows[i].bareOne}, {op.do, 1, &rows[i].one}, {op.bare, b.clients, &rows[i].bareMany}, {op.do, b.clients, &rows[i].many}} {
			if m.do == nil {
				continue
			}
			if *m.into, err = b.measure(ctx, m.do, m.clients); err != nil {
				return fmt.Errorf("%s, %d clients: %w", op.name, m.clients, err)
			}
		}
	}
	started := time.Now()
	if err := fill(ctx, target, b.crowd); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	fmt.Fprintf(b.log, "%s: %d keys stored in %s\n", name, b.crowd*keysPerPool, time.Since(started).Round(time.Second))
	for i, op := range operations {
		crowded, err := b.measure(ctx, op.do, 1)
		if err != nil {
			return fmt.Errorf("%s, crowded: %w", op.name, err)
		}
		one, many := rows[i].one, rows[i].many
		cells := []string{name, op.name, "-",
			inMilliseconds(percentile(one, 50)), inMilliseconds(percentile(one, 99)), "-",
			inMilliseconds(percentile(many, 50)), inMilliseconds(percentile(many, 99)),
			fmt.Sprintf("%.0f", b.aSecond(many)), "-", "-", ratio(percentile(crowded, 50), percentile(one, 50))}
		if op.bare != nil {
			cells[2], cells[5] = inMilliseconds(percentile(rows[i].bareOne, 50)), ratio(percentile(one, 50), percentile(rows[i].bareOne, 50))
			bareRate := b.aSecond(rows[i].bareMany)
			cells[9], cells[10] = fmt.Sprintf("%.0f", bareRate), fmt.Sprintf("%.0f %%", 100*b.aSecond(many)/bareRate)
		}
		t.add(cells...)
	}
	return nil
}

// aSecond is how often all clients together did what took each so long.
func (b *serverBench) aSecond(all []time.Duration) float64 {
	return float64(b.clients) / mean(all).Seconds()
}

// operation is one step of one client; it returns what of it counts.
type operation func(ctx context.Context, client int) (time.Duration, error)

// measure repeats an operation with that many clients at once.
func (b *serverBench) measure(ctx context.Context, do operation, clients int) ([]time.Duration, error) {
	var (
		mu   sync.Mutex
		all  []time.Duration
		errs []error
		wg   sync.WaitGroup
	)
	begin := time.Now()
	warm, end := begin.Add(b.duration/5), begin.Add(b.duration/5+b.duration)
	for client := range clients {
		wg.Go(func() {
			var own []time.Duration
			var err error
			for now := time.Now(); now.Before(end) && err == nil; now = time.Now() {
				var took time.Duration
				if took, err = do(ctx, client); err == nil && now.After(warm) {
					own = append(own, took)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, own...), append(errs, err)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("nothing was measured: the duration is too short")
	}
	return all, nil
}

// inProcess is a resolve within this process, without sockets, as the real
// server's was measured.
func (b *serverBench) inProcess(ctx context.Context, s *byokServer, target string) (operation, func() error, error) {
	own, err := server.Start(ctx, server.Config{Database: target, Secrets: s.secrets})
	if err != nil {
		return nil, nil, err
	}
	do := func(ctx context.Context, client int) (time.Duration, error) {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/reference/resolve", strings.NewReader(resolveBody(s.workspaces[client])))
		r.Header.Set("Authorization", "Bearer "+s.secrets.InternalSecret)
		w := httptest.NewRecorder()
		start := time.Now()
		own.Handler().ServeHTTP(w, r)
		took := time.Since(start)
		if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte("apiKey")) {
			return 0, fmt.Errorf("resolve: %d", w.Code)
		}
		return took, nil
	}
	return do, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return own.Shutdown(ctx)
	}, nil
}

// load is what the clients do. Each has a workspace of its own: 30 keys under
// three provider IDs to list, and one pool to change.
type load struct {
	server   *byokServer
	http     *http.Client
	replaced []string // key ID by client
	added    []string
}

const (
	listedPools  = 3
	replacedPool = "mistral" // one key
	changedPool  = "cohere"  // added to and removed from
)

var listed = [listedPools]string{"openai", "anthropic", "google"}

func (l *load) prepare(ctx context.Context) error {
	l.replaced, l.added = make([]string, len(l.server.workspaces)), make([]string, len(l.server.workspaces))
	for i := range l.server.workspaces {
		for _, providerID := range listed {
			for range keysPerPool - 1 {
				if _, err := l.save(ctx, i, byok.SaveRequest{ProviderID: providerID, APIKey: apiKey()}); err != nil {
					return err
				}
			}
		}
		// The 30 keys of the list are these 27 and those of the other pools.
		for n := range listedPools {
			id, err := l.save(ctx, i, byok.SaveRequest{ProviderID: replacedPool, APIKey: apiKey()})
			if err != nil {
				return err
			}
			if n == 0 {
				l.replaced[i] = id
			}
		}
	}
	return nil
}

func apiKey() string { return "sk-bench-" + randomHex(20) }

func (l *load) list(ctx context.Context, client int) (time.Duration, error) {
	return l.listOf(ctx, l.server.URL+byokserver.KeysPath(l.server.workspaces[client]))
}

func (l *load) listOf(ctx context.Context, url string) (time.Duration, error) {
	var response struct {
		Keys []byok.Key `json:"keys"`
	}
	took, err := l.callURL(ctx, http.MethodGet, url, nil, &response)
	if err == nil && len(response.Keys) != listedPools*keysPerPool {
		err = fmt.Errorf("the list has %d keys", len(response.Keys))
	}
	return took, err
}

// add counts an add; the key goes again, uncounted.
func (l *load) add(ctx context.Context, client int) (time.Duration, error) {
	start := time.Now()
	id, err := l.save(ctx, client, byok.SaveRequest{ProviderID: changedPool, APIKey: apiKey()})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	_, err = l.call(ctx, http.MethodDelete, byokserver.KeysPath(l.server.workspaces[client]), byok.DeleteRequest{ProviderID: changedPool, KeyID: id}, nil)
	return took, err
}

// remove counts a delete; the add before it is uncounted.
func (l *load) remove(ctx context.Context, client int) (time.Duration, error) {
	id, err := l.save(ctx, client, byok.SaveRequest{ProviderID: changedPool, APIKey: apiKey()})
	if err != nil {
		return 0, err
	}
	return l.call(ctx, http.MethodDelete, byokserver.KeysPath(l.server.workspaces[client]), byok.DeleteRequest{ProviderID: changedPool, KeyID: id}, nil)
}

func (l *load) replace(ctx context.Context, client int) (time.Duration, error) {
	return l.replaceAt(ctx, client, l.server.URL+byokserver.KeysPath(l.server.workspaces[client]))
}

func (l *load) replaceAt(ctx context.Context, client int, url string) (time.Duration, error) {
	return l.callURL(ctx, http.MethodPost, url,
		byok.SaveRequest{ProviderID: replacedPool, APIKey: apiKey(), KeyID: l.replaced[client]}, nil)
}

func (l *load) resolve(ctx context.Context, client int) (time.Duration, error) {
	return l.resolveAt(ctx, client, l.server.URL+"/reference/resolve")
}

func (l *load) resolveAt(ctx context.Context, client int, url string) (time.Duration, error) {
	var response struct {
		APIKey string `json:"apiKey"`
	}
	took, err := l.callURL(ctx, http.MethodPost, url, json.RawMessage(resolveBody(l.server.workspaces[client])), &response)
	if err == nil && response.APIKey == "" {
		err = errors.New("nothing was served")
	}
	return took, err
}

// resolveBody asks for a pool of three keys, as in the measurement of the real
// server.
func resolveBody(workspaceID string) string {
	return fmt.Sprintf(`{"workspaceId":%q,"providerId":%q}`, workspaceID, replacedPool)
}

func (l *load) save(ctx context.Context, client int, in byok.SaveRequest) (string, error) {
	var response struct {
		Key struct {
			ID string `json:"id"`
		} `json:"key"`
	}
	_, err := l.call(ctx, http.MethodPost, byokserver.KeysPath(l.server.workspaces[client]), in, &response)
	return response.Key.ID, err
}

// call times a request from its start to the end of its response.
func (l *load) call(ctx context.Context, method, path string, body, into any) (time.Duration, error) {
	return l.callURL(ctx, method, l.server.URL+path, body, into)
}

func (l *load) callURL(ctx context.Context, method, url string, body, into any) (time.Duration, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, payload)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", "better-auth.session_token="+l.server.sessionToken)
	req.Header.Set("Authorization", "Bearer "+l.server.secrets.InternalSecret)
	start := time.Now()
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(resp.Body)
	took := time.Since(start)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	if into != nil {
		err = json.Unmarshal(text, into)
	}
	return took, err
}

// fill stores workspaces with ten keys each, straight into the database, all
// over the space of IDs. They share one sealed key.
func fill(ctx context.Context, target string, workspaces int) (err error) {
	db, err := database.Open(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	numbers := "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1)"
	uuid := "printf('%08x-0000-4000-9000-%012d', (%[1]s * 2654435761) % 4294967296, %[1]s)"
	if db.Dialect == database.Postgres {
		numbers = "WITH numbers(n) AS (SELECT generate_series(0, $1::bigint - 1))"
		uuid = "lpad(to_hex((%[1]s * 2654435761) %% 4294967296), 8, '0') || '-0000-4000-9000-' || lpad((%[1]s)::text, 12, '0')"
	} else {
		uuid = strings.NewReplacer("%08x", "%%08x", "%012d", "%%012d", " % ", " %% ").Replace(uuid)
	}
	settle := "ANALYZE"
	if db.Dialect == database.Postgres {
		settle = "VACUUM ANALYZE" // now, rather than by itself in the middle of a measurement
	}
	for _, step := range []struct {
		query string
		n     int
	}{
		{numbers + ` INSERT INTO workspace (id, name, owner_id, created_at, updated_at)
			SELECT ` + fmt.Sprintf(uuid, "n") + `, 'Crowd', owner_id, created_at, updated_at
			FROM numbers, (SELECT owner_id, created_at, updated_at FROM workspace LIMIT 1) AS sample`, workspaces},
		{numbers + ` INSERT INTO workspace_byok_keys (id, workspace_id, provider_id, name, encrypted_api_key, created_by, created_at, updated_at)
			SELECT 'crowd-' || n, ` + fmt.Sprintf(uuid, "(n / 10)") + `, 'openai', 'key', encrypted_api_key, created_by, created_at, updated_at
			FROM numbers, (SELECT encrypted_api_key, created_by, created_at, updated_at FROM workspace_byok_keys LIMIT 1) AS sample`, workspaces * keysPerPool},
		{settle, 0},
	} {
		var args []any
		if step.n > 0 {
			args = append(args, step.n)
		}
		if _, err := db.Write.ExecContext(ctx, step.query, args...); err != nil {
			return err
		}
	}
	return nil
}

// fsync measures what the disk takes to make 4 KiB durable, n times: what no
// write that survives a power cut can go below.
func fsync(dir string, n int) ([]time.Duration, error) {
	file, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	page := make([]byte, 4<<10)
	if _, err := file.Write(make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	var all []time.Duration
	for i := range n {
		start := time.Now()
		if _, err := file.WriteAt(page, int64(i%256)*int64(len(page))); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		all = append(all, time.Since(start))
	}
	return all, nil
}

// rotationAlone says what a step of the rotation over a pool of ten costs,
// without a store.
func rotationAlone() string {
	r := rotation.New()
	pool := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "00000000-0000-4000-8000-000000000000"}, ProviderID: replacedPool}
	got := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			r.Next(pool, keysPerPool, func(int) bool { return true })
		}
	})
	return fmt.Sprintf("%d ns and %d allocations a call", got.NsPerOp(), got.AllocsPerOp())
}

func mean(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(len(all))
}
