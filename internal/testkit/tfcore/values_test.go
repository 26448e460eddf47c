package tfcore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

func TestAttributesAreWhatObjectTakes(t *testing.T) {
	t.Parallel()
	inner := tftypes.Object{AttributeTypes: map[string]tftypes.Type{"create": tftypes.String}}
	typ := tftypes.Object{AttributeTypes: map[string]tftypes.Type{
		"text": tftypes.String, "number": tftypes.Number, "truth": tftypes.Bool, "none": tftypes.String, "object": inner,
		"list": tftypes.List{ElementType: inner}, "map": tftypes.Map{ElementType: tftypes.String}, "later": tftypes.String,
	}}
	set := map[string]any{
		"text": "a", "number": int64(7), "truth": true, "object": map[string]any{"create": nil},
		"list": []any{map[string]any{"create": "5m"}}, "map": map[string]any{"x": "y"}, "later": tftypes.UnknownValue,
	}
	value := Object(typ, set)
	want := map[string]any{"none": nil, "later": "(unknown)"}
	for name, v := range set {
		if name != "later" {
			want[name] = v
		}
	}
	if diff := cmp.Diff(want, Attributes(Decode(typ, Encode(typ, value)))); diff != "" {
		t.Error(diff)
	}
	if got := Attributes(Null(typ)); got != nil {
		t.Errorf("the null object has %v", got)
	}
}

func TestProposed(t *testing.T) {
	t.Parallel()
	schema := &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{Attributes: []*tfprotov6.SchemaAttribute{
		{Name: "id", Type: tftypes.String, Computed: true},
		{Name: "name", Type: tftypes.String, Optional: true},
		{Name: "secret", Type: tftypes.String, Optional: true, WriteOnly: true},
	}}}
	typ := schema.ValueType()
	config := Object(typ, map[string]any{"secret": "s"})
	prior := Object(typ, map[string]any{"id": "1", "name": "old"})
	for title, tc := range map[string]struct {
		config, prior tftypes.Value
		want          map[string]any
	}{
		"update": {config, prior, map[string]any{"id": "1", "name": nil, "secret": nil}},
		"create": {config, Null(typ), map[string]any{"id": nil, "name": nil, "secret": nil}},
		"delete": {Null(typ), prior, nil},
	} {
		if diff := cmp.Diff(tc.want, Attributes(Proposed(schema, tc.config, tc.prior))); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
	}
}
