package seal_test

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

const testKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	s, err := seal.New(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The worked example and every sample and malformed case of WIRE.md section 9.
func TestOpenTranscripts(t *testing.T) {
	t.Parallel()
	s := newSealer(t)
	all, err := transcripts.Baseline()
	if err != nil {
		t.Fatal(err)
	}
	const example = "768cdc88a17fcac50a40c3c4cdcc02cf:fa532ce14c1e34cef4d35457e916112a322d:503b151c4e455659e2d948e774bd9352"
	parts := strings.Split(example, ":")
	// The transcripts say how the value was modified, in words.
	modified := map[string]string{
		"enc-malformed-empty":              "",
		"enc-malformed-upper-case-hex":     strings.ToUpper(example),
		"enc-malformed-ct-flipped":         parts[0] + ":0" + parts[1][1:] + ":" + parts[2],
		"enc-malformed-short-tag-8-bytes":  parts[0] + ":" + parts[1] + ":" + parts[2][:16],
		"enc-malformed-12-byte-iv-prefix":  parts[0][:24] + ":" + parts[1] + ":" + parts[2],
		"enc-malformed-four-parts":         example + ":00",
		"enc-malformed-empty-ct":           parts[0] + "::" + parts[2],
		"enc-malformed-surrounding-spaces": " " + example + " ",
	}
	replayed := 0
	for _, e := range transcripts.Group(all, "encryption") {
		var want struct {
			Plaintext  *string
			HexLengths []int
			Result     string
			Value      string
		}
		if err := json.Unmarshal(e.Response.Body, &want); err != nil {
			t.Fatalf("%s: %v", e.ID, err)
		}
		stored, isModified := modified[e.ID]
		if !isModified {
			if e.Request.Body == nil {
				t.Errorf("%s: no stored value and no known modification", e.ID)
				continue
			}
			stored = *e.Request.Body
		}
		got, err := s.Open(stored)
		switch {
		case want.Plaintext != nil && (err != nil || got != *want.Plaintext):
			t.Errorf("%s: Open = %q, %v; want %q", e.ID, got, err, *want.Plaintext)
		case want.Result == "decrypts" && (err != nil || got != want.Value):
			t.Errorf("%s: Open = %q, %v; want %q", e.ID, got, err, want.Value)
		case want.Result == "error" && err == nil:
			t.Errorf("%s: Open = %q, want an error", e.ID, got)
		}
		if want.Plaintext != nil {
			for i, part := range strings.Split(s.Seal(*want.Plaintext), ":") {
				if len(part) != want.HexLengths[i] {
					t.Errorf("%s: part %d of a sealed value has %d digits, want %d", e.ID, i, len(part), want.HexLengths[i])
				}
			}
		}
		replayed++
	}
	t.Logf("encryption: %d of %d entries match", replayed, len(transcripts.Group(all, "encryption")))
}

func TestSeal(t *testing.T) {
	t.Parallel()
	s := newSealer(t)
	first, second := s.Seal("sk-test"), s.Seal("sk-test")
	if first == second {
		t.Error("two seals of one value are equal: the iv is not fresh")
	}
	if !wellFormed.MatchString(first) || first != strings.ToLower(first) {
		t.Errorf("sealed value %q is not of the stored form", first)
	}
}

// While the key is being changed, a Sealer opens what earlier keys sealed, and
// seals with the current one only.
func TestOtherKeysOpen(t *testing.T) {
	t.Parallel()
	old, err := seal.New(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	older, err := seal.New(strings.Repeat("cd", 32))
	if err != nil {
		t.Fatal(err)
	}
	both, err := seal.New(testKey, strings.Repeat("ab", 32), strings.Repeat("cd", 32))
	if err != nil {
		t.Fatal(err)
	}
	current := newSealer(t)
	for name, tt := range map[string]struct {
		sealed    string
		isCurrent bool
		want      error
	}{
		"current":   {current.Seal("sk-test"), true, nil},
		"old":       {old.Seal("sk-test"), false, nil},
		"older":     {older.Seal("sk-test"), false, nil},
		"itself":    {both.Seal("sk-test"), true, nil},
		"malformed": {"garbage", false, seal.ErrMalformed},
		"changed":   {strings.Repeat("0", 32) + old.Seal("sk-test")[32:], false, seal.ErrForeign},
	} {
		plaintext, isCurrent, err := both.OpenWith(tt.sealed)
		if !errors.Is(err, tt.want) || isCurrent != tt.isCurrent || (err == nil && plaintext != "sk-test") {
			t.Errorf("%s: %q, %t, %v; want %t, %v", name, plaintext, isCurrent, err, tt.isCurrent, tt.want)
		}
	}
	if _, err := old.Open(both.Seal("sk-test")); !errors.Is(err, seal.ErrForeign) {
		t.Errorf("the old key opens what the new one has sealed: %v", err)
	}
	if _, err := seal.New(testKey, "short"); err == nil || !strings.Contains(err.Error(), "each of DECRYPTION_KEYS must be 64 hex digits") {
		t.Errorf("a malformed old key: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "abc", strings.Repeat("g", 64), strings.Repeat("a", 65), strings.Repeat("a", 62), strings.Repeat("a", 48), strings.Repeat("a", 32)} {
		if _, err := seal.New(key); err == nil || (key != "" && strings.Contains(err.Error(), key)) {
			t.Errorf("New(%d characters) = %v, want an error without the key", len(key), err)
		}
	}
}

// What is sealed opens, with its own key only; a change of any byte of it, one
// more or one less, does not open.
func TestSealProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, sealProperties(t))
}

func FuzzSeal(f *testing.F) { f.Fuzz(rapid.MakeFuzz(sealProperties(f))) }

func sealProperties(tb testing.TB) func(*rapid.T) {
	s := newSealer(tb)
	other, err := seal.New(strings.Repeat("ab", 32))
	if err != nil {
		tb.Fatal(err)
	}
	return func(t *rapid.T) {
		plaintext := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "plaintext")
		sealed := s.Seal(plaintext)
		if plaintext == "" { // the real server refuses it
			if _, err := s.Open(sealed); !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("a sealed empty value: %v, want ErrMalformed", err)
			}
			return
		}
		for _, form := range []string{sealed, strings.ToUpper(sealed)} {
			if got, err := s.Open(form); err != nil || got != plaintext {
				t.Fatalf("%q opens to %q, %v; want %q", form, got, err, plaintext)
			}
		}
		if _, err := other.Open(sealed); !errors.Is(err, seal.ErrForeign) {
			t.Fatalf("another key: %v, want ErrForeign", err)
		}

		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		with := rapid.OneOf(rapid.SampledFrom([]string{"0", "f", ":", ""}), rapid.String()).Draw(t, "with")
		changed := sealed[:at] + with + sealed[at+rapid.IntRange(0, 1).Draw(t, "replaced"):]
		got, err := s.Open(changed)
		switch {
		case strings.EqualFold(changed, sealed):
		case err == nil:
			t.Fatalf("%q opens to %q, though it was changed from %q", changed, got, sealed)
		case wellFormed.MatchString(changed) != errors.Is(err, seal.ErrForeign):
			t.Fatalf("%q: %v", changed, err)
		}
	}
}

// wellFormed is the form of what is stored. WIRE.md section 9.
var wellFormed = regexp.MustCompile(`^[0-9a-fA-F]{32}:([0-9a-fA-F]{2})+:[0-9a-fA-F]{32}$`)
