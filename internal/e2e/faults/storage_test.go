//go:build linux

package faults

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// TestDiskFull lets the disk of the database fill up under byok-server: writes
// respond with 500, everything that was acknowledged stays, and once there is
// free space again the next apply converges, without a restart and after one.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		disk := newDisk(t, 3, "0")
		fillDisk(t, newSite(t, "sqlite:"+filepath.Join(disk.dir, "keys.db")), disk)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		// PostgreSQL refuses root, so pgtest runs it as a user of its own.
		account, err := user.Lookup("postgres")
		if err != nil {
			t.Skipf("NOT RUN: %v", err)
		}
		disk := newDisk(t, 14, account.Uid)
		c := cluster(t)
		execute(t, c.URL("postgres"), "CREATE TABLESPACE small LOCATION '"+disk.dir+"'")
		fillDisk(t, newSite(t, c.Database(t, "TABLESPACE", "small")), disk)
	})
}

func fillDisk(t *testing.T, s *site, disk *disk) {
	p := s.start(t)
	session := s.session(t, p.URL)
	d := newDoor(s.client, func() string { return p.URL }, session)
	declared := spec{}
	for i := range 3 {
		declared[fmt.Sprint("k", i)] = key{workspaceID: siteWorkspace, providerID: "openai", secret: fmt.Sprintf("sk-small-%08d", i)}
	}
	terraform := protocol{newCore(t, map[string]any{
		"endpoint": p.URL, "workspace_id": siteWorkspace, "session_token": session, "max_retries": int64(1),
	}, 1, quickly)}
	if err := terraform.apply(t, declared); err != nil {
		t.Fatal(err)
	}

	// Others fill the disk, at last with small keys.
	disk.leave(t, 1<<19)
	others := foreign{}
	full, size := 0, 50_000
	for i := 0; full < 3; i++ {
		if i > 300 {
			t.Fatal("the disk does not fill up")
		}
		to := pool{siteWorkspace, byok.ProviderIDs()[2+i/byok.Cap]}
		secret := strings.Repeat(fmt.Sprintf("%08d", i), size/8)
		var response byok.SaveResponse
		status, text := d.do(http.MethodPost, byokserver.KeysPath(siteWorkspace), byok.SaveRequest{ProviderID: to.providerID, APIKey: secret}, &response)
		switch status {
		case http.StatusOK:
			if others[to] == nil {
				others[to] = map[string]foreignKey{}
			}
			others[to][response.Key.ID] = foreignKey{response.Key, secret}
		case http.StatusInternalServerError:
			if text != `{"error":"Internal server error"}` {
				t.Errorf("the response is %s", text)
			}
			full++
			size = max(size/10, 1000)
		default:
			t.Fatalf("add: %d %s", status, text)
		}
	}
	check := func(url func() string) {
		t.Helper()
		d := newDoor(s.client, url, session)
		stored := map[string]byok.Key{}
		for _, k := range d.List(t, siteWorkspace) {
			stored[k.ID] = k
		}
		for p, keys := range others {
			for id, k := range keys {
				k.UpdatedAt = stored[id].UpdatedAt // an add does not return it
				others[p][id] = k
			}
		}
		if v := judge(t, d, declared, terraform.ids(t), others); !v.clean() {
			t.Errorf("%+v", v)
		}
	}
	check(d.URL)

	// An apply that needs more than there is fails, and harms nothing.
	more := maps.Clone(declared)
	more["big"] = key{workspaceID: siteWorkspace, providerID: "anthropic", secret: strings.Repeat("big", 200_000)}
	if err := terraform.apply(t, more); err == nil || !strings.Contains(err.Error(), "the server failed") {
		t.Fatalf("an apply that cannot be stored ends with %v", err)
	}
	check(d.URL)

	disk.grow(t)
	declared = more
	if err := terraform.apply(t, declared); err != nil {
		t.Fatalf("an apply fails though there is free space again: %v", err)
	}
	check(d.URL)
	p.Kill()
	if log := p.Log(); !strings.Contains(log, "disk of the database is full") {
		t.Errorf("the log does not say that the disk is full: %s", log)
	}
	p = s.start(t)
	check(d.URL)
}

// disk is a small file system of its own.
type disk struct {
	dir   string
	bytes int
}

// newDisk mounts a file system in memory, which takes root.
func newDisk(t *testing.T, megabytes int, owner string) *disk {
	t.Helper()
	// Not t.TempDir: its parents are closed to the user that runs PostgreSQL.
	dir, err := os.MkdirTemp("", "byok-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	d := &disk{dir: dir, bytes: megabytes << 20}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700,uid=%s", d.bytes, owner)); err != nil {
		t.Skipf("NOT RUN: mounting a small disk takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// leave takes all but some bytes of the space that is free.
func (d *disk) leave(t *testing.T, bytes int64) {
	t.Helper()
	var space syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &space); err != nil {
		t.Fatal(err)
	}
	free := int64(space.Bavail) * space.Bsize
	if free <= bytes {
		t.Fatalf("the disk has %d bytes left", free)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "ballast"), make([]byte, free-bytes), 0o600); err != nil {
		t.Fatal(err)
	}
}

// grow adds space for what did not fit.
func (d *disk) grow(t *testing.T) {
	t.Helper()
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", 8*d.bytes)); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, target, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// TestReadOnlyDatabase makes the database read-only under a running server:
// writes respond with 500, reads go on, nothing is lost, and once it can be written
// again the next apply converges.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s := acctest.Start(t)
		readOnly(t, s, func(on bool) { s.Exec(t, fmt.Sprintf("PRAGMA query_only = %t", on)) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		c := cluster(t)
		target := c.Database(t)
		s := acctest.Start(t, acctest.WithDatabase(target))
		readOnly(t, s, func(on bool) {
			execute(t, c.URL("postgres"), fmt.Sprintf("ALTER SYSTEM SET default_transaction_read_only = %t", on))
			execute(t, c.URL("postgres"), "SELECT pg_reload_conf()")
			awaitReadOnly(t, target, on)
		})
	})
}

// awaitReadOnly waits until PostgreSQL has read its configuration again.
func awaitReadOnly(t *testing.T, target string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for {
		var got string
		if err := conn.QueryRow(ctx, "SHOW default_transaction_read_only").Scan(&got); err != nil {
			t.Fatal(err)
		}
		if (got == "on") == want {
			return
		}
	}
}

func readOnly(t *testing.T, s *acctest.Server, set func(on bool)) {
	terraform := protocol{newCore(t, map[string]any{
		"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken, "max_retries": int64(1),
	}, 1, quickly)}
	declared := spec{"kept": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-kept-00000001"},
		"going": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-going-0000001"}}
	if err := terraform.apply(t, declared); err != nil {
		t.Fatal(err)
	}
	changed := spec{"kept": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-kept-00000002"},
		"new": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-new-000000001"}}

	set(true)
	s.Reset()
	err := terraform.apply(t, changed)
	if err == nil {
		t.Fatal("an apply succeeds on a read-only database")
	}
	for _, doing := range []string{"create", "update", "delete"} {
		if !strings.Contains(err.Error(), "Cannot "+doing+" key: the server failed") {
			t.Errorf("the apply does not say that it cannot %s: %v", doing, err)
		}
	}
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet && r.Status != http.StatusInternalServerError {
			t.Errorf("%s responds with %d", r.Method, r.Status)
		}
	}
	if v := judge(t, s, declared, terraform.ids(t), nil); !v.clean() {
		t.Errorf("%+v", v)
	}

	set(false)
	if err := terraform.apply(t, changed); err != nil {
		t.Fatal(err)
	}
	if v := judge(t, s, changed, terraform.ids(t), nil); !v.clean() {
		t.Errorf("%+v", v)
	}
	if changes := terraform.plan(t, changed); changes != "" {
		t.Error(changes)
	}
}
