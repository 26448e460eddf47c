// Command policy evaluates a policy as conftest does, for the tests of the
// pipelines in examples/ci. It knows what they use of conftest:
//
//	policy test PLAN.json --policy DIR --data FILE.json
//
// It prints what the rules deny and ends with 1 if there is anything.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "policy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 6 || args[0] != "test" || args[2] != "--policy" || args[4] != "--data" {
		return errors.New("usage: policy test PLAN.json --policy DIR --data FILE.json")
	}
	var plan any
	var data map[string]any
	if err := errors.Join(readJSON(args[1], &plan), readJSON(args[5], &data)); err != nil {
		return err
	}
	denied, err := evaluate(ctx, args[3], plan, data)
	if err != nil {
		return err
	}
	for _, message := range denied {
		fmt.Fprintln(out, "FAIL -", message)
	}
	if len(denied) > 0 {
		return fmt.Errorf("%d denied", len(denied))
	}
	return nil
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// evaluate returns what the policy in dir denies, sorted.
func evaluate(ctx context.Context, dir string, plan any, data map[string]any) ([]string, error) {
	options := []func(*rego.Rego){
		rego.Query("data.main.deny"),
		rego.Store(inmem.NewFromObject(data)),
		rego.Input(plan),
		rego.StrictBuiltinErrors(true),
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.rego"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		options = append(options, rego.Module(file, string(text)))
	}
	results, err := rego.New(options...).Eval(ctx)
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("%s defines no rule main.deny", dir)
	}
	var denied []string
	for _, message := range results[0].Expressions[0].Value.([]any) {
		denied = append(denied, fmt.Sprint(message))
	}
	slices.Sort(denied)
	return denied, nil
}
