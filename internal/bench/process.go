//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	email    = "bench@example.com"
	password = "a password for the bench"
)

// byokServer is a byok-server in a process of its own.
type byokServer struct {
	cmd    *exec.Cmd
	exited chan error
	log    *os.File

	url            string
	sessionToken   string
	internalSecret string
	encryptionKey  string
	// workspaces are the IDs that it was started with, all of one user.
	workspaces []string
}

// startServer starts the server in bin on a database, with that many
// workspaces. Its log goes to a file in dir, as in production it would.
func startServer(ctx context.Context, bin, dir, database string, workspaces int) (*byokServer, error) {
	type workspace struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Owner string `json:"owner"`
	}
	s := &byokServer{internalSecret: rand.Text(), encryptionKey: randomHex(32), exited: make(chan error, 1)}
	doc := struct {
		Users      []map[string]string `json:"users"`
		Workspaces []workspace         `json:"workspaces"`
	}{Users: []map[string]string{{"email": email, "password": password, "name": "Bench"}}}
	for i := range workspaces {
		// All over the space of IDs, as real ones are.
		id := fmt.Sprintf("%08x-0000-4000-8000-%012d", uint32(i)*2654435761, i)
		s.workspaces = append(s.workspaces, id)
		doc.Workspaces = append(doc.Workspaces, workspace{ID: id, Name: fmt.Sprintf("Workspace %d", i), Owner: email})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	bootstrap, envFile := filepath.Join(dir, "bootstrap.json"), filepath.Join(dir, "server.env")
	if err := os.WriteFile(bootstrap, text, 0o600); err != nil {
		return nil, err
	}
	_ = os.Remove(envFile)
	if s.log, err = os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(filepath.Join(bin, "byok-server"), "serve", "--listen", "127.0.0.1:0", "--database", database,
		"--development", "--bootstrap", bootstrap, "--env-file", envFile)
	s.cmd.Env = append(os.Environ(), "INTERNAL_API_SECRET="+s.internalSecret, "BETTER_AUTH_SECRET="+rand.Text(), "ENCRYPTION_KEY="+s.encryptionKey)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	go func() { s.exited <- s.cmd.Wait() }()
	if err := s.ready(ctx, envFile); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

var exported = regexp.MustCompile(`(?m)^(?:export )?(\w+)=['"]?(.*?)['"]?$`)

// ready waits for the file that the server writes once it listens.
func (s *byokServer) ready(ctx context.Context, envFile string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(envFile)
		if err == nil {
			for _, match := range exported.FindAllStringSubmatch(string(text), -1) {
				switch match[1] {
				case "BYOK_ENDPOINT":
					s.url = match[2]
				case "BYOK_SESSION_TOKEN":
					s.sessionToken = match[2]
				}
			}
			return nil
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			said, _ := os.ReadFile(s.log.Name())
			return fmt.Errorf("byok-server ended at its start: %w\n%s", err, said)
		case <-ctx.Done():
			return errors.New("byok-server does not get ready")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the server and returns once it has.
func (s *byokServer) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.exited:
		return errors.Join(err, s.log.Close())
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("byok-server does not stop; killed it"), s.cmd.Process.Kill(), s.log.Close())
	}
}

// requests are how many requests the server has answered, by kind.
type requests struct{ signIns, lists, posts, deletes int }

func (r requests) since(before requests) requests {
	return requests{r.signIns - before.signIns, r.lists - before.lists, r.posts - before.posts, r.deletes - before.deletes}
}

func (r requests) String() string {
	var parts []string
	for _, part := range []struct {
		n    int
		name string
	}{{r.signIns, "sign-in"}, {r.lists, "GET"}, {r.posts, "POST"}, {r.deletes, "DELETE"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.name))
		}
	}
	return strings.Join(parts, ", ")
}

var counted = regexp.MustCompile(`(?m)^byok_http_requests_total\{method="(\w+)",route="([^"]+)",status="\d+"\} (\S+)$`)

// counts reads the server's own metrics.
func (s *byokServer) counts(ctx context.Context) (requests, error) {
	var r requests
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/reference/metrics", nil)
	if err != nil {
		return r, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, err
	}
	for _, match := range counted.FindAllSubmatch(body, -1) {
		n, err := strconv.ParseFloat(string(match[3]), 64)
		if err != nil {
			return r, err
		}
		switch method, route := string(match[1]), string(match[2]); {
		case route == "/api/auth/sign-in/email":
			r.signIns += int(n)
		case !strings.HasSuffix(route, "/byok-keys"):
		case method == http.MethodGet:
			r.lists += int(n)
		case method == http.MethodPost:
			r.posts += int(n)
		case method == http.MethodDelete:
			r.deletes += int(n)
		}
	}
	if !bytes.Contains(body, []byte("byok_http_requests_total")) && !bytes.Contains(body, []byte("go_goroutines")) {
		return r, errors.New("the server shows no metrics")
	}
	return r, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
