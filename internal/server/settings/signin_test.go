package settings_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// Signing in starts the session that the API knows, and signing out ends it.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.open("/")
	if got := b.path(); got != "/login" {
		t.Fatalf("/ leads to %s", got)
	}
	b.fill("#email", w.Email)
	b.fill("#password", "wrong password")
	b.press(kb.Enter)
	b.shows("#problem", "The email address or the password is wrong.")
	if got := eval[string](b, "document.querySelector('#email').value + '|' + document.querySelector('#password').value"); got != w.Email+"|" {
		t.Errorf("after a wrong password the form holds %q", got)
	}
	b.fill("#password", w.Password)
	b.click("button[type=submit]")
	b.shows("h1", "Bring your own keys")
	if got := b.path(); got != w.page("") {
		t.Errorf("signing in leads to %s", got)
	}
	if got := eval[string](b, "fetch('/api/auth/get-session').then((r) => r.json()).then((s) => s.user.email)"); got != w.Email {
		t.Errorf("the session is of %s", got)
	}
	if got := eval[string](b, "document.cookie"); got != "" {
		t.Errorf("scripts can read the cookies: %s", got)
	}

	b.click(".menu-user summary")
	b.shows(".menu-user .menu-panel", w.Email)
	b.click(".menu-user button")
	b.shows("h1", "Sign in")
	if got := eval[bool](b, "fetch('/api/auth/get-session').then((r) => r.json()).then((s) => s === null)"); !got {
		t.Error("the session outlives signing out")
	}

	// A page that needs a session comes back after signing in.
	b.open(w.page("search=exa"))
	b.shows("h1", "Sign in")
	b.fill("#email", w.Email)
	b.fill("#password", w.Password)
	b.press(kb.Enter)
	b.shows("h1", "Bring your own keys")
	if got := b.path(); got != w.page("search=exa") {
		t.Errorf("signing in leads to %s", got)
	}
	b.open("/login")
	if got := b.path(); got != w.page("") {
		t.Errorf("/login leads a signed-in user to %s", got)
	}
}

func TestSignInLimit(t *testing.T) {
	t.Parallel()
	w := startWorld(t, acctest.RateLimited())
	b := newTab(t, w.URL)
	b.open("/login")
	for range 4 {
		b.fill("#email", w.Email)
		b.fill("#password", "wrong password")
		b.until("(window.old = true)")
		b.press(kb.Enter)
		b.until("!window.old && document.querySelector('#problem')")
	}
	if got := b.text("#problem"); !strings.HasPrefix(got, "Too many attempts. Wait ") {
		t.Errorf("the fourth attempt says %q", got)
	}
}

// Forms of other sites, and targets on other sites, are refused.
func TestSignInFromElsewhere(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	post := func(path, origin, site, next string) *http.Response {
		t.Helper()
		form := url.Values{"email": {w.Email}, "password": {w.Password}, "next": {next}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", site)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response
	}
	for _, path := range []string{"/login", "/logout"} {
		if got := post(path, "https://evil.example", "cross-site", ""); got.StatusCode != http.StatusForbidden || got.Header.Get("Set-Cookie") != "" {
			t.Errorf("POST %s from another site: %s, cookies %q", path, got.Status, got.Header.Get("Set-Cookie"))
		}
	}
	for next, want := range map[string]string{
		"":                                "/",
		w.page("search=a"):                w.page("search=a"),
		"https://evil.example/":           "/",
		"//evil.example/workspace/":       "/",
		`/\evil.example`:                  "/",
		"/workspace/x\r\nSet-Cookie: a=b": "/",
		"/api/workspaces/x/byok-keys":     "/",
	} {
		if got := post("/login", w.URL, "same-origin", next); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != want {
			t.Errorf("next=%q leads to %q (%s), want %q", next, got.Header.Get("Location"), got.Status, want)
		}
	}
}

func TestNoWorkspace(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.stranger.SessionToken)
	b.open("/")
	b.shows("h1", "No workspace yet")
	b.shows("main", w.stranger.Email)
	checkAxe(b)

	// A stranger and a workspace that does not exist look the same.
	if status := b.open(w.page("")); status != http.StatusNotFound {
		t.Errorf("a stranger gets %d", status)
	}
	stranger := b.text("main")
	if strings.Contains(stranger, "Mothership") {
		t.Errorf("a stranger sees\n%s", stranger)
	}
	b.open("/workspace/no-such-workspace/settings/byok")
	if unknown := b.text("main"); unknown != stranger || !strings.Contains(stranger, "No access to this workspace") {
		t.Errorf("a stranger sees\n%s\nin an unknown workspace\n%s", stranger, unknown)
	}
	for _, path := range []string{w.page("") + "/state", w.page("") + "/events", w.page("") + "/terraform"} {
		if got := eval[int](b, "fetch('"+path+"').then((r) => r.status)"); got != http.StatusForbidden {
			t.Errorf("a stranger gets %d from %s", got, path)
		}
	}
	checkAxe(b)
	if status := b.open("/workspace/" + w.WorkspaceID + "/settings"); status != http.StatusNotFound {
		t.Errorf("an unknown page is %d", status)
	}
	b.shows(".card-actions", "Sign out")
	b.click(".card-actions a")
	b.shows("h1", "No workspace yet")
	b.click("button[type=submit]")
	b.shows("h1", "Sign in")
}

// Who signs out in one tab sees no more changes in another.
func TestSignOutEndsOtherTabs(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	one := newTab(t, w.URL)
	one.open("/login")
	one.fill("#email", w.Email)
	one.fill("#password", w.Password)
	one.click("button[type=submit]")
	one.shows("h1", "Bring your own keys")
	two := one.secondTab()
	two.open(w.page(""))
	two.click(".menu-user summary")
	two.click(".menu-user button")
	two.shows("h1", "Sign in")
	one.shows("#offline", "You are signed out.")
}
