//go:build unix

package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// adoptedURL is the URL of a database with Sim's tables, which byok-server may
// work on.
func adoptedURL(t *testing.T) string {
	t.Helper()
	target := pgtest.SimURL(t)
	adopt(t, target)
	return target
}

func adopt(t *testing.T, target string) {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What Sim stored: a user with a password as better-auth hashes it, a session,
// whose cookie it signed with the secret "secret", and two keys. Hash, signature
// and keys were made by other implementations.
const (
	simPassword = "Passw0rd!Passw0rd"
	simCookie   = "SimSession0000000000000000000001.ryxe3RIrEcKCoQ7MgRC678WCiFIrD4Xh/S6D6tW+t68="
	simRows     = `
INSERT INTO "user" (id, name, email, email_verified, created_at, updated_at, banned, normalized_email)
	VALUES ('SimUser0000000000000000000000001', 'Ada', 'ada@example.com', true, now(), now(), NULL, 'ada@example.com');
INSERT INTO account (id, account_id, provider_id, user_id, password, created_at, updated_at)
	VALUES ('a1', 'SimUser0000000000000000000000001', 'credential', 'SimUser0000000000000000000000001',
		'00112233445566778899aabbccddeeff:6ae0e076d40ad15132e424a4aec6c5d9c0bdc3d6c3a86c85f4aa0fd8b34fcf9a0e424e26fa8aaf14070e16cd6b826323f16d026d23d7088cf2fd4e504ee17a28', now(), now());
INSERT INTO session (id, expires_at, token, created_at, updated_at, user_id)
	VALUES ('s1', now() + interval '30 days', 'SimSession0000000000000000000001', now(), now(), 'SimUser0000000000000000000000001'),
		('s2', now() - interval '1 day', 'SimSession0000000000000000000002', now() - interval '31 days', now(), 'SimUser0000000000000000000000001');
INSERT INTO organization (id, name, slug) VALUES ('org', 'Org', 'org');
INSERT INTO member (id, user_id, organization_id, role) VALUES ('m1', 'SimUser0000000000000000000000001', 'org', 'owner');
INSERT INTO workspace (id, name, owner_id, billed_account_user_id)
	VALUES ('` + testWorkspace + `', 'W', 'SimUser0000000000000000000000001', 'SimUser0000000000000000000000001');
INSERT INTO workspace_byok_keys (id, workspace_id, provider_id, encrypted_api_key, created_by, name)
	VALUES ('k1', '` + testWorkspace + `', 'anthropic', '768cdc88a17fcac50a40c3c4cdcc02cf:fa532ce14c1e34cef4d35457e916112a322d:503b151c4e455659e2d948e774bd9352',
		'SimUser0000000000000000000000001', 'by Sim');
INSERT INTO organization_byok_keys (id, organization_id, provider_id, encrypted_api_key)
	VALUES ('k2', 'org', 'openai', '768cdc88a17fcac50a40c3c4cdcc02cf:fa532ce14c1e34cef4d35457e916112a322d:503b151c4e455659e2d948e774bd9352');
`
)

// simDatabase is a database with Sim's tables and rows.
func simDatabase(t *testing.T) (target string, conn *pgxpool.Pool) {
	t.Helper()
	target = pgtest.SimURL(t)
	conn, err := pgxpool.New(t.Context(), target+"&pool_max_conns=20")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Exec(t.Context(), simRows); err != nil {
		t.Fatal(err)
	}
	return target, conn
}

// onSim configures a server for simDatabase.
func onSim(target string) func(*server.Config) {
	return func(c *server.Config) {
		c.Database, c.Now, c.Bootstrap, c.PasswordCost = target, nil, nil, 0
		c.Secrets.EncryptionKey = encryptionKey
	}
}

// One server after the other works on what Sim stored, and leaves Sim's tables
// as they are.
func TestAdoptedDatabase(t *testing.T) {
	t.Parallel()
	target, conn := simDatabase(t)
	if s, err := server.Start(t.Context(), func() (c server.Config) {
		onSim(target)(&c)
		c.Secrets.AuthSecret, c.Secrets.InternalSecret = "secret", "internal"
		return c
	}()); !errors.Is(err, database.ErrNotAdopted) {
		if err == nil {
			_ = s.Shutdown(t.Context())
		}
		t.Fatalf("start before adopt: %v", err)
	}
	before := pgtest.SimDefinitions(t, target)
	adopt(t, target)
	f := startFixture(t, onSim(target))

	session := cookie("session_token", url.QueryEscape(simCookie))
	list := f.call(t, http.MethodGet, testKeys, "", "Cookie", session)
	if list.StatusCode != http.StatusOK || !strings.Contains(list.body, `"maskedKey":"sk-tes...0001"`) || !strings.Contains(list.body, `"name":"by Sim"`) {
		t.Errorf("list with Sim's session: %d %s", list.StatusCode, list.body)
	}
	organization := f.call(t, http.MethodGet, "/api/organizations/org/byok-keys", "", "Cookie", session)
	if organization.StatusCode != http.StatusOK || !strings.Contains(organization.body, `"maskedKey":"sk-tes...0001"`) {
		t.Errorf("list of the organization: %d %s", organization.StatusCode, organization.body)
	}
	in := f.signIn(t, `{"email":"Ada@example.com","password":"`+simPassword+`"}`)
	own := cookie("session_token", in.cookies["session_token"])
	if a := f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-by-byok-server"}`, "Cookie", own); a.StatusCode != http.StatusOK {
		t.Errorf("add: %d %s", a.StatusCode, a.body)
	}
	if a := f.call(t, http.MethodPost, testKeys, `{"providerId":"anthropic","keyId":"k1","apiKey":"sk-replaced-by-byok-server"}`, "Cookie", own); a.StatusCode != http.StatusOK {
		t.Errorf("replace: %d %s", a.StatusCode, a.body)
	}
	if a := f.call(t, http.MethodGet, "/api/workspaces?scope=all", "", "Cookie", own); a.StatusCode != http.StatusOK || !strings.Contains(a.body, testWorkspace) {
		t.Errorf("workspaces: %d %s", a.StatusCode, a.body)
	}
	// What byok-server stored is in Sim's table, as Sim reads it.
	var sealed, createdBy string
	if err := conn.QueryRow(t.Context(), "SELECT encrypted_api_key, created_by FROM public.workspace_byok_keys WHERE provider_id = 'openai'").Scan(&sealed, &createdBy); err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.New(encryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := sealer.Open(sealed); err != nil || text != "sk-by-byok-server" || createdBy != "SimUser0000000000000000000000001" {
		t.Errorf("Sim finds %q by %s, %v", text, createdBy, err)
	}
	// Cleaning up behind Sim is Sim's.
	var expired int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM public.session WHERE id = 's2'").Scan(&expired); err != nil || expired != 1 {
		t.Errorf("Sim's expired session is gone: %v", err)
	}
	// A rekey would leave everything else that Sim encrypts with the old key.
	vault := encryption.New(f.DB(), sealer, nil)
	if _, err := vault.Rekey(t.Context(), encryption.RekeyOptions{Offline: true}); !errors.Is(err, encryption.ErrShared) {
		t.Errorf("rekey: %v", err)
	}
	f.revoke(t, "ada@example.com", session)
	if diff := cmp.Diff(before, pgtest.SimDefinitions(t, target)); diff != "" {
		t.Errorf("Sim's tables changed (-before +after):\n%s", diff)
	}
}

// revoke ends all sessions of a user; session is the cookie of one.
func (f *fixture) revoke(t *testing.T, email, session string) {
	t.Helper()
	user, err := f.Access().FindUser(t.Context(), email)
	if err != nil {
		t.Fatal(err)
	}
	if ended, err := f.Access().EndSessions(t.Context(), user.ID); err != nil || ended == 0 {
		t.Errorf("end sessions: %d, %v", ended, err)
	}
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", session); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("list after the end of the session: %d", a.StatusCode)
	}
}

// A server with another ENCRYPTION_KEY than Sim's does not start.
func TestAdoptedDatabaseRefusesWrongKey(t *testing.T) {
	t.Parallel()
	target, _ := simDatabase(t)
	adopt(t, target)
	cfg := server.Config{Secrets: server.Secrets{AuthSecret: "secret", InternalSecret: "internal"}}
	onSim(target)(&cfg)
	cfg.Secrets.EncryptionKey = strings.Repeat("ab", 32)
	s, err := server.Start(t.Context(), cfg)
	if err == nil {
		_ = s.Shutdown(t.Context())
	}
	if !errors.Is(err, encryption.ErrWrongKey) {
		t.Errorf("start with another key: %v", err)
	}
}

// Users and workspaces of a bootstrap document fit into Sim's tables, and
// applying it again changes nothing.
func TestBootstrapOnAdoptedDatabase(t *testing.T) {
	t.Parallel()
	f := startFixture(t, func(c *server.Config) {
		c.Database = adoptedURL(t)
		c.Bootstrap.Organizations = []server.BootstrapOrganization{{ID: "o", Name: "O", Members: []server.BootstrapMember{{Email: testEmail, Role: "admin"}}}}
		c.Bootstrap.Workspaces[0].OrganizationID = "o"
		c.Bootstrap.Workspaces[0].Members = []server.BootstrapPermission{{Email: testEmail, Permission: "write"}}
	})
	f.signIn(t, signInBody)
	again := &server.Bootstrap{
		Users:         []server.BootstrapUser{{Email: testEmail, Password: "another password", Name: "B"}},
		Organizations: []server.BootstrapOrganization{{ID: "o", Name: "O2", Members: []server.BootstrapMember{{Email: testEmail, Role: "owner"}}}},
		Workspaces:    []server.BootstrapWorkspace{{ID: testWorkspace, Name: "W2", Owner: testEmail, Members: []server.BootstrapPermission{{Email: testEmail, Permission: "read"}}}},
	}
	if err := f.Apply(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	f.signIn(t, `{"email":"`+testEmail+`","password":"another password"}`)
	var accounts, members, permissions int
	err := f.DB().Read.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM member WHERE role = 'owner'), (SELECT count(*) FROM permissions WHERE permission_type = 'read')").
		Scan(&accounts, &members, &permissions)
	if err != nil || accounts != 1 || members != 1 || permissions != 1 {
		t.Errorf("%d accounts, %d owners, %d permissions, %v; want one of each", accounts, members, permissions, err)
	}
	second := &server.Bootstrap{Organizations: []server.BootstrapOrganization{{ID: "p", Name: "P", Members: []server.BootstrapMember{{Email: testEmail, Role: "member"}}}}}
	if err := f.Apply(t.Context(), second); err == nil || !strings.Contains(err.Error(), "member of another organization") {
		t.Errorf("a second organization: %v", err)
	}
}

// simAdd adds a key as Sim does: under the advisory lock of the pool it counts,
// then stores.
func simAdd(ctx context.Context, conn *pgxpool.Pool, sealed, id string) (added bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "byok:"+testWorkspace+":openai"); err != nil {
			return err
		}
		var keys int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM workspace_byok_keys WHERE workspace_id = $1 AND provider_id = 'openai'", testWorkspace).Scan(&keys); err != nil {
			return err
		}
		if added = keys < byok.Cap; !added {
			return nil
		}
		_, err := tx.Exec(ctx, "INSERT INTO workspace_byok_keys (id, workspace_id, provider_id, encrypted_api_key, created_by) VALUES ($1, $2, 'openai', $3, 'SimUser0000000000000000000000001')",
			id, testWorkspace, sealed)
		return err
	})
	return added, err
}

// Sim and two byok-servers fill pools on one database at once, 60 adds from each
// side: each time exactly ten succeed.
func TestCapHoldsBesideSim(t *testing.T) {
	t.Parallel()
	target, conn := simDatabase(t)
	adopt(t, target)
	servers := []*fixture{startFixture(t, onSim(target)), startFixture(t, onSim(target))}
	session := cookie("session_token", url.QueryEscape(simCookie))
	sealer, err := seal.New(encryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	bySim, byUs := 0, 0
	for round := range 5 {
		var sim, ours atomic.Int64
		var adding sync.WaitGroup
		start := make(chan struct{})
		for i := range 60 {
			adding.Go(func() {
				<-start
				added, err := simAdd(t.Context(), conn, sealer.Seal("sk-sim"), fmt.Sprintf("sim-%d-%d", round, i))
				if err != nil {
					t.Errorf("add by Sim: %v", err)
				}
				if added {
					sim.Add(1)
				}
			})
			adding.Go(func() {
				<-start
				switch a := servers[i%2].call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-ours"}`, "Cookie", session); {
				case a.StatusCode == http.StatusOK:
					ours.Add(1)
				case a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "at most 10 keys"):
					t.Errorf("add by byok-server: %d %s", a.StatusCode, a.body)
				}
			})
		}
		close(start)
		adding.Wait()
		var stored int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM workspace_byok_keys WHERE provider_id = 'openai'").Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if stored != byok.Cap || sim.Load()+ours.Load() != byok.Cap {
			t.Fatalf("round %d: %d keys stored, %d added by Sim and %d by byok-server; want %d in all", round, stored, sim.Load(), ours.Load(), byok.Cap)
		}
		bySim, byUs = bySim+int(sim.Load()), byUs+int(ours.Load())
		if a := servers[round%2].call(t, http.MethodDelete, testKeys, `{"providerId":"openai"}`, "Cookie", session); a.StatusCode != http.StatusOK {
			t.Fatalf("delete: %d %s", a.StatusCode, a.body)
		}
	}
	t.Logf("%d keys by Sim, %d by byok-server", bySim, byUs)
}

// search_path in the URL gives byok-server a schema of its own beside Sim's
// tables, with users and keys of its own.
func TestSchemaBesideSim(t *testing.T) {
	t.Parallel()
	target, conn := simDatabase(t)
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA byok"); err != nil {
		t.Fatal(err)
	}
	before := pgtest.SimDefinitions(t, target)
	f := startFixture(t, func(c *server.Config) { c.Database = target + "&search_path=byok" })
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", cookie("session_token", url.QueryEscape(simCookie))); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("Sim's session counts in another schema: %d", a.StatusCode)
	}
	session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
	if a := f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-own"}`, "Cookie", session); a.StatusCode != http.StatusOK {
		t.Errorf("add: %d %s", a.StatusCode, a.body)
	}
	var inByok, inSim int
	if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM byok.workspace_byok_keys), (SELECT count(*) FROM public.workspace_byok_keys)").Scan(&inByok, &inSim); err != nil || inByok != 1 || inSim != 1 {
		t.Errorf("%d keys in the schema byok and %d in Sim's, %v; want one each", inByok, inSim, err)
	}
	after := pgtest.SimDefinitions(t, target)
	if !slices.Equal(before, after) {
		t.Errorf("Sim's tables changed (-before +after):\n%s", cmp.Diff(before, after))
	}
}
