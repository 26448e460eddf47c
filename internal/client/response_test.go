package client

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

const goodKey = `{"id":"k1","providerId":"openai","name":null,"maskedKey":"sk-...1234","createdBy":null,"createdAt":"2026-01-02T03:04:05.000Z","updatedAt":"2026-01-02T03:04:05.000Z"}`

func without(field string) string {
	start := strings.Index(goodKey, `"`+field+`"`)
	end := start + strings.IndexAny(goodKey[start:], ",}")
	if goodKey[end] == ',' {
		end++
	}
	return strings.ReplaceAll(goodKey[:start]+goodKey[end:], ",}", "}")
}

func with(field, value string) string {
	start := strings.Index(goodKey, `"`+field+`":`) + len(field) + 3
	end := start + strings.IndexAny(goodKey[start:], ",}")
	return goodKey[:start] + value + goodKey[end:]
}

// TestHostileLists: whatever comes in place of a list is a protocol error that
// says what is wrong, and none of the server's text is in it.
func TestHostileLists(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, want string }{
		"empty":                   {"", "it is empty"},
		"blank":                   {"  \n", "it is empty"},
		"HTML":                    {"<!doctype html>" + canary, "it is HTML, not JSON"},
		"text":                    {canary, "it is not JSON"},
		"truncated":               {`{"keys":[` + goodKey, "broken or truncated"},
		"two documents":           {`{"keys":[]}{"keys":[]}`, "broken or truncated"},
		"deep":                    {`{"keys":` + strings.Repeat("[", 200_000), "broken or truncated"},
		"deep and whole":          {`{"keys":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}", "broken or truncated"},
		"an array":                {`[]`, "JSON has an unexpected structure"},
		"a string":                {`"` + canaryJSON() + `"`, "JSON has an unexpected structure"},
		"null":                    {`null`, "no keys field"},
		"no keys":                 {`{"error":"` + canaryJSON() + `"}`, "no keys field"},
		"keys null":               {`{"keys":null}`, "no keys field"},
		"keys an object":          {`{"keys":{}}`, "keys is of type object"},
		"keys of strings":         {`{"keys":["` + canaryJSON() + `"]}`, "keys is of type string"},
		"id a number":             {`{"keys":[` + with("id", "5") + `]}`, "id is of type number"},
		"name an object":          {`{"keys":[` + with("name", "{}") + `]}`, "name is of type object"},
		"id missing":              {`{"keys":[` + without("id") + `]}`, "key 1 of 1 in the list: its id is missing or empty"},
		"id empty":                {`{"keys":[` + goodKey + "," + with("id", `""`) + `]}`, "key 2 of 2 in the list: its id is missing or empty"},
		"id null":                 {`{"keys":[` + with("id", `null`) + `]}`, "its id is missing or empty"},
		"id with a line break":    {`{"keys":[` + with("id", `"a\nb"`) + `]}`, "its id is not an ID"},
		"id endless":              {`{"keys":[` + with("id", `"`+strings.Repeat("x", 1000)+`"`) + `]}`, "its id is not an ID"},
		"the same id twice":       {`{"keys":[` + goodKey + "," + goodKey + `]}`, `two keys in the list have the ID "k1"`},
		"providerId missing":      {`{"keys":[` + without("providerId") + `]}`, "its providerId is missing or empty"},
		"maskedKey missing":       {`{"keys":[` + without("maskedKey") + `]}`, "its maskedKey is missing or empty"},
		"createdAt missing":       {`{"keys":[` + without("createdAt") + `]}`, "its createdAt is missing or empty"},
		"createdAt no time":       {`{"keys":[` + with("createdAt", `"yesterday"`) + `]}`, "its createdAt is not a timestamp"},
		"updatedAt missing":       {`{"keys":[` + without("updatedAt") + `]}`, "its updatedAt is missing or empty"},
		"a null among the keys":   {`{"keys":[null]}`, "its id is missing or empty"},
		"many fields of no use":   {`{` + strings.Repeat(`"a":1,`, 50_000) + `"keys":5}`, "keys is of type number"},
		"invalid UTF-8 and no ID": {"{\"keys\":[{\"id\":\"\xff\"}]}", "its id is not an ID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return respond(200, tc.body, "Content-Type: application/json") }
				_, err := s.client.List(s.ctx, w1)
				if e := s.wantKind(err, KindProtocol); !strings.Contains(e.Error(), tc.want) {
					s.Errorf("%v, want %q", e, tc.want)
				}
			})
		})
	}
}

func TestHostileResponsesToWrites(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no success":         `{"success":false,"key":` + goodKey + `}`,
		"another key":        `{"success":true,"key":` + with("id", `"k2"`) + `}`,
		"another provider":   `{"success":true,"key":` + with("providerId", `"exa"`) + `}`,
		"no key":             `{"success":true}`,
		"no updatedAt":       `{"success":true,"key":` + without("updatedAt") + `}`,
		"success a string":   `{"success":"true","key":` + goodKey + `}`,
		"an array of itself": `[{"success":true}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return respond(200, body) }
				_ = s.wantKind(verbs[OpReplace](s, "k1"), KindProtocol)
				if body != `{"success":true}` && !strings.HasPrefix(body, `{"success":true,`) {
					_ = s.wantKind(verbs[OpDelete](s, "k1"), KindProtocol)
				}
			})
		})
	}
}

// TestEndlessResponses: the memory that a response takes is bounded.
func TestEndlessResponses(t *testing.T) {
	t.Parallel()
	endless := func(w io.Writer) {
		chunk := []byte(strings.Repeat(" ", 64<<10))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		response func(w http.ResponseWriter)
		want     string
	}{
		"endless body": {func(w http.ResponseWriter) { endless(w) }, "larger than"},
		"compressed a thousandfold": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			compressor, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
			endless(compressor)
		}, "larger than"},
		"no gzip at all": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, canary)
		}, "compression is broken"},
		"endless headers": {func(w http.ResponseWriter) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-Endless-%d", i), strings.Repeat("x", 100))
			}
		}, "headers are larger than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return act{skip: true, response: tc.response} }
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for op, run := range verbs {
					if e := s.wantKind(run(s, "key-1"), KindProtocol); !strings.Contains(e.Error(), tc.want) {
						s.Errorf("%s: %v", op, e)
					}
				}
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 256<<20 {
					s.Errorf("the heap has grown by %d MiB", grown>>20)
				}
			})
		})
	}
}

// TestLargeListIsRead: ten thousand keys are within the limit.
func TestLargeListIsRead(t *testing.T) {
	t.Parallel()
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = with("id", fmt.Sprintf(`"k%d"`, i))
	}
	list, err := decodeList([]byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), "")
	if err != nil || len(list.Keys) != len(keys) {
		t.Errorf("%d keys, %v", len(list.Keys), err)
	}
}

// TestShownDetails: of a refusal only known words are shown.
func TestShownDetails(t *testing.T) {
	t.Parallel()
	issue := func(path, message string) string {
		return `{"error":"Validation error","details":[{"path":[` + path + `],"message":` + mustJSON(message) + `}]}`
	}
	for body, want := range map[string]string{
		issue(`"apiKey"`, "API key is required"):                                           "apiKey: API key is required",
		issue(`"name"`, "Name must be 120 characters or fewer"):                            "name: Name must be 120 characters or fewer",
		issue(`"providerId"`, `Invalid option: expected one of "openai"|"`+canary+`"`):     "providerId: the server does not recognize this provider ID",
		issue(`"apiKey"`, "Value cannot contain a NUL character (U+0000)"):                 "apiKey: Value cannot contain a NUL character (U+0000)",
		issue(``, "Invalid input: expected object, received array"):                        "Invalid input: expected object, received array",
		issue(`"apiKey"`, canary+" is a bad key"):                                          "apiKey: refused for a reason that is not shown, since it may repeat the request",
		issue(`"`+canaryJSON()+`"`, "API key is required\n"+canary):                        "refused for a reason that is not shown, since it may repeat the request",
		issue(`5`, "API key is required"):                                                  "API key is required",
		`{"error":"Request body must be valid JSON"}`:                                      "Request body must be valid JSON",
		`{"error":` + mustJSON(canary) + `}`:                                               "the server gave no reason that can be shown",
		`{"error":"An organization can store at most 10 keys per provider"}`:               "An organization can store at most 10 keys per provider",
		`{"error":"A workspace can store at most 10 keys per provider, sk-canary-7f3a9b"}`: "the server gave no reason that can be shown",
	} {
		if f := refusal(&request{op: OpAdd}, 400, []byte(body)); f.detail != want {
			t.Errorf("%s: %q, want %q", body, f.detail, want)
		}
	}
}

func TestRequestIDIsTheServersOwn(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"0123abcd": "0123abcd", "0123ABCD": "", canaryURL(): "", "0123abcd0": "", "": ""} {
		if got := requestID(http.Header{"X-Request-Id": {id}}); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func FuzzResponses(f *testing.F) {
	for _, seed := range []string{`{"keys":[` + goodKey + `]}`, `{"success":true,"key":` + goodKey + `}`, `{"keys":[{}]}`, `<html>`, `{"error":"x","details":[{"path":["name"],"message":"m"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(key byok.Key, err error) {
			if err == nil && (!isID(key.ID) || !isID(key.ProviderID)) {
				t.Fatalf("accepted %+v", key)
			}
		}
		list, err := decodeList(body, "")
		seen := map[string]bool{}
		for _, key := range list.Keys {
			check(key, err)
			if err == nil && seen[key.ID] {
				t.Fatalf("accepted the ID %q twice", key.ID)
			}
			seen[key.ID] = true
		}
		check(decodeAdded(body, "", openai))
		check(decodeReplaced(body, "", "openai", "k1"))
		_ = decodeDeleted(body, "")
		for _, status := range []int{400, 401, 403, 404, 409, 413} {
			if f := refusal(&request{op: OpAdd}, status, body); len(f.detail) > 800 {
				t.Fatalf("a detail of %d bytes", len(f.detail))
			}
		}
		_ = signInDetail(body)
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"10", "-1", "1e9", "Sat, 01 Jan 2000 00:00:10 GMT", "99999999999999999999", " 5 ", "\x00"} {
		f.Add(seed, "")
		f.Add("", seed)
	}
	f.Fuzz(func(t *testing.T, plain, x string) {
		wait, ok := retryAfter(http.Header{"Retry-After": {plain}, "X-Retry-After": {x}}, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
		if wait < 0 || wait > 24*time.Hour || !ok && wait != 0 {
			t.Fatalf("%q, %q: %s, %t", plain, x, wait, ok)
		}
	})
}
