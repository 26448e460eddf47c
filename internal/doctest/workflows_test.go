package doctest

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// repositoryWorkflow is what TestWorkflows checks of a workflow.
type repositoryWorkflow struct {
	Permissions map[string]string `yaml:"permissions"`
	Concurrency struct {
		Group string `yaml:"group"`
	} `yaml:"concurrency"`
	Jobs map[string]struct {
		Permissions map[string]string `yaml:"permissions"`
		Timeout     int               `yaml:"timeout-minutes"`
		Environment string            `yaml:"environment"`
		Needs       []string          `yaml:"needs"`
		Strategy    struct {
			Matrix struct {
				Include []struct {
					CLI     string `yaml:"cli"`
					Version string `yaml:"version"`
				} `yaml:"include"`
			} `yaml:"matrix"`
		} `yaml:"strategy"`
		Steps []struct {
			Uses string            `yaml:"uses"`
			With map[string]string `yaml:"with"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// oneNeed writes `needs: JOB` as the list that it stands for.
var oneNeed = regexp.MustCompile(`(?m)^( +needs): (\w[\w-]*)$`)

func readWorkflow(t *testing.T, path string) (flow repositoryWorkflow) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(oneNeed.ReplaceAllString(read(t, path), "$1: [$2]")), &flow); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return flow
}

// Every workflow, of this repository and of the examples, pins its actions by
// commit, grants each job no more than it lists, leaves no credentials in the
// checkout, and ends by itself.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, folder := range []string{".github/workflows", "examples/ci/github-actions"} {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.yml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", folder, err)
		}
		for _, file := range files {
			paths = append(paths, filepath.Join(folder, filepath.Base(file)))
		}
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	for _, path := range paths {
		flow, text := readWorkflow(t, path), read(t, path)
		if flow.Permissions == nil || len(flow.Permissions) > 0 {
			t.Errorf("%s: permissions %v for all jobs, want {}", path, flow.Permissions)
		}
		if strings.HasPrefix(path, ".github/") && flow.Concurrency.Group == "" {
			t.Errorf("%s has no concurrency group", path)
		}
		for name, job := range flow.Jobs {
			if job.Permissions == nil {
				t.Errorf("%s: %s does not list its permissions", path, name)
			}
			if job.Timeout == 0 {
				t.Errorf("%s: %s has no timeout-minutes", path, name)
			}
			for _, permission := range []string{"packages", "id-token", "attestations"} {
				if job.Permissions[permission] == "write" && job.Environment != "release" {
					t.Errorf("%s: %s may write %s outside of the environment release", path, name, permission)
				}
			}
			for _, step := range job.Steps {
				if step.Uses == "" {
					continue
				}
				if !regexp.MustCompile(`(?m)`+regexp.QuoteMeta(step.Uses)+` # v\d+\.\d+\.\d+$`).MatchString(text) ||
					!regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(step.Uses) {
					t.Errorf("%s: %s: %s is not a commit with its version as a comment", path, name, step.Uses)
				}
				// A go-version-file means the first release of that version of Go, with
				// the faults that later ones mend.
				if want := goVersion + ".x"; strings.HasPrefix(step.Uses, "actions/setup-go@") &&
					(step.With["go-version"] != want || step.With["check-latest"] != "true") {
					t.Errorf("%s: %s sets up Go with %v, want the newest %s", path, name, step.With, want)
				}
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != "false" {
					t.Errorf("%s: %s keeps the credentials of its checkout", path, name)
				}
			}
		}
	}
}

// The job check, which the settings of the repository require, waits for all
// others of its workflow.
func TestRequiredCheckWaitsForAllJobs(t *testing.T) {
	t.Parallel()
	flow := readWorkflow(t, ".github/workflows/test.yml")
	var others []string
	for name := range flow.Jobs {
		if name != "check" {
			others = append(others, name)
		}
	}
	needs := slices.Clone(flow.Jobs["check"].Needs)
	slices.Sort(others)
	slices.Sort(needs)
	if !slices.Equal(needs, others) {
		t.Errorf("check needs %q, the other jobs are %q", needs, others)
	}
}

// The guide on compatibility lists the versions that the tests run with.
func TestVersionsOfTheTests(t *testing.T) {
	t.Parallel()
	versions := map[string][]string{}
	for _, entry := range readWorkflow(t, ".github/workflows/test.yml").Jobs["test"].Strategy.Matrix.Include {
		if entry.Version != "latest" {
			entry.Version = strings.TrimSuffix(strings.TrimPrefix(entry.Version, "~"), ".0")
		}
		versions[entry.CLI] = append(versions[entry.CLI], entry.Version)
	}
	listed := func(cli string) string {
		return strings.ReplaceAll(strings.Join(versions[cli], ", "), ", latest", " and the newest version")
	}
	want := "CI is set up for Terraform " + listed("terraform") + ", and for OpenTofu " + listed("tofu") + "."
	if !strings.Contains(strings.ReplaceAll(read(t, "templates/guides/compatibility.md.tmpl"), "\n", " "), want) {
		t.Errorf("the guide does not say: %s", want)
	}
}
