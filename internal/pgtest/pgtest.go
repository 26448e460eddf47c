// Package pgtest starts a throw-away PostgreSQL cluster for the tests of one
// package and hands out a fresh database per test. Only tests import it.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
)

// Cluster is a running PostgreSQL on a free loopback port.
type Cluster struct {
	dir       string
	port      int
	process   *exec.Cmd
	exited    chan struct{}
	databases atomic.Int64
}

// Package is the cluster of one test package. Where PostgreSQL cannot start,
// Database fails the test under CI=true and skips it elsewhere, with the
// reason.
//
//	var postgres pgtest.Package
//	func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }
type Package struct {
	cluster *Cluster
	err     error
}

// Run starts the cluster, runs the tests and stops the cluster. It returns the
// tests' exit code.
func (l *Package) Run(m *testing.M) int {
	l.cluster, l.err = Start()
	if l.err == nil {
		defer l.cluster.Stop()
	}
	return m.Run()
}

// Database returns the URL of a fresh, empty database.
func (l *Package) Database(t testing.TB) string {
	t.Helper()
	if l.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("PostgreSQL cannot start: %v", l.err)
		}
		t.Skipf("NOT RUN: PostgreSQL cannot start: %v", l.err)
	}
	url, err := l.cluster.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Start makes a cluster in a temporary folder and starts it. Its data is as
// durable as PostgreSQL's defaults. Stop it when done.
func Start() (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "byok-postgres-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, exited: make(chan struct{})}
	if err := c.start(bin, credential); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(bin string, credential *syscall.Credential) error {
	if credential != nil {
		if err := os.Chown(c.dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = c.dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + c.dir}
		// A cluster must not outlive a test binary that was killed.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGINT}
		return cmd
	}
	data := filepath.Join(c.dir, "data")
	if out, err := command("initdb", "--pgdata="+data, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	var err error
	if c.port, err = freePort(); err != nil {
		return err
	}
	c.process = command("postgres", "-D", data, "-p", strconv.Itoa(c.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300",
		"-c", "shared_buffers=64MB", "-c", "logging_collector=off")
	log, err := os.Create(filepath.Join(c.dir, "log")) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	defer log.Close()
	c.process.Stdout, c.process.Stderr = log, log
	if err := c.process.Start(); err != nil {
		c.process = nil
		return err
	}
	go func() {
		_ = c.process.Wait()
		close(c.exited)
	}()
	return c.await()
}

// await returns when the cluster answers.
func (c *Cluster) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", c.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("postgres exited at start:\n%s", log)
		case <-ctx.Done():
			return fmt.Errorf("postgres did not answer within 30 s: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// CreateDatabase makes an empty database and returns its URL.
func (c *Cluster) CreateDatabase(ctx context.Context) (string, error) {
	db, err := sql.Open("pgx", c.url("postgres"))
	if err != nil {
		return "", err
	}
	defer db.Close()
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return c.url(name), nil
}

// Stop stops the cluster and removes its folder.
func (c *Cluster) Stop() {
	if c.process != nil {
		_ = c.process.Process.Signal(syscall.SIGQUIT)
		<-c.exited
	}
	_ = os.RemoveAll(c.dir)
}

func (c *Cluster) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// binaries returns the folder that holds initdb and postgres.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no initdb on the PATH or in /usr/lib/postgresql; install PostgreSQL 15 or later")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged returns the user to run PostgreSQL as, nil for the caller: it
// refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root and there is no user postgres: %w", err)
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

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
