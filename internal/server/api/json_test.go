package api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestParseJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		kind kind // "" for malformed
		text string
	}{
		{`{}`, objectKind, ""},
		{" \t\r\n[]\n", arrayKind, ""},
		{`"x"`, stringKind, "x"},
		{`""`, stringKind, ""},
		{`null`, nullKind, ""},
		{`true`, booleanKind, ""},
		{`-0.5e+10`, numberKind, ""},
		{`1E400`, numberKind, ""},
		{"\ufeff1", numberKind, ""},
		{"\ufeff\ufeff1", "", ""},
		{"", "", ""},
		{" ", "", ""},
		{"nul", "", ""},
		{"nulll", "", ""},
		{"True", "", ""},
		{"01", "", ""},
		{"+1", "", ""},
		{"1.", "", ""},
		{".5", "", ""},
		{"1e", "", ""},
		{"-", "", ""},
		{"0x1", "", ""},
		{"NaN", "", ""},
		{"'x'", "", ""},
		{`{"a":1,}`, "", ""},
		{`{"a" 1}`, "", ""},
		{`{a:1}`, "", ""},
		{`{"a":1}}`, "", ""},
		{`{"a":1`, "", ""},
		{`{"a":[1,{"b":[]}],"c":{}}`, objectKind, ""},
		{`{"a":[1,]}`, "", ""},
		{`{"a":[,1]}`, "", ""},
		{`{"a":[1 2]}`, "", ""},
		{`{"a":{"b":}}`, "", ""},
		{`{"a":{"b"}}`, "", ""},
		{`{"a":[}`, "", ""},
		{`{"a":[1}]`, "", ""},
		{`[1]x`, "", ""},
		{"[\u00a0]", "", ""},
		{"[1]\v", "", ""},
		{`/**/1`, "", ""},
		{"\"a\nb\"", "", ""},
		{"\"a\x7fb\u2028\"", stringKind, "a\x7fb\u2028"},
		{`"\b\f\n\r\t\/\\\"\u0041\u00e9"`, stringKind, "\b\f\n\r\t/\\\"Aé"},
		{`"\ud83d\udd11"`, stringKind, "🔑"},
		{`"\x41"`, "", ""},
		{`"\u12g4"`, "", ""},
		{`"\u123"`, "", ""},
		{`"\`, "", ""},
		{`"\u`, "", ""},
		{`"abc`, "", ""},
		// WHATWG: one U+FFFD for each maximal part of a broken sequence.
		{"\"\xff\xfe\"", stringKind, "\ufffd\ufffd"},
		{"\"\xf0\x9f\x94x\"", stringKind, "\ufffdx"},
		{"\"\xe9\"", stringKind, "\ufffd"},
		{"\"\xed\xa0\x80\"", stringKind, "\ufffd\ufffd\ufffd"},
		{"\"\xc0\x80\"", stringKind, "\ufffd\ufffd"},
		{"\"\xe0\x80\x80\"", stringKind, "\ufffd\ufffd\ufffd"},
		{"\"\xf4\x90\x80\x80\"", stringKind, "\ufffd\ufffd\ufffd\ufffd"},
		{"\"\xe2\x82\"", stringKind, "\ufffd"},
		{"\"\xef\xbf\xbd\"", stringKind, "\ufffd"},
		// A broken sequence takes the closing quote with it in no decoder.
		{"\"\xe2\"", stringKind, "\ufffd"},
		{strings.Repeat("[", 200000) + strings.Repeat("]", 200000), arrayKind, ""},
	} {
		v, ok := parseJSON(tt.in)
		if !ok {
			v.kind = ""
		}
		if v.kind != tt.kind || (tt.kind == stringKind && v.string() != tt.text) {
			t.Errorf("%.60q: %s %q, want %s %q", tt.in, v.kind, v.string(), tt.kind, tt.text)
		}
	}
}

func TestParseJSONFields(t *testing.T) {
	t.Parallel()
	v, ok := parseJSON(`{"a":1,"a":"\ud800x","__proto__":{"b":2},"\u0063":"c","n":null,"unwanted":"x"}`, "a", "b", "c", "n", "A")
	if !ok {
		t.Fatal("malformed")
	}
	if got := v.field("a").text.units(); !slices.Equal(got, []uint16{0xd800, 'x'}) {
		t.Errorf("a = %x: the last of several counts, lone surrogates stay", got)
	}
	if v.field("a").string() != "\ufffdx" {
		t.Errorf("a = %q", v.field("a").string())
	}
	for name, want := range map[string]kind{"b": undefinedKind, "c": stringKind, "n": nullKind, "A": undefinedKind, "unwanted": undefinedKind} {
		if got := v.field(name).kind; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                         `""`,
		"a\"\\/<>&":                `"a\"\\/<>&"`,
		"\x00\x01\b\t\n\v\f\r":     `"\u0000\u0001\b\t\n\u000b\f\r"`,
		"\x7f\u2028\u2029é🔑\u0085": "\"\x7f\u2028\u2029é🔑\u0085\"",
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("appendString(%q) = %s, want %s", in, got, want)
		}
		if got := string(appendUTF16(nil, utf16.Encode([]rune(in)))); got != want {
			t.Errorf("appendUTF16(%q) = %s, want %s", in, got, want)
		}
	}
	if got, want := string(appendString(nil, "\xed\xb4\x91a\xed\xa0\xbd🔑\xed\xaf\xbf\xff")), `"\udd11a\ud83d🔑\udbff`+"\ufffd\""; got != want {
		t.Errorf("lone surrogates in a string: %s, want %s", got, want)
	}
	if got, want := string(appendUTF16(nil, []uint16{0xdd11, 'a', 0xd83d, 0xd83d, 0xdd11, 0xdbff})), `"\udd11a\ud83d🔑\udbff"`; got != want {
		t.Errorf("lone surrogates: %s, want %s", got, want)
	}
}

// jsonText draws JSON of a few levels, with everything that its grammar allows.
func jsonText(depth int) *rapid.Generator[string] {
	space := rapid.StringOfN(rapid.SampledFrom([]rune(" \t\n\r")), 0, 2, -1)
	literal := rapid.Map(rapid.SliceOfN(rapid.OneOf(
		rapid.Map(rapid.RuneFrom([]rune("aé\u2028\x7f🔑")), func(r rune) string { return string(r) }),
		rapid.StringMatching(`\\(["\\/bfnrt]|u[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}|uD[89ab][0-9a-f]{2})`),
	), 0, 4), func(parts []string) string { return `"` + strings.Join(parts, "") + `"` })
	name := rapid.OneOf(rapid.SampledFrom([]string{`"a"`, `"\u0061"`, `"b"`}), literal)
	scalar := rapid.OneOf(literal, rapid.SampledFrom([]string{"null", "true", "false"}), rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?`))
	return rapid.Custom(func(t *rapid.T) string {
		around := func(of *rapid.Generator[string], label string) string {
			return space.Draw(t, "space") + of.Draw(t, label) + space.Draw(t, "space")
		}
		shape := 0
		if depth > 0 {
			shape = rapid.IntRange(0, 2).Draw(t, "shape")
		}
		if shape == 0 {
			return around(scalar, "scalar")
		}
		var parts []string
		for range rapid.IntRange(0, 4).Draw(t, "size") {
			part := around(jsonText(depth-1), "value")
			if shape == 1 {
				part = around(name, "name") + ":" + part
			}
			parts = append(parts, part)
		}
		brackets := map[int]string{1: "{}", 2: "[]"}[shape]
		return brackets[:1] + space.Draw(t, "space") + strings.Join(parts, ",") + brackets[1:]
	})
}

// The reader takes what encoding/json takes, and finds the same in it.
func TestParseJSONProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := jsonText(3).Draw(t, "in")
		if rapid.Bool().Draw(t, "broken") {
			at := rapid.IntRange(0, len(in)).Draw(t, "at")
			with := rapid.OneOf(rapid.SampledFrom([]string{"", `"`, `\`, "{", "}", "[", "]", ",", ":", "0", "\x1f"}), rapid.String()).Draw(t, "with")
			in = strings.ToValidUTF8(in[:at]+with+in[min(len(in), at+rapid.IntRange(0, 2).Draw(t, "less")):], "?")
			in = strings.TrimPrefix(in, "\ufeff") // ECMAScript's own
		}
		got, ok := parseJSON(in, "a", "b")
		if valid := json.Valid([]byte(in)); ok != valid {
			t.Fatalf("%q: parsed %t, encoding/json says %t", in, ok, valid)
		}
		if !ok {
			return
		}
		sameJSON(t, in, got)
		if got.kind != objectKind {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(in), &fields); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b"} {
			raw, there := fields[name]
			if field := got.field(name); there {
				sameJSON(t, string(raw), field)
			} else if field.kind != undefinedKind {
				t.Fatalf("%q has a field %q: %v", in, name, field)
			}
		}
	})
}

// sameJSON compares a value with what encoding/json makes of its text.
func sameJSON(t *rapid.T, in string, got value) {
	t.Helper()
	want, text, yes := nullKind, "", false
	decoder := json.NewDecoder(strings.NewReader(in))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		t.Fatal(err)
	}
	switch v := decoded.(type) {
	case bool:
		want, yes = booleanKind, v
	case json.Number:
		want = numberKind
	case string:
		want, text = stringKind, v
	case []any:
		want = arrayKind
	case map[string]any:
		want = objectKind
	}
	if got.kind != want || got.string() != text || got.yes != yes {
		t.Fatalf("%q is read as %s %q %t, want %s %q %t", in, got.kind, got.string(), got.yes, want, text, yes)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"providerId":"openai","apiKey":"sk-test","name":" x ","keyId":"a\u0000"}`, `{"a":[1,{"b":[true,null]}],"a":"\ud800"}`,
		"\ufeff[]", "\"\xf0\x9f\"", `{"a":{"b":[],"c":{}}}`, `[[[{"a":[]}]]]`, `-1.5e-3`, `"\ud83d\udd11\ud83d\ud83d\udd11\udd11"`, `"` + strings.Repeat(`é🔑\ud800`, 60) + `"`, `"\u00`, `{"`, `[{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, ok := parseJSON(string(in), saveFields...)
		decoded := decodeUTF8(string(in))
		if !utf8.ValidString(decoded) {
			t.Fatalf("decodeUTF8(%q) is not UTF-8", in)
		}
		// encoding/json has the same grammar, down to its depth limit.
		if std := json.Valid([]byte(decoded)); std != ok && strings.Count(decoded, "[")+strings.Count(decoded, "{") < 10000 {
			t.Fatalf("%q: parsed %v, encoding/json says %v", in, ok, std)
		}
		if !ok {
			return
		}
		if v.kind == stringKind {
			units := v.text.units()
			if v.text.length() != len(units) {
				t.Fatalf("%q has %d units, not %d", in, len(units), v.text.length())
			}
			if want := string(utf16.Decode(units)); v.string() != want {
				t.Fatalf("%q is %q without lone surrogates, want %q", in, v.string(), want)
			}
			for _, written := range [][]byte{appendUTF16(nil, units), appendString(nil, string(v.text))} {
				again, ok := parseJSON(string(written))
				if !ok || again.text != v.text {
					t.Fatalf("%q does not survive as %q: %x", in, written, again.text)
				}
			}
			if got, want := v.text.mask(), byok.MaskUTF16(units); !slices.Equal(got, want) {
				t.Fatalf("the mask of %q is %x, want %x", in, got, want)
			}
		}
		// Validation must take whatever parses.
		if r, invalid := readSave(v); invalid == nil && (r.providerID == "" || len(r.apiKey) == 0) {
			t.Fatalf("%q is valid without a provider ID or API key", in)
		}
		if r, invalid := readDelete(v); invalid == nil && (r.providerID == "" || (v.field("keyId").kind != undefinedKind && r.keyID == "")) {
			t.Fatalf("%q would empty a pool that it does not name", in)
		}
	})
}
