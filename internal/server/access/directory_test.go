package access_test

import (
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// What the settings page asks: superusers, names, and which workspaces a user
// can see.
func TestDirectory(t *testing.T) {
	t.Parallel()
	pgtest.EachDatabase(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		a, err := access.New(ctx, access.Config{DB: db, Secret: "secret", Now: time.Now, Random: rand.Reader, PasswordCost: 2})
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"owner", "member", "chief", "colleague", "stranger"} {
			n := access.NewUser{ID: id, Email: id + "@example.com", Name: "The " + id}
			if id == "stranger" {
				n.Name = ""
			}
			_, err := a.AddUser(ctx, n)
			must(err)
		}
		must(a.PutOrganization(ctx, "acme", "Acme"))
		must(a.PutMember(ctx, "acme", "chief", access.RoleAdmin))
		must(a.PutMember(ctx, "acme", "colleague", access.Member))
		must(a.PutWorkspace(ctx, access.Workspace{ID: "w1", Name: "Zeta", OwnerID: "owner", OrganizationID: "acme"}))
		must(a.PutWorkspace(ctx, access.Workspace{ID: "w2", Name: "Alpha", OwnerID: "owner"}))
		must(a.PutWorkspace(ctx, access.Workspace{ID: "w3", Name: "Archived", OwnerID: "owner"}))
		must(a.PutPermission(ctx, "w1", "member", access.Read))
		if _, err := db.Write.ExecContext(ctx, "UPDATE workspace SET archived_at = created_at WHERE id = 'w3'"); err != nil {
			t.Fatal(err)
		}

		zeta := access.Workspace{ID: "w1", Name: "Zeta", OwnerID: "owner", OrganizationID: "acme"}
		alpha := access.Workspace{ID: "w2", Name: "Alpha", OwnerID: "owner"}
		for user, want := range map[string][]access.Workspace{
			"owner": {alpha, zeta}, "member": {zeta}, "chief": {zeta}, "colleague": nil, "stranger": nil, "unknown": nil,
		} {
			got, err := a.VisibleWorkspaces(ctx, user)
			must(err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", user, diff)
			}
			// The list and the permission agree.
			for _, w := range []string{"w1", "w2"} {
				permission, err := a.WorkspacePermission(ctx, user, w)
				must(err)
				listed := false
				for _, g := range got {
					listed = listed || g.ID == w
				}
				if listed != (permission != access.None) {
					t.Errorf("%s has permission %q on %s, listed: %t", user, permission, w, listed)
				}
			}
		}
		if got, err := a.FindWorkspace(ctx, "w1"); err != nil || got != zeta {
			t.Errorf("w1 is %+v, %v", got, err)
		}
		for _, id := range []string{"w3", "unknown", "w\x001"} {
			if _, err := a.FindWorkspace(ctx, id); !errors.Is(err, access.ErrNotFound) {
				t.Errorf("workspace %q: %v", id, err)
			}
		}
		if name, err := a.OrganizationName(ctx, "acme"); err != nil || name != "Acme" {
			t.Errorf("acme is %q, %v", name, err)
		}
		if _, err := a.OrganizationName(ctx, "unknown"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("an unknown organization: %v", err)
		}
		names, err := a.UserNames(ctx, []string{"owner", "stranger", "unknown"})
		must(err)
		if diff := cmp.Diff(map[string]string{"owner": "The owner", "stranger": "stranger@example.com"}, names); diff != "" {
			t.Error(diff)
		}
		if names, err := a.UserNames(ctx, nil); err != nil || len(names) != 0 {
			t.Errorf("nobody is %v, %v", names, err)
		}

		is := func(user string, want bool) {
			t.Helper()
			if got, err := a.IsSuperuser(ctx, user); err != nil || got != want {
				t.Errorf("%s is superuser: %t, %v", user, got, err)
			}
		}
		is("owner", false)
		is("unknown", false)
		must(a.SetSuperuser(ctx, "owner", true))
		is("owner", true)
		is("member", false)
		must(a.SetSuperuser(ctx, "owner", false))
		is("owner", false)
	})
}
