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
	key := byok.Key{ID: "V1StGXR8_Z5jdHi6B-myT", MaskedKey: byok.Mask(secretA), UpdatedAt: written}
	theirs := key
	theirs.MaskedKey, theirs.UpdatedAt = byok.Mask(secretB), moved
	unread := key
	unread.UpdatedAt = ""
	renamed := writtenRecord(key)
	renamed.RenamedTo = new(string)
	state := keyModel{}.withRemote(key)

	for title, tt := range map[string]struct {
		record keyRecord
		state  keyModel
		length int // at most
	}{
		"written":                      {writtenRecord(key), state, 7},
		"write-only":                   {writtenRecord(key).declared(configured(apiKeyWO(secretA))), state, 60},
		"adopted":                      {adoptedRecord(key), state, 22},
		"written and then drifted":     {writtenRecord(key), keyModel{}.withRemote(theirs), 70},
		"drifted to eight bullets":     {writtenRecord(key), keyModel{}.withRemote(byok.Key{ID: key.ID, MaskedKey: byok.MaskUnknown, UpdatedAt: written}), 40},
		"unread":                       {writtenRecord(unread), keyModel{}.withCreated(unread), 21},
		"unread, of another time":      {writtenRecord(unread), keyModel{}.withRemote(theirs), 50},
		"renamed":                      {renamed, state, 25},
		"without a state":              {writtenRecord(key), keyModel{}, 100},
		"without a state, and unread":  {writtenRecord(unread), keyModel{}, 100},
		"beside the state of a create": {adoptedRecord(key), planCreate(keyModel{}, keyModel{}, types.StringNull()), 120},
	} {
		store := private{}
		if diags := tt.record.write(ctx, store, tt.state); diags.HasError() {
			t.Fatal(diags)
		}
		if diff := cmp.Diff(tt.record, readRecord(ctx, store, tt.state)); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
		if got := store[recordKey]; len(got) > tt.length {
			t.Errorf("%s: %d bytes, more than %d: %s", title, len(got), tt.length, got)
		}
	}
}

func TestReadRecordTakesAnythingElseForAbsent(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "null", "{}", `{"v":2,"id":"x"}`, `[1]`, `{"v":"1"}`, `{"v":0,"id":"x"}`, `{"v":2,"unconfirmed":false}`, "\xff"} {
		if r := readRecord(context.Background(), private{recordKey: []byte(data)}, stored(secretA)); !r.absent() || r.ID != "" {
			t.Errorf("%q is read as %+v", data, r)
		}
	}
}

// The layout of the first release stays readable.
func TestReadRecordOfVersion1(t *testing.T) {
	t.Parallel()
	state := stored(secretA)
	theirs := "theirs"
	for data, want := range map[string]keyRecord{
		`{"v":1}`:                    {ID: "key-1", MaskedKey: byok.Mask(secretA), UpdatedAt: written},
		`{"v":1,"unread":true}`:      {ID: "key-1", MaskedKey: byok.Mask(secretA)},
		`{"v":1,"unconfirmed":true}`: {ID: "key-1", MaskedKey: byok.Mask(secretA), UpdatedAt: written, Unconfirmed: true},
		`{"v":1,"id":"x","mask":"y","at":"z","adopted":true,"sum":"AQI=","renamed_to":"theirs"}`: {ID: "x", MaskedKey: "y", UpdatedAt: "z", Adopted: true, Sum: []byte{1, 2}, RenamedTo: &theirs},
	} {
		want.Version = 1
		if diff := cmp.Diff(want, decodeRecord([]byte(data), state)); diff != "" {
			t.Errorf("%s: %s", data, diff)
		}
	}
}

// Whatever a later version of the provider writes, an upload that is not
// confirmed is not forgotten: the plan uploads again.
func TestReadRecordOfLaterVersionKeepsUnconfirmed(t *testing.T) {
	t.Parallel()
	state := stored(secretA, apiKey(secretA))
	for _, data := range []string{
		`{"v":2,"unconfirmed":true}`, `{"v":9,"sums":["x"],"unconfirmed":true,"mask":{"a":1}}`, `{"v":2,"unconfirmed":{"at":"x"}}`, `{"v":"two","unconfirmed":1}`,
	} {
		r := decodeRecord([]byte(data), state)
		if r.absent() || !r.Unconfirmed || !r.Adopted || r.ID != "key-1" {
			t.Errorf("%s is read as %+v", data, r)
		}
		config := configured(apiKey(secretA))
		if p := planUpdate(config, propose(config, state), state, r, types.StringValue("ws")); !p.upload {
			t.Errorf("%s: nothing is uploaded", data)
		}
		_, refreshed, _ := refresh(state, r, byok.Key{ID: "key-1", ProviderID: "openai", Name: ptr("prod"), MaskedKey: byok.Mask(secretB), CreatedBy: ptr("user"), CreatedAt: written, UpdatedAt: moved})
		store := private{}
		if diags := refreshed.write(t.Context(), store, state); diags.HasError() || !readRecord(t.Context(), store, state).Unconfirmed {
			t.Errorf("%s: forgotten after a refresh: %s", data, store[recordKey])
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"key-1","mask":"x","at":"y","sum":"AAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"v":1,"unread":true,"renamed_to":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := decodeRecord(data, stored(secretA))
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
		before.declared(config).write(context.Background(), store, keyModel{})
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
