//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

const (
	email    = "bench@example.com"
	password = "a password for the bench"
)

// byokServer is a byok-server in a process of its own.
type byokServer struct {
	*byokserver.Process
	sessionToken string
	secrets      server.Secrets
	// workspaces are the IDs that it was started with, all of one user.
	workspaces []string
}

// startServer starts the server in bin on a database, with that many
// workspaces. Its log goes to a file in dir, as in production it would.
func startServer(ctx context.Context, bin, dir, database string, workspaces int) (*byokServer, error) {
	s := &byokServer{secrets: server.Secrets{EncryptionKey: randomHex(32), AuthSecret: rand.Text(), InternalSecret: rand.Text()}}
	doc := &server.Bootstrap{Users: []server.BootstrapUser{{Email: email, Password: password, Name: "Bench"}}}
	for i := range workspaces {
		// All over the space of IDs, as real ones are.
		id := fmt.Sprintf("%08x-0000-4000-8000-%012d", uint32(i)*2654435761, i)
		s.workspaces = append(s.workspaces, id)
		doc.Workspaces = append(doc.Workspaces, server.BootstrapWorkspace{ID: id, Name: fmt.Sprintf("Workspace %d", i), Owner: email})
	}
	var err error
	s.Process, err = byokserver.Start(ctx, byokserver.Config{
		Binary: filepath.Join(bin, "byok-server"), Dir: dir, Database: database, Secrets: s.secrets, Bootstrap: doc, Flags: []string{"--development"},
	})
	if err != nil {
		return nil, err
	}
	if s.sessionToken, err = s.SignIn(ctx, email); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// requests are how many requests the server has responded to, by kind.
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/reference/metrics", nil)
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
