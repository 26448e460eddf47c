//go:build unix

// Package pgtest gives tests a PostgreSQL of their own: one throw-away cluster
// per test binary, listening on a socket in a temporary folder, and a fresh
// database per test. Only tests import it.
//
// A test binary that uses it stops the cluster at its end:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
//
// On Linux a cluster whose test binary was killed is stopped by the kernel; the
// next cluster removes its folder.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser    = "postgres"
	folderPrefix = "pgtest"
	claimFile    = "claim"
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// shared is the cluster of this test binary. A test binary is one program, and
// its tests share the 0.7 s that a cluster takes to start.
var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Run runs the tests and stops the cluster that they started, if any. It
// returns the exit code for os.Exit.
func Run(m *testing.M) int {
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			return max(code, 1)
		}
	}
	return code
}

// URL returns the URL of a fresh, empty database of this binary's cluster,
// which it starts when it is the first to ask. clauses go to CREATE DATABASE:
// without any, the database has the collation C. Where PostgreSQL cannot start,
// the test is skipped; under CI=true it fails. -short leaves PostgreSQL out.
func URL(t testing.TB, clauses ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("PostgreSQL is left out by -short")
	}
	shared.once.Do(func() { shared.cluster, shared.err = Start() })
	if shared.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("PostgreSQL does not start, and CI=true needs it: %v", shared.err)
		}
		t.Skipf("needs PostgreSQL: %v", shared.err)
	}
	return shared.cluster.Database(t, clauses...)
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	dir       string
	process   *exec.Cmd
	exited    chan struct{}
	log       *lockedBuffer
	claim     *os.File // locked while this test binary lives
	databases atomic.Int64
}

// Option changes how a cluster starts.
type Option func(*[]string)

// WithFsync makes commits wait for the disk, as in production. Without it a
// cluster is fast and does not survive a crash.
func WithFsync() Option {
	return func(args *[]string) {
		*args = append(*args, "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on", "-c", "autovacuum=on")
	}
}

// Start starts a cluster. Its caller stops it.
func Start(options ...Option) (c *Cluster, err error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	postgres, err := find("postgres")
	if err != nil {
		return nil, err
	}
	as, err := credential()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: a socket's path may be 107 bytes long at most, and the
	// cluster outlives the test that starts it.
	dir, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return nil, err
	}
	c = &Cluster{dir: dir, exited: make(chan struct{}), log: &lockedBuffer{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.stakeClaim(); err != nil {
		return nil, err
	}
	sweep()
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	err = initialise(data, func() error {
		init := command(as, dir, initdb, "--pgdata", data, "--username", superuser, "--auth", "trust",
			"--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
		if out, err := init.CombinedOutput(); err != nil {
			return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	args := []string{
		"-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=64MB",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "autovacuum=off", "-c", "log_statement=none", "-c", "wal_level=minimal", "-c", "max_wal_senders=0",
	}
	for _, option := range options {
		option(&args)
	}
	c.process = command(as, dir, postgres, args...)
	c.process.Stdout, c.process.Stderr = c.log, c.log
	started := make(chan error)
	go func() {
		// The kernel stops PostgreSQL when the thread that started it ends
		// (sysProcAttr): this one, which lives as long as PostgreSQL does.
		runtime.LockOSThread()
		err := c.process.Start()
		started <- err
		if err == nil {
			_ = c.process.Wait()
		}
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return c, c.ready()
}

// initialise makes the folder of a cluster. make test runs initdb once, in the
// folder that BYOK_TEST_BIN names; every other cluster is a copy.
func initialise(data string, initdb func() error) error {
	shared := os.Getenv("BYOK_TEST_BIN")
	if shared == "" {
		return initdb()
	}
	lock, err := os.Create(filepath.Join(shared, "cluster.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	original := filepath.Join(shared, "cluster")
	if _, err := os.Stat(original); err == nil {
		return copyFolder(original, data)
	}
	if err := initdb(); err != nil {
		return err
	}
	if err := copyFolder(data, original+".new"); err != nil {
		return err
	}
	return os.Rename(original+".new", original)
}

// copyFolder keeps owners and permissions, about which PostgreSQL is strict.
func copyFolder(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// URL returns the URL of a database of the cluster.
func (c *Cluster) URL(database string) string {
	query := url.Values{"host": {c.dir}, "port": {"5432"}, "user": {superuser}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: query.Encode()}).String()
}

// Database creates a fresh database, drops it when the test ends, and returns
// its URL.
func (c *Cluster) Database(t testing.TB, clauses ...string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	// Copying the files of the template takes a quarter of the time of logging them.
	create := append([]string{"CREATE DATABASE", name, "STRATEGY FILE_COPY"}, clauses...)
	if err := c.admin(context.Background(), strings.Join(create, " ")); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := c.admin(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c.URL(name)
}

// Stop ends the cluster by its process ID and removes its folder.
func (c *Cluster) Stop() error {
	var errs []error
	if c.process != nil && c.process.Process != nil {
		// SIGQUIT is the immediate shutdown: nothing here needs a checkpoint.
		_ = c.process.Process.Signal(syscall.SIGQUIT)
		select {
		case <-c.exited:
		case <-time.After(stopTimeout):
			errs = append(errs, fmt.Errorf("postgres (process %d) does not stop; killed it", c.process.Process.Pid), c.process.Process.Kill())
			<-c.exited
		}
	}
	if c.claim != nil {
		errs = append(errs, c.claim.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// stakeClaim marks the folder as in use until this test binary ends, however it
// does. The mark takes its name once it is locked: nobody sees it unlocked.
func (c *Cluster) stakeClaim() (err error) {
	name := filepath.Join(c.dir, claimFile)
	if c.claim, err = os.Create(name + ".new"); err != nil {
		return err
	}
	if err := syscall.Flock(int(c.claim.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// sweep removes the folders of test binaries that were killed.
func sweep() {
	claims, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*", claimFile))
	for _, path := range claims {
		claim, err := os.Open(path)
		if err != nil {
			continue
		}
		if syscall.Flock(int(claim.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		_ = claim.Close()
	}
}

// ready waits until the cluster responds.
func (c *Cluster) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.admin(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("postgres ended: %s", c.log)
		case <-ctx.Done():
			return fmt.Errorf("no response from postgres within %s: %w: %s", startTimeout, err, c.log)
		case <-tick.C:
		}
	}
}

func (c *Cluster) admin(ctx context.Context, query string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, query)
	return err
}

// find looks for a program of PostgreSQL on PATH, then where Debian keeps it,
// the newest version first.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if len(paths) == 0 {
		return "", fmt.Errorf("%s is neither on PATH nor in /usr/lib/postgresql/*/bin; install PostgreSQL", program)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return slices.MaxFunc(paths, func(a, b string) int { return version(a) - version(b) }), nil
}

// credential is the user that PostgreSQL runs as: this one or, since PostgreSQL
// refuses root, the user postgres.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup(superuser)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user %s: %w", superuser, err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func command(as *syscall.Credential, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir // the current one may be closed to that user
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = sysProcAttr(as)
	return cmd
}

// lockedBuffer keeps what a process says.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(b.text.String())
}
