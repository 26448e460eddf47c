package provider

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

func ptr[T any](v T) *T { return &v }

func TestAddInput(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		name types.String
		want *string
	}{
		"none":    {types.StringNull(), nil},
		"blank":   {types.StringValue(" \t"), nil},
		"trimmed": {types.StringValue(" prod\u00a0"), ptr("prod")},
	} {
		got := keyModel{ProviderID: types.StringValue("openai"), Name: tc.name}.addInput(secretA)
		want := client.AddInput{APIKey: secretA, Name: tc.want, WaitForCapacity: true}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
	}
}

// The API keeps a stored name unless the request has one: a name that is
// removed has to be sent as blank.
func TestReplaceInput(t *testing.T) {
	t.Parallel()
	prior := stored(secretA)
	for title, tc := range map[string]struct {
		name types.String
		want string
	}{
		"none":    {types.StringNull(), ""},
		"trimmed": {types.StringValue(" prod "), "prod"},
	} {
		got := with(stored(secretA), func(m *keyModel) { m.Name = tc.name }).replaceInput(secretB, prior)
		want := client.ReplaceInput{KeyID: "key-1", APIKey: secretB, Name: &tc.want, Prior: &byok.Key{
			ID: "key-1", ProviderID: "openai", MaskedKey: byok.Mask(secretA), CreatedBy: ptr("user"), CreatedAt: written, UpdatedAt: written,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
	}
}

func TestWithCreated(t *testing.T) {
	t.Parallel()
	m := keyModel{Name: types.StringValue(" prod ")}.withCreated(byok.Key{ID: "k", Name: ptr("prod"), MaskedKey: "m", CreatedAt: written})
	if m.Name.ValueString() != " prod " {
		t.Errorf("name = %q, want the configured text", m.Name.ValueString())
	}
	if m.UpdatedAt.ValueString() != written || !m.CreatedBy.IsNull() {
		t.Errorf("an incomplete record gives updated_at %s and created_by %s", m.UpdatedAt, m.CreatedBy)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	remote := byok.Key{ID: "key-1", ProviderID: "openai", Name: ptr("prod"), MaskedKey: byok.Mask(secretA), CreatedBy: ptr("user"), CreatedAt: written, UpdatedAt: written}
	theirs := remote
	theirs.Name, theirs.MaskedKey, theirs.UpdatedAt = ptr("theirs"), byok.Mask(secretB), moved
	unnamed := remote
	unnamed.Name = nil
	record := writtenRecord(remote)
	renamed := record
	renamed.RenamedTo = ptr("theirs")
	unread := record
	unread.UpdatedAt = ""

	for title, tc := range map[string]struct {
		prior      keyModel
		record     keyRecord
		key        byok.Key
		wantName   types.String
		wantMask   string
		wantRecord keyRecord
		changed    bool
	}{
		"unchanged":                 {stored(secretA), record, remote, types.StringValue("prod"), byok.Mask(secretA), record, false},
		"configured text kept":      {stored(secretA, name(" prod ")), record, remote, types.StringValue(" prod "), byok.Mask(secretA), record, false},
		"blank kept":                {stored(secretA, name(" ")), record, unnamed, types.StringValue(" "), byok.Mask(secretA), record, false},
		"name gone":                 {stored(secretA), record, unnamed, types.StringNull(), byok.Mask(secretA), record, true},
		"repair":                    {stored(secretA), record, theirs, types.StringValue("theirs"), byok.Mask(secretB), record, true},
		"warn":                      {stored(secretA, warnOnly), record, theirs, types.StringValue("prod"), byok.Mask(secretB), renamed, true},
		"warn, named back":          {stored(secretA, warnOnly), renamed, remote, types.StringValue("prod"), byok.Mask(secretA), record, true},
		"no record":                 {stored(secretA), keyRecord{}, theirs, types.StringValue("theirs"), byok.Mask(secretB), adoptedRecord(theirs), true},
		"write that was not listed": {stored(secretA), unread, remote, types.StringValue("prod"), byok.Mask(secretA), record, true},
	} {
		state, got, changed := refresh(tc.prior, tc.record, tc.key)
		if !state.Name.Equal(tc.wantName) || state.MaskedKey.ValueString() != tc.wantMask || changed != tc.changed {
			t.Errorf("%s: name %s, masked key %s, changed %v", title, state.Name, state.MaskedKey, changed)
		}
		if diff := cmp.Diff(tc.wantRecord, got); diff != "" {
			t.Errorf("%s: record %s", title, diff)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	of := func(values map[string]attr.Value) keyModel {
		attrs := map[string]attr.Type{}
		for _, name := range []string{"create", "read", "update", "delete"} {
			attrs[name] = types.StringType
			if _, ok := values[name]; !ok {
				values[name] = types.StringNull()
			}
		}
		return keyModel{Timeouts: timeouts.Value{Object: types.ObjectValueMust(attrs, values)}}
	}
	d, diags := of(map[string]attr.Value{"create": types.StringValue("5m"), "delete": types.StringValue("1s")}).durations()
	want := durations{create: 5 * time.Minute, read: defaultTimeout, update: defaultTimeout, delete: time.Second}
	if diags.HasError() || d != want {
		t.Errorf("%+v, %v; want %+v", d, diags, want)
	}
	for _, bad := range []string{"0s", "-1m", "soon"} {
		_, diags := of(map[string]attr.Value{"update": types.StringValue(bad)}).durations()
		if at, ok := diags.Errors()[0].(diag.DiagnosticWithPath); len(diags) != 1 || !ok || !at.Path().Equal(path.Root("timeouts").AtName("update")) {
			t.Errorf("%q: %v", bad, diags)
		}
	}
	if d, diags := (keyModel{}).durations(); diags.HasError() || d.create != defaultTimeout {
		t.Errorf("no block: %+v, %v", d, diags)
	}
}

func TestKeyRefNamesEverythingButTheSecret(t *testing.T) {
	t.Parallel()
	got := stored(secretA, apiKey(secretA)).ref().String()
	if want := `key "prod" (ID key-1) of provider ID "openai" in workspace "ws"`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if strings.Contains(got, secretA) {
		t.Error("the secret is in the text")
	}
}
