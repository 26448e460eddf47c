//go:build unix

package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

var oldKey, newKey = strings.Repeat("ab", 32), strings.Repeat("cd", 32)

// onBoth runs a test on a SQLite file and on a PostgreSQL database.
func onBoth(t *testing.T, test func(t *testing.T, target string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "keys.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.URL(t))
	})
}

func withKeys(target, encryptionKey, decryptionKeys string) func(*server.Config) {
	return func(c *server.Config) {
		c.Database, c.Secrets.EncryptionKey, c.Secrets.DecryptionKeys = target, encryptionKey, decryptionKeys
	}
}

// startError starts a server that must not start.
func startError(t *testing.T, target, encryptionKey string) error {
	t.Helper()
	s, err := server.Start(t.Context(), server.Config{
		Database: target, PasswordCost: 2,
		Secrets: server.Secrets{EncryptionKey: encryptionKey, AuthSecret: "secret", InternalSecret: "internal"},
		Bootstrap: &server.Bootstrap{
			Users: []server.BootstrapUser{{Email: "wrong@example.com", Password: "must not be stored"}},
		},
	})
	if err == nil {
		t.Error("a server with the wrong key started")
		_ = s.Shutdown(t.Context())
	}
	return err
}

func (f *fixture) addKey(t *testing.T, apiKey string) {
	t.Helper()
	session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
	if a := f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"`+apiKey+`"}`, "Cookie", session); a.StatusCode != http.StatusOK {
		t.Fatalf("add: %d %s", a.StatusCode, a.body)
	}
}

func (f *fixture) resolve(t *testing.T) string {
	t.Helper()
	return f.call(t, http.MethodPost, "/reference/resolve", `{"workspaceId":"`+testWorkspace+`","providerId":"openai"}`, "Authorization", "Bearer internal").body
}

// keyOf returns the ID of the only key of a provider ID.
func (f *fixture) keyOf(t *testing.T, providerID string) (id string) {
	t.Helper()
	if err := f.DB().Read.QueryRowContext(t.Context(), "SELECT id FROM workspace_byok_keys WHERE provider_id = $1", providerID).Scan(&id); err != nil {
		t.Error(err)
	}
	return id
}

func (f *fixture) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := f.DB().Read.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// A server does not start with another ENCRYPTION_KEY than the database's,
// whether another server runs on it or not, and changes nothing.
func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		f := startFixture(t, withKeys(target, oldKey, ""))
		// Before any key is stored: nothing but the canary can tell.
		if err := startError(t, target, newKey); !errors.Is(err, encryption.ErrWrongKey) {
			t.Errorf("another key on a new database: %v", err)
		}
		f.addKey(t, "sk-first")
		if err := startError(t, target, newKey); !errors.Is(err, encryption.ErrWrongKey) {
			t.Errorf("another key beside a running server: %v", err)
		}
		if got := f.resolve(t); !strings.Contains(got, "sk-first") {
			t.Errorf("the running server serves %s", got)
		}
		if err := f.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := startError(t, target, newKey)
		if !errors.Is(err, encryption.ErrWrongKey) || strings.Contains(err.Error(), newKey) {
			t.Errorf("another key after a stop: %v", err)
		}
		again := startFixture(t, withKeys(target, oldKey, ""))
		if n := again.count(t, `SELECT count(*) FROM "user" WHERE email = 'wrong@example.com'`); n != 0 {
			t.Error("the bootstrap document of a refused server was applied")
		}
		if n := again.count(t, "SELECT count(*) FROM byok_server_canary"); n != 1 {
			t.Errorf("%d canaries, want 1", n)
		}
		if got := again.resolve(t); !strings.Contains(got, "sk-first") {
			t.Errorf("after all that: %s", got)
		}
	})
}

// Of servers with different keys that start at once on an empty database, all
// with one key start and no other.
func TestServersThatStartAtOnceAgreeOnTheKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		var started [2]atomic.Int64
		var servers [6]*server.Server
		var wg sync.WaitGroup
		for i := range servers {
			wg.Go(func() {
				s, err := server.Start(t.Context(), server.Config{Database: target, PasswordCost: 2, Secrets: server.Secrets{
					EncryptionKey: []string{oldKey, newKey}[i%2], AuthSecret: "secret", InternalSecret: "internal",
				}})
				switch {
				case err == nil:
					servers[i] = s
					started[i%2].Add(1)
				case !errors.Is(err, encryption.ErrWrongKey):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, s := range servers {
			if s != nil {
				_ = s.Shutdown(context.WithoutCancel(t.Context()))
			}
		}
		if a, b := started[0].Load(), started[1].Load(); a*b != 0 || a+b != 3 {
			t.Errorf("%d servers started with one key and %d with the other, want 3 and 0", a, b)
		}
	})
}

// A database from before canaries is judged by the keys that it holds.
func TestDatabaseWithoutCanary(t *testing.T) {
	t.Parallel()
	sealed := func(key string) string {
		s, err := seal.New(key)
		if err != nil {
			t.Fatal(err)
		}
		return s.Seal("sk-stored")
	}
	for _, tt := range []struct {
		name   string
		stored []string
		want   error
	}{
		{"no keys", nil, nil},
		{"keys of this server", []string{sealed(newKey)}, nil},
		{"keys of another", []string{sealed(oldKey)}, encryption.ErrWrongKey},
		{"one stored with a wrong key", []string{sealed(newKey), sealed(newKey), sealed(oldKey)}, nil},
		{"this server stored one with a wrong key", []string{sealed(oldKey), sealed(oldKey), sealed(newKey)}, encryption.ErrWrongKey},
		{"values that were never sealed", []string{"garbage", "garbage", sealed(newKey)}, nil},
	} {
		for _, table := range []string{"workspace", "organization"} {
			t.Run(tt.name+" in "+table, func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, target string) {
					db, err := database.Open(t.Context(), target)
					if err != nil {
						t.Fatal(err)
					}
					defer db.Close()
					if _, err := db.MigrateTo(t.Context(), 4); err != nil {
						t.Fatal(err)
					}
					for i, value := range tt.stored {
						_, err := db.Write.ExecContext(t.Context(), `INSERT INTO `+table+`_byok_keys (id, `+table+`_id, provider_id, encrypted_api_key, created_at, updated_at)
							VALUES ($1, 'o', 'openai', $2, '2026-01-02 03:04:05.000000', '2026-01-02 03:04:05.000000')`, string(rune('a'+i)), value)
						if err != nil {
							t.Fatal(err)
						}
					}
					s, err := server.Start(t.Context(), server.Config{Database: target, Secrets: server.Secrets{EncryptionKey: newKey, AuthSecret: "secret", InternalSecret: "internal"}})
					if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
						t.Fatalf("start: %v, want %v", err, tt.want)
					}
					if err == nil {
						if err := s.Shutdown(t.Context()); err != nil {
							t.Error(err)
						}
						if err := startError(t, target, oldKey); !errors.Is(err, encryption.ErrWrongKey) {
							t.Errorf("another key afterwards: %v", err)
						}
					}
				})
			})
		}
	}
}

// A lost secrets file is replaced for a database that has never been used only,
// and the error names what is missing.
func TestLostSecretsFile(t *testing.T) {
	t.Parallel()
	all := map[string]string{"ENCRYPTION_KEY": oldKey, "BETTER_AUTH_SECRET": "secret", "INTERNAL_API_SECRET": "internal"}
	for _, tt := range []struct {
		name    string
		prepare string
		absent  []string
	}{
		{"workspace keys", "DELETE FROM organization_byok_keys", []string{"ENCRYPTION_KEY"}},
		{"organization keys", "DELETE FROM workspace_byok_keys", []string{"ENCRYPTION_KEY"}},
		{"no keys any more", "DELETE FROM workspace_byok_keys", []string{"ENCRYPTION_KEY", "BETTER_AUTH_SECRET"}},
		{"only the session secret", "", []string{"BETTER_AUTH_SECRET"}},
		{"all", "", []string{"ENCRYPTION_KEY", "BETTER_AUTH_SECRET", "INTERNAL_API_SECRET"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := "sqlite:" + filepath.Join(t.TempDir(), "keys.db")
			f := startFixture(t, withKeys(target, oldKey, ""))
			f.addKey(t, "sk-workspace")
			for _, query := range []string{
				`INSERT INTO organization_byok_keys (id, organization_id, provider_id, encrypted_api_key, created_at, updated_at)
					SELECT 'o', 'o', provider_id, encrypted_api_key, created_at, updated_at FROM workspace_byok_keys`,
				tt.prepare,
			} {
				if _, err := f.DB().Write.ExecContext(t.Context(), query); err != nil {
					t.Fatal(err)
				}
			}
			if tt.name == "no keys any more" {
				if _, err := f.DB().Write.ExecContext(t.Context(), "DELETE FROM organization_byok_keys"); err != nil {
					t.Fatal(err)
				}
			}
			environment := map[string]string{}
			for name, value := range all {
				environment[name] = value
			}
			for _, name := range tt.absent {
				delete(environment, name)
			}
			_, _, err := server.LoadSecrets(t.Context(), target, func(name string) string { return environment[name] })
			if err == nil || !strings.Contains(err.Error(), "does not set "+strings.Join(tt.absent, ", ")+":") {
				t.Errorf("%v, want an error that names %q only", err, tt.absent)
			}
			if _, err := os.Stat(server.SecretsFile(target)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a new secrets file was made: %v", err)
			}
		})
	}
}

// Changing ENCRYPTION_KEY on running servers: each step of the guide, with one
// server that missed a step.
func TestChangeOfKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		old := startFixture(t, withKeys(target, oldKey, ""))
		old.addKey(t, "sk-first")
		health := func(f *fixture) int { return f.call(t, http.MethodGet, "/reference/health", "").StatusCode }

		prepared := startFixture(t, withKeys(target, oldKey, newKey))
		moved := startFixture(t, withKeys(target, newKey, oldKey))
		moved.addKey(t, "sk-second")
		// The server that was not restarted cannot read what the others store.
		const wrongKey = `{"status":"unavailable","store":"reachable","encryptionKey":"wrong"}`
		if got := old.call(t, http.MethodGet, "/reference/health", ""); got.StatusCode != http.StatusServiceUnavailable || got.body != wrongKey {
			t.Errorf("health of a server with the old key alone: %d %s", got.StatusCode, got.body)
		}
		if err := startError(t, target, oldKey); !errors.Is(err, encryption.ErrWrongKey) {
			t.Errorf("start with the old key alone: %v", err)
		}
		for _, f := range []*fixture{prepared, moved} {
			if got := health(f); got != http.StatusOK {
				t.Errorf("health of a server with both keys: %d", got)
			}
			if got := f.resolve(t) + f.resolve(t); !strings.Contains(got, "sk-first") || !strings.Contains(got, "sk-second") {
				t.Errorf("a server with both keys serves %s", got)
			}
		}
		// A server that still seals with the old key stores keys all the time.
		session := cookie("session_token", prepared.signIn(t, signInBody).cookies["session_token"])
		stop, stored := make(chan struct{}), make(chan int)
		go func() {
			count := 0
			for n := 0; ; n++ {
				select {
				case <-stop:
					stored <- count
					return
				default:
				}
				body := fmt.Sprintf(`{"providerId":"anthropic","apiKey":"sk-straggler-%d"}`, n)
				if n > 0 {
					body = fmt.Sprintf(`{"providerId":"anthropic","apiKey":"sk-straggler-%d","keyId":"%s"}`, n, prepared.keyOf(t, "anthropic"))
				}
				switch a := prepared.call(t, http.MethodPost, testKeys, body, "Cookie", session); a.StatusCode {
				case http.StatusOK:
					count++
				case http.StatusInternalServerError:
				default:
					t.Errorf("a server that still seals with the old key: %d %s", a.StatusCode, a.body)
				}
			}
		}()
		sealer, err := seal.New(newKey, oldKey)
		if err != nil {
			t.Fatal(err)
		}
		for prepared.count(t, "SELECT count(*) FROM workspace_byok_keys WHERE provider_id = 'anthropic'") == 0 {
			time.Sleep(time.Millisecond)
		}
		result, err := encryption.New(moved.DB(), sealer, moved.clock.Now).Rekey(t.Context(), encryption.RekeyOptions{})
		if err != nil || result.Resealed < 2 || result.Unreadable > 0 {
			t.Errorf("rekey: %+v, %v", result, err)
		}
		close(stop)
		t.Logf("stored %d keys with the old key meanwhile, sealed %d anew", <-stored, result.Resealed)
		if a := prepared.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-late"}`, "Cookie", session); a.StatusCode != http.StatusInternalServerError {
			t.Errorf("an add through a server with a retired key: %d %s", a.StatusCode, a.body)
		}
		if got := health(prepared); got != http.StatusServiceUnavailable {
			t.Errorf("health of a server that still seals with the old key: %d", got)
		}
		newOnly, err := seal.New(newKey)
		if err != nil {
			t.Fatal(err)
		}
		keys := 0
		err = encryption.New(moved.DB(), newOnly, moved.clock.Now).Each(t.Context(), keystore.Owner{}, func(key encryption.Key) error {
			if keys++; key.State != encryption.Current {
				t.Errorf("%s key %s is %s", key.Pool.ProviderID, key.Record.ID, key.State)
			}
			return nil
		})
		if err != nil || keys != 3 {
			t.Errorf("%d keys, %v; want 3", keys, err)
		}
		last := startFixture(t, withKeys(target, newKey, ""))
		if got := last.resolve(t) + last.resolve(t); !strings.Contains(got, "sk-first") || !strings.Contains(got, "sk-second") {
			t.Errorf("a server with the new key alone serves %s", got)
		}
	})
}
