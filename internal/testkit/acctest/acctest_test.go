package acctest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

func get(t *testing.T, url, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", "better-auth.session_token="+token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	keys := s.URL + "/api/workspaces/" + s.WorkspaceID + "/byok-keys"

	a := s.Add(t, s.WorkspaceID, "openai", "sk-a-0000000000", "A")
	b := s.Add(t, s.WorkspaceID, "openai", "sk-b-0000000000", "")
	if list := s.List(t, s.WorkspaceID); len(list) != 2 || list[0].ID != a || list[1].ID != b || list[1].Name != nil || *list[0].Name != "A" {
		t.Errorf("List = %+v", list)
	}
	s.Replace(t, s.WorkspaceID, "openai", a, "sk-a-0000000002", nil)
	s.Corrupt(t, b)
	for range 2 {
		if got := s.Resolve(t, s.WorkspaceID, "openai"); got == nil || got.APIKey != "sk-a-0000000002" || got.Scope != "workspace" || got.KeyID != a {
			t.Errorf("Resolve = %+v", got)
		}
	}
	s.Delete(t, s.WorkspaceID, "openai", b)
	if got := s.Resolve(t, s.WorkspaceID, "anthropic"); got != nil {
		t.Errorf("Resolve of an empty pool = %+v", got)
	}
	if n := s.Count("", ""); n != 0 {
		t.Errorf("the side door was counted %d times", n)
	}

	if status := get(t, keys, s.SessionToken); status != http.StatusOK {
		t.Errorf("GET = %d", status)
	}
	if s.Count("GET", "/byok-keys") != 1 || s.Count("POST", "") != 0 {
		t.Errorf("requests: %+v", s.Requests())
	}
	s.Reset()
	if s.Count("", "") != 0 {
		t.Error("Reset left requests")
	}

	other := s.NewWorkspace(t)
	reader := s.NewUser(t, "read", other)
	if status := get(t, strings.Replace(keys, s.WorkspaceID, other, 1), reader.SessionToken); status != http.StatusOK {
		t.Errorf("reader: %d", status)
	}
	if status := get(t, keys, reader.SessionToken); status != http.StatusUnauthorized {
		t.Errorf("stranger: %d", status)
	}
	s.ArchiveWorkspace(t, other)
	if status := get(t, strings.Replace(keys, s.WorkspaceID, other, 1), reader.SessionToken); status != http.StatusNotFound {
		t.Errorf("archived: %d", status)
	}
	s.EndSessions(t, s.Email)
	if status := get(t, keys, s.SessionToken); status != http.StatusUnauthorized {
		t.Errorf("ended session: %d", status)
	}
	if !strings.Contains(s.ProviderConfig(), s.URL) {
		t.Error(s.ProviderConfig())
	}
}
