package provider

import (
	"bytes"
	"context"
	"encoding/base64"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// private stands in for the framework's private state.
type private map[string][]byte

func (p private) GetKey(_ context.Context, key string) ([]byte, diag.Diagnostics) { return p[key], nil }
func (p private) SetKey(_ context.Context, key string, value []byte) diag.Diagnostics {
	p[key] = value
	return nil
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	key := byok.Key{ID: "key-1", MaskedKey: byok.Mask(secretA), UpdatedAt: written}
	for title, record := range map[string]keyRecord{
		"written":    writtenRecord(key),
		"adopted":    adoptedRecord(key),
		"write-only": writtenRecord(key).declared(configured(apiKeyWO(secretA))),
	} {
		store := private{}
		if diags := record.write(ctx, store); diags.HasError() {
			t.Fatal(diags)
		}
		if diff := cmp.Diff(record, readRecord(ctx, store)); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
		if len(store[recordKey]) > 160 {
			t.Errorf("%s: %d bytes", title, len(store[recordKey]))
		}
	}
}

func TestReadRecordTakesAnythingElseForAbsent(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "null", "{}", `{"v":1,"id":"x"}`, `[1]`, `{"v":"1"}`, "\xff"} {
		if r := readRecord(context.Background(), private{recordKey: []byte(data)}); !r.absent() || r.ID != "" {
			t.Errorf("%q is read as %+v", data, r)
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"v":2,"id":"key-1","mask":"x","at":"y","sum":"AAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := readRecord(context.Background(), private{recordKey: data})
		if r.absent() && !cmp.Equal(r, keyRecord{}) {
			t.Errorf("an absent record holds %+v", r)
		}
		r.recognises(types.StringValue("x"))
	})
}

func TestRecordRecognisesOnlyTheUploadedValue(t *testing.T) {
	t.Parallel()
	r := keyRecord{}.declared(configured(apiKeyWO(secretA)))
	if !r.recognises(types.StringValue(secretA)) {
		t.Error("the uploaded value is not recognised")
	}
	if r.recognises(types.StringValue(secretB)) || (keyRecord{}).recognises(types.StringValue("")) {
		t.Error("another value is recognised")
	}
	if again := (keyRecord{}).declared(configured(apiKeyWO(secretA))); bytes.Equal(r.Sum, again.Sum) {
		t.Error("equal values give equal sums: there is no salt")
	}
}

func TestRecordHoldsNothingOfTheValue(t *testing.T) {
	t.Parallel()
	for title, config := range map[string]keyModel{
		"api_key":            configured(apiKey(secretA)),
		"write-only":         configured(apiKeyWO(secretA)),
		"write-only version": configured(apiKeyWO(secretA), version(1)),
	} {
		store := private{}
		before := adopted(secretA).declared(configured(apiKeyWO(secretB)))
		before.declared(config).write(context.Background(), store)
		for _, form := range []string{secretA, base64.StdEncoding.EncodeToString([]byte(secretA))} {
			if bytes.Contains(store[recordKey], []byte(form)) {
				t.Errorf("%s: the record holds the secret", title)
			}
		}
		if hashed := bytes.Contains(store[recordKey], []byte(`"sum"`)); hashed != (title == "write-only") {
			t.Errorf("%s: derived from the value: %v", title, hashed)
		}
	}
}
