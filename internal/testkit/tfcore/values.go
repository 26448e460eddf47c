package tfcore

import (
	"fmt"
	"maps"
	"math/big"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// A test hands in attributes by name; what is wrong with them is a mistake of
// the test, and panics.

// Null is the null value of a type.
func Null(typ tftypes.Type) tftypes.Value { return tftypes.NewValue(typ, nil) }

// Object is a value of an object type from the attributes that are set; all
// others are null.
func Object(typ tftypes.Type, set map[string]any) tftypes.Value {
	values := map[string]tftypes.Value{}
	for name, attribute := range typ.(tftypes.Object).AttributeTypes {
		values[name] = valueOf(attribute, set[name])
	}
	for name := range set {
		if _, ok := values[name]; !ok {
			panic("no attribute " + name)
		}
	}
	return tftypes.NewValue(typ, values)
}

func valueOf(typ tftypes.Type, set any) tftypes.Value {
	switch set := set.(type) {
	case map[string]any:
		if _, ok := typ.(tftypes.Object); ok {
			return Object(typ, set)
		}
		values := map[string]tftypes.Value{}
		for name, value := range set {
			values[name] = valueOf(elementType(typ), value)
		}
		return tftypes.NewValue(typ, values)
	case []any:
		values := []tftypes.Value{}
		for _, value := range set {
			values = append(values, valueOf(elementType(typ), value))
		}
		return tftypes.NewValue(typ, values)
	}
	return tftypes.NewValue(typ, set)
}

func elementType(typ tftypes.Type) tftypes.Type {
	switch typ := typ.(type) {
	case tftypes.Map:
		return typ.ElementType
	case tftypes.List:
		return typ.ElementType
	case tftypes.Set:
		return typ.ElementType
	}
	panic(fmt.Sprintf("%s has no elements", typ))
}

// Encode is a value as the protocol carries it.
func Encode(typ tftypes.Type, value tftypes.Value) *tfprotov6.DynamicValue {
	encoded, err := tfprotov6.NewDynamicValue(typ, value)
	if err != nil {
		panic(err)
	}
	return &encoded
}

// Decode is the reverse of Encode; nothing is the null value.
func Decode(typ tftypes.Type, encoded *tfprotov6.DynamicValue) tftypes.Value {
	if encoded == nil {
		return Null(typ)
	}
	value, err := encoded.Unmarshal(typ)
	if err != nil {
		panic(err)
	}
	return value
}

// Fields are the attributes of an object or the elements of a map; null and the
// zero Value have none.
func Fields(value tftypes.Value) map[string]tftypes.Value {
	all := map[string]tftypes.Value{}
	if value.Type() != nil && !value.IsNull() {
		if err := value.As(&all); err != nil {
			panic(err)
		}
	}
	return maps.Clone(all) // As hands out the value's own
}

// Attributes are the attributes of an object, as Object takes them; nil is a
// null object. What is unknown is the string "(unknown)".
func Attributes(object tftypes.Value) map[string]any {
	all, _ := anyOf(object).(map[string]any)
	return all
}

func anyOf(value tftypes.Value) any {
	if value.IsNull() {
		return nil
	}
	if !value.IsKnown() {
		return "(unknown)"
	}
	var (
		text     string
		number   big.Float
		truth    bool
		fields   map[string]tftypes.Value
		elements []tftypes.Value
	)
	switch {
	case value.As(&text) == nil:
		return text
	case value.As(&number) == nil:
		n, _ := number.Int64()
		return n
	case value.As(&truth) == nil:
		return truth
	case value.As(&fields) == nil:
		all := map[string]any{}
		for name, field := range fields {
			all[name] = anyOf(field)
		}
		return all
	case value.As(&elements) == nil:
		all := []any{}
		for _, element := range elements {
			all = append(all, anyOf(element))
		}
		return all
	}
	panic(fmt.Sprintf("%s is of a type that no resource here has", value))
}

// Proposed is what Terraform proposes as the new state: the configuration, with
// the prior value of what the provider computes where the configuration has
// none, and without what is write-only. In nested objects, Terraform leaves
// write-only values in it.
func Proposed(schema *tfprotov6.Schema, config, prior tftypes.Value) tftypes.Value {
	proposed := proposedOf(schema.Block.Attributes, config, prior)
	if proposed.IsNull() {
		return proposed
	}
	to := Fields(proposed)
	for _, attribute := range schema.Block.Attributes {
		if attribute.WriteOnly {
			to[attribute.Name] = Null(attribute.Type)
		}
	}
	return tftypes.NewValue(config.Type(), to)
}

func proposedOf(attributes []*tfprotov6.SchemaAttribute, config, prior tftypes.Value) tftypes.Value {
	if config.IsNull() || !config.IsKnown() {
		return config
	}
	from, to := Fields(prior), Fields(config)
	for _, attribute := range attributes {
		switch name := attribute.Name; {
		case attribute.NestedType != nil && !to[name].IsNull() && to[name].IsKnown():
			had, elements := Fields(from[name]), Fields(to[name])
			for key, element := range elements {
				elements[key] = proposedOf(attribute.NestedType.Attributes, element, had[key])
			}
			to[name] = tftypes.NewValue(to[name].Type(), elements)
		case attribute.Computed && to[name].IsNull() && len(from) > 0:
			to[name] = from[name]
		}
	}
	return tftypes.NewValue(config.Type(), to)
}
