package doctest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// snippet is a block of HCL in a page.
var snippet = regexp.MustCompile("(?s)\n *```terraform\n(.*?)\n *```")

// Every block of HCL in the pages is formatted as terraform fmt does, and valid.
func TestSnippets(t *testing.T) {
	t.Parallel()
	n := 0
	for _, page := range pages(t) {
		for _, match := range snippet.FindAllStringSubmatch(page.text, -1) {
			n++
			t.Run(fmt.Sprintf("%s/%d", page.path, n), func(t *testing.T) {
				t.Parallel()
				tf := tfrun.New(t)
				cmd := tf.Command(t.Context(), "fmt", "-")
				cmd.Stdin = strings.NewReader(match[1] + "\n")
				if formatted, err := cmd.CombinedOutput(); err != nil || string(formatted) != match[1]+"\n" {
					t.Errorf("%v\n%s\nis to be\n%s", err, match[1], formatted)
				}
				tf.Write(t, "main.tf", match[1]+"\n")
				validate(t, tf, match[1])
			})
		}
	}
	if n == 0 {
		t.Error("the pages have no HCL")
	}
}

// Every example is formatted and valid: files of examples/resources,
// data-sources, functions and provider by themselves, others by folder.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	if r := tfrun.Empty(t).Try(t, "fmt", "-check", "-diff", "-recursive", examples); r.Exit != 0 {
		t.Errorf("not formatted:\n%s", r.Output)
	}
	var units [][]string // paths below examples
	folders := map[string][]string{}
	for _, pattern := range []string{"*/*.tf", "*/*/*.tf"} {
		files, err := filepath.Glob(filepath.Join(examples, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			path, err := filepath.Rel(examples, file)
			if err != nil {
				t.Fatal(err)
			}
			switch top, _, _ := strings.Cut(path, "/"); top {
			case "resources", "data-sources", "functions", "provider", "list-resources":
				units = append(units, []string{path})
			default:
				folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], path)
			}
		}
	}
	for _, files := range folders {
		units = append(units, files)
	}
	if len(units) < 10 {
		t.Fatalf("only %d examples found", len(units))
	}
	for _, files := range units {
		t.Run(files[0], func(t *testing.T) {
			t.Parallel()
			tf := tfrun.New(t)
			if strings.HasPrefix(filepath.Base(files[0]), "identity") && olderThan(t, tf, 12) {
				t.Skip("NOT RUN: import by identity needs Terraform 1.12")
			}
			var all strings.Builder
			for _, file := range files {
				text := read(t, filepath.Join("examples", file))
				tf.Write(t, filepath.Base(file), text)
				all.WriteString(text)
			}
			for _, match := range regexp.MustCompile(`(?m)^ *source += "\./(\w+)"`).FindAllStringSubmatch(all.String(), -1) {
				from := filepath.Join(examples, filepath.Dir(files[0]), match[1])
				if err := os.CopyFS(filepath.Join(tf.Dir, match[1]), os.DirFS(from)); err != nil {
					t.Fatal(err)
				}
				tf.Must(t, "get", "-no-color")
			}
			validate(t, tf, all.String())
		})
	}
}

// olderThan reports whether the binary is 1.MINOR with a lower minor version.
func olderThan(t *testing.T, tf *tfrun.Folder, minor int) bool {
	t.Helper()
	var version struct {
		Version string `json:"terraform_version"`
	}
	if err := json.Unmarshal([]byte(tf.Stdout(t, "version", "-json")), &version); err != nil {
		t.Fatal(err)
	}
	have, err := strconv.Atoi(strings.Split(version.Version, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return have < minor
}

var (
	foreign   = regexp.MustCompile(`(?m)^(?:ephemeral|resource|data) "(vault|aws|random)_`)
	declared  = regexp.MustCompile(`(?m)^variable "(\w+)"`)
	variables = regexp.MustCompile(`\bvar\.(\w+)(\[)?`)
	resources = regexp.MustCompile(`(?m)^resource "(byok_\w+)" "(\w+)"`)
	targets   = regexp.MustCompile(`\b(byok_key|byok_pool)\.(\w+)`)
	data      = regexp.MustCompile(`\bdata\.byok_keys\.(\w+)`)
	alias     = regexp.MustCompile(`\bbyok\.(\w+)`)
)

// validate validates a configuration, and declares what it leaves to the
// reader: variables, resources that it refers to, and the provider.
func validate(t *testing.T, tf *tfrun.Folder, text string) {
	t.Helper()
	if match := foreign.FindStringSubmatch(text); match != nil {
		t.Logf("not validated, because it uses another provider: %s", match[1])
		return
	}
	if strings.Contains(text, "required_providers") {
		if err := os.Remove(filepath.Join(tf.Dir, "terraform.tf")); err != nil {
			t.Fatal(err)
		}
	}
	var given strings.Builder
	known := map[string]bool{}
	for _, match := range declared.FindAllStringSubmatch(text, -1) {
		known["var."+match[1]] = true
	}
	for _, match := range resources.FindAllStringSubmatch(text, -1) {
		known[match[1]+"."+match[2]] = true
	}
	add := func(name, block string) {
		if !known[name] {
			known[name] = true
			given.WriteString(block)
		}
	}
	for _, match := range variables.FindAllStringSubmatch(text, -1) {
		kind := "string"
		if match[2] != "" {
			kind = "map(string)"
		}
		add("var."+match[1], fmt.Sprintf("variable %q {\n  type = %s\n  ephemeral = true\n}\n", match[1], kind))
	}
	forgotten := regexp.MustCompile(`(?s)\n?removed \{\n  from = (\S+)`).FindAllStringSubmatch(text, -1)
	for _, match := range targets.FindAllStringSubmatch(text, -1) {
		gone := slices.ContainsFunc(forgotten, func(from []string) bool { return from[1] == match[0] })
		if gone || strings.Contains(text, "data."+match[0]) {
			continue
		}
		block := fmt.Sprintf("resource %q %q {\n  provider_id = \"openai\"\n}\n", match[1], match[2])
		if match[1] == "byok_pool" {
			block = fmt.Sprintf("resource %q %q {\n  provider_id = \"openai\"\n  keys = { a = {} }\n}\n", match[1], match[2])
		}
		add(match[0], block)
	}
	for _, match := range data.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, fmt.Sprintf("data \"byok_keys\" %q", match[1])) {
			add(match[0], fmt.Sprintf("data \"byok_keys\" %q {}\n", match[1]))
		}
	}
	for _, match := range alias.FindAllStringSubmatch(text, -1) {
		if strings.Contains(text, "provider = "+match[0]) && !regexp.MustCompile(fmt.Sprintf(`alias += %q`, match[1])).MatchString(text) {
			add("alias."+match[1], fmt.Sprintf("provider \"byok\" {\n  alias = %q\n}\n", match[1]))
		}
	}
	tf.Write(t, "given.tf", given.String())
	if r := tf.Try(t, "validate", "-no-color"); r.Exit != 0 {
		t.Errorf("%s\nwith\n%s", r.Output, given.String())
	}
}
