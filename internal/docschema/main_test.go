package main

import (
	"encoding/json"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"
)

func TestRun(t *testing.T) {
	t.Parallel()
	const kept = `{"format_version":"1.0","provider_schemas":{"byok":{"data_source_schemas":{"byok_x":{"version":3}}}}}`
	var out strings.Builder
	if err := run(t.Context(), strings.NewReader(kept), &out); err != nil {
		t.Fatal(err)
	}
	var schemas tfjson.ProviderSchemas
	if err := json.Unmarshal([]byte(out.String()), &schemas); err != nil {
		t.Fatal(err)
	}
	byok := schemas.Schemas["byok"]
	if byok.DataSourceSchemas["byok_x"].Version != 3 {
		t.Error("what was there is gone")
	}
	for _, name := range []string{"byok_key", "byok_pool"} {
		list := byok.ListResourceSchemas[name]
		if list == nil || list.Block.Description == "" || len(list.Block.Attributes) != 3 {
			t.Fatalf("%s: %+v", name, list)
		}
		a := list.Block.Attributes["workspace_ids"]
		if !a.Optional || a.AttributeType.FriendlyName() != "list of string" || !strings.Contains(a.Description, `["*"]`) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for _, wrong := range []string{"", "{}", `{"provider_schemas":{"a":{},"b":{}}}`} {
		if err := run(t.Context(), strings.NewReader(wrong), &out); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}
