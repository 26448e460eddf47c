//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// bareServer is what byok-server is compared with: a net/http handler in a
// process of its own that returns as many bytes, and for a write first makes
// 4 KiB durable. No server on this machine does less.
type bareServer struct {
	cmd *exec.Cmd
	in  io.Closer
	url string
}

// startBare runs this program again, with -bare. The handler returns the file
// of dir that is named like the path.
func startBare(dir string, bodies map[string][]byte) (*bareServer, error) {
	for name, body := range bodies {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &bareServer{cmd: exec.Command(self, "-bare", dir)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the bare server did not start: %w", err), s.stop())
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

// stop ends the server, which reads its input until it is closed.
func (s *bareServer) stop() error {
	return errors.Join(s.in.Close(), s.cmd.Wait())
}

// serveBare is the bare server.
func serveBare(dir string) error {
	file, err := os.Create(filepath.Join(dir, "durable"))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	page, next := make([]byte, 4<<10), atomic.Int64{}
	mux := http.NewServeMux()
	for name, isWrite := range map[string]bool{"list": false, "resolve": false, "write": true} {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if isWrite {
				if _, err := file.WriteAt(page, next.Add(1)%256*int64(len(page))); err != nil {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				if err := file.Sync(); err != nil {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if _, err := fmt.Fprintln(os.Stdout, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return errors.Join(err, server.Close())
	}
}

// bareLoad is what the clients do to the bare server.
type bareLoad struct {
	*bareServer
	load *load
}

// bare starts a bare server that returns what byok-server returned.
func (l *load) bare(ctx context.Context, dir string) (*bareLoad, error) {
	bodies := map[string][]byte{}
	workspaceID := l.server.workspaces[0]
	for name, request := range map[string]struct {
		method, path string
		body         any
	}{
		"list":    {http.MethodGet, byokserver.KeysPath(workspaceID), nil},
		"write":   {http.MethodPost, byokserver.KeysPath(workspaceID), byok.SaveRequest{ProviderID: replacedPool, APIKey: apiKey(), KeyID: l.replaced[0]}},
		"resolve": {http.MethodPost, "/reference/resolve", json.RawMessage(resolveBody(workspaceID))},
	} {
		var body json.RawMessage
		if _, err := l.call(ctx, request.method, request.path, request.body, &body); err != nil {
			return nil, err
		}
		bodies[name] = body
	}
	s, err := startBare(dir, bodies)
	return &bareLoad{s, l}, err
}

func (b *bareLoad) list(ctx context.Context, _ int) (time.Duration, error) {
	return b.load.listOf(ctx, b.url+"/list")
}

func (b *bareLoad) write(ctx context.Context, client int) (time.Duration, error) {
	return b.load.replaceAt(ctx, client, b.url+"/write")
}

func (b *bareLoad) resolve(ctx context.Context, client int) (time.Duration, error) {
	return b.load.resolveAt(ctx, client, b.url+"/resolve")
}
