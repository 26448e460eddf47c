package provider

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// recordKey is where a record stands in private state.
const recordKey = "key"

// recordVersion is that of the layout. Each version that a release has written
// is decoded; see decodeRecord.
const recordVersion = 1

// keyRecord is what the provider remembers about a key from one operation to
// the next, in private state: how the key looked after the provider's own last
// write, so that a write of another user is noticed. State itself cannot tell,
// because a refresh overwrites it.
//
// It is kept short, because Terraform stores 1.8 bytes for each byte of it and
// writes the whole local state after each change: it leaves out what the state
// beside it contains.
type keyRecord struct {
	Version int `json:"v"`
	// ID tells the second half of a replace, which has no prior state, which
	// key goes.
	ID string `json:"id,omitempty"`
	// MaskedKey and UpdatedAt are those of the last write, or of the moment
	// of adoption. UpdatedAt is empty when the write could not be read back.
	MaskedKey string `json:"mask,omitempty"`
	UpdatedAt string `json:"at,omitempty"`
	// Unread tells an empty UpdatedAt from one that is left out. It is part of
	// the stored form only.
	Unread bool `json:"unread,omitempty"`
	// Adopted is set until the provider first has reason to believe that the
	// stored secret is the declared one: the key was imported, or its record
	// was lost. Then nothing but the mask can tell.
	Adopted bool `json:"adopted,omitempty"`
	// Unconfirmed is set when the response to an upload was lost: to an add,
	// or to a replace. The server may store that secret or the one before, and
	// the next plan uploads the declared one. Later versions of the layout
	// have to keep this field: earlier ones look for it.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
	// Sum recognises a write-only value without a version: a random salt of
	// saltBytes, then the salted sum of the value.
	Sum []byte `json:"sum,omitempty"`
	// RenamedTo is a name given elsewhere that on_remote_change = "warn"
	// keeps out of state.
	RenamedTo *string `json:"renamed_to,omitempty"`
}

// writtenRecord remembers a write of the provider itself.
func writtenRecord(key byok.Key) keyRecord {
	return keyRecord{Version: recordVersion, ID: key.ID, MaskedKey: key.MaskedKey, UpdatedAt: key.UpdatedAt}
}

// adoptedRecord remembers a key that another user wrote.
func adoptedRecord(key byok.Key) keyRecord {
	r := writtenRecord(key)
	r.Adopted = true
	return r
}

// unconfirmed notes that the response to an upload was lost.
func (r keyRecord) unconfirmed() keyRecord {
	r.Unconfirmed = true
	return r
}

// declared notes that the stored secret is the one that config declares. Only
// a write-only value without a version leaves a trace of itself: with a
// version, nothing derived from the value is stored.
func (r keyRecord) declared(config keyModel) keyRecord {
	r.Adopted, r.Sum = false, nil
	if config.APIKey.IsNull() && !config.APIKeyWO.IsNull() && config.APIKeyWOVersion.IsNull() {
		salt := make([]byte, saltBytes)
		// Never fails: crypto/rand ends the process instead.
		_, _ = rand.Read(salt)
		r.Sum = sum(salt, config.APIKeyWO.ValueString())
	}
	return r
}

// addedRecord remembers a key that an add has stored. err is the error that
// came with it, if any.
func addedRecord(config keyModel, key byok.Key, err error) keyRecord {
	r := writtenRecord(key).declared(config)
	r.Unconfirmed = client.IsUnconfirmed(err)
	return r
}

// recognises reports whether secret is the write-only value that was uploaded
// last. Only a record with a sum can tell.
func (r keyRecord) recognises(secret types.String) bool {
	return len(r.Sum) > saltBytes && hmac.Equal(r.Sum, sum(r.Sum[:saltBytes], secret.ValueString()))
}

// saltBytes and sumBytes are the lengths of the two halves of a record's Sum:
// 128 bits each, to which RFC 2104 section 5 lets the sum be cut.
const saltBytes, sumBytes = 16, 16

// sum returns salt, followed by the sum of secret under it.
func sum(salt []byte, secret string) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write([]byte(secret))
	return append(bytes.Clone(salt), h.Sum(nil)[:sumBytes]...)
}

// absent reports that there is no record.
func (r keyRecord) absent() bool { return r.Version != recordVersion }

// privateReader and privateWriter are the two halves of the framework's
// private state, whose type is internal to it.
type privateReader interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

type privateWriter interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// readRecord returns the record that is stored beside state, or an absent one:
// whatever else it finds is no reason to fail. Where there is no state, as in
// the second half of a replace, it is the zero keyModel.
func readRecord(ctx context.Context, private privateReader, state keyModel) keyRecord {
	data, diags := private.GetKey(ctx, recordKey)
	if diags.HasError() {
		return keyRecord{}
	}
	return decodeRecord(data, state)
}

// decodeRecord decodes a record by its version.
func decodeRecord(data []byte, state keyModel) keyRecord {
	var r keyRecord
	if len(data) == 0 {
		return keyRecord{}
	}
	if json.Unmarshal(data, &r) != nil || r.absent() {
		return decodeUnknownRecord(data, state)
	}
	r.ID = cmp.Or(r.ID, state.ID.ValueString())
	r.MaskedKey = cmp.Or(r.MaskedKey, state.MaskedKey.ValueString())
	if !r.Unread {
		r.UpdatedAt = cmp.Or(r.UpdatedAt, state.UpdatedAt.ValueString())
	}
	r.Unread = false
	return r
}

// decodeUnknownRecord returns what matters of a record of a later version: an
// upload that is not confirmed. Without one it counts as absent, and the key as
// imported.
func decodeUnknownRecord(data []byte, state keyModel) keyRecord {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return keyRecord{}
	}
	switch string(fields["unconfirmed"]) {
	case "", "null", "false":
		return keyRecord{}
	}
	return adoptedRecord(state.key()).unconfirmed()
}

// write stores the record beside state, which has to be stored with it. The
// zero keyModel makes a record with all its fields, independent of a state.
func (r keyRecord) write(ctx context.Context, private privateWriter, state keyModel) diag.Diagnostics {
	data, err := r.encode(state)
	if err != nil {
		return diag.Diagnostics{diag.NewErrorDiagnostic("Private state cannot be written", err.Error())}
	}
	return private.SetKey(ctx, recordKey, data)
}

func (r keyRecord) encode(state keyModel) ([]byte, error) {
	r.Unread = r.UpdatedAt == ""
	r.ID = unless(state.ID, r.ID)
	r.MaskedKey = unless(state.MaskedKey, r.MaskedKey)
	r.UpdatedAt = unless(state.UpdatedAt, r.UpdatedAt)
	return json.Marshal(r)
}

// unless returns text, or "" if it equals state.
func unless(state types.String, text string) string {
	if state.ValueString() == text {
		return ""
	}
	return text
}
