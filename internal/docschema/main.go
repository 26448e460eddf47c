// Command docschema copies what "terraform providers schema -json" prints, with
// the schemas of list resources: Terraform before 1.14 and OpenTofu leave them
// out, and the pages have to be the same whichever of them generates.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docschema:", err)
		os.Exit(1)
	}
}

type attribute struct {
	Type            json.RawMessage `json:"type"`
	Description     string          `json:"description"`
	DescriptionKind string          `json:"description_kind"`
	Optional        bool            `json:"optional"`
}

type block struct {
	Attributes      map[string]attribute `json:"attributes"`
	Description     string               `json:"description"`
	DescriptionKind string               `json:"description_kind"`
}

type schema struct {
	Version int64 `json:"version"`
	Block   block `json:"block"`
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	var all struct {
		FormatVersion string                                `json:"format_version"`
		Providers     map[string]map[string]json.RawMessage `json:"provider_schemas"`
	}
	if err := json.NewDecoder(in).Decode(&all); err != nil {
		return fmt.Errorf("the output of terraform providers schema -json: %w", err)
	}
	if len(all.Providers) != 1 {
		return fmt.Errorf("%d providers, want one", len(all.Providers))
	}
	lists, err := listSchemas(ctx)
	if err != nil {
		return err
	}
	for _, schemas := range all.Providers {
		schemas["list_resource_schemas"] = lists
	}
	return json.NewEncoder(out).Encode(all)
}

func listSchemas(ctx context.Context) (json.RawMessage, error) {
	resp, err := provider.NewServer("docs")().GetProviderSchema(ctx, &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		return nil, err
	}
	all := map[string]schema{}
	for name, of := range resp.ListResourceSchemas {
		if len(of.Block.BlockTypes) > 0 {
			return nil, fmt.Errorf("%s has nested blocks, which this command does not know", name)
		}
		attributes := map[string]attribute{}
		for _, a := range of.Block.Attributes {
			typ, err := a.Type.MarshalJSON() //nolint:staticcheck // the form of the schema's JSON
			if err != nil {
				return nil, fmt.Errorf("attribute %s of %s: %w", a.Name, name, err)
			}
			if !a.Optional {
				return nil, fmt.Errorf("attribute %s of %s is not optional, which this command does not know", a.Name, name)
			}
			attributes[a.Name] = attribute{typ, a.Description, "markdown", true}
		}
		all[name] = schema{of.Version, block{attributes, of.Block.Description, "markdown"}}
	}
	return json.Marshal(all)
}
