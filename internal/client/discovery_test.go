package client

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

const archivedWorkspace = `{"id":"old","name":"Old","permissions":"admin","organizationId":null,"archivedAt":"2026-01-02T03:04:05.000Z"}`

// TestWorkspacesReplay feeds the recorded responses to the client.
func TestWorkspacesReplay(t *testing.T) {
	t.Parallel()
	entries, err := transcripts.Workspaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Run(e.As+" "+e.Request, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return respond(e.Status, string(e.Body)) }
				workspaces, err := s.client.Workspaces(s.ctx)
				switch e.Status {
				case http.StatusOK:
					if err != nil || strings.Count(string(e.Body), `"role"`) != len(workspaces) {
						s.Errorf("%v, %v", workspaces, err)
					}
					for _, w := range workspaces {
						if w.Name == "" || w.Permission == "" || w.OrganizationID != nil {
							s.Errorf("%+v", w)
						}
					}
				case http.StatusUnauthorized:
					_ = s.wantKind(err, KindUnauthorized)
				default:
					_ = s.wantKind(err, KindInvalid)
				}
			})
		})
	}
}

// The server creates a workspace for some users unless it is asked for all.
func TestWorkspacesAreAskedForOnce(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		var targets []string
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			targets = append(targets, r.URL.String())
			return respond(200, `{"workspaces":[{"id":"a","name":"A","permissions":"read","organizationId":"o","archivedAt":null},`+archivedWorkspace+`]}`)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				workspaces, err := s.client.Workspaces(s.ctx)
				if err != nil || len(workspaces) != 1 || workspaces[0].ID != "a" || *workspaces[0].OrganizationID != "o" {
					s.Errorf("%v, %v", workspaces, err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(targets, []string{"/api/workspaces?scope=all"}) {
			s.Errorf("requests %q", targets)
		}
		s.client.Forget()
		if _, err := s.client.Workspaces(s.ctx); err != nil || len(targets) != 2 {
			s.Errorf("after Forget: %q, %v", targets, err)
		}
	})
}

func TestHostileDiscovery(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, want string }{
		"HTML":          {"<!doctype html>" + canary, "it is HTML, not JSON"},
		"no workspaces": {`{"error":"` + canaryJSON() + `"}`, "no workspaces field"},
		"no ID":         {`{"workspaces":[{"name":"` + canaryJSON() + `"}]}`, "workspace 1 of 1 in the list: its id is missing"},
		"id a number":   {`{"workspaces":[{"id":5}]}`, "id is of type number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return respond(200, tc.body, "Content-Type: application/json") }
				_, err := s.client.Workspaces(s.ctx)
				if e := s.wantKind(err, KindProtocol); !strings.Contains(e.Error(), tc.want) {
					s.Errorf("%v, want %q", e, tc.want)
				}
				_, err = s.client.Inherited(s.ctx, w1)
				_ = s.wantKind(err, KindProtocol)
			})
		})
	}
}

func TestInherited(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   Kind // "" for success
	}{
		"some":      {200, `{"inheritedProviderIds":["anthropic","openai"]}`, ""},
		"stranger":  {403, `{"error":"Insufficient workspace permissions","requestId":"1a2b3c4d"}`, KindNoAccess},
		"unknown":   {404, `{"error":"Workspace not found","requestId":"1a2b3c4d"}`, KindWorkspaceNotFound},
		"old Sim":   {404, `<!DOCTYPE html>`, KindProtocol},
		"signedOut": {401, `{"error":"Unauthorized","requestId":"1a2b3c4d"}`, KindUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				s.model.script = func(_ int, r *http.Request, _ []byte) act {
					if r.URL.Path != "/api/workspaces/w1/byok-keys/inherited-status" {
						s.Errorf("path %s", r.URL.Path)
					}
					return respond(tc.status, tc.body)
				}
				inherited, err := s.client.Inherited(s.ctx, w1)
				if tc.kind != "" {
					_ = s.wantKind(err, tc.kind)
					return
				}
				if again, _ := s.client.Inherited(s.ctx, w1); err != nil || !slices.Equal(inherited, []string{"anthropic", "openai"}) || !slices.Equal(again, inherited) {
					s.Errorf("%q, then %q, %v", inherited, again, err)
				}
				s.wantRequests("GET")
			})
		})
	}
}
