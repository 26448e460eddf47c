package faults

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// misbehaviour is how a server responds in place of what it should.
type misbehaviour func(w http.ResponseWriter, sent *atomic.Int64)

func says(body string, headers ...string) misbehaviour {
	return func(w http.ResponseWriter, _ *atomic.Int64) {
		w.Header().Set("Content-Type", "application/json")
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		_, _ = io.WriteString(w, body)
	}
}

// endless repeats text until the client hangs up.
func endless(begin, text string) misbehaviour {
	return func(w http.ResponseWriter, sent *atomic.Int64) {
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, begin)
		for chunk := strings.Repeat(text, 1+4096/len(text)); err == nil; {
			var n int
			n, err = io.WriteString(w, chunk)
			sent.Add(int64(n))
		}
	}
}

// raw speaks to the connection itself, until the client hangs up.
func raw(begin, text string) misbehaviour {
	return func(w http.ResponseWriter, sent *atomic.Int64) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begin)
		for chunk := strings.Repeat(text, 1+4096/len(text)); err == nil; {
			var n int
			n, err = io.WriteString(conn, chunk)
			sent.Add(int64(n))
		}
	}
}

// trickle sends a promising response byte by byte, until the client hangs up.
func trickle(w http.ResponseWriter, sent *atomic.Int64) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{")
	for tick := time.NewTicker(10 * time.Millisecond); err == nil; <-tick.C {
		_, err = conn.Write([]byte(" "))
		sent.Add(1)
	}
}

func zipped(megabytes int) misbehaviour {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	for range megabytes {
		_, _ = zip.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = zip.Close()
	return says(b.String(), "Content-Encoding: gzip")
}

func listed(key string) string { return `{"keys":[` + key + `]}` }

const (
	goodKey = `{"id":"%s","providerId":"openai","name":null,"maskedKey":"sk-hos...0001","createdBy":null,"createdAt":"2026-01-02T03:04:05.000Z","updatedAt":"2026-01-02T03:04:05.000Z"}`

	notTheAPI = "The response is not one of this API. Check that endpoint (BYOK_ENDPOINT) is the base URL of Sim, without /api, and that no gateway or login page is in between (headers)."
)

// TestHostileServer shows what a user is told about servers that respond
// anything. Whatever they do, the provider reads no more than its limits, and
// no DELETE without keyId leaves it.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	// What the client makes of a response is tested there; here it is what
	// becomes of it in each operation.
	for _, tc := range []struct {
		name   string
		method string // whose responses misbehave
		does   misbehaviour
		// wants are in the error; limit is how much may have been sent.
		summary, wants string
		limit          int64
	}{
		{"endless body", "GET", endless(`{"keys":[`, `{"id":"x"},`), "this is not the API of Sim", "it is larger than 16 MiB (HTTP status 200)", 32 << 20},
		{"endless blanks", "GET", endless(``, " "), "this is not the API of Sim", "it is larger than 16 MiB (HTTP status 200)", 32 << 20},
		{"endless string", "GET", endless(`{"keys":[{"id":"`, "x"), "this is not the API of Sim", "it is larger than 16 MiB (HTTP status 200)", 32 << 20},
		{"endless headers", "GET", raw("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"), "this is not the API of Sim", "its headers are larger than 64 KiB", 16 << 20},
		{"endless header", "GET", raw("HTTP/1.1 200 OK\r\nX-More: ", "x"), "this is not the API of Sim", "its headers are larger than 64 KiB", 16 << 20},
		{"endless status line", "GET", raw("HTTP/1.1 200 ", "x"), "this is not the API of Sim", "its headers are larger than 64 KiB", 16 << 20},
		{"endless chunks", "GET", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "20\r\n"+strings.Repeat(" ", 32)+"\r\n"), "this is not the API of Sim", "it is larger than 16 MiB (HTTP status 200)", 64 << 20},
		{"zip bomb", "GET", zipped(64), "this is not the API of Sim", "it is larger than 16 MiB (HTTP status 200)", 1 << 20},
		{"slow trickle", "GET", trickle, "the server cannot be reached", "the response was cut off: no complete response within the request timeout", 0},
		{"no HTTP", "GET", raw("220 mail.example ESMTP\r\n", "\r\n"), "this is not the API of Sim", "it is not HTTP", 16 << 20},
		{"deep JSON", "GET", says(`{"keys":` + strings.Repeat("[", 1<<20)), "this is not the API of Sim", "it is broken or truncated JSON (HTTP status 200)", 0},
		{"deep objects", "GET", says(strings.Repeat(`{"keys":`, 1<<20)), "this is not the API of Sim", "it is broken or truncated JSON (HTTP status 200)", 0},
		{"empty", "GET", says(""), "this is not the API of Sim", "it is empty (HTTP status 200)", 0},
		{"null", "GET", says("null"), "this is not the API of Sim", "it has no keys field; the endpoint may be wrong (HTTP status 200)", 0},
		{"a login page", "GET", says("<!doctype html><title>Sign in</title>", "Content-Type: text/html"), "this is not the API of Sim", "it is HTML, not JSON; the endpoint may be wrong, or a gateway may have responded in place of Sim (HTTP status 200)", 0},
		{"no keys", "GET", says(`{"items":[]}`), "this is not the API of Sim", "it has no keys field; the endpoint may be wrong (HTTP status 200)", 0},
		{"keys of another type", "GET", says(`{"keys":{"a":1}}`), "this is not the API of Sim", "keys is of type object (HTTP status 200)", 0},
		{"an ID of another type", "GET", says(listed(strings.Replace(goodKey, `"%s"`, "7", 1))), "this is not the API of Sim", "keys.id is of type number (HTTP status 200)", 0},
		{"a name of another type", "GET", says(listed(strings.Replace(fmt.Sprintf(goodKey, "k"), `"name":null`, `"name":[]`, 1))), "this is not the API of Sim", "keys.name is of type array (HTTP status 200)", 0},
		{"no ID", "GET", says(listed(strings.Replace(goodKey, `"id":"%s",`, "", 1))), "this is not the API of Sim", "key 1 of 1 in the list: its id is missing or empty (HTTP status 200)", 0},
		{"an empty ID", "GET", says(listed(fmt.Sprintf(goodKey, ""))), "this is not the API of Sim", "key 1 of 1 in the list: its id is missing or empty (HTTP status 200)", 0},
		{"an ID that is a path", "GET", says(listed(fmt.Sprintf(goodKey, "a b"))), "this is not the API of Sim", "key 1 of 1 in the list: its id is not an ID (HTTP status 200)", 0},
		{"one ID twice", "GET", says(listed(fmt.Sprintf(goodKey, "twin") + "," + fmt.Sprintf(goodKey, "twin"))), "this is not the API of Sim", `two keys in the list have the ID "twin" (HTTP status 200)`, 0},
		{"no provider ID", "GET", says(listed(strings.Replace(fmt.Sprintf(goodKey, "k"), `"providerId":"openai",`, "", 1))), "this is not the API of Sim", "key 1 of 1 in the list: its providerId is missing or empty (HTTP status 200)", 0},
		{"no mask", "GET", says(listed(strings.Replace(fmt.Sprintf(goodKey, "k"), `"maskedKey":"sk-hos...0001",`, "", 1))), "this is not the API of Sim", "key 1 of 1 in the list: its maskedKey is missing or empty (HTTP status 200)", 0},
		{"a time that is none", "GET", says(listed(strings.Replace(fmt.Sprintf(goodKey, "k"), "2026-01-02T03:04:05.000Z", "yesterday", 1))), "this is not the API of Sim", "key 1 of 1 in the list: its createdAt is not a timestamp (HTTP status 200)", 0},

		{"no ID after an add", "POST", says(`{"success":true,"key":{"id":"","providerId":"openai","name":null,"maskedKey":"x","createdAt":"2026-01-02T03:04:05.000Z"}}`), "this is not the API of Sim", "its id is missing or empty, no key was stored (HTTP status 200, 2 attempts)", 0},
		{"an old key after an add", "POST", nil, "this is not the API of Sim", "it is for a key that was there before, no key was stored (HTTP status 200, 2 attempts)", 0},
		{"no success after an add", "POST", says(`{"success":false}`), "this is not the API of Sim", "it does not report success, no key was stored (HTTP status 200, 2 attempts)", 0},
		{"an endless response to an add", "POST", endless(`{"success":true,"key":"`, "x"), "this is not the API of Sim", "it is larger than 1 MiB, no key was stored (HTTP status 200, 2 attempts)", 16 << 20},

		{"an empty response to a delete", "DELETE", says(""), "this is not the API of Sim", "it is empty (HTTP status 200, 2 attempts)", 0},
		{"no success after a delete", "DELETE", says(`{"success":"yes"}`), "this is not the API of Sim", "success is of type string (HTTP status 200, 2 attempts)", 0},
		{"an endless response to a delete", "DELETE", endless(`{"success":true`, " "), "this is not the API of Sim", "it is larger than 1 MiB (HTTP status 200)", 16 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var hostile atomic.Bool
			var sent atomic.Int64
			does := tc.does
			s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					checkDelete(t, r)
					if !hostile.Load() || r.Method != tc.method || !strings.HasSuffix(r.URL.Path, "/byok-keys") {
						next.ServeHTTP(w, r)
						return
					}
					does(unwrap(w), &sent)
				})
			}))
			retries := int64(1)
			provider := map[string]any{"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken}
			if tc.method == "GET" {
				retries = 0
			}
			if tc.name == "slow trickle" {
				provider["request_timeout"] = "300ms"
			}
			provider["max_retries"] = retries
			c := newCore(t, provider, 1, quickly)
			declared := spec{"k": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-hostile-00001"}}
			if _, err := c.Apply(t.Context(), declared.attributes()); err != nil {
				t.Fatal(err)
			}
			id := s.List(t, s.WorkspaceID)[0].ID
			if does == nil {
				does = says(fmt.Sprintf(`{"success":true,"key":{"id":%q,"providerId":"openai","name":null,"maskedKey":"x","createdAt":"2026-01-02T03:04:05.000Z"}}`, id))
			}
			hostile.Store(true)

			operation := "Cannot read key"
			switch tc.method {
			case "POST":
				operation = "Cannot create key"
				declared["more"] = key{workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-hostile-00002"}
			case "DELETE":
				operation = "Cannot delete key"
				declared = nil
			}
			_, err := c.Apply(t.Context(), declared.attributes())
			if err == nil {
				t.Fatal("no error")
			}
			url := s.URL + "/api/workspaces/" + s.WorkspaceID + "/byok-keys"
			cause := "\n\nCause: " + strings.Replace(tc.wants, "HTTP status 200", "HTTP status 200 from "+url, 1) + "\n"
			if tc.summary == "the server cannot be reached" {
				cause = "Incomplete response from " + url + ": " + tc.wants + ".\n"
			}
			for _, want := range []string{": " + operation + ": " + tc.summary + "\n", cause} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if tc.summary == "this is not the API of Sim" && !strings.Contains(err.Error(), notTheAPI) {
				t.Errorf("the error does not say what to check:\n%v", err)
			}
			if n := sent.Load(); tc.limit > 0 && n > tc.limit {
				t.Errorf("%d bytes were taken, want %d at most", n, tc.limit)
			}
			if keys := s.List(t, s.WorkspaceID); len(keys) != 1 || keys[0].ID != id {
				t.Errorf("the server holds %v", keys)
			}
		})
	}
}

// TestEmptyIDInState: a state in which a key has no ID, as only a damaged one
// can be, deletes nothing.
func TestEmptyIDInState(t *testing.T) {
	t.Parallel()
	for _, id := range []any{"", nil, " ", "a/../b", "*"} {
		t.Run(fmt.Sprintf("%v", id), func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					checkDelete(t, r)
					next.ServeHTTP(w, r)
				})
			}))
			for range 3 {
				s.Add(t, s.WorkspaceID, "openai", "sk-another-user-01", "")
			}
			c := newCore(t, map[string]any{"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken}, 1, quickly)
			w := c.Begin(t.Context(), true)
			prior := tfcore.Object(c.Type("k"), map[string]any{
				"workspace_id": s.WorkspaceID, "provider_id": "openai", "id": id, "masked_key": "x", "on_remote_change": "repair",
				"created_at": "2026-01-02T03:04:05.000Z", "updated_at": "2026-01-02T03:04:05.000Z",
			})
			w.CarryOut(t.Context(), "k", tfcore.Null(c.Type("k")), prior, tftypes.NewValue(c.Type("k"), nil), nil)
			if keys := s.List(t, s.WorkspaceID); len(keys) != 3 {
				t.Errorf("%d keys are left of 3", len(keys))
			}
			if err := w.Err(); (id == "" || id == nil) && (err == nil || !strings.Contains(err.Error(), "the key ID is empty")) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// checkDelete holds that a DELETE names its key: without an ID it would remove
// the whole pool. WIRE.md section 6.
func checkDelete(t *testing.T, r *http.Request) {
	if r.Method != http.MethodDelete {
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var said struct{ KeyID string }
	if json.Unmarshal(body, &said) != nil || said.KeyID == "" {
		t.Errorf("a DELETE without keyId: %s", body)
	}
}

// unwrap returns the writer of net/http, which can be hijacked.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	for {
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = inner.Unwrap()
	}
}
