package secrets

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// The life of keys, from creation to destruction, with saved plans.
func TestNoLeakInLife(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("life")
	apply := func() {
		t.Helper()
		s.must("plan", "-no-color", "-out=change.tfplan")
		s.must("show", "-no-color", "change.tfplan")
		s.must("show", "-json", "change.tfplan")
		s.must("apply", "-no-color", "change.tfplan")
		if err := os.Remove(filepath.Join(s.tf.Dir, "change.tfplan")); err != nil {
			t.Fatal(err)
		}
		s.served("life")
	}

	s.configure("", 0, "life")
	apply() // create
	s.renewAll("life")
	s.configure("", 0, "life")
	apply() // replace the secrets
	s.configure("new ", 0, "life")
	apply() // rename

	for _, scope := range s.scopes() { // drift
		for _, key := range s.server.ListIn(t, scope) {
			s.server.ReplaceIn(t, byok.Pool{Scope: scope, ProviderID: key.ProviderID}, key.ID, s.canary(useForeign, "ascii").value, nil)
		}
	}
	if e := s.must("plan", "-no-color"); !strings.Contains(e.stdout+e.stderr, "Key changed outside of Terraform") {
		t.Errorf("drift is not noticed:\n%s", e.stdout)
	}
	s.must("apply", "-no-color", "-auto-approve")
	s.served("life")

	s.must("show", "-no-color")
	s.must("state", "pull")
	s.must("output", "-no-color", "-json")
	for _, key := range s.keys {
		if key.Shape == "pem" {
			s.must("state", "show", "-no-color", key.Address())
		}
	}
	s.must("validate", "-no-color")
	s.must("destroy", "-no-color", "-auto-approve")
	for _, scope := range s.scopes() {
		if left := s.server.ListIn(t, scope); len(left) > 0 {
			t.Errorf("%d keys are left in the %s", len(left), scope.Kind)
		}
	}
}

// Importing keys, whether the declared secret matches, does not, or is left
// out.
func TestNoLeakInImport(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("import")
	var blocks strings.Builder
	for i, name := range s.names() {
		key := s.keys[name]
		stored := key.secret
		// All PEM blocks have the same mask, so that one would be adopted for
		// another.
		if i%2 == 1 && key.Shape != "pem" {
			stored = s.canary(useForeign, key.Shape)
		}
		id := s.server.AddTo(t, s.pool(key), stored.value, key.Name)
		fmt.Fprintf(&blocks, "import {\n  to = %s\n  id = %q\n}\n", key.Address(), s.importID(key, id))
	}
	s.configure("", 0, "import")
	s.tf.Write(t, "imports.tf", blocks.String())
	s.must("plan", "-no-color", "-out=import.tfplan")
	s.must("show", "-json", "import.tfplan")
	s.must("apply", "-no-color", "import.tfplan")
	s.served("import")

	id := s.server.Add(t, s.server.WorkspaceID, "openai", s.canary(useForeign, "ascii").value, "stray")
	s.tf.Write(t, "imports.tf", fmt.Sprintf("import {\n  to = byok_key.stray\n  id = %q\n}\n", id))
	s.must("plan", "-no-color", "-generate-config-out=generated.tf")
	s.must("import", "-no-color", "byok_key.stray", id)
}

// Queries of keys and pools, as Terraform 1.14 and later ask the provider, and
// data sources, on a server that responds and on one that repeats all that it is
// told.
func TestNoLeakInQuery(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("query")
	ofOrganization := 0
	for _, name := range s.names() {
		s.server.AddTo(t, s.pool(s.keys[name]), s.keys[name].secret.value, name)
		if s.keys[name].Organization {
			ofOrganization++
		}
	}
	s.served("query")
	common := map[string]any{
		"endpoint": s.server.URL, "max_retries": 0, "headers": map[string]any{"X-Gateway-Token": s.header.value},
	}
	// Configure uses the session before a fault begins.
	query := func(t *testing.T, signIn map[string]any, typeName string, fault fault) (found int, failed bool) {
		t.Helper()
		config := maps.Clone(common)
		maps.Copy(config, signIn)
		o := tfcore.New(t, provider.NewServer("test"), config, 1).Begin(t.Context(), false)
		if err := o.Err(); err != nil {
			t.Fatal(err)
		}
		s.faults.set(fault)
		defer s.faults.set(nil)
		if dataConfig, ok := map[string]map[string]any{
			"data byok_keys": {"organization_id": s.organizationID}, "data byok_workspaces": {}, "data byok_inherited_providers": {"workspace_id": s.inheriting},
		}[typeName]; ok {
			read, state := o.ReadData(t.Context(), strings.TrimPrefix(typeName, "data "), dataConfig)
			said := []byte(o.Found.Error())
			if state != nil {
				said = append(said, state.MsgPack...)
			}
			s.look(kindQuery, t.Name(), said)
			for _, attribute := range []string{"keys", "workspaces", "provider_ids"} {
				list, _ := read[attribute].([]any)
				found += len(list)
			}
			return found, o.Err() != nil
		}
		results, err := o.List(t.Context(), tfcore.ListBlock{TypeName: typeName, Include: true, Config: map[string]any{
			"workspace_ids": []any{s.server.WorkspaceID}, "organization_ids": []any{s.organizationID},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			said := []byte(result.DisplayName + "\n" + result.Found.Error())
			if raw := result.Raw; raw.Identity != nil {
				said = slices.Concat(said, raw.Identity.IdentityData.MsgPack, raw.Resource.MsgPack)
				found++
			}
			s.look(kindQuery, t.Name(), said)
			failed = failed || result.Found.Err() != nil
		}
		return found, failed
	}
	for by, signIn := range map[string]map[string]any{
		"token":    {"session_token": s.session.value},
		"password": {"email": s.server.Email, "password": s.password.value},
	} {
		for typeName, want := range map[string]int{
			"byok_key": len(s.keys), "byok_pool": len(s.keys),
			"data byok_keys": ofOrganization, "data byok_inherited_providers": ofOrganization, "data byok_workspaces": 2,
		} {
			for name, fault := range map[string]fault{
				"": nil, "400": echo(400, someRequestID), "401": echo(401, ""), "403": echo(403, ""), "404": echo(404, someRequestID),
				"500": echo(500, ""), "garbage": echo(200, ""), "no HTTP": raw("SAID\r\n\r\n"), "cut": cut,
			} {
				t.Run(strings.Join([]string{by, typeName, name}, " "), func(t *testing.T) {
					found, failed := query(t, signIn, typeName, fault)
					if failed != (fault != nil) || fault == nil && found != want {
						t.Errorf("%d of %d found, failed: %t", found, want, failed)
					}
				})
			}
		}
	}
}

// echo responds with a status and everything that the request said, in every
// form and place that a server or a gateway could put it.
func echo(status int, requestID string) fault {
	return func(w http.ResponseWriter, r *http.Request, said string) bool {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Request-Id", requestID)
		if requestID == "" {
			h.Set("X-Request-Id", url.QueryEscape(said)[:min(len(said), 4000)])
		}
		short := url.PathEscape(said)[:min(len(said), 4000)]
		h.Set("Www-Authenticate", "Basic realm="+short)
		h.Set("Retry-After", short)
		h.Set("Location", "/login?next="+short)
		h.Set("Set-Cookie", "echo="+short)
		h.Set("Server", short)
		text := "failed: " + said + " " + base64.StdEncoding.EncodeToString([]byte(said))
		body, err := json.Marshal(map[string]any{
			"error": text, "message": text, "code": text,
			"details": []any{
				map[string]any{"path": []any{"apiKey", said}, "message": "Invalid input: " + text},
				map[string]any{"path": []any{said}, "message": said},
			},
			"success": true, "keys": []any{map[string]any{"id": said, "providerId": said, "maskedKey": said, "createdAt": said, "updatedAt": said, "name": said}},
			"key":                  map[string]any{"id": said, "providerId": said, "maskedKey": said, "createdAt": said, "updatedAt": said},
			"workspaces":           []any{map[string]any{"id": "", "name": said, "permissions": said, "organizationId": said}},
			"inheritedProviderIds": []any{said},
		})
		if err != nil {
			panic(err)
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return true
	}
}

const someRequestID = "0123abcd"

// knownBody responds with the words of the API itself.
func knownBody(status int, body string) fault {
	return func(w http.ResponseWriter, _ *http.Request, said string) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", someRequestID)
		w.WriteHeader(status)
		text, _ := json.Marshal(said)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "SAID", string(text)))
		return true
	}
}

// raw responds with these bytes in place of HTTP, then closes the connection.
func raw(response string) fault {
	return func(w http.ResponseWriter, _ *http.Request, said string) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, strings.ReplaceAll(response, "SAID", strings.ReplaceAll(said, "\n", " ")))
		_ = conn.Close()
		return true
	}
}

// hang never responds.
func hang(_ http.ResponseWriter, r *http.Request, _ string) bool {
	<-r.Context().Done()
	return true
}

// cut does the request and then cuts the connection.
func cut(http.ResponseWriter, *http.Request, string) bool { panic(http.ErrAbortHandler) }

// onWrites limits a fault to what changes keys.
func onWrites(f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, said string) bool {
		return strings.HasSuffix(r.URL.Path, "/byok-keys") && r.Method != http.MethodGet && f(w, r, said)
	}
}

// Every way to fail, each time for a create, a replace and a delete of every
// shape of secret, then for what a plan asks for, the sign-in included.
func TestNoLeakInFailure(t *testing.T) {
	t.Parallel()
	type failure struct {
		name  string
		fault fault
		says  string // by a create, a replace and a delete
	}
	for group, failures := range map[string][]failure{
		"refusals": {
			{"400", echo(400, someRequestID), "the API refused the request"},
			{"400, NUL", knownBody(400, `{"error":"Validation error","details":[{"path":["apiKey"],"message":"Value cannot contain a NUL character (U+0000)","input":SAID}]}`), "the API refused the request"},
			{"401", echo(401, someRequestID), "not signed in"},
			{"403", echo(403, someRequestID), "not an admin"},
			{"404, key", knownBody(404, `{"error":"BYOK key not found","echo":SAID}`), ""},
			{"404", echo(404, someRequestID), "this is not the API of Sim"},
			{"409", echo(409, someRequestID), "this is not the API of Sim"},
			{"429", echo(429, someRequestID), "too many requests"},
		},
		"failures": {
			{"500", echo(500, someRequestID), "the server failed"},
			{"500 with SQL", knownBody(500, `{"error":"Failed query: insert into \"workspace_byok_keys\" ...\nparams: ","echo":SAID}`), "the server failed"},
			{"302", echo(302, ""), "the endpoint redirects"},
			{"200", echo(200, ""), "this is not the API of Sim"},
		},
		"gateway": {
			{"502", echo(502, ""), ""},
			{"garbage", raw("SAID\r\n\r\n"), ""},
		},
		"connection": {
			{"bad header", raw("HTTP/1.1 200 OK\r\nSAID\r\n\r\n"), ""},
			{"cut", cut, ""},
		},
		"timeout": {{"timeout", hang, ""}},
	} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.addMixed("kept", false)
			s.addMixed("fresh", true)
			s.addKey("gone", "ascii", true)
			s.addKey("gone", "quotes", false)
			s.configure("", 0, "kept", "gone")
			s.must("apply", "-no-color", "-auto-approve", "-parallelism=30")
			s.served("kept", "gone")
			s.renewAll("kept")
			retries, least := 0, 12
			switch group {
			case "failures":
				retries = 1 // which is logged
			case "gateway", "connection", "timeout":
				// An add whose response is lost would look for it longer.
				// On a busy machine not every add gets to be sent in this time.
				s.createTimeout, least = "2500ms", 6
			}
			s.configure("", retries, "kept", "fresh")
			for _, f := range failures {
				s.faults.set(onWrites(f.fault))
				s.fails([]string{"Cannot create key: " + f.says, "Cannot update key: " + f.says}, "apply", "-no-color", "-auto-approve", "-parallelism=30")
				if hits := s.faults.set(f.fault); hits < least {
					t.Errorf("%s: %d requests failed, want one for each of %d keys at least", f.name, hits, least)
				}
				s.fails(nil, "plan", "-no-color")
				if hits := s.faults.set(nil); hits < 2 {
					t.Errorf("%s: %d requests of the plan failed", f.name, hits)
				}
			}
		})
	}
}

// holdWrites holds every write at the server: arrived tells of each, and
// closing release lets them go on.
func (s *stage) holdWrites() (arrived <-chan struct{}, release chan struct{}) {
	arriving, release := make(chan struct{}, 100), make(chan struct{})
	s.faults.set(onWrites(func(http.ResponseWriter, *http.Request, string) bool {
		arriving <- struct{}{}
		<-release
		return false
	}))
	return arriving, release
}

// A provider that dies while a secret is on its way shows where it was, not
// what it held.
func TestNoLeakInCrash(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("crash")
	s.configure("", 0, "crash")
	arrived, release := s.holdWrites()
	e := s.runWith(func(terraform *os.Process) {
		defer close(release)
		select {
		case <-arrived:
		case <-t.Context().Done():
			return
		}
		// The Go runtime writes all stacks to standard error and ends.
		for _, pid := range children(t, terraform.Pid) {
			if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
				t.Error(err)
			}
		}
	}, "apply", "-no-color", "-auto-approve")
	if e.code != 1 {
		t.Errorf("terraform apply ended with %d:\n%s", e.code, e.stderr)
	}
	if !s.has(kindCrash, "goroutine ", "internal/client.(*Client).Add") || !s.has(kindStderr, "(*GRPCProvider).ApplyResourceChange") {
		t.Errorf("the provider left no stacks, or Terraform did not notice:\n%s", e.stderr)
	}
	s.faults.set(nil)
	s.must("plan", "-no-color")
}

// children are the processes that pid started and that are alive.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		t.Skip("NOT RUN: needs /proc/PID/task/TID/children")
	}
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// An apply that is interrupted while secrets are on their way.
func TestNoLeakInInterrupt(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("interrupt")
	s.configure("", 0, "interrupt")
	arrived, release := s.holdWrites()
	e := s.runWith(func(terraform *os.Process) {
		select {
		case <-arrived:
			if err := terraform.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		case <-t.Context().Done():
		}
		close(release)
	}, "apply", "-no-color", "-auto-approve")
	if e.code != 1 || !s.has(kindStderr, "execution halted") {
		t.Errorf("terraform apply ended with %d:\n%s%s", e.code, e.stdout, e.stderr)
	}
	s.faults.set(nil)
	s.must("apply", "-no-color", "-auto-approve")
	s.served("interrupt")
}

// Values that the provider refuses are not repeated.
func TestNoLeakInRefusedConfiguration(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.addKeys("refused")
	s.configure("", 0, "refused")
	for name, tc := range map[string]struct{ variable, value, says string }{
		"header":        {"headers", hcl(t, map[string]string{"X-Gateway-Token": s.header.value + "\n"}), "control character"},
		"header name":   {"headers", hcl(t, map[string]string{"Cookie": s.header.value}), "cannot be set"},
		"session token": {"session_token", s.session.value + "\n" + s.header.value, "control character"},
		"cut token":     {"session_token", s.session.value + "%", "percent sign"},
		"write-only":    {"write_only", hcl(t, map[string]string{"other": s.header.value}), "Invalid index"},
		"not a map":     {"api_keys", s.header.value, "api_keys"},
	} {
		env := s.tf.Env
		s.tf.Env = append(slices.Clone(env), "TF_VAR_"+tc.variable+"="+tc.value)
		if e := s.fails([]string{tc.says}, "plan", "-no-color"); t.Failed() {
			t.Fatalf("%s: %s", name, e.stderr)
		}
		s.tf.Env = env
	}
	s.faults.set(nil)
	config, err := os.ReadFile(filepath.Join(s.tf.Dir, "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`endpoint        = "http://`:          `endpoint = "http://user:${var.session_token}@`,
		`session_token   = var.session_token`: "session_token = var.session_token\n email = \"x@example.com\"\n password = var.session_token",
		`headers         = var.headers`:       "headers = var.headers\n ca_cert_pem = var.session_token",
		`request_timeout = "2s"`:              `request_timeout = var.session_token`,
	} {
		s.tf.Write(t, "main.tf", strings.Replace(string(config), from, to, 1))
		s.fails(nil, "plan", "-no-color")
	}
}
