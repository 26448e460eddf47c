package secrets

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// stage is a folder with a configuration, a server on a database file, and a
// hunt that looks at everything that both of them write.
type stage struct {
	*testing.T
	*hunt
	tf     *tfrun.Folder
	server *acctest.Server
	faults *faults
	log    *lockedBuffer
	db     string
	runs   int
	// createTimeout is that of every key, or empty.
	createTimeout string
	// organizationID is an organization, and inheriting a workspace of it that
	// has no keys of its own.
	organizationID, inheriting string
	// marker is part of the name of every resource.
	marker string

	session, password, header canary
	// keys are the canaries of the keys by their name in the configuration.
	keys map[string]*stagedKey
}

// stagedKey is one byok_key of the configuration, or a byok_pool with one key.
type stagedKey struct {
	Name, ProviderID string
	// Group is the resource that it is an instance of.
	Group, Shape string
	WriteOnly    bool
	// Pool: the key is that of a byok_pool.
	Pool bool
	// Organization: the key is stored in the organization.
	Organization bool
	secret       canary
}

// Address is that of the resource.
func (k stagedKey) Address() string {
	if k.Pool {
		return "byok_pool." + k.Name
	}
	return "byok_key." + k.Name
}

// importID is what imports the key.
func (s *stage) importID(k *stagedKey, id string) string {
	switch pool := s.pool(k); {
	case k.Pool:
		return pool.String()
	case k.Organization:
		return pool.String() + "/" + id
	}
	return id
}

// pool is where a key is stored.
func (s *stage) pool(k *stagedKey) byok.Pool {
	return byok.Pool{Scope: s.scopes()[k.Organization], ProviderID: k.ProviderID}
}

// scopes are the organization (true) and the workspace of the provider.
func (s *stage) scopes() map[bool]byok.Scope {
	return map[bool]byok.Scope{false: byok.WorkspaceScope(s.server.WorkspaceID), true: byok.OrganizationScope(s.organizationID)}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := newStageWithoutReport(t)
	t.Cleanup(func() {
		s.lookAtServer("at the end")
		s.report(t)
	})
	return s
}

// newStageWithoutReport is for a test that plants leaks: it searches by itself.
func newStageWithoutReport(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, hunt: newHunt(), faults: &faults{}, log: &lockedBuffer{}, keys: map[string]*stagedKey{}}
	s.tf = tfrun.New(t)
	s.db = filepath.Join(t.TempDir(), "byok.db")
	s.password, s.header = s.canary(usePassword, "quotes"), s.canary(useHeader, "ascii")
	s.server = acctest.Start(t, acctest.Hosted(), acctest.WithDatabase("sqlite:"+s.db), acctest.WithMiddleware(s.faults.wrap), func(c *server.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Bootstrap.Users[0].Password = s.password.value
	})
	s.organizationID = s.server.NewOrganization(t)
	s.inheriting = s.server.NewNamedWorkspace(t, "Team", s.organizationID)
	s.sessionCanaries(s.server.SessionToken)
	s.faults.signedIn = s.sessionCanaries
	s.session = canaryOf(useSession, "as given", s.server.SessionToken)
	// What is no secret shows that a place can be searched at all.
	s.marker = strings.ToLower(randomText(16))
	s.add(canaryOf(useControl, "workspace ID", s.server.WorkspaceID))
	s.add(canaryOf(useControl, "resource name", s.marker))
	return s
}

// sessionCanaries watches out for a session token. Whoever has the signature
// has the session; the token in front of it alone opens nothing.
func (s *stage) sessionCanaries(token string) {
	decoded, err := url.PathUnescape(token)
	bare, signature, ok := strings.Cut(decoded, ".")
	if err != nil || !ok {
		s.Errorf("%q is no session token", token)
		return
	}
	s.add(canaryOf(useBareSession, "decoded", bare))
	s.add(canaryOf(useSession, "signature", signature))
	s.add(canaryOf(useSession, "percent-encoded signature", url.PathEscape(signature)))
}

// addKeys puts keys of every shape into a group, one of each attribute and
// shape; two of four are those of the organization. Pools are left to one key
// each, as far as provider IDs go.
func (s *stage) addKeys(group string) {
	for _, writeOnly := range []bool{false, true} {
		for i, shape := range shapes {
			s.addKey(group, shape, writeOnly).Organization = i%4 >= 2
		}
	}
}

// addMixed puts one key of every shape into a group, in turn one of either
// attribute: two groups, one of which begins with write-only, hold all pairs.
func (s *stage) addMixed(group string, writeOnly bool) {
	for i, shape := range shapes {
		key := s.addKey(group, shape, writeOnly == (i%2 == 0))
		key.Organization, key.Pool = i%4 >= 2, key.WriteOnly && i%3 > 0
	}
}

func (s *stage) addKey(group, shape string, writeOnly bool) *stagedKey {
	providerIDs := byok.ProviderIDs()
	key := &stagedKey{
		Name: fmt.Sprintf("%s_%s_%t_%s", group, shape, writeOnly, s.marker), Group: group, Shape: shape, WriteOnly: writeOnly,
		ProviderID: providerIDs[len(s.keys)%len(providerIDs)],
		Pool:       writeOnly && slices.Index(shapes, shape)%2 == 1,
	}
	s.keys[key.Name] = key
	s.renew(key)
	return key
}

// renew gives a key of the configuration another secret.
func (s *stage) renew(key *stagedKey) {
	use := useAPIKey
	if key.WriteOnly {
		use = useWriteOnly
	}
	key.secret = s.canary(use, key.Shape)
}

func (s *stage) renewAll(group string) {
	for _, name := range s.names() {
		if s.keys[name].Group == group {
			s.renew(s.keys[name])
		}
	}
}

func (s *stage) names() []string {
	var names []string
	for name := range s.keys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// configuration takes every secret from the environment, as a pipeline does:
// nothing in the folder holds one, unless Terraform or the provider wrote it.
var configuration = template.Must(template.New("").Parse(`
variable "session_token" {
  type      = string
  sensitive = true
  ephemeral = true
}
variable "headers" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}
variable "api_keys" {
  type      = map(string)
  sensitive = true
}
variable "write_only" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}
provider "byok" {
  endpoint        = "{{.Endpoint}}"
  workspace_id    = "{{.WorkspaceID}}"
  session_token   = var.session_token
  headers         = var.headers
  max_retries     = {{.Retries}}
  request_timeout = "2s"
}
provider "byok" {
  alias           = "signed_in"
  endpoint        = "{{.Endpoint}}"
  workspace_id    = "{{.WorkspaceID}}"
  email           = "{{.Email}}" # the password is in the environment
  headers         = var.headers
  max_retries     = {{.Retries}}
  request_timeout = "2s"
}
{{range .Keys}}
{{if .Pool}}resource "byok_pool" "{{.Name}}" {
  provider    = byok.signed_in
  provider_id = "{{.ProviderID}}"
  exclusive   = true
  {{if .Organization}}organization_id = "{{$.OrganizationID}}"{{end}}
  keys = {
    "{{.Name}}" = { api_key_wo = var.write_only["{{.Name}}"], name = "{{$.Prefix}}{{.Name}}" }
  }
{{else}}resource "byok_key" "{{.Name}}" {
  {{if .WriteOnly}}provider    = byok.signed_in
  api_key_wo  = var.write_only["{{.Name}}"]
  {{else}}api_key     = var.api_keys["{{.Name}}"]
  {{end}}provider_id = "{{.ProviderID}}"
  {{if .Organization}}organization_id = "{{$.OrganizationID}}"{{end}}
  name        = "{{$.Prefix}}{{.Name}}"
{{end}}  {{with $.CreateTimeout}}timeouts { create = "{{.}}" }{{end}}
}
{{end}}
output "masks" {
  value = [{{range .Keys}}{{.Address}}.{{if .Pool}}keys["{{.Name}}"].{{end}}masked_key, {{end}}]
}

# Every data source: those of byok_keys are read at plan and, after changes, at apply.
data "byok_keys" "workspace" {
  provider = byok.signed_in
}
data "byok_keys" "organization" {
  organization_id = "{{.OrganizationID}}"
  depends_on      = [{{range .Keys}}{{.Address}}, {{end}}]
}
data "byok_workspaces" "all" {
  provider = byok.signed_in
}
data "byok_inherited_providers" "team" {
  workspace_id = "{{.Inheriting}}"
}
output "read" {
  value = [data.byok_keys.workspace, data.byok_keys.organization, data.byok_workspaces.all, data.byok_inherited_providers.team]
}
`))

// configure writes the configuration with the keys of groups and sets the
// environment that goes with it.
func (s *stage) configure(prefix string, retries int, groups ...string) {
	s.Helper()
	var keys []*stagedKey
	apiKeys, writeOnly := map[string]string{}, map[string]string{}
	for _, name := range s.names() {
		key := s.keys[name]
		if !slices.Contains(groups, key.Group) {
			continue
		}
		keys = append(keys, key)
		if key.WriteOnly {
			writeOnly[name] = key.secret.value
		} else {
			apiKeys[name] = key.secret.value
		}
	}
	var b bytes.Buffer
	if err := configuration.Execute(&b, map[string]any{
		"Endpoint": s.server.URL, "WorkspaceID": s.server.WorkspaceID, "Email": s.server.Email, "Keys": keys, "Prefix": prefix, "Retries": retries,
		"CreateTimeout": s.createTimeout, "OrganizationID": s.organizationID, "Inheriting": s.inheriting,
	}); err != nil {
		s.Fatal(err)
	}
	s.tf.Write(s.T, "main.tf", b.String())
	s.tf.Env = slices.DeleteFunc(s.tf.Env, func(entry string) bool {
		return strings.HasPrefix(entry, "TF_VAR_") || strings.HasPrefix(entry, "BYOK_")
	})
	s.tf.Env = append(s.tf.Env,
		"BYOK_PASSWORD="+s.password.value,
		"TF_VAR_session_token="+s.session.value,
		"TF_VAR_headers="+hcl(s.T, map[string]string{"X-Gateway-Token": s.header.value}),
		"TF_VAR_api_keys="+hcl(s.T, apiKeys),
		"TF_VAR_write_only="+hcl(s.T, writeOnly),
	)
}

// hcl writes a map as Terraform reads it from the environment: JSON, in which
// templates have to be escaped.
func hcl(t testing.TB, values map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(values); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(b.String())
}

// exit is how a command ended.
type exit struct {
	code           int
	stdout, stderr string
}

// run runs terraform at the highest log level and looks at everything that it
// leaves behind: output, logs, state, plans, written configuration.
func (s *stage) run(args ...string) exit {
	s.Helper()
	return s.runWith(nil, args...)
}

// runWith calls during with the started process.
func (s *stage) runWith(during func(*os.Process), args ...string) exit {
	s.Helper()
	s.runs++
	title := fmt.Sprintf("%d %s", s.runs, strings.Join(args, " "))
	log := filepath.Join(s.tf.Dir, "trace.log")
	ctx, cancel := context.WithTimeout(s.Context(), s.tf.Timeout)
	defer cancel()
	cmd := s.tf.Command(ctx, args...)
	cmd.Env = append(cmd.Env, "TF_LOG=TRACE", "TF_LOG_PATH="+log)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	if during != nil {
		during(cmd.Process)
	}
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.Fatal(err)
	}
	toStdout := kindStdout
	if args[0] == "show" && slices.Contains(args, "-json") {
		toStdout = kindPlanJSON
	}
	if args[0] == "state" && args[1] == "pull" {
		toStdout = kindState
	}
	s.look(toStdout, title, stdout.Bytes())
	s.look(kindStderr, title, stderr.Bytes())
	s.lookAtLog(title, log)
	s.lookAtFolder(title)
	s.lookAtServer(title)
	return exit{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs terraform and ends the test unless it succeeded.
func (s *stage) must(args ...string) exit {
	s.Helper()
	e := s.run(args...)
	if e.code != 0 {
		s.Fatalf("terraform %s ended with %d:\n%s%s", args[0], e.code, e.stdout, e.stderr)
	}
	return e
}

// fails runs terraform and ends the test unless it failed with all of want.
func (s *stage) fails(want []string, args ...string) exit {
	s.Helper()
	e := s.run(args...)
	if e.code != 1 {
		s.Fatalf("terraform %s ended with %d, not 1:\n%s%s", args[0], e.code, e.stdout, e.stderr)
	}
	for _, text := range want {
		if !strings.Contains(e.stderr, text) {
			s.Errorf("terraform %s does not say %q:\n%s", args[0], text, e.stderr[:min(len(e.stderr), 3000)])
		}
	}
	return e
}

// lookAtLog takes the log of both apart: the provider's lines, with what
// follows them, name it.
func (s *stage) lookAtLog(title, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		s.Fatal(err)
	}
	parts := map[kind][]byte{}
	at, fromProvider := kindCoreLog, kindProviderLog
	for line := range bytes.Lines(data) {
		if logLine(line) {
			at = kindCoreLog
			if bytes.Contains(line, []byte("provider.terraform-provider-byok")) {
				if bytes.Contains(line, []byte("SIGQUIT: quit")) {
					fromProvider = kindCrash
				}
				at = fromProvider
			}
		}
		parts[at] = append(parts[at], line...)
	}
	for k, data := range parts {
		s.look(k, title, data)
	}
}

// logLine reports whether a line begins an entry, as in
// 2006-01-02T15:04:05.000Z [TRACE].
func logLine(line []byte) bool {
	return len(line) > 30 && line[4] == '-' && line[10] == 'T' && bytes.Contains(line[20:40:len(line)], []byte("["))
}

// lookAtFolder looks at all files that Terraform wrote. A plan is a ZIP file.
func (s *stage) lookAtFolder(title string) {
	err := filepath.WalkDir(s.tf.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := title + ": " + entry.Name()
		switch {
		case strings.HasPrefix(entry.Name(), "terraform.tfstate"):
			s.look(kindState, name, data)
		case strings.HasSuffix(entry.Name(), ".tfplan"):
			archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return err
			}
			for _, file := range archive.File {
				r, err := file.Open()
				if err != nil {
					return err
				}
				content, err := io.ReadAll(r)
				if err != nil {
					return err
				}
				s.look(kindPlan, name+"/"+file.Name, content)
			}
		default:
			s.look(kindConfig, name, data)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// lookAtServer looks at what the server has logged since the last time, and at
// its database, whose newest pages are in the write-ahead log.
func (s *stage) lookAtServer(title string) {
	var requests, audit []byte
	for line := range bytes.Lines(s.log.take()) {
		if bytes.Contains(line, []byte(`"msg":"audit"`)) {
			audit = append(audit, line...)
		} else {
			requests = append(requests, line...)
		}
	}
	s.look(kindServerLog, title, requests)
	s.look(kindAuditLog, title, audit)
	// Lines about refusals and sign-ins contain no workspace.
	if len(audit) > 0 && !s.has(kindAuditLog, `"msg":"audit"`, `"request_id"`) {
		s.Errorf("%s: the audit log has lines of another form:\n%s", title, audit)
	}
	files, err := filepath.Glob(s.db + "*")
	if err != nil || len(files) == 0 {
		s.Fatalf("no database at %s (%v)", s.db, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			s.Fatal(err)
		}
		s.look(kindDatabase, title+": "+filepath.Base(file), data)
	}
}

// served fails the test unless the server serves exactly what each key of
// groups declares: a canary that never got anywhere could not leak.
func (s *stage) served(groups ...string) {
	s.Helper()
	for _, name := range s.names() {
		key := s.keys[name]
		if !slices.Contains(groups, key.Group) {
			continue
		}
		workspaceID := s.server.WorkspaceID
		if key.Organization {
			workspaceID = s.inheriting
		}
		got := s.server.Resolve(s.T, workspaceID, key.ProviderID)
		if got == nil || got.APIKey != key.secret.value {
			s.Errorf("the server does not serve the secret of %s", name)
		}
		s.stored[key.secret.value] = true
	}
}

// lockedBuffer is an io.Writer for a logger that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) take() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := bytes.Clone(l.b.Bytes())
	l.b.Reset()
	return data
}

// faults is a middleware that can be told to respond in place of the server.
type faults struct {
	// signedIn is told the session token of every sign-in.
	signedIn func(token string)

	mu    sync.Mutex
	fault fault
	hits  int
}

// fault responds to a request, or leaves it to the server by returning false. said
// is everything secret that the request holds.
type fault func(w http.ResponseWriter, r *http.Request, said string) bool

// set makes f the fault from now on and returns how often the last one struck.
func (f *faults) set(fault fault) (hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hits = f.hits
	f.fault, f.hits = fault, 0
	return hits
}

func (f *faults) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		fault := f.fault
		f.mu.Unlock()
		if fault != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			struck := true // also by a fault that panics, to cut the connection
			defer func() {
				if struck {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.hits++
				}
			}()
			if struck = fault(w, r, said(r, body)); struck {
				return
			}
		}
		next.ServeHTTP(w, r)
		for _, cookie := range (&http.Response{Header: w.Header()}).Cookies() {
			if cookie.Name == "better-auth.session_token" {
				f.signedIn(cookie.Value)
			}
		}
	})
}

// said is what a request says in secret: its body, raw and decoded, its
// cookie, the headers that the user asked for.
func said(r *http.Request, body []byte) string {
	var request struct{ APIKey, Password string }
	_ = json.Unmarshal(body, &request)
	return strings.Join([]string{string(body), request.APIKey, request.Password, r.Header.Get("Cookie"), r.Header.Get("X-Gateway-Token")}, " ")
}
