//go:build unix

package sqlite_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// crashTarget makes this test binary the process that is killed: it adds keys
// to the database of that name until it dies, and prints the ID of each that
// was acknowledged.
const crashTarget = "BYOK_CRASH_TARGET"

func TestMain(m *testing.M) {
	if target := os.Getenv(crashTarget); target != "" {
		if err := addForever(target); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// A server that is killed at any moment loses no key that it acknowledged, and
// leaves a sound database.
func TestKilled(t *testing.T) {
	t.Parallel()
	const rounds, acknowledged = 4, 40
	target := fileTarget(t)
	open(t, target, time.Now) // migrates
	known := map[string]bool{}
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashTarget+"="+target, fmt.Sprintf("BYOK_CRASH_ROUND=%d", round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range acknowledged + round { // at another moment each time
			if !lines.Scan() {
				t.Fatalf("the process ended by itself: %v", lines.Err())
			}
			known[lines.Text()] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged before the kill, read after it
			known[lines.Text()] = true
		}
		_ = cmd.Wait() // "killed", as was to be

		db, store := open(t, target, time.Now)
		var verdict string
		if err := db.Read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			t.Fatalf("round %d: integrity check: %s, %v", round, verdict, err)
		}
		records, err := store.List(t.Context(), crashOwner)
		if err != nil {
			t.Fatal(err)
		}
		stored := map[string]bool{}
		for _, r := range records {
			stored[r.ID] = true
			if r.Sealed != "sealed-"+r.ID {
				t.Errorf("key %s holds %q", r.ID, r.Sealed)
			}
		}
		for id := range known {
			if !stored[id] {
				t.Errorf("round %d: key %s was acknowledged and is lost", round, id)
			}
		}
	}
	if len(known) < rounds*acknowledged {
		t.Errorf("%d keys were acknowledged, want at least %d", len(known), rounds*acknowledged)
	}
	files, err := filepath.Glob(strings.TrimPrefix(target, "sqlite:") + "*")
	if err != nil || len(files) > 3 {
		t.Errorf("files of the database: %v, %v", files, err)
	}
}

var crashOwner = keystore.Owner{Scope: keystore.Workspace, ID: "w"}

// addForever adds from several goroutines, so that a kill also meets commits
// that several adds share.
func addForever(target string) error {
	ctx, db, err := openPlain(target)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range 3 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%s-%d-%d", os.Getenv("BYOK_CRASH_ROUND"), g, i)
				pool := keystore.Pool{Owner: crashOwner, ProviderID: fmt.Sprint("p", g)}
				if _, err := db.Add(ctx, pool, keystore.NewKey{ID: id, Sealed: "sealed-" + id}, 1<<30); err != nil {
					failed <- err
					return
				}
				// One write per line: the pipe keeps lines whole.
				_, _ = os.Stdout.WriteString(id + "\n")
			}
		}()
	}
	return <-failed
}
