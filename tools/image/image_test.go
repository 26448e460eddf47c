package main

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// buildServer builds byok-server as a release does.
func buildServer(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "byok-server")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version=1.2.3", "-o", path, "./cmd/byok-server")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func TestImage(t *testing.T) {
	path := buildServer(t)
	created := time.Unix(1_700_000_000, 0).UTC()
	b := binary{platform: v1.Platform{OS: "linux", Architecture: "amd64"}, path: path}
	image, err := build(b, "1.2.3", created)
	if err != nil {
		t.Fatal(err)
	}

	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" {
		t.Errorf("the image runs as %q, want a user that is not root", config.Config.User)
	}
	if got := strings.Join(append(config.Config.Entrypoint, config.Config.Cmd...), " "); got != "/byok-server serve --listen 0.0.0.0:8787 --database sqlite:/data/byok.db" {
		t.Errorf("the image runs %q", got)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || !config.Created.Equal(created) {
		t.Errorf("the image is for %s/%s, of %s", config.OS, config.Architecture, config.Created)
	}

	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, want 1: %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got := map[string]string{}
	in := tar.NewReader(content)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = header.FileInfo().Mode().String()
		if header.Name == "data/" && (header.Uid != user || header.Gid != user) {
			t.Errorf("data/ belongs to %d:%d, so that the server cannot write to it", header.Uid, header.Gid)
		}
		if header.Name == "byok-server" {
			file := filepath.Join(t.TempDir(), "byok-server")
			to, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(to, in); err != nil {
				t.Fatal(err)
			}
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
			wantStatic(t, file)
		}
	}
	for name, mode := range map[string]string{"byok-server": "-r-xr-xr-x", "data/": "drwx------", "tmp/": "dtrwxrwxrwx"} {
		if got[name] != mode {
			t.Errorf("%s has mode %q, want %q", name, got[name], mode)
		}
	}
	if len(got) != 3 {
		t.Errorf("the image has %d files, want 3: %v", len(got), got)
	}

	again, err := build(b, "1.2.3", created)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := image.Digest()
	second, _ := again.Digest()
	if first != second {
		t.Errorf("two builds differ: %s and %s", first, second)
	}
}

// wantStatic fails unless the program needs no dynamic loader: the image has
// none.
func wantStatic(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			t.Error("byok-server is linked dynamically")
		}
	}
}

func TestPush(t *testing.T) {
	file := filepath.Join(t.TempDir(), "byok-server")
	if err := os.WriteFile(file, []byte("#!"), 0o700); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/owner/byok-server"
	var released string // what the push of the first version prints
	for _, step := range []struct{ version, tags string }{{"1.2.3", "1.2.3 latest"}, {"1.3.0-rc.1", "1.2.3 1.3.0-rc.1 latest"}} {
		var said strings.Builder
		err := run([]string{"--repository", repository, "--version", step.version, "push", "linux/amd64=" + file, "linux/arm64=" + file}, &said)
		if err != nil {
			t.Fatal(err)
		}
		if released == "" {
			released = said.String()
		}
		repo, err := name.NewRepository(repository)
		if err != nil {
			t.Fatal(err)
		}
		tags, err := remote.List(repo)
		if err != nil || strings.Join(tags, " ") != step.tags {
			t.Errorf("tags %v, want %s: %v", tags, step.tags, err)
		}
	}
	index, err := remote.Index(mustTag(t, repository+":latest"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if want := fmt.Sprintf("pushed %s:1.2.3@%[2]s\npushed %[1]s:latest@%s\n", repository, digest); err != nil || released != want {
		t.Errorf("printed %q, want %q: %v", released, want, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 || manifest.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("manifests %+v: %v", manifest, err)
	}
}

func mustTag(t *testing.T, text string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(text)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no version":   {"save", "linux/amd64=x"},
		"no binary":    {"--version", "1", "save"},
		"no platform":  {"--version", "1", "save", "x"},
		"unknown verb": {"--version", "1", "frobnicate", "linux/amd64=x"},
		"no file":      {"--version", "1", "save", "linux/amd64=" + filepath.Join(t.TempDir(), "none")},
	} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
