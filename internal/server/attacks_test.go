//go:build unix

package server_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

const signUpPath = "/api/auth/sign-up/email"

// attack is something that a hostile or broken client or database does. run
// returns what was seen of it, which must be want.
type attack struct {
	name   string
	config func(*server.Config)
	run    func(t *testing.T, f *fixture) (seen string)
	want   string
	// only names the one database that the attack is about.
	only string
}

// TestAttacks attacks a server of its own each time, on each database. It does
// not run beside other tests: it measures memory.
func TestAttacks(t *testing.T) {
	for _, kind := range []string{"sqlite", "postgres"} {
		for _, a := range attacks {
			if a.only != "" && a.only != kind {
				continue
			}
			t.Run(kind+"/"+a.name, func(t *testing.T) {
				target := "sqlite:" + filepath.Join(t.TempDir(), "attacked.db")
				if kind == "postgres" {
					target = pgtest.URL(t)
				}
				f := startFixture(t, func(c *server.Config) {
					c.Database = target
					if a.config != nil {
						a.config(c)
					}
				})
				if seen := a.run(t, f); seen != a.want {
					t.Errorf("\nexpected: %s\n    seen: %s", a.want, seen)
				}
			})
		}
	}
}

var attacks = []attack{
	{
		name: "sign-in with 9.9 MB of small fields, six at once",
		run: func(t *testing.T, f *fixture) string {
			body := manyFields(9_900_000)
			allocated := allocatedBy(func() {
				together(6, func(int) { f.call(t, http.MethodPost, signInPath, body, "Content-Type", "application/json") })
			})
			a := f.call(t, http.MethodPost, signInPath, body, "Content-Type", "application/json")
			return fmt.Sprintf("%d %s; memory: %s", a.StatusCode, a.body, atMost(allocated, 10<<20))
		},
		want: `413 {"message":"Request body exceeds the maximum allowed size of 65536 bytes","code":"PAYLOAD_TOO_LARGE"}; memory: at most 10 MiB`,
	},
	{
		name: "sign-in with as many small fields as fit",
		run: func(t *testing.T, f *fixture) string {
			var status int
			body := manyFields(60_000)
			allocated := allocatedBy(func() {
				status = f.call(t, http.MethodPost, signInPath, body, "Content-Type", "application/json").StatusCode
			})
			return fmt.Sprintf("%d; memory: %s", status, atMost(allocated, 1<<20))
		},
		want: "400; memory: at most 1 MiB",
	},
	{
		name: "chunked sign-in without end",
		run: func(t *testing.T, f *fixture) string {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL()+signInPath, io.LimitReader(rand.Reader, 5<<20))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			return response.Status
		},
		want: "413 Request Entity Too Large",
	},
	{
		name: "sign-up with a name of 9 MB",
		run: func(t *testing.T, f *fixture) string {
			a := f.call(t, http.MethodPost, signUpPath, signUpBody("n@example.com", strings.Repeat("n", 9<<20)), "Content-Type", "application/json")
			return fmt.Sprint(a.StatusCode)
		},
		want: "413",
	},
	{
		name: "sign-up with a name of 60 kB and what later responses carry",
		run: func(t *testing.T, f *fixture) string {
			in := f.call(t, http.MethodPost, signUpPath, signUpBody("n@example.com", strings.Repeat("é", 30<<10)), "Content-Type", "application/json")
			a := f.call(t, http.MethodGet, "/api/auth/get-session", "", "Cookie", cookie("session_token", in.cookies["session_token"]))
			size := len(a.body)
			for _, c := range a.Header.Values("Set-Cookie") {
				size += len(c)
			}
			return fmt.Sprintf("%d, then %d with %s", in.StatusCode, a.StatusCode, atMost(uint64(size), 8<<10))
		},
		want: "200, then 200 with at most 8 KiB",
	},
	{
		name: "sign-up with an image of 60 kB and what later responses carry",
		run: func(t *testing.T, f *fixture) string {
			body := strings.TrimSuffix(signUpBody("n@example.com", "N"), "}") + `,"image":"https://x.test/` + strings.Repeat("i", 60_000) + `"}`
			in := f.call(t, http.MethodPost, signUpPath, body, "Content-Type", "application/json")
			a := f.call(t, http.MethodGet, testKeys, "", "Cookie", cookie("session_token", in.cookies["session_token"]))
			return fmt.Sprintf("%d, then %d with %d cookies", in.StatusCode, a.StatusCode, len(a.cookies))
		},
		want: "200, then 401 with 0 cookies",
	},
	{
		name: "sign-up with U+0000 and half characters",
		run: func(t *testing.T, f *fixture) string {
			body := `{"email":"n@example.com","password":"12345678","name":"a\u0000b\ud800","image":"\u0000"}`
			a := f.call(t, http.MethodPost, signUpPath, body, "Content-Type", "application/json")
			var got struct {
				User struct {
					Name  string
					Image *string
				}
			}
			err := json.Unmarshal([]byte(a.body), &got)
			return fmt.Sprintf("%d %q %v %v", a.StatusCode, got.User.Name, got.User.Image, err)
		},
		want: `200 "a�b�" <nil> <nil>`,
	},
	{
		name: "sign-in with a user agent that is not UTF-8 and 60 kB long",
		run: func(t *testing.T, f *fixture) string {
			a := f.call(t, http.MethodPost, signInPath, signInBody, "Content-Type", "application/json", "User-Agent", "agent \xff\xfe "+strings.Repeat("é", 30<<10))
			session := f.call(t, http.MethodGet, "/api/auth/get-session", "", "Cookie", cookie("session_token", a.cookies["session_token"]))
			var got struct{ Session struct{ UserAgent string } }
			err := json.Unmarshal([]byte(session.body), &got)
			return fmt.Sprintf("%d %.10q %s %v", a.StatusCode, got.Session.UserAgent, atMost(uint64(len(got.Session.UserAgent)), 1<<10), err)
		},
		want: `200 "agent � éé" at most 1 KiB <nil>`,
	},
	{
		name:   "sign-up where it is closed",
		config: func(c *server.Config) { c.DisableSignUp = true },
		run: func(t *testing.T, f *fixture) string {
			a := f.call(t, http.MethodPost, signUpPath, signUpBody("n@example.com", "N"), "Content-Type", "application/json")
			return fmt.Sprintf("%d %s; sign-in %d", a.StatusCode, a.body, f.signIn(t, signInBody).StatusCode)
		},
		want: `400 {"message":"Email and password sign up is not enabled","code":"EMAIL_PASSWORD_SIGN_UP_DISABLED"}; sign-in 200`,
	},
	{
		name: "made-up addresses against the sign-in limit, from a peer that is no proxy",
		config: func(c *server.Config) {
			c.Development, c.TrustedProxies = false, []string{"10.0.0.0/8"}
		},
		run: func(t *testing.T, f *fixture) string {
			var seen []int
			for i := range 4 {
				seen = append(seen, f.call(t, http.MethodPost, signInPath, "{}", "Content-Type", "application/json", "X-Forwarded-For", fmt.Sprint("203.0.113.", i)).StatusCode)
			}
			return fmt.Sprint(seen)
		},
		want: "[400 400 400 429]",
	},
	{
		name: "made-up addresses in front of those that a proxy appends",
		config: func(c *server.Config) {
			c.Development, c.TrustedProxies = false, []string{"127.0.0.1", "10.0.0.0/8"}
		},
		run: func(t *testing.T, f *fixture) string {
			var seen []int
			for i := range 4 {
				forwarded := fmt.Sprintf("198.51.100.%d, 203.0.113.9, 10.1.2.3", i)
				seen = append(seen, f.call(t, http.MethodPost, signInPath, "{}", "Content-Type", "application/json", "X-Forwarded-For", forwarded).StatusCode)
			}
			other := f.call(t, http.MethodPost, signInPath, "{}", "Content-Type", "application/json", "X-Forwarded-For", "203.0.113.10")
			return fmt.Sprint(seen, other.StatusCode)
		},
		want: "[400 400 400 429] 400",
	},
	{
		name:   "requests without a session that announce a body and send none",
		config: func(c *server.Config) { c.DisableSignUp = true },
		run: func(t *testing.T, f *fixture) string {
			ended := f.signIn(t, signInBody).cookies["session_token"]
			if _, err := f.DB().Write.ExecContext(t.Context(), "DELETE FROM session"); err != nil {
				t.Fatal(err)
			}
			// A sign-in, and a sign-up where it is open, are all that there is to read a
			// body for.
			requests := []string{
				"POST " + testKeys, "DELETE " + testKeys, "PUT " + testKeys, "PATCH " + testKeys, "GET " + testKeys,
				"POST /api/organizations/o/byok-keys", "DELETE /api/organizations/o/byok-keys",
				"POST /api/copilot/byok", "DELETE /api/copilot/byok", "POST /api/workspaces", "POST " + testKeys + "/", "POST /api/none",
				"POST /api/auth/sign-out", "POST " + signUpPath, "POST /api/auth/none", "POST /reference/resolve", "POST /reference/health",
				"POST /logout", "PUT /login", "POST /", "POST /workspace/w/settings/byok", "DELETE /assets/app.js",
			}
			seen := make([]string, len(requests)+1)
			began := time.Now()
			together(len(seen), func(i int) {
				headers := "Host: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
				request := "POST /api/auth/sign-out"
				if i < len(requests) {
					request = requests[i]
				} else {
					headers += "Cookie: " + cookie("session_token", ended) + "\r\nOrigin: " + f.URL() + "\r\n"
				}
				status := rawRequest(t, f, request+" HTTP/1.1\r\n"+headers+"\r\n")
				seen[i] = strings.TrimPrefix(status, "HTTP/1.1 ")[:3]
				if took := time.Since(began); took > 5*time.Second {
					seen[i] += " to " + request + " in " + took.String()
				}
			})
			return strings.Join(seen, " ")
		},
		want: "401 401 405 405 401 401 401 401 401 405 308 404 200 400 404 401 405 303 405 405 405 405 200",
	},
	{
		name: "POST without a session of a body that is sent whole before the response is read",
		run: func(t *testing.T, f *fixture) string {
			return rawRequest(t, f, "POST "+testKeys+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"+strings.Repeat("x", 10_000_000))
		},
		want: "HTTP/1.1 401 Unauthorized",
	},
	{
		name: "ten long keys, listed by five readers at once",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			const size = 2 << 20
			for range 10 {
				body := `{"providerId":"openai","apiKey":"sk-` + strings.Repeat("k", size) + `-end"}`
				if a := f.call(t, http.MethodPost, testKeys, body, "Cookie", session); a.StatusCode != http.StatusOK {
					t.Fatalf("add: %d %s", a.StatusCode, a.body)
				}
			}
			var list response
			peak := peakDuring(func() {
				together(5, func(i int) {
					if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", session); i == 0 {
						list = a
					}
				})
			})
			masks := strings.Count(list.body, `"maskedKey":"sk-kkk...-end"`)
			served := f.call(t, http.MethodPost, "/reference/resolve", `{"workspaceId":"`+testWorkspace+`","providerId":"openai"}`, "Authorization", "Bearer internal")
			return fmt.Sprintf("%d with %d masks; memory: %s; served %v", list.StatusCode, masks, atMost(peak, 16*size), len(served.body) > size)
		},
		want: "200 with 10 masks; memory: at most 32 MiB; served true",
	},
	{
		name: "a long key that does not open",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-`+strings.Repeat("k", 100<<10)+`"}`, "Cookie", session)
			// One digit in the middle of the ciphertext.
			if _, err := f.DB().Write.ExecContext(t.Context(), `UPDATE workspace_byok_keys SET encrypted_api_key =
				substr(encrypted_api_key, 1, 100000) || CASE substr(encrypted_api_key, 100001, 1) WHEN '0' THEN '1' ELSE '0' END || substr(encrypted_api_key, 100002)`); err != nil {
				t.Fatal(err)
			}
			a := f.call(t, http.MethodGet, testKeys, "", "Cookie", session)
			served := f.call(t, http.MethodPost, "/reference/resolve", `{"workspaceId":"`+testWorkspace+`","providerId":"openai"}`, "Authorization", "Bearer internal")
			return fmt.Sprintf("%v, served %s", strings.Contains(a.body, `"maskedKey":"••••••••"`), served.body)
		},
		want: "true, served null",
	},
	{
		name: "a key is changed behind the server's back, at the same time stamp",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-0123456789-end"}`, "Cookie", session)
			change := func(from, to string) string {
				if _, err := f.DB().Write.ExecContext(t.Context(), "UPDATE workspace_byok_keys SET encrypted_api_key = replace(encrypted_api_key, $1, $2)", from, to); err != nil {
					t.Fatal(err)
				}
				_, rest, _ := strings.Cut(f.call(t, http.MethodGet, testKeys, "", "Cookie", session, "Accept-Encoding", "identity").body, `"maskedKey":"`)
				mask, _, _ := strings.Cut(rest, `"`)
				return mask
			}
			return change("x", "x") + " " + change(":", ";") + " " + change(";", ":")
		},
		want: "sk-012...-end •••••••• sk-012...-end",
	},
	{
		name: "the database file vanishes",
		only: "sqlite",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			state := func() string {
				add := f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-lost"}`, "Cookie", session)
				in := f.call(t, http.MethodPost, signInPath, signInBody, "Content-Type", "application/json")
				health := f.call(t, http.MethodGet, "/reference/health", "")
				return fmt.Sprintf("health %d, add %d, sign-in %d", health.StatusCode, add.StatusCode, in.StatusCode)
			}
			path := f.DB().Path
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			gone := state()
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			replaced := state()
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
			return gone + "; another file there: " + replaced + "; put back: " + state()
		},
		want: "health 503, add 500, sign-in 500; another file there: health 503, add 500, sign-in 500; put back: health 200, add 200, sign-in 200",
	},
	{
		name: "expired sessions pile up",
		run: func(t *testing.T, f *fixture) string {
			for range 3 {
				f.signIn(t, signInBody)
			}
			f.clock.advance(access.SessionLifetime + time.Second)
			f.signIn(t, signInBody)
			removed, err := f.Access().RemoveExpired(t.Context())
			var left int
			if err := f.DB().Read.QueryRowContext(t.Context(), "SELECT count(*) FROM session").Scan(&left); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%d removed, %d left, %v", removed, left, err)
		},
		want: "3 removed, 1 left, <nil>",
	},
	{
		name: "another session locks a row; the clients of 12 replaces hang up; the server is told to stop",
		only: "postgres",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			added := f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-0"}`, "Cookie", session)
			var key struct{ Key struct{ ID string } }
			if err := json.Unmarshal([]byte(added.body), &key); err != nil {
				t.Fatal(err)
			}
			own := f.ownConnection(t)
			defer own.Close(context.Background())
			if _, err := own.Exec(t.Context(), "BEGIN; SELECT id FROM workspace_byok_keys FOR UPDATE"); err != nil {
				t.Fatal(err)
			}
			body := `{"providerId":"openai","apiKey":"sk-1","keyId":"` + key.Key.ID + `"}`
			for range 12 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(f.URL(), "http://"))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nCookie: %s\r\nContent-Length: %d\r\n\r\n%s", testKeys, session, len(body), body)
				_ = conn.Close()
			}
			f.until(t, "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
			began := time.Now()
			list := f.call(t, http.MethodGet, testKeys, "", "Cookie", session)
			other := f.call(t, http.MethodPost, testKeys, `{"providerId":"exa","apiKey":"sk-2"}`, "Cookie", session)
			health := f.call(t, http.MethodGet, "/reference/health", "")
			served := within(began, 4*time.Second)
			return fmt.Sprintf("list %d, add elsewhere %d, health %d, %s; stopped %s", list.StatusCode, other.StatusCode, health.StatusCode, served, stoppedWithin(f, 3*time.Second))
		},
		want: "list 200, add elsewhere 200, health 200, within 4s; stopped within 3s",
	},
	{
		name: "another session locks a table",
		only: "postgres",
		run: func(t *testing.T, f *fixture) string {
			var seen []string
			for _, table := range []string{"workspace_byok_keys", "member"} {
				own := f.ownConnection(t)
				if _, err := own.Exec(t.Context(), "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				health := f.call(t, http.MethodGet, "/reference/health", "")
				seen = append(seen, fmt.Sprintf("%s: health %d, %s", table, health.StatusCode, within(began, 4*time.Second)))
				if err := own.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			health := f.call(t, http.MethodGet, "/reference/health", "")
			return strings.Join(append(seen, fmt.Sprint("then ", health.StatusCode)), "; ")
		},
		want: "workspace_byok_keys: health 503, within 4s; member: health 503, within 4s; then 200",
	},
	{
		name: "the database stops to respond; the server is told to stop",
		only: "postgres",
		run: func(t *testing.T, f *fixture) string {
			session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
			f.call(t, http.MethodGet, testKeys, "", "Cookie", session)
			defer f.freeze(t)()
			began := time.Now()
			health := f.call(t, http.MethodGet, "/reference/health", "")
			noticed := within(began, 5*time.Second)
			go func() {
				r, _ := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, f.URL()+testKeys, strings.NewReader(`{"providerId":"exa","apiKey":"sk-2"}`))
				r.Header.Set("Cookie", session)
				if response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r); err == nil {
					_ = response.Body.Close()
				}
			}()
			return fmt.Sprintf("health %d, %s; stopped %s", health.StatusCode, noticed, stoppedWithin(f, 3*time.Second))
		},
		want: "health 503, within 5s; stopped within 3s",
	},
}

// ownConnection returns a connection to PostgreSQL that is not one of the
// server's.
func (f *fixture) ownConnection(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := f.DB().Postgres.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn.Hijack()
}

// freeze stops the processes that serve the server's connections to PostgreSQL,
// until the function that it returns is called.
func (f *fixture) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	rows, err := f.DB().Read.QueryContext(t.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var pids []int
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // a backend of this test's database
		}
	}
	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// The deadlines of the statements of one request do not add up.
func TestFrozenDatabase(t *testing.T) {
	t.Parallel()
	f := startFixture(t, func(c *server.Config) { c.Database = pgtest.URL(t) })
	in := f.signIn(t, signInBody)
	token := cookie("session_token", in.cookies["session_token"])
	both := token + "; " + cookie("session_data", in.cookies["session_data"])
	requests := []struct{ method, path, body, cookies string }{
		{http.MethodGet, testKeys, "", token},
		{http.MethodGet, testKeys, "", both},
		{http.MethodPost, testKeys, `{"providerId":"exa","apiKey":"sk-2"}`, both},
		{http.MethodDelete, testKeys, `{"providerId":"exa"}`, both},
		{http.MethodGet, "/api/workspaces", "", both},
		{http.MethodPost, signInPath, signInBody, ""},
		{http.MethodGet, "/workspace/" + testWorkspace + "/settings/byok", "", both},
	}
	// As many requests at once use each connection, which all freeze.
	together(3*len(requests), func(i int) { f.call(t, http.MethodGet, testKeys, "", "Cookie", token) })
	defer f.freeze(t)()
	together(len(requests), func(i int) {
		r := requests[i]
		headers := []string{"Content-Type", "application/json"}
		if r.cookies != "" {
			headers = append(headers, "Cookie", r.cookies)
		}
		began := time.Now()
		status := f.call(t, r.method, r.path, r.body, headers...).StatusCode
		if took := time.Since(began); status != http.StatusInternalServerError || took > database.Deadline+2*time.Second {
			t.Errorf("%s %s: %d in %s, want 500 in %s", r.method, r.path, status, took, database.Deadline)
		}
	})
}

// until waits until a query returns true.
func (f *fixture) until(t *testing.T, query string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		var done bool
		if err := f.DB().Read.QueryRowContext(t.Context(), query).Scan(&done); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Fatalf("it never came true: %s", query)
}

func manyFields(size int) string {
	var b strings.Builder
	b.Grow(size + 64)
	b.WriteString(`{"x":0`)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `,"%x":0`, i)
	}
	return b.String() + "}"
}

func signUpBody(email, name string) string {
	return `{"email":"` + email + `","password":"12345678","name":"` + name + `"}`
}

// rawRequest sends bytes and returns the first line of the response, once all
// of the response has been read.
func rawRequest(t *testing.T, f *fixture, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return err.Error()
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err.Error()
	}
	return response.Proto + " " + response.Status
}

func together(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// stoppedWithin stops the server with that much grace. Others have half a second
// for what they do on the same machine.
func stoppedWithin(f *fixture, grace time.Duration) string {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	f.stopped = true
	_ = f.Shutdown(ctx)
	if took := time.Since(began); took > grace+500*time.Millisecond {
		return "in " + took.String()
	}
	return "within " + grace.String()
}

func within(began time.Time, limit time.Duration) string {
	if took := time.Since(began); took > limit {
		return "in " + took.String()
	}
	return "within " + limit.String()
}

func atMost(n, limit uint64) string {
	unit, name := uint64(1<<10), "KiB"
	if limit >= 1<<20 {
		unit, name = 1<<20, "MiB"
	}
	if n > limit {
		return fmt.Sprintf("%d %s", n/unit, name)
	}
	return fmt.Sprintf("at most %d %s", limit/unit, name)
}

// allocatedBy returns how much memory this process allocates meanwhile.
func allocatedBy(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// peakDuring returns by how much the heap exceeds, at its height, what it was.
// The height includes garbage: it is measured with Go's default for GOGC, which
// make test sets higher.
func peakDuring(do func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	debug.FreeOSMemory()
	heap := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before, peak := heap(), uint64(0)
	done, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, heap())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	do()
	close(done)
	<-sampled
	return peak - min(peak, before)
}
