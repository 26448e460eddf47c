package fastpath

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// schema is that of a resource, as Terraform gets it.
type schema struct {
	version int64
	root    *node
}

// node is the type of a value. One without a scalar, fields and elements is of
// a type that is not understood: its values are compared as a whole, and its
// states are left to the framework.
type node struct {
	writeOnly bool
	scalar    tftypes.Type // String, Number or Bool
	fields    map[string]*node
	names     []string // of fields, sorted as in the protocol
	elements  *node    // of a map
}

// schemas are those of all resources, once Terraform has asked for them.
type schemas struct {
	all  atomic.Pointer[map[string]*schema]
	once sync.Once
}

// get asks the server where Terraform has not done so, because it knows the
// schemas from another process of the provider. Where that fails, there is no
// fast path.
func (s *schemas) get(server tfprotov6.ProviderServer) map[string]*schema {
	s.once.Do(func() {
		if s.all.Load() != nil {
			return
		}
		resp, err := server.GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
		if err != nil {
			resp = &tfprotov6.GetProviderSchemaResponse{}
		}
		s.set(resp)
	})
	return *s.all.Load()
}

func (s *schemas) set(resp *tfprotov6.GetProviderSchemaResponse) {
	all := make(map[string]*schema, len(resp.ResourceSchemas))
	for name, of := range resp.ResourceSchemas {
		if of != nil && of.Block != nil {
			all[name] = &schema{version: of.Version, root: nodeOfBlock(of.Block)}
		}
	}
	s.all.Store(&all)
}

func nodeOfBlock(block *tfprotov6.SchemaBlock) *node {
	n := nodeOfAttributes(block.Attributes)
	for _, nested := range block.BlockTypes {
		child := &node{}
		if nested.Nesting == tfprotov6.SchemaNestedBlockNestingModeSingle {
			child = nodeOfBlock(nested.Block)
		}
		n.fields[nested.TypeName] = child
	}
	n.names = slices.Sorted(maps.Keys(n.fields))
	return n
}

func nodeOfAttributes(attributes []*tfprotov6.SchemaAttribute) *node {
	n := &node{fields: make(map[string]*node, len(attributes))}
	for _, attribute := range attributes {
		child := &node{}
		switch nested := attribute.NestedType; {
		case nested == nil:
			if attribute.Type.Is(tftypes.String) || attribute.Type.Is(tftypes.Number) || attribute.Type.Is(tftypes.Bool) {
				child.scalar = attribute.Type
			}
		case nested.Nesting == tfprotov6.SchemaObjectNestingModeSingle:
			child = nodeOfAttributes(nested.Attributes)
		case nested.Nesting == tfprotov6.SchemaObjectNestingModeMap:
			child.elements = nodeOfAttributes(nested.Attributes)
		}
		child.writeOnly = attribute.WriteOnly
		n.fields[attribute.Name] = child
	}
	n.names = slices.Sorted(maps.Keys(n.fields))
	return n
}

// same reports whether two states are equal byte for byte in everything that
// is not write-only. Terraform puts write-only values into the proposed state;
// a prior state never has any.
func (s *schema) same(prior, proposed []byte) bool {
	if bytes.Equal(prior, proposed) {
		return true
	}
	a, b := newCursor(prior), newCursor(proposed)
	defer a.release()
	defer b.release()
	return s.root.same(a, b) && a.atEnd() && b.atEnd()
}

func (n *node) same(prior, proposed *cursor) bool {
	switch {
	case n.writeOnly:
		value, ok := prior.next()
		_, proposedOK := proposed.next()
		return ok && proposedOK && len(value) == 1 && value[0] == msgpcode.Nil
	case n.fields != nil && prior.isMap() && proposed.isMap():
		return n.sameObject(prior, proposed)
	case n.elements != nil && prior.isMap() && proposed.isMap():
		return n.sameMap(prior, proposed)
	}
	a, ok := prior.next()
	b, proposedOK := proposed.next()
	return ok && proposedOK && bytes.Equal(a, b)
}

// sameObject expects the attributes in the same order.
func (n *node) sameObject(prior, proposed *cursor) bool {
	size, ok := sameSize(prior, proposed)
	if !ok {
		return false
	}
	for range size {
		name, ok := prior.next()
		other, otherOK := proposed.next()
		if !ok || !otherOK || !bytes.Equal(name, other) {
			return false
		}
		if child := n.fields[text(name)]; child == nil || !child.same(prior, proposed) {
			return false
		}
	}
	return true
}

// sameMap expects the elements in any order: Terraform sorts them,
// terraform-plugin-go does not.
func (n *node) sameMap(prior, proposed *cursor) bool {
	size, ok := sameSize(prior, proposed)
	if !ok {
		return false
	}
	elements := make(map[string][]byte, min(size, 100))
	for range size {
		key, ok := proposed.next()
		value, valueOK := proposed.next()
		if !ok || !valueOK {
			return false
		}
		elements[string(key)] = value
	}
	for range size {
		key, ok := prior.next()
		element, found := elements[string(key)]
		delete(elements, string(key)) // found once
		if !ok || !found || !n.sameElement(prior, element) {
			return false
		}
	}
	return true
}

func (n *node) sameElement(prior *cursor, proposed []byte) bool {
	element := newCursor(proposed)
	defer element.release()
	return n.elements.same(prior, element)
}

func sameSize(prior, proposed *cursor) (size int, ok bool) {
	size, err := prior.in.DecodeMapLen()
	other, otherErr := proposed.in.DecodeMapLen()
	return size, err == nil && otherErr == nil && size == other
}

// text is an encoded string.
func text(encoded []byte) string {
	if len(encoded) > 0 && msgpcode.IsFixedString(encoded[0]) {
		return string(encoded[1:])
	}
	var s string
	if msgpack.Unmarshal(encoded, &s) != nil {
		return ""
	}
	return s
}

// cursor moves over encoded values without decoding them.
type cursor struct {
	data []byte
	rest *bytes.Reader
	in   *msgpack.Decoder
}

func newCursor(data []byte) *cursor {
	rest := bytes.NewReader(data)
	// The decoder does not buffer: a bytes.Reader can unread.
	in := msgpack.GetDecoder()
	in.Reset(rest)
	return &cursor{data: data, rest: rest, in: in}
}

func (c *cursor) release() { msgpack.PutDecoder(c.in) }

func (c *cursor) at() int     { return len(c.data) - c.rest.Len() }
func (c *cursor) atEnd() bool { return c.rest.Len() == 0 }

func (c *cursor) isMap() bool {
	code, err := c.in.PeekCode()
	return err == nil && (msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32)
}

// next returns the next value as it is encoded.
func (c *cursor) next() (value []byte, ok bool) {
	from := c.at()
	if c.in.Skip() != nil {
		return nil, false
	}
	return c.data[from:c.at()], true
}

var errUnusual = errors.New("the framework decides")

// fromJSON turns a state as Terraform stores it into one as the protocol
// carries it.
func (s *schema) fromJSON(stored []byte) (state []byte, ok bool) {
	var value any
	if json.Unmarshal(stored, &value) != nil || value == nil {
		return nil, false
	}
	var b bytes.Buffer
	b.Grow(len(stored))
	out := msgpack.GetEncoder()
	defer msgpack.PutEncoder(out)
	out.Reset(&b)
	if s.root.encode(out, value) != nil {
		return nil, false
	}
	return b.Bytes(), true
}

// encode writes a value. Nothing that is written to a buffer fails.
func (n *node) encode(out *msgpack.Encoder, value any) error {
	if n.writeOnly && value != nil {
		return errUnusual
	}
	switch value := value.(type) {
	case nil:
		return out.EncodeNil()
	case string:
		if n.scalar != nil && n.scalar.Is(tftypes.String) {
			return out.EncodeString(value)
		}
	case bool:
		if n.scalar != nil && n.scalar.Is(tftypes.Bool) {
			return out.EncodeBool(value)
		}
	case float64:
		if n.scalar != nil && n.scalar.Is(tftypes.Number) && value == math.Trunc(value) && math.Abs(value) < 1<<53 {
			return out.EncodeInt(int64(value))
		}
	case map[string]any:
		return n.encodeMap(out, value)
	}
	return errUnusual
}

func (n *node) encodeMap(out *msgpack.Encoder, value map[string]any) error {
	names := n.names
	switch {
	case n.elements != nil:
		names = slices.Sorted(maps.Keys(value))
	case n.fields == nil || !n.knows(value):
		return errUnusual
	}
	if err := out.EncodeMapLen(len(names)); err != nil {
		return err
	}
	for _, name := range names {
		child := n.elements
		if child == nil {
			child = n.fields[name]
		}
		if err := out.EncodeString(name); err != nil {
			return err
		}
		if err := child.encode(out, value[name]); err != nil {
			return err
		}
	}
	return nil
}

// knows reports whether all fields of an object are in the schema.
func (n *node) knows(value map[string]any) bool {
	for name := range value {
		if n.fields[name] == nil {
			return false
		}
	}
	return true
}
