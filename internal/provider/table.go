package provider

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// role says who decides about an attribute.
type role int

const (
	// computed: the API alone.
	computed role = iota + 1
	// configurable: the user; a change is an update.
	configurable
	// secret: the user; one of the attributes that hold an API key.
	secret
	// placing: the user; a change replaces the resource.
	placing
)

// row is an attribute of a resource, or a block: everything there is to know
// about it. What is read, written and compared, what counts as a change, what
// the fast path decodes and validates, and what the tests change follows from
// the rows.
type row[M any] struct {
	name string
	role role
	// field returns a pointer to the field of a model: *types.String,
	// *types.Int64, *types.Bool, *timeouts.Value, or *objectMap.
	field func(*M) any
	// schema is that of an attribute, block that of a block: one of the two.
	schema schema.Attribute
	block  schema.Block
	// elements is the table of an objectMap's elements.
	elements kind

	// The rest is filled in by newTable.

	kind         kind
	required     bool
	writeOnly    bool
	defaultValue attr.Value // or nil
	checks       checks
}

// objectMap is a map of nested objects. The zero value is null.
type objectMap[E any] struct {
	elements map[string]E // nil: null, or unknown
	unknown  bool
}

// table holds the rows of a model, sorted by name. It never changes.
type table[M any] struct {
	rows  []row[M]
	types map[string]attr.Type
}

// kind is how the fields of one type are treated. Fields are pointers, as
// returned by row.field.
type kind interface {
	typeOf() attr.Type
	value(ctx context.Context, field any) attr.Value
	set(ctx context.Context, field any, value attr.Value) diag.Diagnostics
	setUnknown(field any)
	isNull(field any) bool
	copy(to, from any)
	// differs compares the rows of these roles, or of all roles if there are
	// none, in elements.
	differs(a, b any, roles []role) bool
	decode(field any, in *decoder) error
	// valid reports whether validation of elements finds nothing to report.
	valid(field any) bool
}

// newTable builds a table. It panics on rows that it does not understand, so
// that no test passes with them.
func newTable[M any](rows []row[M]) *table[M] {
	t := &table[M]{rows: slices.Clone(rows), types: make(map[string]attr.Type, len(rows))}
	slices.SortFunc(t.rows, func(a, b row[M]) int { return cmp.Compare(a.name, b.name) })
	for i := range t.rows {
		r := &t.rows[i]
		if err := r.complete(); err != nil {
			panic(fmt.Sprintf("attribute %q: %v", r.name, err))
		}
		if i > 0 && t.rows[i-1].name == r.name {
			panic(fmt.Sprintf("attribute %q: two rows", r.name))
		}
		t.types[r.name] = r.kind.typeOf()
	}
	return t
}

// complete derives what the schema of a row says.
func (r *row[M]) complete() error {
	if r.role == 0 || r.field == nil || (r.schema == nil) == (r.block == nil) {
		return errors.New("a row needs a role, a field, and a schema or a block")
	}
	if r.kind = kindOf(r.field(new(M)), r.elements); r.kind == nil {
		return fmt.Errorf("a field of an unknown type, %T", r.field(new(M)))
	}
	if r.block != nil {
		if _, ok := r.kind.(timeoutsKind); !ok {
			return errors.New("a block that is not timeouts")
		}
		return nil
	}
	if _, ok := r.kind.(timeoutsKind); !ok && !r.schema.GetType().Equal(r.kind.typeOf()) {
		return fmt.Errorf("a schema of type %s for a field of type %s", r.schema.GetType(), r.kind.typeOf())
	}
	onlyComputed := r.schema.IsComputed() && !r.schema.IsOptional()
	if onlyComputed != (r.role == computed) {
		return errors.New("the role is not that of the schema")
	}
	r.required, r.writeOnly = r.schema.IsRequired(), r.schema.IsWriteOnly()
	r.checks.deprecated = r.schema.GetDeprecationMessage() != ""
	return r.inspect()
}

// inspect reads from a schema what has no method for it.
func (r *row[M]) inspect() error {
	ctx := context.Background()
	modifiers := 0
	switch s := r.schema.(type) {
	case schema.StringAttribute:
		modifiers = len(s.PlanModifiers)
		for _, v := range s.Validators {
			r.checks.add(v)
		}
		if s.Default != nil {
			var resp defaults.StringResponse
			s.Default.DefaultString(ctx, defaults.StringRequest{}, &resp)
			r.defaultValue = resp.PlanValue
		}
	case schema.Int64Attribute:
		modifiers = len(s.PlanModifiers)
		for _, v := range s.Validators {
			r.checks.add(v)
		}
		if s.Default != nil {
			return errors.New("a default that is not a string")
		}
	case schema.BoolAttribute:
		modifiers = len(s.PlanModifiers)
		for _, v := range s.Validators {
			r.checks.add(v)
		}
		if s.Default != nil {
			var resp defaults.BoolResponse
			s.Default.DefaultBool(ctx, defaults.BoolRequest{}, &resp)
			r.defaultValue = resp.PlanValue
		}
	case schema.MapNestedAttribute:
		modifiers = len(s.PlanModifiers) + len(s.NestedObject.PlanModifiers)
		for _, v := range s.Validators {
			r.checks.add(v)
		}
		for _, v := range s.NestedObject.Validators {
			r.checks.add(v)
		}
		if s.Default != nil {
			return errors.New("a default that is not a string")
		}
	case schema.SingleNestedAttribute:
		if _, ok := r.kind.(timeoutsKind); !ok {
			return errors.New("a nested attribute that is neither timeouts nor a map")
		}
	default:
		return fmt.Errorf("a schema of an unknown type, %T", r.schema)
	}
	if modifiers > 0 {
		return errors.New("plan modifiers: one planning function plans all attributes")
	}
	return nil
}

func kindOf(field any, elements kind) kind {
	if elements != nil {
		return elements
	}
	switch field.(type) {
	case *types.String:
		return scalar[types.String]{types.StringType, types.StringUnknown(), decodeString}
	case *types.Int64:
		return scalar[types.Int64]{types.Int64Type, types.Int64Unknown(), decodeInt64}
	case *types.Bool:
		return scalar[types.Bool]{types.BoolType, types.BoolUnknown(), decodeBool}
	case *timeouts.Value:
		return timeoutsKind{}
	}
	return nil
}

// attributes and blocks are the schema.

func (t *table[M]) attributes() map[string]schema.Attribute {
	all := make(map[string]schema.Attribute, len(t.rows))
	for _, r := range t.rows {
		if r.schema != nil {
			all[r.name] = r.schema
		}
	}
	return all
}

func (t *table[M]) blocks() map[string]schema.Block {
	all := map[string]schema.Block{}
	for _, r := range t.rows {
		if r.block != nil {
			all[r.name] = r.block
		}
	}
	return all
}

// object is the schema of the elements of a map of nested objects.
func (t *table[M]) object() schema.NestedAttributeObject {
	return schema.NestedAttributeObject{Attributes: t.attributes()}
}

// elements makes a table that of an objectMap's elements. A default would have
// to be known by the outer table.
func (t *table[M]) elements() kind {
	for _, r := range t.rows {
		if r.defaultValue != nil || r.block != nil {
			panic(fmt.Sprintf("attribute %q: defaults and blocks are not supported in elements", r.name))
		}
	}
	return objects[M]{t, types.ObjectType{AttrTypes: t.types}}
}

// objectReader is a configuration, a plan or a state of the framework.
type objectReader interface {
	Get(ctx context.Context, target any) diag.Diagnostics
}

// read sets m to what from holds. The framework's reflection on structs does
// the same, but compiles a regular expression per field and call.
func (t *table[M]) read(ctx context.Context, from objectReader, m *M) diag.Diagnostics {
	var object types.Object
	if diags := from.Get(ctx, &object); diags.HasError() {
		return diags
	}
	return t.setAll(ctx, m, object)
}

func (t *table[M]) setAll(ctx context.Context, m *M, object types.Object) (diags diag.Diagnostics) {
	values := object.Attributes()
	for i := range t.rows {
		r := &t.rows[i]
		if value, ok := values[r.name]; ok {
			diags.Append(r.kind.set(ctx, r.field(m), value)...)
		}
	}
	return diags
}

// value is m as the framework's Set takes it.
func (t *table[M]) value(ctx context.Context, m *M) types.Object {
	values, kinds := make(map[string]attr.Value, len(t.rows)), make(map[string]attr.Type, len(t.rows))
	for i := range t.rows {
		r := &t.rows[i]
		value := r.kind.value(ctx, r.field(m))
		values[r.name], kinds[r.name] = value, value.Type(ctx)
	}
	return types.ObjectValueMust(kinds, values) // kinds are those of values
}

// equal reports whether all attributes are equal.
func (t *table[M]) equal(a, b *M) bool { return !t.differs(a, b) }

// differs reports whether any attribute of these roles differs; without roles,
// any attribute at all.
func (t *table[M]) differs(a, b *M, roles ...role) bool {
	for i := range t.rows {
		r := &t.rows[i]
		if (len(roles) == 0 || slices.Contains(roles, r.role)) && r.kind.differs(r.field(a), r.field(b), roles) {
			return true
		}
	}
	return false
}

// different names the attributes of a role that differ.
func (t *table[M]) different(a, b *M, of role) (names []string) {
	for i := range t.rows {
		r := &t.rows[i]
		if r.role == of && r.kind.differs(r.field(a), r.field(b), nil) {
			names = append(names, r.name)
		}
	}
	return names
}

// setUnknown makes the attributes of a role unknown.
func (t *table[M]) setUnknown(m *M, of role) {
	for i := range t.rows {
		if r := &t.rows[i]; r.role == of {
			r.kind.setUnknown(r.field(m))
		}
	}
}

// copy gives to the attributes of a role from from.
func (t *table[M]) copy(to, from *M, of role) {
	for i := range t.rows {
		if r := &t.rows[i]; r.role == of {
			r.kind.copy(r.field(to), r.field(from))
		}
	}
}

// setDefaults sets what config leaves out to the schema's default, as the
// framework does before it plans.
func (t *table[M]) setDefaults(m, config *M) {
	for i := range t.rows {
		r := &t.rows[i]
		if r.defaultValue != nil && r.kind.isNull(r.field(config)) {
			r.kind.set(context.Background(), r.field(m), r.defaultValue) // of the row's type
		}
	}
}

// valid reports whether neither Terraform nor the framework has anything to
// report of a decoded configuration. It may be false for one that is fine.
func (t *table[M]) valid(config *M) bool {
	for i := range t.rows {
		r := &t.rows[i]
		field := r.field(config)
		null := r.kind.isNull(field)
		if null && r.required || !null && r.role == computed || !r.checks.pass(field, null) || !r.kind.valid(field) {
			return false
		}
	}
	return true
}

// checks are the validators of a row, as the fast path runs them.
type checks struct {
	strings []validator.String
	numbers []validator.Int64
	// deprecated attributes, and those with validators that look at other
	// attributes, too, are left to the framework when they are set, and those
	// with any other validator always.
	deprecated, whenSet, always bool
}

// ownValueString and ownValueInt64 mark validators that look at nothing but
// the value of their attribute, and have nothing to report of null.
type (
	ownValueString struct{ validator.String }
	ownValueInt64  struct{ validator.Int64 }
)

func (c *checks) add(v any) {
	switch v := v.(type) {
	case stringCheck:
		c.strings = append(c.strings, v)
	case ownValueString:
		c.strings = append(c.strings, v.String)
	case ownValueInt64:
		c.numbers = append(c.numbers, v.Int64)
	case whenSet:
		c.whenSet = true
	default:
		c.always = true
	}
}

func (c *checks) pass(field any, null bool) bool {
	if null {
		return !c.always
	}
	if c.deprecated || c.whenSet || c.always {
		return false
	}
	ctx := context.Background()
	for _, v := range c.strings {
		var resp validator.StringResponse
		if v.ValidateString(ctx, validator.StringRequest{ConfigValue: *field.(*types.String)}, &resp); len(resp.Diagnostics) > 0 {
			return false
		}
	}
	for _, v := range c.numbers {
		var resp validator.Int64Response
		if v.ValidateInt64(ctx, validator.Int64Request{ConfigValue: *field.(*types.Int64)}, &resp); len(resp.Diagnostics) > 0 {
			return false
		}
	}
	return true
}

// whenSet runs a validator on a value that is not null. Those of the framework
// that look at other attributes do so before they look at their own, which is
// null in nearly every key.
type whenSet struct{ validator.String }

func (v whenSet) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if !req.ConfigValue.IsNull() {
		v.String.ValidateString(ctx, req, resp)
	}
}

// decode reads a configuration or a state as the protocol carries it. Only
// what an unchanged resource looks like is understood: known values, and no
// timeouts. Anything else is left to the framework.
func (t *table[M]) decode(data []byte) (m *M, ok bool) {
	in := &decoder{}
	in.Decoder = msgpack.GetDecoder()
	defer msgpack.PutDecoder(in.Decoder)
	rest := bytes.NewReader(data)
	in.Reset(rest)
	m = new(M)
	if t.decodeObject(m, in) != nil || rest.Len() > 0 {
		return nil, false
	}
	return m, true
}

// decoder is a msgpack.Decoder with space for a name.
type decoder struct {
	*msgpack.Decoder
	name [64]byte
}

var errUnusual = errors.New("the framework decides")

// decodeObject expects all attributes, in the order of the protocol.
func (t *table[M]) decodeObject(m *M, in *decoder) error {
	if n, err := in.DecodeMapLen(); err != nil || n != len(t.rows) { // below 0 for null
		return errUnusual
	}
	for i := range t.rows {
		r := &t.rows[i]
		n, err := in.DecodeBytesLen()
		if err != nil || n != len(r.name) || n > len(in.name) {
			return errUnusual
		}
		if err := in.ReadFull(in.name[:n]); err != nil || string(in.name[:n]) != r.name {
			return errUnusual
		}
		code, err := in.PeekCode()
		if err != nil {
			return err
		}
		if code == msgpcode.Nil {
			err = in.DecodeNil() // which is what the zero model holds
		} else {
			err = r.kind.decode(r.field(m), in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scalar is the kind of a single value. The zero V is null.
type scalar[V interface {
	attr.Value
	comparable
}] struct {
	of      attr.Type
	unknown V
	from    func(*decoder) (V, error)
}

func (k scalar[V]) typeOf() attr.Type                         { return k.of }
func (k scalar[V]) value(_ context.Context, f any) attr.Value { return *f.(*V) }
func (k scalar[V]) setUnknown(field any)                      { *field.(*V) = k.unknown }
func (k scalar[V]) isNull(field any) bool                     { return (*field.(*V)).IsNull() }
func (k scalar[V]) copy(to, from any)                         { *to.(*V) = *from.(*V) }
func (k scalar[V]) differs(a, b any, _ []role) bool           { return *a.(*V) != *b.(*V) }
func (k scalar[V]) valid(any) bool                            { return true }
func (k scalar[V]) decode(field any, in *decoder) (err error) {
	*field.(*V), err = k.from(in)
	return err
}
func (k scalar[V]) set(_ context.Context, f any, v attr.Value) diag.Diagnostics {
	*f.(*V) = v.(V) // newTable compares the types
	return nil
}

func decodeString(in *decoder) (types.String, error) {
	text, err := in.DecodeString()
	return types.StringValue(text), err
}

func decodeInt64(in *decoder) (types.Int64, error) {
	code, err := in.PeekCode()
	if err != nil || !isInteger(code) {
		return types.Int64{}, errUnusual
	}
	number, err := in.DecodeInt64()
	return types.Int64Value(number), err
}

func isInteger(code byte) bool {
	switch code {
	case msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64, msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32:
		return true
	}
	return msgpcode.IsFixedNum(code)
}

func decodeBool(in *decoder) (types.Bool, error) {
	truth, err := in.DecodeBool()
	return types.BoolValue(truth), err
}

// timeoutsKind is the kind of a timeouts block or attribute.
type timeoutsKind struct{}

func (timeoutsKind) typeOf() attr.Type                         { return timeouts.Type{} }
func (timeoutsKind) value(_ context.Context, f any) attr.Value { return *f.(*timeouts.Value) }
func (timeoutsKind) setUnknown(any)                            {}
func (timeoutsKind) isNull(field any) bool                     { return field.(*timeouts.Value).IsNull() }
func (timeoutsKind) copy(to, from any)                         { *to.(*timeouts.Value) = *from.(*timeouts.Value) }
func (timeoutsKind) valid(any) bool                            { return true }
func (timeoutsKind) decode(any, *decoder) error                { return errUnusual }
func (timeoutsKind) differs(a, b any, _ []role) bool {
	return !a.(*timeouts.Value).Equal(*b.(*timeouts.Value))
}
func (timeoutsKind) set(_ context.Context, f any, v attr.Value) diag.Diagnostics {
	*f.(*timeouts.Value) = v.(timeouts.Value)
	return nil
}

// objects is the kind of an objectMap.
type objects[E any] struct {
	table *table[E]
	of    types.ObjectType
}

func (k objects[E]) typeOf() attr.Type { return types.MapType{ElemType: k.of} }

func (k objects[E]) value(ctx context.Context, field any) attr.Value {
	m := field.(*objectMap[E])
	switch {
	case m.unknown:
		return types.MapUnknown(k.of)
	case m.elements == nil:
		return types.MapNull(k.of)
	}
	values := make(map[string]attr.Value, len(m.elements))
	for name, element := range m.elements {
		values[name] = k.table.value(ctx, &element)
	}
	return types.MapValueMust(k.of, values)
}

// set takes an element that is not known yet for one whose attributes are not.
func (k objects[E]) set(ctx context.Context, field any, value attr.Value) (diags diag.Diagnostics) {
	m := field.(*objectMap[E])
	*m = objectMap[E]{unknown: value.IsUnknown()}
	if value.IsNull() || value.IsUnknown() {
		return nil
	}
	values := value.(types.Map).Elements()
	m.elements = make(map[string]E, len(values))
	for name, value := range values {
		var element E
		switch object := value.(types.Object); {
		case object.IsUnknown():
			for i := range k.table.rows {
				r := &k.table.rows[i]
				r.kind.setUnknown(r.field(&element))
			}
		case object.IsNull():
			diags.AddError("Null element", fmt.Sprintf("The element %q is null. Leave it out, or set its attributes.", name))
		default:
			diags.Append(k.table.setAll(ctx, &element, object)...)
		}
		m.elements[name] = element
	}
	return diags
}

func (k objects[E]) setUnknown(field any) { *field.(*objectMap[E]) = objectMap[E]{unknown: true} }

func (k objects[E]) isNull(field any) bool {
	m := field.(*objectMap[E])
	return m.elements == nil && !m.unknown
}

// copy shares the elements.
func (k objects[E]) copy(to, from any) { *to.(*objectMap[E]) = *from.(*objectMap[E]) }

func (k objects[E]) differs(a, b any, roles []role) bool {
	x, y := a.(*objectMap[E]), b.(*objectMap[E])
	if x.unknown != y.unknown || (x.elements == nil) != (y.elements == nil) || len(x.elements) != len(y.elements) {
		return true
	}
	for name, element := range x.elements {
		other, ok := y.elements[name]
		if !ok || k.table.differs(&element, &other, roles...) {
			return true
		}
	}
	return false
}

func (k objects[E]) decode(field any, in *decoder) error {
	n, err := in.DecodeMapLen()
	if err != nil || n < 0 {
		return errUnusual
	}
	elements := map[string]E{}
	for range n {
		name, err := in.DecodeString()
		if err != nil {
			return err
		}
		var element E
		if err := k.table.decodeObject(&element, in); err != nil {
			return err
		}
		elements[name] = element
	}
	if len(elements) != n {
		return errUnusual
	}
	field.(*objectMap[E]).elements = elements
	return nil
}

func (k objects[E]) valid(field any) bool {
	for _, element := range field.(*objectMap[E]).elements {
		if !k.table.valid(&element) {
			return false
		}
	}
	return true
}
