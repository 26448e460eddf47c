package provider

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// checkTable fails the test unless each field of the model has exactly one row
// and each row stands in the documentation of the resource.
func checkTable[M any](t *testing.T, table *table[M], resource string) {
	t.Helper()
	checkFields(t, table)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "resources", resource+".md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range undocumented(t, string(page), table.attributes()) {
		t.Errorf("%s is not in docs/resources/%s.md as the schema describes it: run make generate", name, resource)
	}
	for name := range table.blocks() {
		if !strings.Contains(string(page), fmt.Sprintf("\n- `%s` (Block", name)) {
			t.Errorf("%s is not in docs/resources/%s.md: run make generate", name, resource)
		}
	}
}

func undocumented(t *testing.T, page string, attributes map[string]schema.Attribute) (names []string) {
	t.Helper()
	for name, attribute := range attributes {
		text := attribute.GetMarkdownDescription()
		documented := regexp.MustCompile("(?m)^- `" + name + "` \\(.*\\) " + regexp.QuoteMeta(text))
		if text == "" || !documented.MatchString(page) {
			names = append(names, name)
		}
		if nested, ok := attribute.(schema.MapNestedAttribute); ok {
			names = append(names, undocumented(t, page, nested.NestedObject.Attributes)...)
		}
	}
	return names
}

// checkFields fails the test unless each field of the model has exactly one
// row.
func checkFields[M any](t *testing.T, table *table[M]) {
	t.Helper()
	var model M
	rows := map[any][]string{}
	for _, row := range table.rows {
		rows[row.field(&model)] = append(rows[row.field(&model)], row.name)
	}
	fields := reflect.ValueOf(&model).Elem()
	for i := range fields.NumField() {
		if names := rows[reflect.NewAt(fields.Type().Field(i).Type, fields.Field(i).Addr().UnsafePointer()).Interface()]; len(names) != 1 {
			t.Errorf("the field %s of %T has the rows %v, want one", fields.Type().Field(i).Name, model, names)
		}
	}
	if len(table.rows) != fields.NumField() {
		t.Errorf("%T has %d fields and %d rows", model, fields.NumField(), len(table.rows))
	}
}

func TestKeyTable(t *testing.T) {
	t.Parallel()
	checkTable(t, keyTable, "key")
}

// sample is a model with everything that a table can hold.
type sample struct {
	Place   types.String
	Setting types.String
	Flag    types.Bool
	Items   objectMap[item]
	Others  objectMap[other]
}

type item struct {
	ID, Label, SecretWO types.String
	Version             types.Int64
}

type other struct{ Name types.String }

var itemTable = newTable([]row[item]{
	{name: "id", role: computed, field: func(m *item) any { return &m.ID }, schema: schema.StringAttribute{Computed: true}},
	{name: "label", role: configurable, field: func(m *item) any { return &m.Label }, schema: schema.StringAttribute{Optional: true, Computed: true, Validators: []validator.String{nameCheck}}},
	{name: "secret_wo", role: secret, field: func(m *item) any { return &m.SecretWO }, schema: schema.StringAttribute{Optional: true, WriteOnly: true}},
	{name: "version", role: configurable, field: func(m *item) any { return &m.Version }, schema: schema.Int64Attribute{Optional: true, Validators: []validator.Int64{ownValueInt64{int64validator.AtLeast(1)}}}},
})

var otherTable = newTable([]row[other]{
	{name: "name", role: computed, field: func(m *other) any { return &m.Name }, schema: schema.StringAttribute{Computed: true}},
})

var sampleTable = newTable([]row[sample]{
	{name: "place", role: placing, field: func(m *sample) any { return &m.Place }, schema: schema.StringAttribute{Required: true}},
	{name: "setting", role: configurable, field: func(m *sample) any { return &m.Setting }, schema: schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString("usual"), Validators: []validator.String{ownValueString{stringvalidator.OneOf("usual", "unusual")}},
	}},
	{name: "flag", role: configurable, field: func(m *sample) any { return &m.Flag }, schema: schema.BoolAttribute{Optional: true}},
	{name: "items", role: configurable, elements: itemTable.elements(), field: func(m *sample) any { return &m.Items }, schema: schema.MapNestedAttribute{Optional: true, NestedObject: itemTable.object()}},
	{name: "others", role: computed, elements: otherTable.elements(), field: func(m *sample) any { return &m.Others }, schema: schema.MapNestedAttribute{Computed: true, NestedObject: otherTable.object()}},
})

var sampleSchema = schema.Schema{Attributes: sampleTable.attributes()}

func TestSampleTable(t *testing.T) {
	t.Parallel()
	checkFields(t, sampleTable)
	checkFields(t, itemTable)
	checkFields(t, otherTable)
}

// randomValue returns a value of a type, with unknown ones among them or not.
func randomValue(random *rand.Rand, of tftypes.Type, unknown bool) tftypes.Value {
	switch chance := random.IntN(8); {
	case chance == 0:
		return tftypes.NewValue(of, nil)
	case chance == 1 && unknown:
		return tftypes.NewValue(of, tftypes.UnknownValue)
	}
	switch of := of.(type) {
	case tftypes.Object:
		fields := map[string]tftypes.Value{}
		for name, field := range of.AttributeTypes {
			fields[name] = randomValue(random, field, unknown)
		}
		return tftypes.NewValue(of, fields)
	case tftypes.Map:
		elements := map[string]tftypes.Value{}
		for i := range random.IntN(3) {
			element := randomValue(random, of.ElementType, unknown)
			for !element.IsKnown() || element.IsNull() {
				element = randomValue(random, of.ElementType, unknown)
			}
			elements[fmt.Sprint("element", i)] = element
		}
		return tftypes.NewValue(of, elements)
	}
	switch {
	case of.Is(tftypes.Bool):
		return tftypes.NewValue(of, random.IntN(2) == 0)
	case of.Is(tftypes.Number):
		return tftypes.NewValue(of, []int64{0, 1, -1, 200, -200, 70000, -70000, -1 << 40}[random.IntN(8)])
	}
	return tftypes.NewValue(of, []string{"", "a", "b", strings.Repeat("long", 100)}[random.IntN(4)])
}

// What the framework holds is what comes out again.
func TestTableReadsAndWrites(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 0))
	object := sampleSchema.Type().TerraformType(ctx)
	for range 500 {
		raw := randomValue(random, object, true)
		if raw.IsNull() || !raw.IsKnown() {
			continue
		}
		var m sample
		if diags := sampleTable.read(ctx, tfsdk.Plan{Schema: sampleSchema, Raw: raw}, &m); diags.HasError() {
			t.Fatalf("%s: %v", raw, diags)
		}
		plan := tfsdk.Plan{Schema: sampleSchema, Raw: tftypes.NewValue(object, nil)}
		if diags := plan.Set(ctx, sampleTable.value(ctx, &m)); diags.HasError() {
			t.Fatalf("%s: %v", raw, diags)
		}
		if !plan.Raw.Equal(raw) {
			t.Fatalf("%s\nhas become\n%s", raw, plan.Raw)
		}
	}
}

// An element that is not known yet reads as one whose attributes are not, and
// a null one is an error.
func TestTableReadsElements(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	object := sampleSchema.Type().TerraformType(ctx).(tftypes.Object)
	read := func(element any) (m sample, failed bool) {
		items := object.AttributeTypes["items"].(tftypes.Map)
		values := map[string]tftypes.Value{}
		for name, of := range object.AttributeTypes {
			values[name] = tftypes.NewValue(of, nil)
		}
		values["items"] = tftypes.NewValue(items, map[string]tftypes.Value{"a": tftypes.NewValue(items.ElementType, element)})
		diags := sampleTable.read(ctx, tfsdk.Plan{Schema: sampleSchema, Raw: tftypes.NewValue(object, values)}, &m)
		return m, diags.HasError()
	}
	if m, failed := read(tftypes.UnknownValue); failed || !m.Items.elements["a"].Label.IsUnknown() || !m.Items.elements["a"].Version.IsUnknown() {
		t.Errorf("an unknown element: %v, %v", m, failed)
	}
	if _, failed := read(nil); !failed {
		t.Error("a null element is no error")
	}
}

// What is decoded is what the framework reads; what is unknown is declined.
func TestTableDecodes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	random := rand.New(rand.NewPCG(2, 0))
	object := sampleSchema.Type().TerraformType(ctx)
	decoded := 0
	for round := range 1000 {
		raw := randomValue(random, object, random.IntN(2) == 0)
		dynamic, err := tfprotov6.NewDynamicValue(object, raw)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := sampleTable.decode(dynamic.MsgPack)
		if want := !raw.IsNull() && raw.IsFullyKnown(); ok != want {
			t.Fatalf("%s: decoded %v, want %v", raw, ok, want)
		}
		for i := range dynamic.MsgPack {
			if round > 50 {
				break
			}
			if _, ok := sampleTable.decode(dynamic.MsgPack[:i]); ok {
				t.Fatalf("the first %d bytes of %x are decoded", i, dynamic.MsgPack)
			}
		}
		if !ok {
			continue
		}
		decoded++
		var want sample
		if diags := sampleTable.read(ctx, tfsdk.Plan{Schema: sampleSchema, Raw: raw}, &want); diags.HasError() {
			t.Fatal(diags)
		}
		if !sampleTable.equal(got, &want) {
			t.Fatalf("%s is decoded as %+v", raw, got)
		}
	}
	if decoded < 100 {
		t.Errorf("%d values were decoded: too few to tell anything", decoded)
	}
}

// Each attribute of another value makes two models differ, by its role.
func TestTableDiffers(t *testing.T) {
	t.Parallel()
	text, elsewhere := types.StringValue("x"), types.StringValue("y")
	items := func(change func(*item)) objectMap[item] {
		i := item{ID: text, Label: text, Version: types.Int64Value(1)}
		change(&i)
		return objectMap[item]{elements: map[string]item{"a": i}}
	}
	same := sample{Place: text, Setting: text, Flag: types.BoolValue(true), Items: items(func(*item) {}), Others: objectMap[other]{elements: map[string]other{}}}
	for title, tc := range map[string]struct {
		change func(*sample)
		of     []role
	}{
		"none":             {func(m *sample) { m.Items = items(func(*item) {}) }, nil},
		"place":            {func(m *sample) { m.Place = elsewhere }, []role{placing}},
		"setting":          {func(m *sample) { m.Setting = types.StringNull() }, []role{configurable}},
		"flag":             {func(m *sample) { m.Flag = types.BoolUnknown() }, []role{configurable}},
		"no items":         {func(m *sample) { m.Items = objectMap[item]{} }, []role{configurable}},
		"empty items":      {func(m *sample) { m.Items = objectMap[item]{elements: map[string]item{}} }, []role{configurable}},
		"unknown items":    {func(m *sample) { m.Items = objectMap[item]{unknown: true} }, []role{configurable}},
		"another item":     {func(m *sample) { m.Items = objectMap[item]{elements: map[string]item{"b": same.Items.elements["a"]}} }, []role{configurable}},
		"label of an item": {func(m *sample) { m.Items = items(func(i *item) { i.Label = elsewhere }) }, []role{configurable}},
		"ID of an item":    {func(m *sample) { m.Items = items(func(i *item) { i.ID = types.StringUnknown() }) }, []role{}},
		"null others":      {func(m *sample) { m.Others = objectMap[other]{} }, []role{computed}},
	} {
		changed := same
		tc.change(&changed)
		if got, want := sampleTable.differs(&same, &changed), tc.of != nil; got != want {
			t.Errorf("%s: differs %v", title, got)
		}
		var roles []role
		for _, r := range []role{computed, configurable, secret, placing} {
			if sampleTable.differs(&same, &changed, r) {
				roles = append(roles, r)
			}
		}
		if !slices.Equal(roles, tc.of) {
			t.Errorf("%s: differs in the roles %v, want %v", title, roles, tc.of)
		}
	}
	changed := same
	changed.Place = elsewhere
	if got := sampleTable.different(&same, &changed, placing); !slices.Equal(got, []string{"place"}) {
		t.Errorf("different: %v", got)
	}
}

func TestTablePlans(t *testing.T) {
	t.Parallel()
	prior := sample{Place: types.StringValue("x"), Others: objectMap[other]{elements: map[string]other{"a": {}}}}
	var m sample
	sampleTable.setUnknown(&m, computed)
	if !m.Others.unknown || m.Place.IsUnknown() {
		t.Errorf("unknown: %+v", m)
	}
	sampleTable.copy(&m, &prior, computed)
	if diff := cmp.Diff(prior.Others.elements, m.Others.elements); diff != "" || m.Others.unknown || !m.Place.IsNull() {
		t.Errorf("copied: %+v", m)
	}
	sampleTable.setDefaults(&m, &sample{})
	if m.Setting.ValueString() != "usual" {
		t.Errorf("default: %s", m.Setting)
	}
	m.Setting = types.StringValue("prior")
	sampleTable.setDefaults(&m, &sample{Setting: types.StringValue("unusual")})
	if m.Setting.ValueString() != "prior" {
		t.Errorf("default in place of what is configured: %s", m.Setting)
	}
}

func TestTableValid(t *testing.T) {
	t.Parallel()
	items := func(i item) objectMap[item] { return objectMap[item]{elements: map[string]item{"a": i}} }
	text := types.StringValue
	for title, tc := range map[string]struct {
		config sample
		want   bool
	}{
		"least":            {sample{Place: text("x")}, true},
		"required":         {sample{}, false},
		"computed":         {sample{Place: text("x"), Others: objectMap[other]{elements: map[string]other{}}}, false},
		"refused":          {sample{Place: text("x"), Setting: text("other")}, false},
		"accepted":         {sample{Place: text("x"), Setting: text("unusual"), Items: items(item{SecretWO: text("s"), Version: types.Int64Value(1)})}, true},
		"element computed": {sample{Place: text("x"), Items: items(item{ID: text("i")})}, false},
		"element refused":  {sample{Place: text("x"), Items: items(item{Label: text(strings.Repeat("x", 121))})}, false},
		"number refused":   {sample{Place: text("x"), Items: items(item{Version: types.Int64Value(0)})}, false},
	} {
		if got := sampleTable.valid(&tc.config); got != tc.want {
			t.Errorf("%s: valid %v, want %v", title, got, tc.want)
		}
	}
}

// What the fast path cannot check by itself is left to the framework.
func TestTableLeavesValidatorsToTheFramework(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		attribute schema.StringAttribute
		null, set bool
	}{
		"none":            {schema.StringAttribute{}, true, true},
		"own value":       {schema.StringAttribute{Validators: []validator.String{ownValueString{stringvalidator.OneOf("x")}}}, true, true},
		"when set":        {schema.StringAttribute{Validators: []validator.String{whenSet{stringvalidator.ConflictsWith(path.MatchRoot("y"))}}}, true, false},
		"any other":       {schema.StringAttribute{Validators: []validator.String{stringvalidator.OneOf("x")}}, false, false},
		"deprecated":      {schema.StringAttribute{DeprecationMessage: "Gone soon."}, true, false},
		"one of each":     {schema.StringAttribute{Validators: []validator.String{nameCheck, stringvalidator.OneOf("x")}}, false, false},
		"own, but refuse": {schema.StringAttribute{Validators: []validator.String{ownValueString{stringvalidator.OneOf("y")}}}, true, false},
	} {
		tc.attribute.Optional = true
		table := newTable([]row[other]{{name: "name", role: configurable, field: func(m *other) any { return &m.Name }, schema: tc.attribute}})
		if null, set := table.valid(&other{}), table.valid(&other{Name: types.StringValue("x")}); null != tc.null || set != tc.set {
			t.Errorf("%s: valid when null %v, when set %v", title, null, set)
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	t.Parallel()
	field := func(m *other) any { return &m.Name }
	good := row[other]{name: "name", role: configurable, field: field, schema: schema.StringAttribute{Optional: true}}
	with := func(change func(*row[other])) []row[other] {
		r := good
		change(&r)
		return []row[other]{r}
	}
	for title, rows := range map[string][]row[other]{
		"no role":        with(func(r *row[other]) { r.role = 0 }),
		"no field":       with(func(r *row[other]) { r.field = nil }),
		"no schema":      with(func(r *row[other]) { r.schema = nil }),
		"two rows":       {good, good},
		"another type":   with(func(r *row[other]) { r.schema = schema.BoolAttribute{Optional: true} }),
		"unknown type":   with(func(r *row[other]) { r.field = func(*other) any { return new(string) } }),
		"role: computed": with(func(r *row[other]) { r.role = computed }),
		"role: a user's": with(func(r *row[other]) { r.schema = schema.StringAttribute{Computed: true} }),
		"plan modifiers": with(func(r *row[other]) {
			r.schema = schema.StringAttribute{Optional: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()}}
		}),
		"unknown schemas": with(func(r *row[other]) { r.schema = schema.ListAttribute{Optional: true, ElementType: types.StringType} }),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", title)
				}
			}()
			newTable(rows)
		}()
	}
	newTable([]row[other]{good})
}
