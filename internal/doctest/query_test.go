package doctest

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// Every example of a query is formatted, and has list blocks of this provider
// with arguments that there are. Terraform 1.14 and later validates it, too.
func TestQueries(t *testing.T) {
	t.Parallel()
	schemas, err := provider.NewServer("test")().GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "examples", "list-resources", "*", "list-resource*.tfquery.hcl"))
	if err != nil || len(files) != len(schemas.ListResourceSchemas) {
		t.Fatalf("%d examples for %d list resources, %v", len(files), len(schemas.ListResourceSchemas), err)
	}
	for _, file := range files {
		path, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			text := read(t, path)
			if formatted := string(hclwrite.Format([]byte(text))); formatted != text {
				t.Errorf("is to be\n%s", formatted)
			}
			checkQuery(t, schemas.ListResourceSchemas, filepath.Base(filepath.Dir(file)), path, text)
			tf := tfrun.New(t)
			if tf.CLI().IsOpenTofu() || olderThan(t, tf, 14) {
				t.Log("not validated by Terraform, which has queries from 1.14 on")
				return
			}
			tf.Write(t, "main.tf", "provider \"byok\" {}\n")
			tf.Write(t, filepath.Base(path), text)
			if r := tf.Try(t, "validate", "-query", "-no-color"); r.Exit != 0 {
				t.Error(r.Output)
			}
		})
	}
}

func checkQuery(t *testing.T, schemas map[string]*tfprotov6.Schema, typeName, path, text string) {
	t.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(text), path, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	lists := file.Body.(*hclsyntax.Body).Blocks
	if len(lists) == 0 {
		t.Error("no list block")
	}
	for _, list := range lists {
		if list.Type != "list" || list.Labels[0] != typeName {
			t.Errorf("%s %v", list.Type, list.Labels)
		}
		for name := range list.Body.Attributes {
			if !slices.Contains([]string{"provider", "limit", "include_resource"}, name) {
				t.Errorf("Terraform has no argument %s", name)
			}
		}
		for _, config := range list.Body.Blocks {
			for name := range config.Body.Attributes {
				if config.Type != "config" || !slices.ContainsFunc(schemas[typeName].Block.Attributes, func(a *tfprotov6.SchemaAttribute) bool { return a.Name == name }) {
					t.Errorf("%s has no argument %s", typeName, name)
				}
			}
		}
	}
}
