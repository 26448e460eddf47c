// Command image builds the container image of byok-server without a container
// engine, as an OCI image index for several platforms, and pushes it or writes
// it to a tar file for `docker load`.
//
// The image holds one static binary on an empty base. It runs as user 65532
// with a read-only root: the only writable path is the volume /data.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is who the server runs as: the "nonroot" of distroless images.
const user = 65532

// binary is one build of byok-server.
type binary struct {
	platform v1.Platform
	path     string
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

const usage = `usage: image [flags] push|save OS/ARCH=BINARY...
  push  pushes to --repository with the tags VERSION and latest (a pre-release: VERSION alone),
        and prints each tag with the digest;
        REGISTRY_USERNAME and REGISTRY_PASSWORD sign in
  save  writes the image of the first binary to --output, for docker load`

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	repository := flags.String("repository", "byok-server", "`NAME` of the image, such as ghcr.io/OWNER/byok-server")
	version := flags.String("version", "", "`VERSION` of the release, without a leading v")
	created := flags.Int64("created", 0, "time of the commit in `SECONDS` since 1970, so that builds are reproducible")
	output := flags.String("output", "image.tar", "`FILE` to save to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 || *version == "" {
		return errors.New(usage)
	}
	var binaries []binary
	for _, arg := range flags.Args()[1:] {
		platform, path, ok := strings.Cut(arg, "=")
		goos, arch, ok2 := strings.Cut(platform, "/")
		if !ok || !ok2 {
			return fmt.Errorf("%q is not OS/ARCH=BINARY", arg)
		}
		binaries = append(binaries, binary{platform: v1.Platform{OS: goos, Architecture: arch}, path: path})
	}
	at := time.Unix(*created, 0).UTC()

	tag, err := name.NewTag(*repository + ":" + *version)
	if err != nil {
		return err
	}
	switch flags.Arg(0) {
	case "save":
		image, err := build(binaries[0], *version, at)
		if err != nil {
			return err
		}
		return tarball.WriteToFile(*output, tag, image)
	case "push":
		index, err := buildIndex(binaries, *version, at)
		if err != nil {
			return err
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		auth := authn.FromConfig(authn.AuthConfig{Username: os.Getenv("REGISTRY_USERNAME"), Password: os.Getenv("REGISTRY_PASSWORD")})
		for _, tag := range tags(tag) {
			if err := remote.WriteIndex(tag, index, remote.WithAuth(auth)); err != nil {
				return fmt.Errorf("push %s: %w", tag, err)
			}
			fmt.Fprintf(stdout, "pushed %s@%s\n", tag, digest)
		}
		return nil
	}
	return errors.New(usage)
}

// tags are the tags of a release: latest is left to releases that are no
// pre-release.
func tags(tag name.Tag) []name.Tag {
	if strings.Contains(tag.TagStr(), "-") {
		return []name.Tag{tag}
	}
	return []name.Tag{tag, tag.Repository.Tag("latest")}
}

func buildIndex(binaries []binary, version string, created time.Time) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range binaries {
		image, err := build(b, version, created)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &b.platform}})
	}
	return index, nil
}

// build makes the image of one binary: the same bytes for the same input.
func build(b binary, version string, created time.Time) (v1.Image, error) {
	program, err := os.ReadFile(filepath.Clean(b.path))
	if err != nil {
		return nil, err
	}
	content, err := files(program, created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "byok-server " + version, Created: v1.Time{Time: created}}}); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: b.platform.Architecture, OS: b.platform.OS, Created: v1.Time{Time: created},
		RootFS:  mustRootFS(image),
		History: []v1.History{{CreatedBy: "byok-server " + version, Created: v1.Time{Time: created}}},
		Config: v1.Config{
			User:         fmt.Sprintf("%d:%d", user, user),
			WorkingDir:   "/data",
			Entrypoint:   []string{"/byok-server"},
			Cmd:          []string{"serve", "--listen", "0.0.0.0:8787", "--database", "sqlite:/data/byok.db"},
			ExposedPorts: map[string]struct{}{"8787/tcp": {}},
			Volumes:      map[string]struct{}{"/data": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title":    "byok-server",
				"org.opencontainers.image.version":  version,
				"org.opencontainers.image.licenses": "MPL-2.0",
				"org.opencontainers.image.source":   "https://github.com/terraform-provider-byok/terraform-provider-byok",
			},
		},
	})
}

func mustRootFS(image v1.Image) v1.RootFS {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err) // the image is in memory
	}
	return config.RootFS
}

// files is the file system as a tar archive: the program, and a folder that
// its user can write to.
func files(program []byte, created time.Time) ([]byte, error) {
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, header := range []*tar.Header{
		{Name: "byok-server", Typeflag: tar.TypeReg, Mode: 0o555, Size: int64(len(program))},
		{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: user, Gid: user},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	} {
		header.ModTime, header.Format = created, tar.FormatPAX
		if err := out.WriteHeader(header); err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := out.Write(program); err != nil {
				return nil, err
			}
		}
	}
	err := out.Close()
	return b.Bytes(), err
}
