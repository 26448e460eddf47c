package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// What shortcuts need to read and write of a byok_key as Terraform's protocol
// carries it. Only what a key at rest looks like is understood: known values,
// and no timeouts. Anything else is left to the framework.

var errUnusual = errors.New("the framework has to look at this")

// decodeKey reads a configuration or a state.
func decodeKey(value *tfprotov6.DynamicValue) (m keyModel, ok bool) {
	if value == nil || len(value.MsgPack) == 0 {
		return keyModel{}, false
	}
	in := msgpack.NewDecoder(bytes.NewReader(value.MsgPack))
	n, err := in.DecodeMapLen() // below 0 for null
	for i := 0; i < n && err == nil; i++ {
		err = m.decodeNext(in)
	}
	return m, err == nil && n > 0
}

// decodeNext reads an attribute with its name.
func (m *keyModel) decodeNext(in *msgpack.Decoder) error {
	name, err := in.DecodeString()
	if err != nil {
		return err
	}
	code, err := in.PeekCode()
	switch text := m.text(name); {
	case err != nil:
		return err
	case code == msgpcode.Nil:
		return in.DecodeNil()
	case text != nil:
		value, err := in.DecodeString()
		*text = types.StringValue(value)
		return err
	case name == "api_key_wo_version" && isInteger(code):
		value, err := in.DecodeInt64()
		m.APIKeyWOVersion = types.Int64Value(value)
		return err
	}
	return errUnusual
}

func isInteger(code byte) bool {
	switch code {
	case msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64, msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32:
		return true
	}
	return msgpcode.IsFixedNum(code)
}

// encodeKey is the reverse of decodeKey.
func encodeKey(m keyModel) *tfprotov6.DynamicValue {
	var b bytes.Buffer
	out := msgpack.NewEncoder(&b)
	// Nothing that is written to a buffer fails.
	_ = out.EncodeMapLen(len(keyAttributes))
	for _, name := range keyAttributes {
		_ = out.EncodeString(name)
		switch text := m.text(name); {
		case text != nil && !text.IsNull():
			_ = out.EncodeString(text.ValueString())
		case name == "api_key_wo_version" && !m.APIKeyWOVersion.IsNull():
			_ = out.EncodeInt(m.APIKeyWOVersion.ValueInt64())
		default:
			_ = out.EncodeNil()
		}
	}
	return &tfprotov6.DynamicValue{MsgPack: b.Bytes()}
}

// decodeStored reads a state of the present schema in the form in which
// Terraform stores it.
func decodeStored(state *tfprotov6.RawState) (m keyModel, ok bool) {
	var values map[string]any
	if state == nil || json.Unmarshal(state.JSON, &values) != nil {
		return keyModel{}, false
	}
	for name, value := range values {
		text := m.text(name)
		switch value := value.(type) {
		case nil:
			ok = slices.Contains(keyAttributes, name)
		case string:
			if ok = text != nil; ok {
				*text = types.StringValue(value)
			}
		case float64:
			m.APIKeyWOVersion = types.Int64Value(int64(value))
			ok = name == "api_key_wo_version" && value == float64(int64(value)) && math.Abs(value) < 1<<53
		default:
			ok = false
		}
		if !ok {
			return keyModel{}, false
		}
	}
	return m, ok
}

// encode is the identity as Terraform's protocol carries it.
func (i keyIdentity) encode() *tfprotov6.ResourceIdentityData {
	var b bytes.Buffer
	out := msgpack.NewEncoder(&b)
	_ = out.EncodeMapLen(2)
	_ = out.EncodeString("id")
	_ = out.EncodeString(i.ID.ValueString())
	_ = out.EncodeString("workspace_id")
	_ = out.EncodeString(i.WorkspaceID.ValueString())
	return &tfprotov6.ResourceIdentityData{IdentityData: &tfprotov6.DynamicValue{MsgPack: b.Bytes()}}
}

func sameIdentity(a, b *tfprotov6.ResourceIdentityData) bool {
	return a.IdentityData != nil && b.IdentityData != nil && bytes.Equal(a.IdentityData.MsgPack, b.IdentityData.MsgPack)
}

func nullIdentity() *tfprotov6.ResourceIdentityData {
	return &tfprotov6.ResourceIdentityData{IdentityData: &tfprotov6.DynamicValue{MsgPack: []byte{msgpcode.Nil}}}
}

// decodePrivate returns the record in private state as the framework stores
// it: JSON by name, in base64. Anything beside a record is unusual.
func decodePrivate(private []byte, state keyModel) (r keyRecord, ok bool) {
	var values map[string][]byte
	if json.Unmarshal(private, &values) != nil || len(values) != 1 {
		return keyRecord{}, false
	}
	r = decodeRecord(values[recordKey], state)
	return r, !r.absent()
}

// encodePrivate is private state with a record that stands for itself.
func encodePrivate(r keyRecord) ([]byte, error) {
	data, err := r.encode(keyModel{})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string][]byte{recordKey: data})
}
