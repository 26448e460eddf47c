package doctest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func TestMain(m *testing.M) {
	code := tfrun.Run(m)
	if toolsDir != "" {
		_ = os.RemoveAll(toolsDir)
	}
	os.Exit(code)
}

// toolsDir is where tools has built, empty before.
var toolsDir string

// tools builds what the shell steps of the documents call, once: a folder for
// the PATH, and a mirror with the provider.
var tools = sync.OnceValues(func() (string, error) {
	cli, err := tfrun.Find()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "byok-doctest-")
	if err != nil {
		return "", err
	}
	toolsDir = dir
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return "", err
	}
	if _, err := byokserver.Build(bin); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-C", filepath.Join(root, "tools/policy"), "-o", filepath.Join(bin, "conftest"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	if err := cli.Install(filepath.Join(dir, "mirror")); err != nil {
		return "", err
	}
	for name, script := range map[string]string{"docker": dockerScript, "gh": ghScript} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			return "", err
		}
	}
	// A pipeline that says terraform runs OpenTofu as well.
	return dir, os.Symlink(cli.Path, filepath.Join(bin, "terraform"))
})

// dockerScript runs what the pipelines run in containers, without one.
const dockerScript = `#!/usr/bin/env bash
set -euo pipefail
args=" $* "
case $args in
*" openpolicyagent/conftest:"*) exec conftest test ${args##* test } ;;
*) echo "docker: $*" >&2; exit 125 ;;
esac
`

// ghScript has the labels of the merged pull request.
const ghScript = `#!/bin/sh
[ "$1" = api ] && [ "$2" = "repos/example/keys/commits/0123456789/pulls" ] || exit 1
printf '{"labels": []}'
`

// workshop runs the steps of pipelines against a server.
type workshop struct {
	t         *testing.T
	env       []string
	state     string // path of the state that jobs share
	artifacts string // folder
	// edit changes the configuration after a checkout.
	edit func(dir string)
}

func newWorkshop(t *testing.T, env ...string) *workshop {
	t.Helper()
	cli := tfrun.Need(t)
	dir, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	rc := filepath.Join(work, "terraform.rc")
	if err := os.WriteFile(rc, []byte(cli.Mirror(filepath.Join(dir, "mirror"))), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &workshop{t: t, state: filepath.Join(work, "terraform.tfstate"), artifacts: filepath.Join(work, "artifacts")}
	w.env = append(tfrun.CleanEnv(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "TF_CLI_CONFIG_FILE="+rc, "CHECKPOINT_DISABLE=1")
	w.env = append(w.env, env...)
	if err := os.Mkdir(w.artifacts, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// image is the container image of the reference server, and command what it
// runs by itself.
const image = "ghcr.io/terraform-provider-byok/byok-server:1.0.0"

var imageCommand = []string{"serve", "--listen", "0.0.0.0:8787", "--database", "sqlite:/data/byok.db"}

// startService runs a service container of a job without a container, on a port
// of the test's own, until the test ends.
func (w *workshop) startService(from string, command []string, env map[string]string) (address string) {
	w.t.Helper()
	if from != image {
		w.t.Fatalf("this test does not know the image %s", from)
	}
	if len(command) == 0 {
		command = imageCommand
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		w.t.Fatal(err)
	}
	data := w.t.TempDir()
	var args []string
	for _, arg := range command {
		args = append(args, strings.NewReplacer("0.0.0.0:8787", address, "sqlite:/data/", "sqlite:"+data+"/").Replace(arg))
	}
	server := exec.Command(filepath.Join(toolsDir, "bin", "byok-server"), args...)
	server.Dir, server.Env = data, []string{}
	for name, value := range env {
		server.Env = append(server.Env, name+"="+value)
	}
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if w.t.Failed() {
			w.t.Logf("byok-server:\n%s", &log)
		}
	})
	return address
}

// checkout returns a folder with the configuration and the policy, and with the
// backend that the comment in the configuration asks for.
func (w *workshop) checkout() string {
	w.t.Helper()
	dir := w.t.TempDir()
	for from, to := range map[string]string{"examples/ci/terraform": dir, "examples/ci/policy": filepath.Join(dir, "policy")} {
		if err := os.CopyFS(to, os.DirFS(filepath.Join(root, from))); err != nil {
			w.t.Fatal(err)
		}
	}
	backend := fmt.Sprintf("terraform {\n  backend \"local\" {\n    path = %q\n  }\n}\n", w.state)
	if err := os.WriteFile(filepath.Join(dir, "backend.tf"), []byte(backend), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if w.edit != nil {
		w.edit(dir)
	}
	return dir
}

// shell runs a step. Its error has the output.
func (w *workshop) shell(dir string, command []string, env map[string]string) error {
	cmd := exec.CommandContext(w.t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, slices.Clone(w.env)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s\n%w\n%s", command[len(command)-1], err, out)
	}
	return nil
}

// workflow is a workflow of GitHub Actions.
type workflow struct {
	Env  map[string]string `yaml:"env"`
	Jobs yaml.Node         `yaml:"jobs"`
}

type job struct {
	Permissions map[string]string `yaml:"permissions"`
	Env         map[string]string `yaml:"env"`
	Services    map[string]struct {
		Image string            `yaml:"image"`
		Env   map[string]string `yaml:"env"`
		Ports []string          `yaml:"ports"`
	} `yaml:"services"`
	Steps []struct {
		Uses string            `yaml:"uses"`
		With map[string]string `yaml:"with"`
		Run  string            `yaml:"run"`
		Env  map[string]string `yaml:"env"`
	} `yaml:"steps"`
}

var expression = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

// github runs the jobs of a workflow in the order of the file. Expressions have
// the values of context.
func (w *workshop) github(file string, context map[string]string) error {
	w.t.Helper()
	var flow workflow
	if err := yaml.Unmarshal([]byte(read(w.t, "examples/ci/github-actions/"+file)), &flow); err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(flow.Jobs.Content); i += 2 {
		name := flow.Jobs.Content[i].Value
		var j job
		if err := flow.Jobs.Content[i+1].Decode(&j); err != nil {
			w.t.Fatal(err)
		}
		// Addresses of services, as the steps have them.
		var services []string
		for _, service := range j.Services {
			if !slices.Equal(service.Ports, []string{"8787:8787"}) {
				w.t.Errorf("%s: job %s publishes the ports %q", file, name, service.Ports)
			}
			services = append(services, "127.0.0.1:8787", w.startService(service.Image, nil, service.Env))
		}
		var dir string
		for _, step := range j.Steps {
			action, pin, _ := strings.Cut(step.Uses, "@")
			if step.Uses != "" && !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(pin) {
				w.t.Errorf("%s: %s is not pinned by commit", file, step.Uses)
			}
			switch action {
			case "":
				env := map[string]string{"GITHUB_REPOSITORY": "example/keys", "GITHUB_SHA": "0123456789"}
				for _, level := range []map[string]string{flow.Env, j.Env, step.Env} {
					for name, value := range level {
						env[name] = expression.ReplaceAllStringFunc(value, func(found string) string {
							value, ok := context[expression.FindStringSubmatch(found)[1]]
							if !ok {
								w.t.Errorf("%s: job %s uses %s, which it is not meant to have", file, name, found)
							}
							return value
						})
						env[name] = strings.NewReplacer(services...).Replace(env[name])
					}
				}
				if err := w.shell(dir, []string{"bash", "-e", "-c", step.Run}, env); err != nil {
					return fmt.Errorf("%s, job %s: %w", file, name, err)
				}
			case "actions/checkout":
				dir = w.checkout()
			case "hashicorp/setup-terraform":
			case "actions/upload-artifact":
				w.copy(filepath.Join(dir, step.With["path"]), filepath.Join(w.artifacts, step.With["path"]))
			case "actions/download-artifact":
				if err := os.CopyFS(dir, os.DirFS(w.artifacts)); err != nil {
					w.t.Fatal(err)
				}
			default:
				w.t.Fatalf("%s: this test does not know %s", file, action)
			}
		}
	}
	return nil
}

func (w *workshop) copy(from, to string) {
	w.t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// gitlabJob is a job of GitLab CI.
type gitlabJob struct {
	Stage     string            `yaml:"stage"`
	Extends   string            `yaml:"extends"`
	Variables map[string]string `yaml:"variables"`
	Script    []string          `yaml:"script"`
	Rules     []struct {
		If string `yaml:"if"`
	} `yaml:"rules"`
	Services []struct {
		Name      string            `yaml:"name"`
		Alias     string            `yaml:"alias"`
		Command   []string          `yaml:"command"`
		Variables map[string]string `yaml:"variables"`
	} `yaml:"services"`
	Artifacts struct {
		Paths []string `yaml:"paths"`
	} `yaml:"artifacts"`
}

// gitlab runs the jobs of a pipeline by stage, but for those of without. context
// has the variables of the project, which take precedence over those of a job.
func (w *workshop) gitlab(source string, context map[string]string, without ...string) error {
	w.t.Helper()
	var file map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(read(w.t, "examples/ci/gitlab/.gitlab-ci.yml")), &file); err != nil {
		w.t.Fatal(err)
	}
	var stages []string
	node := file["stages"]
	if err := node.Decode(&stages); err != nil {
		w.t.Fatal(err)
	}
	jobs := map[string]gitlabJob{}
	for name, node := range file {
		if name == "stages" || name == "default" {
			continue
		}
		var j gitlabJob
		if err := node.Decode(&j); err != nil {
			w.t.Fatal(err)
		}
		jobs[name] = j
	}
	for _, stage := range stages {
		for name, j := range jobs {
			wanted := slices.ContainsFunc(j.Rules, func(rule struct {
				If string `yaml:"if"`
			}) bool {
				return strings.Contains(rule.If, fmt.Sprintf("$CI_PIPELINE_SOURCE == %q", source))
			})
			if j.Stage != stage || !wanted || slices.Contains(without, name) {
				continue
			}
			dir := w.checkout()
			if err := os.CopyFS(dir, os.DirFS(w.artifacts)); err != nil {
				w.t.Fatal(err)
			}
			env := map[string]string{}
			for _, level := range []map[string]string{jobs[j.Extends].Variables, j.Variables, context} {
				for name, value := range level {
					env[name] = value
				}
			}
			var services []string
			for _, service := range j.Services {
				services = append(services, service.Alias+":8787", w.startService(service.Name, service.Command, service.Variables))
			}
			script := strings.NewReplacer(services...).Replace(strings.Join(j.Script, "\n"))
			if err := w.shell(dir, []string{"sh", "-e", "-c", script}, env); err != nil {
				return fmt.Errorf("job %s: %w", name, err)
			}
			for _, path := range j.Artifacts.Paths {
				w.copy(filepath.Join(dir, path), filepath.Join(w.artifacts, path))
			}
		}
	}
	return nil
}

const (
	secretPrimary = "sk-real-primary-aaaaaaaa"
	secretSpare   = "sk-real-spare-bbbbbbbbbb"
	secrets       = `{"primary":"` + secretPrimary + `","spare":"` + secretSpare + `"}`
)

// served is what two requests for a key get.
func served(t *testing.T, s *acctest.Server) []string {
	t.Helper()
	var all []string
	for range 2 {
		if key := s.Resolve(t, s.WorkspaceID, "openai"); key != nil {
			all = append(all, key.APIKey)
		}
	}
	slices.Sort(all)
	return all
}

// withoutPool makes checkouts declare no keys.
func withoutPool(t *testing.T) func(dir string) {
	return func(dir string) {
		file := filepath.Join(dir, "main.tf")
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after, _, found := strings.Cut(string(before), "resource \"byok_pool\"")
		if !found {
			t.Fatal("the example has no pool")
		}
		if err := os.WriteFile(file, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// addPool makes checkouts declare a byok_pool beside the example.
func addPool(t *testing.T, names ...string) func(dir string) {
	return func(dir string) {
		text := "resource \"byok_pool\" \"more\" {\n  provider_id = \"anthropic\"\n  keys = {\n"
		for _, name := range names {
			text += fmt.Sprintf("    %s = { api_key_wo = \"sk-real-%s-cccccccccc\" }\n", name, name)
		}
		text += "  }\n  lifecycle {\n    prevent_destroy = true\n  }\n}\n"
		if err := os.WriteFile(filepath.Join(dir, "pool.tf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// pipelines is the life of a configuration in a pipeline: plan, apply, plan
// again, drift, and a change that the policy denies.
func pipelines(t *testing.T, s *acctest.Server, w *workshop, plan, apply, drift func() error) {
	t.Helper()
	must := func(step func() error) {
		t.Helper()
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(step func() error, with string) {
		t.Helper()
		if err := step(); err == nil || !strings.Contains(err.Error(), with) {
			t.Fatalf("error %v, want one with %q", err, with)
		}
	}
	must(plan)
	if n := len(s.List(t, s.WorkspaceID)); n != 0 {
		t.Fatalf("a plan has added %d keys", n)
	}
	must(apply)
	want := []string{secretPrimary, secretSpare}
	if got := served(t, s); !slices.Equal(got, want) {
		t.Fatalf("served %q, want %q", got, want)
	}
	must(plan)
	must(apply)
	must(drift)
	if n := s.Count("POST", "/byok-keys"); n != len(want) {
		t.Errorf("%d uploads, want %d: an apply without changes uploads", n, len(want))
	}

	w.edit = withoutPool(t)
	fails(plan, `removes the last keys of pool "openai"`)
	// The plan that is applied is made anew, and checked anew.
	fails(apply, `removes the last keys of pool "openai"`)
	w.edit = nil

	s.Delete(t, s.WorkspaceID, "openai", s.List(t, s.WorkspaceID)[0].ID)
	fails(drift, "exit status 2")
	must(apply)
	must(drift)
	if got := served(t, s); !slices.Equal(got, want) {
		t.Errorf("served %q, want %q", got, want)
	}
}

func TestGitHubActions(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	s := acctest.Start(t)
	reader := map[string]string{
		"vars.BYOK_ENDPOINT":                              s.URL,
		"vars.BYOK_WORKSPACE_ID":                          s.WorkspaceID,
		"secrets.BYOK_READER_SESSION_TOKEN":               s.NewUser(t, "read", s.WorkspaceID).SessionToken,
		"toJSON(github.event.pull_request.labels.*.name)": `["documentation"]`,
	}
	admin := map[string]string{"secrets.BYOK_ADMIN_SESSION_TOKEN": s.SessionToken, "secrets.OPENAI_API_KEYS": secrets, "github.token": "token"}
	for name, value := range reader {
		admin[name] = value
	}
	plan := func() error { return w.github("plan.yml", reader) }
	apply := func() error { return w.github("apply.yml", admin) }
	pipelines(t, s, w, plan, apply, func() error { return w.github("drift.yml", reader) })

	// Removing a key from a byok_pool is an update, which prevent_destroy
	// does not stop.
	w.edit = addPool(t, "a", "b")
	if err := apply(); err != nil {
		t.Fatal(err)
	}
	w.edit = addPool(t, "a")
	if err := plan(); err == nil || !strings.Contains(err.Error(), `removes the key "b"`) {
		t.Errorf("error %v, want the policy to deny it", err)
	}
}

func TestGitLabCI(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	s := acctest.Start(t)
	reader := map[string]string{
		"BYOK_ENDPOINT":             s.URL,
		"BYOK_WORKSPACE_ID":         s.WorkspaceID,
		"BYOK_READER_SESSION_TOKEN": s.NewUser(t, "read", s.WorkspaceID).SessionToken,
		"CI_MERGE_REQUEST_LABELS":   "documentation,remove-keys",
	}
	admin := map[string]string{"BYOK_ADMIN_SESSION_TOKEN": s.SessionToken, "OPENAI_API_KEYS": secrets}
	for name, value := range reader {
		admin[name] = value
	}
	delete(admin, "CI_MERGE_REQUEST_LABELS") // there is no merge request any more
	push := func() error { return w.gitlab("push", admin) }
	pipelines(t, s, w,
		func() error { return w.gitlab("merge_request_event", reader, "test") },
		push,
		func() error { return w.gitlab("schedule", reader) })

	// What a label allowed is allowed by a pipeline that is run with it.
	w.edit = addPool(t, "a", "b")
	if err := push(); err != nil {
		t.Fatal(err)
	}
	w.edit = addPool(t, "a")
	if err := push(); err == nil || !strings.Contains(err.Error(), `removes the key "b"`) {
		t.Errorf("error %v, want the policy to deny it", err)
	}
	admin["POLICY_LABELS"] = `a "quoted" one,remove-keys`
	if err := w.gitlab("web", admin); err != nil {
		t.Error(err)
	}
}

// The job with the reference server as a service. The variables of the project
// point to a deployment that is not there.
func TestGitLabCIWithReferenceServer(t *testing.T) {
	t.Parallel()
	project := map[string]string{"BYOK_ENDPOINT": "http://127.0.0.1:1", "BYOK_WORKSPACE_ID": "production", "BYOK_READER_SESSION_TOKEN": "none"}
	if err := newWorkshop(t).gitlab("merge_request_event", project, "plan", "policy"); err != nil {
		t.Fatal(err)
	}
}

// The workflow with the reference server as a service container.
func TestGitHubActionsWithReferenceServer(t *testing.T) {
	t.Parallel()
	if err := newWorkshop(t).github("test.yml", nil); err != nil {
		t.Fatal(err)
	}
}
