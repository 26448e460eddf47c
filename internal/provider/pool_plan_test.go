package provider

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// poolOf is a configuration of a pool.
func poolOf(elements map[string]poolKey, change ...func(*poolModel)) poolModel {
	m := poolModel{ProviderID: types.StringValue("openai"), Keys: objectMap[poolKey]{elements: elements}, Timeouts: nullTimeouts()}
	for _, c := range change {
		c(&m)
	}
	return m
}

// declares is an element with a secret.
func declares(secret string, change ...func(*poolKey)) poolKey {
	k := poolKey{APIKeyWO: types.StringValue(secret)}
	for _, c := range change {
		c(&k)
	}
	return k
}

func exclusively(m *poolModel) { m.Exclusive = types.BoolValue(true) }

// unmanagedID is the ID of a key of another user.
const unmanagedID = "id-of-another"

// storedPool is the state and the record of a pool after an apply of elements,
// with one key of another user beside them.
func storedPool(elements map[string]poolKey) (poolModel, poolRecord) {
	m := poolOf(map[string]poolKey{}).withDefaults()
	m.WorkspaceID = types.StringValue("ws")
	m.Unmanaged.elements = map[string]unmanagedKey{unmanagedID: unmanagedKeyOf(byok.Key{MaskedKey: "mask", CreatedAt: written})}
	record := poolRecord{keys: map[string]keyRecord{}, unmanaged: map[string]string{unmanagedID: written}}
	config := poolOf(elements)
	for _, name := range config.names() {
		key := config.declaredKey(name, "")
		stored := byok.Key{ID: "id-" + name, ProviderID: "openai", MaskedKey: byok.Mask(key.APIKeyWO.ValueString()), CreatedAt: written, UpdatedAt: written}
		state := key.withCreated(stored)
		m.Keys.elements[name], record.keys[name] = poolKeyOf(state), writtenRecord(stored).declared(key)
	}
	return m, record
}

// summary is a plan in words: what is sent, in the order in which it is sent.
func (p poolPlan) summary() string {
	var words []string
	for _, key := range p.keys {
		if key.from != "" && key.update.upload {
			words = append(words, "replace "+key.name)
		}
		if key.from != "" && key.from != key.name {
			words = append(words, key.name+" takes over "+key.from)
		}
	}
	for _, key := range p.keys {
		if key.from == "" {
			words = append(words, "add "+key.name)
		}
	}
	for _, name := range p.removed {
		words = append(words, "remove "+name)
	}
	for _, id := range p.unmanaged {
		words = append(words, "remove "+id)
	}
	if p.replaces() {
		words = append(words, "replaced by "+strings.Join(p.replacedBy, ", "))
	}
	return strings.Join(words, "; ")
}

func TestPlanPool(t *testing.T) {
	t.Parallel()
	named := func(name string) func(*poolKey) { return func(k *poolKey) { k.Name = types.StringValue(name) } }
	version := func(v int64) func(*poolKey) { return func(k *poolKey) { k.APIKeyWOVersion = types.Int64Value(v) } }
	unknownSecret := func(k *poolKey) { k.APIKeyWO = types.StringUnknown() }
	without := func(k *poolKey) { k.APIKeyWO = types.StringNull() }
	two := map[string]poolKey{"a": declares(secretA), "b": declares(secretB)}

	for title, tc := range map[string]struct {
		before map[string]poolKey
		config poolModel
		// drift changes what a refresh has found.
		drift func(*poolModel, poolRecord)
		want  string
		// changed are the elements that differ from the state, with unknown
		// ones among them.
		changed []string
	}{
		"unchanged":            {before: two, config: poolOf(two)},
		"no secrets":           {before: two, config: poolOf(map[string]poolKey{"a": declares("", without), "b": declares("", without)})},
		"secret":               {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares("another")}), want: "replace b", changed: []string{"b"}},
		"secret unknown":       {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares("", unknownSecret)}), want: "replace b", changed: []string{"b"}},
		"version":              {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares(secretB, version(1))}), want: "replace b", changed: []string{"b"}},
		"version unchanged":    {before: map[string]poolKey{"a": declares(secretA, version(1))}, config: poolOf(map[string]poolKey{"a": declares("another", version(1))})},
		"name":                 {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares(secretB, named("x"))}), want: "replace b", changed: []string{"b"}},
		"name is the map key":  {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares(secretB, named("b"))})},
		"custom name dropped":  {before: map[string]poolKey{"a": declares(secretA, named("x"))}, config: poolOf(map[string]poolKey{"a": declares(secretA)}), want: "replace a", changed: []string{"a"}},
		"added":                {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "b": declares(secretB), "c": declares("c")}), want: "add c", changed: []string{"c"}},
		"removed":              {before: two, config: poolOf(map[string]poolKey{"b": declares(secretB)}), want: "remove a"},
		"swapped":              {before: two, config: poolOf(map[string]poolKey{"y": declares("y"), "x": declares("x")}), want: "add x; add y; remove a; remove b", changed: []string{"x", "y"}},
		"map key":              {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "z": declares(secretB)}), want: "replace z; z takes over b", changed: []string{"z"}},
		"map key, name stays":  {before: map[string]poolKey{"a": declares(secretA, named("x"))}, config: poolOf(map[string]poolKey{"z": declares(secretA, named("x"))}), want: "z takes over a", changed: []string{"z"}},
		"map key of a version": {before: map[string]poolKey{"a": declares(secretA, version(1))}, config: poolOf(map[string]poolKey{"z": declares(secretA, version(1))}), want: "add z; remove a", changed: []string{"z"}},
		"map key, two of one secret": {before: map[string]poolKey{"a": declares(secretA), "b": declares(secretA)},
			config: poolOf(map[string]poolKey{"y": declares(secretA), "z": declares(secretA), "x": declares(secretB)}),
			want:   "replace y; y takes over a; replace z; z takes over b; add x", changed: []string{"x", "y", "z"}},
		"map key of an adopted key": {before: two, config: poolOf(map[string]poolKey{"a": declares(secretA), "z": declares(secretB)}),
			drift: func(m *poolModel, r poolRecord) { r.keys["b"] = adoptedRecord(m.key("b").key()) }, want: "add z; remove b", changed: []string{"z"}},
		"exclusive":             {before: two, config: poolOf(two, exclusively), want: "remove " + unmanagedID},
		"exclusive, alone":      {before: two, config: poolOf(two, exclusively), drift: func(m *poolModel, _ poolRecord) { m.Unmanaged.elements = map[string]unmanagedKey{} }},
		"keys unknown":          {before: two, config: poolOf(nil, func(m *poolModel) { m.Keys.unknown = true })},
		"replaced elsewhere":    {before: two, config: poolOf(two), drift: writtenElsewhere, want: "replace a", changed: []string{"a"}},
		"replaced, warn":        {before: two, config: poolOf(two, func(m *poolModel) { m.OnRemoteChange = types.StringValue(onRemoteChangeWarn) }), drift: writtenElsewhere},
		"deleted elsewhere":     {before: two, config: poolOf(two), drift: func(m *poolModel, r poolRecord) { delete(m.Keys.elements, "a"); delete(r.keys, "a") }, want: "add a", changed: []string{"a"}},
		"other provider ID":     {before: two, config: poolOf(two, func(m *poolModel) { m.ProviderID = types.StringValue("google") }), want: "replaced by provider_id"},
		"other workspace":       {before: two, config: poolOf(two, func(m *poolModel) { m.WorkspaceID = types.StringValue("other") }), want: "replaced by workspace_id"},
		"null name under an ID": {before: map[string]poolKey{"a": declares(secretA)}, config: poolOf(map[string]poolKey{"id-a": declares(secretA)}), want: "replace id-a; id-a takes over a", changed: []string{"id-a"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			prior, record := storedPool(tc.before)
			if tc.drift != nil {
				tc.drift(&prior, record)
			}
			p := planPool(tc.config, prior, record, types.StringValue("ws"))
			if got := p.summary(); got != tc.want {
				t.Errorf("the plan: %s, want %s", got, tc.want)
			}
			var changed []string
			for name, element := range p.planned.Keys.elements {
				if before, ok := prior.Keys.elements[name]; !ok || poolKeyTable.differs(&before, &element) {
					changed = append(changed, name)
				}
				if !element.APIKeyWO.IsNull() {
					t.Errorf("the plan holds the secret of %s", name)
				}
				if key := p.key(name); key.from != "" && !element.ID.Equal(prior.Keys.elements[key.from].ID) {
					t.Errorf("%s gets the ID %s", name, element.ID)
				}
			}
			slices.Sort(changed)
			if !slices.Equal(changed, tc.changed) {
				t.Errorf("changed are %v, want %v", changed, tc.changed)
			}
			if want := len(p.unmanaged) == 0; p.planned.Unmanaged.elements == nil || want != (len(p.planned.Unmanaged.elements) == len(prior.Unmanaged.elements)) {
				t.Errorf("unmanaged is planned as %v", p.planned.Unmanaged)
			}
			if got, want := p.changes(), tc.want != "" && !p.replaces() || strings.Contains(title, "replaced"); got != want {
				t.Errorf("changes: %v, want %v", got, want)
			}
		})
	}
}

func writtenElsewhere(m *poolModel, _ poolRecord) {
	element := m.Keys.elements["a"]
	element.UpdatedAt = types.StringValue(moved)
	m.Keys.elements["a"] = element
}

func (p poolPlan) key(name string) poolKeyPlan {
	for _, key := range p.keys {
		if key.name == name {
			return key
		}
	}
	return poolKeyPlan{}
}

func TestPlanPoolCreate(t *testing.T) {
	t.Parallel()
	p := planPool(poolOf(map[string]poolKey{"k2": declares("2"), "k10": declares("10")}, exclusively), poolModel{}, poolRecord{}, types.StringValue("ws"))
	if got := p.summary(); got != "add k10; add k2" {
		t.Error(got)
	}
	if !p.planned.Unmanaged.unknown || p.planned.WorkspaceID.ValueString() != "ws" {
		t.Errorf("planned %+v", p.planned)
	}
	for name, element := range p.planned.Keys.elements {
		if !element.ID.IsUnknown() || !element.APIKeyWO.IsNull() || element.Name.ValueString() != name {
			t.Errorf("%s is planned as %+v", name, element)
		}
	}
	if p := planPool(poolOf(nil), poolModel{}, poolRecord{}, types.StringUnknown()); !p.planned.WorkspaceID.IsUnknown() {
		t.Error("the workspace of the provider is unknown, that of the pool is known")
	}
}

func TestImportNames(t *testing.T) {
	t.Parallel()
	named := func(id, name string) byok.Key { return byok.Key{ID: id, Name: &name} }
	for title, tc := range map[string]struct {
		stored []byok.Key
		want   map[string]string // ID by map key
	}{
		"names":                       {[]byok.Key{named("idA", "a"), named("idB", "b-2_c")}, map[string]string{"a": "idA", "b-2_c": "idB"}},
		"no name":                     {[]byok.Key{{ID: "idA"}, {ID: "_b"}}, map[string]string{"idA": "idA", "_b": "_b"}},
		"no identifier":               {[]byok.Key{named("idA", "a b"), named("idB", "${c}"), named("idC", "ä"), named("idD", "1"), named("idE", "null")}, map[string]string{"idA": "idA", "idB": "idB", "idC": "idC", "idD": "idD", "idE": "idE"}},
		"same name":                   {[]byok.Key{named("idA", "a"), named("idB", "a"), named("idC", "c")}, map[string]string{"idA": "idA", "idB": "idB", "c": "idC"}},
		"odd ID":                      {[]byok.Key{{ID: "1a"}, {ID: "-b"}, named("2c", "c")}, map[string]string{"key_1a": "1a", "key_-b": "-b", "c": "2c"}},
		"a name that is another's ID": {[]byok.Key{named("idA", "idB"), {ID: "idB"}}, map[string]string{"idA": "idA", "idB": "idB"}},
	} {
		got := map[string]string{}
		for name, key := range importNames(tc.stored) {
			got[name] = key.ID
		}
		if !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", title, got, tc.want)
		}
	}
}

// An imported pool plans nothing, whatever its keys are called.
func TestImportedPoolPlansNothing(t *testing.T) {
	t.Parallel()
	names := []*string{nil, nil, new("plain"), new("twin"), new("twin"), new("odd name"), new("  ")}
	var stored []byok.Key
	for i, name := range names {
		stored = append(stored, byok.Key{ID: fmt.Sprintf("%c-id-%d", "aZ_0-bc"[i], i), ProviderID: "openai", Name: name, MaskedKey: byok.Mask(secretA), CreatedAt: written, UpdatedAt: written})
	}
	pool := byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: "openai"}
	refreshed := refreshPool(importedPool(pool, stored), poolRecord{}, stored)
	if len(refreshed.state.Keys.elements) != len(names) {
		t.Fatalf("imported are %v", refreshed.state.names())
	}
	config := poolOf(map[string]poolKey{})
	for name, element := range refreshed.state.Keys.elements {
		// As generated configuration has it, with the secret filled in.
		config.Keys.elements[name] = declares(secretA, func(k *poolKey) { k.Name = element.Name })
	}
	p := planPool(config, refreshed.state, refreshed.record, types.StringValue("ws"))
	if p.changes() || !p.planned.equal(refreshed.state) {
		t.Errorf("the plan: %s", p.summary())
	}
	if again := refreshPool(refreshed.state, refreshed.record, stored); again.changed {
		t.Error("a second refresh changes something")
	}
}

// The record in private state comes back as it was.
func TestPoolRecord(t *testing.T) {
	t.Parallel()
	state, record := storedPool(map[string]poolKey{"a": declares(secretA), "b": declares(secretB)})
	for title, beside := range map[string]poolModel{"beside the state": state, "alone": {}} {
		data, err := record.encode(beside)
		if err != nil {
			t.Fatal(err)
		}
		got := decodePoolRecord(data, beside)
		if !maps.EqualFunc(got.keys, record.keys, func(a, b keyRecord) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) || !maps.Equal(got.unmanaged, record.unmanaged) {
			t.Errorf("%s: %+v has become %+v", title, record, got)
		}
		if ids := got.ids(); len(ids) != 2 {
			t.Errorf("%s: IDs %v", title, ids)
		}
	}
	for _, data := range []string{"", "null", "[]", "garbage"} {
		if !decodePoolRecord([]byte(data), state).absent() {
			t.Errorf("%q is taken for a record", data)
		}
	}
}

func TestPoolTable(t *testing.T) {
	t.Parallel()
	checkTable(t, poolTable, "pool")
	checkFields(t, poolKeyTable)
	checkFields(t, unmanagedKeyTable)
}
