package faults

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// serverBinary builds byok-server once per test binary; TestMain removes it.
var serverBinary = sync.OnceValues(func() (string, error) {
	var err error
	if builtServer, err = os.MkdirTemp("", "byok-server-"); err != nil {
		return "", err
	}
	return byokserver.Build(builtServer)
})

var builtServer string // the folder to remove, once serverBinary has run

// site is where byok-server processes run: a database, secrets, a bootstrap
// document with one user and one workspace.
type site struct {
	config byokserver.Config
	client *http.Client
}

const (
	siteWorkspace      = "8b7f1c62-3f0a-4f2e-9d55-0c1b2a3d4e5f"
	siteUser           = "owner@example.com"
	sitePassword       = "correct horse battery staple"
	siteInternalSecret = "internal-secret-of-the-test"
)

func newSite(t *testing.T, database string) *site {
	t.Helper()
	bin, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{config: newConfig(database, t.TempDir()), client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	s.config.Binary = bin
	return s
}

// newConfig is what the servers of a site are started with, but for the binary.
func newConfig(database, dir string) byokserver.Config {
	return byokserver.Config{
		Dir: dir, Database: database, Flags: []string{"--development"},
		Secrets: server.Secrets{EncryptionKey: strings.Repeat("0123456789abcdef", 4), AuthSecret: "auth-secret-of-the-test", InternalSecret: siteInternalSecret},
		Bootstrap: &server.Bootstrap{
			Users:      []server.BootstrapUser{{Email: siteUser, Password: sitePassword, Name: "Owner"}},
			Workspaces: []server.BootstrapWorkspace{{ID: siteWorkspace, Name: "Site", Owner: siteUser}},
		},
	}
}

// start returns a byok-server that accepts requests.
func (s *site) start(t *testing.T) *byokserver.Process {
	t.Helper()
	p, err := byokserver.Start(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// session signs in and returns the value of the session cookie.
func (s *site) session(t *testing.T, url string) string {
	t.Helper()
	session, err := byokserver.SignIn(t.Context(), url, siteUser, sitePassword)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// door speaks to a server over HTTP, without the provider's client.
type door struct{ byokserver.Door }

func newDoor(client *http.Client, url func() string, session string) door {
	return door{byokserver.Door{Client: client, URL: url, Session: session, InternalSecret: siteInternalSecret}}
}

// do sends one request; into gets a 200 response. A status of 0 is a response that
// was lost.
func (d door) do(method, path string, body, into any) (status int, response string) {
	status, text, err := d.Do(context.Background(), method, path, body, into)
	if err != nil {
		return 0, err.Error()
	}
	return status, string(text)
}

func (d door) List(t testing.TB, workspaceID string) []byok.Key {
	t.Helper()
	var response byok.ListResponse
	if status, text := d.do(http.MethodGet, byokserver.KeysPath(workspaceID), nil, &response); status != http.StatusOK {
		t.Fatalf("list: %d %s", status, text)
	}
	return response.Keys
}

func (d door) Resolve(t testing.TB, workspaceID, providerID string) *acctest.Served {
	t.Helper()
	key, err := d.Door.Resolve(context.Background(), workspaceID, providerID)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
