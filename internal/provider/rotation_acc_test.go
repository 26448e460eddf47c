package provider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// examples/rotation passes its own terraform test. All the while, keys are asked
// for as by runs: from the first key on until the end of the test, there is
// always one, and the first generation never comes back.
func TestAccRotationExample(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	if !s.CanResolve() {
		t.Skip("NOT RUN: needs POST /reference/resolve")
	}
	env := map[string]string{envEndpoint: s.URL, envWorkspaceID: s.WorkspaceID, envSessionToken: s.SessionToken}
	tf := newTerraform(t, env, "")
	if err := os.Remove(filepath.Join(tf.Dir, "main.tf")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(tf.Dir, os.DirFS(filepath.Join("..", "..", "examples", "rotation"))); err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		tf.Env = append(tf.Env, name+"="+value)
	}
	tf.Env = append(tf.Env, "INTERNAL_API_SECRET="+s.InternalSecret)
	tf.must("init", "-no-color")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	polled := make(chan string, 1)
	go func() {
		defer close(polled) // also where the server does not respond
		polled <- poll(ctx, t, s)
	}()
	out := tf.must("test", "-no-color")
	stop()
	served := <-polled
	// Nothing, the first generation, both, the second one, nothing.
	if !regexp.MustCompile(`^-*3+[34]*4+-*$`).MatchString(served) {
		t.Errorf("served in turn: %s", served)
	}
	if !strings.Contains(out, "9 passed, 0 failed") {
		t.Errorf("the test of the example:\n%s", out)
	}

	// The test of the example fails when the example is wrong.
	file := filepath.Join(tf.Dir, "main.tf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ right, wrong, says string }{
		{"lookup(var.secrets, label, null)", `"sk-test-2026-q3"`, "never served: sk-test-2026-q4"},
		{"id = key.id", `id = "${key.id}${length(var.generations)}"`, "The first generation was touched."},
	} {
		edited := strings.Replace(string(text), wrong.right, wrong.wrong, 1)
		tf.Write(t, "main.tf", edited)
		if out, err := tf.run("test", "-no-color"); err == nil || edited == string(text) || !strings.Contains(out, wrong.says) {
			t.Errorf("an example with %s in place of %s: %v\n%s", wrong.wrong, wrong.right, err, out)
		}
	}
}

// poll asks for keys until ctx ends, and returns a letter for each: that of
// their generation, or - for none. Repetitions are left out.
func poll(ctx context.Context, t *testing.T, s *acctest.Server) string {
	var all strings.Builder
	last := ""
	for ctx.Err() == nil {
		letter := "-"
		if served := s.Resolve(t, s.WorkspaceID, "openai"); served != nil {
			letter = served.APIKey[len(served.APIKey)-1:]
		}
		if letter != last {
			fmt.Fprint(&all, letter)
		}
		last = letter
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return all.String()
}
