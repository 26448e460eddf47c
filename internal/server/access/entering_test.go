package access_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// A request that asks for session and permission together is told what one is
// told that asks for each by itself, and the permission of that moment once only.
func TestEntering(t *testing.T) {
	t.Parallel()
	pgtest.EachDatabase(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		a, err := access.New(ctx, access.Config{DB: db, Secret: "secret", Now: time.Now, Random: rand.Reader, PasswordCost: 2})
		must(err)
		must(a.PutOrganization(ctx, "acme", "Acme"))
		tokens := map[string]string{}
		for _, id := range []string{"owner", "chief", "colleague", "reader", "stranger"} {
			user, err := a.AddUser(ctx, access.NewUser{ID: id, Email: id + "@example.com", Name: id})
			must(err)
			in, err := a.StartSession(ctx, user, time.Hour, "127.0.0.1", "test")
			must(err)
			tokens[id] = in.Session.Token
		}
		must(a.PutMember(ctx, "acme", "chief", access.RoleAdmin))
		must(a.PutMember(ctx, "acme", "colleague", access.Member))
		for _, id := range []string{"w", "old"} {
			must(a.PutWorkspace(ctx, access.Workspace{ID: id, Name: id, OwnerID: "owner", OrganizationID: "acme"}))
		}
		_, err = db.Write.ExecContext(ctx, "UPDATE workspace SET archived_at = created_at WHERE id = 'old'")
		must(err)
		must(a.PutPermission(ctx, "w", "reader", access.Read))

		for user, token := range tokens {
			for _, workspaceID := range []string{"w", "old", "nowhere", "\x00"} {
				alone, err := a.FindSession(ctx, token)
				must(err)
				want, wantErr := a.WorkspacePermission(ctx, user, workspaceID)
				entering := access.Entering(ctx, workspaceID)
				together, err := a.FindSession(entering, token)
				must(err)
				if together.User.ID != user || together.User.Email != alone.User.Email || !together.Session.ExpiresAt.Equal(alone.Session.ExpiresAt.Time) {
					t.Errorf("%s: session %+v, want %+v", user, together, alone)
				}
				if got, err := a.WorkspacePermission(entering, user, workspaceID); got != want || !errors.Is(err, wantErr) {
					t.Errorf("%s in %q: %q, %v; want %q, %v", user, workspaceID, got, err, want, wantErr)
				}
			}
		}

		entering := access.Entering(ctx, "w")
		if _, err := a.FindSession(entering, "no such token"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("no session: %v", err)
		}
		if got, err := a.WorkspacePermission(entering, "stranger", "w"); got != access.None || err != nil {
			t.Errorf("without a session: %q, %v", got, err)
		}
		_, err = a.FindSession(entering, tokens["owner"])
		must(err)
		if got, err := a.WorkspacePermission(entering, "stranger", "w"); got != access.None || err != nil {
			t.Errorf("another user than the session's: %q, %v", got, err)
		}
		if got, err := a.WorkspacePermission(entering, "owner", "old"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("another workspace: %q, %v", got, err)
		}
		entering = access.Entering(ctx, "w")
		_, err = a.FindSession(entering, tokens["reader"])
		must(err)
		for _, want := range []access.Permission{access.Read, access.Write} {
			if got, err := a.WorkspacePermission(entering, "reader", "w"); got != want || err != nil {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
			must(a.PutPermission(ctx, "w", "reader", access.Write))
		}
		_, err = db.Write.ExecContext(ctx, "DELETE FROM session")
		must(err)
		if _, err := a.FindSession(access.Entering(ctx, "w"), tokens["owner"]); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("a session that has ended: %v", err)
		}
	})
}
