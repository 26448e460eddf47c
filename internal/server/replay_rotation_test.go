//go:build unix

package server_test

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

var randomReader = rand.Reader

// served is a response of /reference/resolve.
type served struct {
	APIKey string `json:"apiKey"`
	IsBYOK bool   `json:"isBYOK"`
	Scope  string `json:"scope"`
	KeyID  string `json:"keyId"`
}

func (r *replayer) resolveBody(t *testing.T, body string) *served {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL()+"/reference/resolve", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer internal")
	response, err := r.client.Do(request)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("resolve %s: %d %s %v", body, response.StatusCode, text, err)
		return nil
	}
	var s *served
	if err := json.Unmarshal(text, &s); err != nil {
		t.Errorf("resolve %s: %s: %v", body, text, err)
	}
	return s
}

func (r *replayer) resolve(t *testing.T, workspaceID, providerID string) *served {
	t.Helper()
	return r.resolveBody(t, `{"workspaceId":"`+workspaceID+`","providerId":"`+providerID+`"}`)
}

// calls resolves n times; a key is its API key, none is nil.
func (r *replayer) calls(t *testing.T, workspaceID, providerID string, n int) []any {
	t.Helper()
	all := []any{}
	for range n {
		if s := r.resolve(t, workspaceID, providerID); s != nil {
			all = append(all, s.APIKey)
		} else {
			all = append(all, nil)
		}
	}
	return all
}

// put adds keys to a pool, in order; "x" is one that does not open. Their IDs
// are made of the API keys.
func (r *replayer) put(t *testing.T, scope, owner, providerID string, keys ...string) {
	t.Helper()
	for _, key := range keys {
		r.putAt(t, scope, owner, providerID, owner+providerID+key, key, time.Now())
	}
}

func (r *replayer) putAt(t *testing.T, scope, owner, providerID, id, key string, at time.Time) {
	t.Helper()
	sealed := "garbage"
	if key != "x" {
		sealed = r.sealer.Seal(key)
	}
	r.rows++
	if key == "x" {
		id += time.Now().String()
	}
	r.sql(t, `INSERT INTO `+scope+`_byok_keys (id, `+scope+`_id, provider_id, encrypted_api_key, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		id, owner, providerID, sealed, database.At(at.Add(time.Duration(r.rows)*time.Second)))
}

// remove deletes keys of a pool; without names all.
func (r *replayer) remove(t *testing.T, owner, providerID string, keys ...string) {
	t.Helper()
	if len(keys) == 0 {
		r.sql(t, "DELETE FROM workspace_byok_keys WHERE workspace_id = $1 AND provider_id = $2", owner, providerID)
	}
	for _, key := range keys {
		r.sql(t, "DELETE FROM workspace_byok_keys WHERE id = $1", owner+providerID+key)
	}
}

const ws = "workspace"

// rotationCalls do what the setup of each entry says in words. One group runs
// in one process, so the cursors go on from entry to entry.
var rotationCalls = map[string]func(*testing.T, *replayer) any{
	"rot-empty":             func(t *testing.T, r *replayer) any { return r.calls(t, r.vars[ws], "openai", 2) },
	"rot-unknown-workspace": func(t *testing.T, r *replayer) any { return r.calls(t, uuid(), "openai", 1) },
	"rot-null-workspace": func(t *testing.T, r *replayer) any {
		return []*served{
			r.resolveBody(t, `{"providerId":"openai"}`),
			r.resolveBody(t, `{"workspaceId":null,"providerId":"openai"}`),
			r.resolveBody(t, `{"workspaceId":"","providerId":"openai"}`),
		}
	},
	"rot-three": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars[ws], "openai", "A", "B", "C")
		return r.calls(t, r.vars[ws], "openai", 7)
	},
	"rot-result-shape": func(t *testing.T, r *replayer) any {
		s := r.resolve(t, r.vars[ws], "openai")
		return []any{map[string]any{"apiKey": s.APIKey, "isBYOK": s.IsBYOK, "scope": s.Scope}}
	},
	"rot-independent": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars[ws], "anthropic", "X", "Y")
		all := []any{}
		for _, providerID := range []string{"anthropic", "openai", "anthropic", "openai", "anthropic"} {
			all = append(all, r.calls(t, r.vars[ws], providerID, 1)...)
		}
		return all
	},
	"rot-grow": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars[ws], "openai", "D")
		return r.calls(t, r.vars[ws], "openai", 5)
	},
	"rot-shrink": func(t *testing.T, r *replayer) any {
		r.remove(t, r.vars[ws], "openai", "B")
		return r.calls(t, r.vars[ws], "openai", 4)
	},
	"rot-emptied": func(t *testing.T, r *replayer) any {
		r.remove(t, r.vars[ws], "openai")
		return r.calls(t, r.vars[ws], "openai", 3)
	},
	"rot-refilled": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars[ws], "openai", "P", "Q", "R", "S", "T")
		return r.calls(t, r.vars[ws], "openai", 6)
	},
	"rot-corrupt-middle": fresh(6, "A", "x", "C"),
	"rot-corrupt-first":  fresh(6, "x", "B", "C"),
	"rot-corrupt-last":   fresh(6, "A", "B", "x"),
	"rot-all-corrupt": func(t *testing.T, r *replayer) any {
		r.vars["corrupt"] = r.newWorkspace(t)
		r.put(t, ws, r.vars["corrupt"], "openai", "x", "x")
		return r.calls(t, r.vars["corrupt"], "openai", 3)
	},
	"rot-all-corrupt-repaired": func(t *testing.T, r *replayer) any {
		r.remove(t, r.vars["corrupt"], "openai")
		r.put(t, ws, r.vars["corrupt"], "openai", "A", "B")
		return r.calls(t, r.vars["corrupt"], "openai", 3)
	},
	"rot-tie": func(t *testing.T, r *replayer) any {
		w, at := r.newWorkspace(t), time.Now()
		for id, key := range map[string]string{"zz": "Z", "aa": "a", "Mm": "M", "_1": "_", "-1": "-"} {
			r.rows = 0 // the same time for all
			r.putAt(t, ws, w, "openai", id, key, at)
		}
		return r.calls(t, w, "openai", 5)
	},
	"rot-updated": func(t *testing.T, r *replayer) any {
		w := r.vars["workspace2"]
		r.put(t, ws, w, "openai", "A", "B")
		body := `{"providerId":"openai","apiKey":"A2","keyId":"` + w + `openaiA"}`
		status, _, text, err := r.send(t, transcripts.Entry{Request: transcripts.Request{
			Method: http.MethodPost, Path: "/api/workspaces/{workspace2}/byok-keys", Body: &body,
			Headers: map[string]string{"Cookie": "better-auth.session_token={session:admin}"},
		}})
		if status != http.StatusOK {
			t.Errorf("replace: %d %s %v", status, text, err)
		}
		return r.calls(t, w, "openai", 3)
	},
	"rot-concurrent": func(t *testing.T, r *replayer) any {
		w := r.newWorkspace(t)
		r.put(t, ws, w, "openai", "X", "Y", "Z")
		var mu sync.Mutex
		var wg sync.WaitGroup
		var all []string
		for range 6 {
			wg.Go(func() {
				if s := r.resolve(t, w, "openai"); s != nil {
					mu.Lock()
					defer mu.Unlock()
					all = append(all, s.APIKey)
				}
			})
		}
		wg.Wait()
		slices.Sort(all)
		return all
	},
	"rot-single": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars["workspace_of_other"], "openai", "ONLY")
		return r.calls(t, r.vars["workspace_of_other"], "openai", 3)
	},
	"rot-archived": func(t *testing.T, r *replayer) any {
		r.sql(t, "UPDATE workspace SET archived_at = created_at WHERE id = $1", r.vars["workspace_of_other"])
		return r.calls(t, r.vars["workspace_of_other"], "openai", 1)
	},
	"rot-unknown-provider": func(t *testing.T, r *replayer) any { return r.calls(t, r.vars[ws], "nope", 1) },
	"rot-org-self-hosted": func(t *testing.T, r *replayer) any {
		// On a server of its own, which is not hosted.
		other := start(t, r.backend, r.selfHostedTarget(t), nil)
		other.reset(t)
		other.fillOrganization(t)
		return other.calls(t, other.vars[ws], "openai", 3)
	},
	"rot-org-inherit": func(t *testing.T, r *replayer) any {
		r.fillOrganization(t)
		all := []any{}
		for _, w := range []string{ws, ws, "workspace2", "workspace2", ws} {
			all = append(all, r.scoped(t, r.vars[w]))
		}
		return all
	},
	"rot-org-override": func(t *testing.T, r *replayer) any {
		r.put(t, ws, r.vars[ws], "openai", "W")
		return []any{r.scoped(t, r.vars[ws]), r.scoped(t, r.vars[ws]), r.scoped(t, r.vars["workspace2"])}
	},
	"rot-org-no-fallthrough": func(t *testing.T, r *replayer) any {
		r.sql(t, "UPDATE workspace_byok_keys SET encrypted_api_key = 'garbage' WHERE workspace_id = $1", r.vars[ws])
		return r.calls(t, r.vars[ws], "openai", 2)
	},
}

func fresh(n int, keys ...string) func(*testing.T, *replayer) any {
	return func(t *testing.T, r *replayer) any {
		w := r.newWorkspace(t)
		r.put(t, ws, w, "openai", keys...)
		return r.calls(t, w, "openai", n)
	}
}

// newWorkspace makes a workspace without keys: Sim's tables hold no keys of one
// that does not exist.
func (r *replayer) newWorkspace(t *testing.T) string {
	t.Helper()
	w := access.Workspace{ID: uuid(), Name: "w", OwnerID: r.vars["user:admin"]}
	if err := r.server.Access().PutWorkspace(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return w.ID
}

func (r *replayer) fillOrganization(t *testing.T) {
	t.Helper()
	for _, w := range []string{ws, "workspace2"} {
		r.sql(t, "UPDATE workspace SET organization_id = $1 WHERE id = $2", r.vars["organization"], r.vars[w])
	}
	r.put(t, "organization", r.vars["organization"], "openai", "O1", "O2", "O3")
}

func (r *replayer) scoped(t *testing.T, workspaceID string) any {
	t.Helper()
	s := r.resolve(t, workspaceID, "openai")
	if s == nil {
		return nil
	}
	return s.APIKey + "/" + s.Scope
}

// open stores a value as the transcripts have it and resolves it: what it
// opens to, or nil.
func (r *replayer) open(t *testing.T, e transcripts.Entry) any {
	t.Helper()
	const example = "768cdc88a17fcac50a40c3c4cdcc02cf:fa532ce14c1e34cef4d35457e916112a322d:503b151c4e455659e2d948e774bd9352"
	parts := strings.Split(example, ":")
	// The transcripts say in words how the value was modified.
	stored, ok := map[string]string{
		"enc-malformed-empty":              "",
		"enc-malformed-upper-case-hex":     strings.ToUpper(example),
		"enc-malformed-ct-flipped":         parts[0] + ":0" + parts[1][1:] + ":" + parts[2],
		"enc-malformed-short-tag-8-bytes":  parts[0] + ":" + parts[1] + ":" + parts[2][:16],
		"enc-malformed-12-byte-iv-prefix":  parts[0][:24] + ":" + parts[1] + ":" + parts[2],
		"enc-malformed-four-parts":         example + ":00",
		"enc-malformed-empty-ct":           parts[0] + "::" + parts[2],
		"enc-malformed-surrounding-spaces": " " + example + " ",
	}[e.ID]
	if !ok {
		stored = *e.Request.Body
	}
	w := r.newWorkspace(t)
	r.put(t, ws, w, "openai", "placeholder")
	r.sql(t, "UPDATE workspace_byok_keys SET encrypted_api_key = $1 WHERE workspace_id = $2", stored, w)
	return r.calls(t, w, "openai", 1)[0]
}

// wantOpened is what the transcripts say that a value opens to, or nil.
func wantOpened(body any) any {
	fields, _ := body.(map[string]any)
	if text, ok := fields["plaintext"]; ok {
		return text
	}
	return fields["value"]
}
