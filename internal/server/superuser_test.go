package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// The bootstrap document makes superusers and, at the next start without the
// field, unmakes them. A cached session does not keep the right.
func TestBootstrapSuperuser(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	apply := func(field string) {
		t.Helper()
		doc, err := server.ReadBootstrap(strings.NewReader(`{"users": [{"email": "` + testEmail + `", "password": "` + testPassword + `", "name": "A"` + field + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Apply(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	apply("")
	in := f.signIn(t, signInBody)
	cookies := cookie("session_token", in.cookies["session_token"]) + "; " + cookie("session_data", in.cookies["session_data"])
	status := func(want int) {
		t.Helper()
		if got := f.call(t, http.MethodGet, "/api/copilot/byok?workspaceId=w", "", "Cookie", cookies); got.StatusCode != want {
			t.Errorf("the mothership's keys: %d %s, want %d", got.StatusCode, got.body, want)
		}
	}
	status(http.StatusUnauthorized)
	apply(`, "superuser": true`)
	status(http.StatusOK)
	apply(`, "superuser": true`)
	status(http.StatusOK)
	apply("")
	status(http.StatusUnauthorized)

	if _, err := server.ReadBootstrap(strings.NewReader(`{"users": [{"superuser": "yes"}]}`)); err == nil || !strings.Contains(err.Error(), "superuser") {
		t.Errorf("a superuser that is a text: %v", err)
	}
}
