//go:build unix

package server_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// A bootstrap document with a mistake in its last line changes nothing.
func TestBootstrapIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		f := startFixture(t, func(c *server.Config) { c.Database = target })
		before := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
		err := f.Apply(t.Context(), &server.Bootstrap{
			Users: []server.BootstrapUser{
				{Email: testEmail, Password: "another password", Name: "renamed"},
				{Email: "b@example.com", Password: "password", Name: "B"},
			},
			Organizations: []server.BootstrapOrganization{{ID: "o", Members: []server.BootstrapMember{{Email: "b@example.com", Role: "owner"}}}},
			Workspaces: []server.BootstrapWorkspace{
				{ID: "w", Owner: "b@example.com"},
				{ID: testWorkspace, Owner: "b@example.com", Members: []server.BootstrapPermission{{Email: "nobody@example.com", Permission: "read"}}},
			},
		})
		if err == nil || !strings.Contains(err.Error(), "workspaces[1].members[0].email: there is no user nobody@example.com") {
			t.Errorf("apply: %v", err)
		}
		for query, want := range map[string]int{
			`SELECT count(*) FROM "user"`: 1, "SELECT count(*) FROM organization": 0, "SELECT count(*) FROM workspace": 1,
			`SELECT count(*) FROM "user" WHERE name = 'renamed'`: 0,
		} {
			if got := f.count(t, query); got != want {
				t.Errorf("%s = %d, want %d", query, got, want)
			}
		}
		if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", before); a.StatusCode != http.StatusOK {
			t.Errorf("a session from before: %d", a.StatusCode)
		}
		f.signIn(t, signInBody)
	})
}

// A document removes members only where it says so, with what comes from the
// membership, as the real product does. Their sessions stay.
func TestBootstrapRemovesMembers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		const owner, member, guest, foreign = "owner@example.com", "member@example.com", "guest@example.com", "11111111-0000-4000-8000-000000000001"
		users := []server.BootstrapUser{{Email: testEmail, Password: testPassword}, {Email: owner, Password: testPassword}, {Email: member, Password: testPassword}, {Email: guest, Password: testPassword}}
		document := func(role, permission string) *server.Bootstrap {
			return &server.Bootstrap{
				Users: users,
				Organizations: []server.BootstrapOrganization{{ID: "o", Members: []server.BootstrapMember{
					{Email: owner, Role: "owner"}, {Email: member, Role: role},
				}}},
				Workspaces: []server.BootstrapWorkspace{
					{ID: testWorkspace, Name: "W", OrganizationID: "o", Owner: testEmail, Members: []server.BootstrapPermission{{Email: guest, Permission: permission}}},
				},
			}
		}
		f := startFixture(t, func(c *server.Config) { c.Database, c.Bootstrap = target, document("admin", "read") })
		apply := func(doc *server.Bootstrap) {
			t.Helper()
			if err := f.Apply(t.Context(), doc); err != nil {
				t.Fatal(err)
			}
		}
		// Beside the document: a workspace of the organization that the member owns, one
		// that the member has a permission on, and one of no organization.
		apply(&server.Bootstrap{Workspaces: []server.BootstrapWorkspace{
			{ID: "owned", OrganizationID: "o", Owner: member},
			{ID: "shared", OrganizationID: "o", Owner: owner, Members: []server.BootstrapPermission{{Email: member, Permission: "write"}}},
			{ID: foreign, Owner: owner, Members: []server.BootstrapPermission{{Email: member, Permission: "write"}}},
		}})
		sessions := map[string]string{}
		for _, email := range []string{member, guest} {
			session, err := f.MintSession(t.Context(), email)
			if err != nil {
				t.Fatal(err)
			}
			sessions[email] = cookie("session_token", session)
		}
		access := func() string {
			var seen []string
			for _, who := range []string{member, guest} {
				session := f.call(t, http.MethodGet, "/api/auth/get-session", "", "Cookie", sessions[who])
				seen = append(seen, who+":", fmt.Sprint(session.body != "null"))
				for _, id := range []string{testWorkspace, "owned", "shared", foreign} {
					list := f.call(t, http.MethodGet, "/api/workspaces/"+id+"/byok-keys", "", "Cookie", sessions[who])
					seen = append(seen, fmt.Sprint(list.StatusCode))
				}
			}
			return strings.Join(seen, " ")
		}
		check := func(what, want string) {
			t.Helper()
			if got := access(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		check("at first", member+": true 200 200 200 200 "+guest+": true 200 401 401 401")
		without := document("admin", "read")
		without.Organizations[0].Members, without.Workspaces[0].Members = nil, nil
		apply(without)
		check("of members that are not in the document", member+": true 200 200 200 200 "+guest+": true 200 401 401 401")
		apply(document("none", "none"))
		check("removed", member+": true 401 401 401 200 "+guest+": true 401 401 401 401")
		if got := f.count(t, `SELECT count(*) FROM workspace w JOIN "user" u ON u.id = w.owner_id WHERE w.id = 'owned' AND u.email = 'owner@example.com'`); got != 1 {
			t.Error("the workspace of the member who was removed is not the organization's owner's")
		}
		// Access that was given by other means since stays.
		apply(&server.Bootstrap{Workspaces: []server.BootstrapWorkspace{{ID: "shared", OrganizationID: "o", Owner: owner, Members: []server.BootstrapPermission{{Email: member, Permission: "read"}}}}})
		apply(document("none", "none"))
		check("removed again", member+": true 401 401 200 200 "+guest+": true 401 401 401 401")
		apply(document("member", "write"))
		check("back", member+": true 401 401 200 200 "+guest+": true 200 401 401 401")

		ownerGoes := document("member", "read")
		ownerGoes.Organizations[0].Members[0].Role = "none"
		if err := f.Apply(t.Context(), ownerGoes); err == nil || !strings.Contains(err.Error(), "organizations[0].members[0].role: owner@example.com owns the organization") {
			t.Errorf("the organization's owner is removed: %v", err)
		}
	})
}

// A document that removes a member who is no user starts a new database, too, with a
// warning: it is left as it is for good.
func TestBootstrapRemovesNobody(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		var log logBuffer
		doc := &server.Bootstrap{
			Users:         []server.BootstrapUser{{Email: testEmail, Password: testPassword}},
			Organizations: []server.BootstrapOrganization{{ID: "o", Members: []server.BootstrapMember{{Email: testEmail, Role: "owner"}, {Email: "gone@example.com", Role: "none"}}}},
			Workspaces: []server.BootstrapWorkspace{{
				ID: testWorkspace, Name: "W", OrganizationID: "o", Owner: testEmail, Members: []server.BootstrapPermission{{Email: "gone2@example.com", Permission: "none"}},
			}},
		}
		if err := doc.CheckComplete(); err != nil {
			t.Fatal(err)
		}
		startFixture(t, func(c *server.Config) {
			c.Database, c.Bootstrap, c.Logger = target, doc, slog.New(slog.NewTextHandler(&log, nil))
		})
		for _, want := range []string{"at=organizations[0].members[1] email=gone@example.com", "at=workspaces[0].members[0] email=gone2@example.com"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, log.String())
			}
		}
		doc.Workspaces[0].Members[0].Permission = "read"
		if err := doc.CheckComplete(); err == nil || !strings.Contains(err.Error(), "workspaces[0].members[0].email: there is no user gone2@example.com; add it to users") {
			t.Errorf("a member who is no user: %v", err)
		}
	})
}

// saltReader lets a test stop the making of a password hash at its salt.
type saltReader struct{ entered, leave chan struct{} }

func (r *saltReader) Read(into []byte) (int, error) {
	if len(into) == 16 && r.entered != nil {
		r.entered <- struct{}{}
		<-r.leave
	}
	return rand.Read(into)
}

// While a bootstrap document's passwords are hashed, others can write.
func TestBootstrapHashesOutsideOfTheTransaction(t *testing.T) {
	t.Parallel()
	random := &saltReader{}
	f := startFixture(t, func(c *server.Config) { c.Random = random })
	random.entered, random.leave = make(chan struct{}), make(chan struct{})
	applied := make(chan error, 1)
	go func() {
		applied <- f.Apply(t.Context(), &server.Bootstrap{Users: []server.BootstrapUser{{Email: testEmail, Password: "another password"}}})
	}()
	<-random.entered
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.Access().PutOrganization(ctx, "o", "O"); err != nil {
		t.Errorf("a write while a password is hashed: %v", err)
	}
	close(random.leave)
	if err := <-applied; err != nil {
		t.Error(err)
	}
}

// A start with passwords that an earlier start has stored or compared does not hash
// them; one of a password that was changed on either side does.
func TestRestartHashesNoPasswords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		users := []server.BootstrapUser{{Email: testEmail, Password: testPassword}, {Email: "b@example.com", Password: "password of b"}}
		start := func(cost int) *fixture {
			return startFixture(t, func(c *server.Config) {
				c.Database, c.PasswordCost, c.Bootstrap.Users = target, cost, users
			})
		}
		panics := func(f *fixture) (panicked bool) {
			defer func() { panicked = recover() != nil }()
			f.Access().HashPassword("any")
			return false
		}
		const anyCost, noHashing = 2, 3 // scrypt takes powers of two only
		start(anyCost)
		f := start(noHashing)
		if !panics(f) {
			t.Fatal("this server can hash passwords: the test cannot tell whether it has")
		}
		user, err := f.Access().FindUser(t.Context(), "b@example.com")
		if err != nil {
			t.Fatal(err)
		}
		rows := f.count(t, "SELECT count(*) FROM byok_server_known_passwords")
		f = start(anyCost)
		if _, err := f.Access().SetPassword(t.Context(), user.ID, f.Access().HashPassword("changed by user password")); err != nil {
			t.Fatal(err)
		}
		f = start(anyCost) // as before: the file decides
		if _, err := f.Access().CheckPassword(t.Context(), "b@example.com", "password of b"); err != nil {
			t.Errorf("the password of the file after another one was set: %v", err)
		}
		start(noHashing)
		users[1].Password = "changed in the file"
		f = start(anyCost)
		if _, err := f.Access().CheckPassword(t.Context(), "b@example.com", "changed in the file"); err != nil {
			t.Errorf("the password that was changed in the file: %v", err)
		}
		start(noHashing)
		// One that the server did not store, as the real server may have.
		if _, err := f.DB().Write.ExecContext(t.Context(), "DELETE FROM byok_server_known_passwords"); err != nil {
			t.Fatal(err)
		}
		start(anyCost)
		f = start(noHashing)
		if got := f.count(t, "SELECT count(*) FROM byok_server_known_passwords"); got != rows || rows != 2 {
			t.Errorf("%d passwords are known, then %d, want 2", rows, got)
		}
		// What one user's password is says nothing about the other's.
		a := f.Access()
		if _, err := f.DB().Write.ExecContext(t.Context(), "UPDATE byok_server_known_passwords SET mark = (SELECT mark FROM byok_server_known_passwords WHERE user_id = $1)", user.ID); err != nil {
			t.Fatal(err)
		}
		for _, email := range []string{testEmail, "b@example.com"} {
			stored, err := a.StoredPassword(t.Context(), email)
			if err != nil {
				t.Fatal(err)
			}
			for _, password := range []string{testPassword, "changed in the file", ""} {
				if got, want := a.IsRemembered(password, stored), email == "b@example.com" && password == "changed in the file"; got != want {
					t.Errorf("%s, %q: remembered %t, want %t", email, password, got, want)
				}
			}
		}
	})
}

// Whoever changes a password or disables a user while that user signs in ends
// up with no session of the old password.
func TestSignInWhileAccessIsTaken(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		f := startFixture(t, func(c *server.Config) { c.Database = target })
		a := f.Access()
		start := func(user access.User) error {
			_, err := a.StartSession(t.Context(), user, time.Hour, "", "")
			return err
		}
		check := func(password string) access.User {
			t.Helper()
			user, err := a.CheckPassword(t.Context(), testEmail, password)
			if err != nil {
				t.Fatal(err)
			}
			return user
		}
		user := check(testPassword)
		if _, err := a.SetPassword(t.Context(), user.ID, a.HashPassword("another password")); err != nil {
			t.Fatal(err)
		}
		if err := start(user); !errors.Is(err, access.ErrBadCredentials) {
			t.Errorf("a session on a password that was just changed: %v", err)
		}
		user = check("another password")
		if _, err := a.Disable(t.Context(), user.ID); err != nil {
			t.Fatal(err)
		}
		if err := start(user); !errors.Is(err, access.ErrBanned) {
			t.Errorf("a session of a user who was just disabled: %v", err)
		}
		if _, err := f.MintSession(t.Context(), testEmail); err == nil || !strings.Contains(err.Error(), "is disabled") {
			t.Errorf("a minted session of a disabled user: %v", err)
		}
		if err := a.Enable(t.Context(), user.ID); err != nil {
			t.Fatal(err)
		}

		// At once: sign-ins that never stop, and a password that changes.
		for round := range 10 {
			old, next := "another password", fmt.Sprintf("password %d", round)
			if round > 0 {
				old = fmt.Sprintf("password %d", round-1)
			}
			user := check(old)
			stop := make(chan struct{})
			var signingIn sync.WaitGroup
			for range 3 {
				signingIn.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							if err := start(user); err != nil && !errors.Is(err, access.ErrBadCredentials) {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			if _, err := a.SetPassword(t.Context(), user.ID, a.HashPassword(next)); err != nil {
				t.Error(err)
			}
			close(stop)
			signingIn.Wait()
			if n := f.count(t, "SELECT count(*) FROM session"); n != 0 {
				t.Fatalf("round %d: %d sessions of the old password are left", round, n)
			}
		}
	})
}

// A session_data cookie stands for a lookup, as in the real server, until an
// operator ends the session.
func TestRevocationReachesCachedSessions(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	in := f.signIn(t, signInBody)
	both := cookie("session_token", in.cookies["session_token"], "session_data", in.cookies["session_data"])
	user, err := f.Access().FindUser(t.Context(), testEmail)
	if err != nil {
		t.Fatal(err)
	}
	list := func(cookies string) int { return f.call(t, http.MethodGet, testKeys, "", "Cookie", cookies).StatusCode }
	if _, err := f.DB().Write.ExecContext(t.Context(), "DELETE FROM session"); err != nil {
		t.Fatal(err)
	}
	if got := list(both); got != http.StatusOK {
		t.Errorf("a session that is gone, with session_data: %d", got)
	}
	if _, err := f.Access().EndSessions(t.Context(), user.ID); err != nil {
		t.Fatal(err)
	}
	if got := list(both); got != http.StatusUnauthorized {
		t.Errorf("a session that an operator ended, with session_data: %d", got)
	}
	// The user signs in again and is not refused for the revocation.
	in = f.signIn(t, signInBody)
	if got := list(cookie("session_token", in.cookies["session_token"], "session_data", in.cookies["session_data"])); got != http.StatusOK {
		t.Errorf("a session from after the revocation: %d", got)
	}
}

// Every refusal leaves a line in the audit log that says who was refused what,
// and why.
func TestAuditOfRefusals(t *testing.T) {
	t.Parallel()
	var log logBuffer
	f := startFixture(t, func(c *server.Config) {
		c.Audit, c.DisableSignUp = slog.New(slog.NewJSONHandler(&log, nil)), true
		c.Bootstrap.Users = append(c.Bootstrap.Users, server.BootstrapUser{Email: "b@example.com", Password: testPassword})
	})
	owner, err := f.Access().FindUser(t.Context(), testEmail)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := f.Access().FindUser(t.Context(), "b@example.com")
	if err != nil {
		t.Fatal(err)
	}
	value, err := f.MintSession(t.Context(), "b@example.com")
	if err != nil {
		t.Fatal(err)
	}
	const workspaceRoute, signInRoute = "/api/workspaces/{id}/byok-keys", "/api/auth/sign-in/email"
	var want []auditLine
	refuse := func(method, path, body string, line auditLine, headers ...string) {
		t.Helper()
		a := f.call(t, method, path, body, append(headers, "Content-Type", "application/json", "X-Forwarded-For", "192.0.2.7")...)
		line.Action, line.Method, line.Status, line.Address = "refused", method, a.StatusCode, "192.0.2.7"
		want = append(want, line)
	}
	refuse(http.MethodPost, signInPath, `{"email":"`+testEmail+`","password":"wrong"}`, auditLine{Route: signInRoute, Reason: "wrong password", User: owner.ID})
	refuse(http.MethodPost, signInPath, `{"email":"nobody@example.com","password":"wrong"}`, auditLine{Route: signInRoute, Reason: "unknown user"})
	refuse(http.MethodPost, signInPath, signInBody, auditLine{Route: signInRoute, Reason: "Invalid origin"}, "Origin", "https://evil.example.com")
	refuse(http.MethodGet, testKeys, "", auditLine{Route: workspaceRoute, Reason: "Unauthorized", Owner: testWorkspace})
	refuse(http.MethodGet, testKeys, "", auditLine{Route: workspaceRoute, Reason: "Unauthorized", Owner: testWorkspace, Actor: stranger.ID}, "Cookie", cookie("session_token", value))
	refuse(http.MethodPost, testKeys, `{}`, auditLine{Route: workspaceRoute, Reason: "Only workspace admins can manage BYOK keys", Owner: testWorkspace, Actor: stranger.ID}, "Cookie", cookie("session_token", value))
	refuse(http.MethodPost, "/reference/resolve", `{}`, auditLine{Route: "/reference/resolve", Reason: "Unauthorized"}, "Authorization", "Bearer wrong")
	refuse(http.MethodPost, signUpPath, signUpBody("c@example.com", "C"), auditLine{Route: signUpPath, Reason: "sign-up is closed"})
	if _, err := f.Access().Disable(t.Context(), owner.ID); err != nil {
		t.Fatal(err)
	}
	refuse(http.MethodPost, signInPath, signInBody, auditLine{Route: signInRoute, User: owner.ID,
		Reason: "You have been banned from this application. Please contact support if you believe this is an error."})
	if diff := cmp.Diff(want, readAudit(t, &log)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
	for what, secret := range map[string]string{"password": testPassword, "address": "@example.com", "session": value} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the audit log holds the %s", what)
		}
	}
}

// A key that comes from an organization's pool is logged with the workspace that
// got it.
func TestAuditOfInheritedKeys(t *testing.T) {
	t.Parallel()
	var log logBuffer
	f := startFixture(t, func(c *server.Config) {
		c.Hosted, c.Audit = true, slog.New(slog.NewJSONHandler(&log, nil))
		c.Bootstrap.Organizations = []server.BootstrapOrganization{{ID: "acme", Members: []server.BootstrapMember{{Email: testEmail, Role: "owner"}}}}
		c.Bootstrap.Workspaces[0].OrganizationID = "acme"
	})
	session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
	if a := f.call(t, http.MethodPost, "/api/organizations/acme/byok-keys", `{"providerId":"openai","apiKey":"sk-of-acme"}`, "Cookie", session); a.StatusCode != http.StatusOK {
		t.Fatalf("add: %d %s", a.StatusCode, a.body)
	}
	f.resolve(t)
	lines := readAudit(t, &log)
	last := lines[len(lines)-1]
	if len(last.KeyIDs) != 1 || last.Action != "serve" || last.Scope != "organization" || last.Owner != "acme" || last.Workspace != testWorkspace || last.ProviderID != "openai" {
		t.Errorf("audit: %+v", last)
	}
}
