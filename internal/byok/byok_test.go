package byok_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestMask(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ apiKey, want string }{
		"empty":               {"", byok.MaskUnknown},
		"8 units":             {"12345678", byok.MaskUnknown},
		"9 units":             {"123456789", "1234...6789"},
		"12 units":            {"123456789012", "1234...9012"},
		"13 units":            {"1234567890123", "123456...0123"},
		"blanks are kept":     {"  34567890  ", "  34...90  "},
		"4 emoji are 8 units": {"🔑🔑🔑🔑", byok.MaskUnknown},
		"5 emoji are 10":      {"🔑🔑🔑🔑🔑", "🔑🔑...🔑🔑"},
		"cut surrogates":      {"a🔑🔑🔑🔑🔑", "a🔑\uFFFD...🔑🔑"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := byok.Mask(tc.apiKey); got != tc.want {
				t.Errorf("Mask(%q) = %q, want %q", tc.apiKey, got, tc.want)
			}
		})
	}
}

// A mask shows both ends of a key and nothing in between, whatever the key is.
func TestMaskProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Both lengths at which the form changes are likely, and surrogates.
		key := rapid.SliceOfN(rapid.OneOf(rapid.Uint16(), rapid.Uint16Range(' ', '~'), rapid.Uint16Range(0xd800, 0xdfff)), 0, 20).Draw(t, "key")
		masked := byok.MaskUTF16(key)
		shown := 0
		if head, tail, ok := strings.Cut(string(utf16.Decode(masked)), "..."); len(key) > 8 && !ok {
			t.Fatalf("%q and %q have no gap between", head, tail)
		}
		switch n := len(key); {
		case n <= 8:
			if got := string(utf16.Decode(masked)); got != byok.MaskUnknown {
				t.Fatalf("a key of %d units is shown as %q", n, got)
			}
			return
		case n <= 12:
			shown = 4
		default:
			shown = 6
		}
		if len(masked) != shown+3+4 || !slices.Equal(masked[:shown], key[:shown]) || !slices.Equal(masked[shown+3:], key[len(key)-4:]) {
			t.Fatalf("the mask of %x is %x", key, masked)
		}
		// What is hidden makes no difference.
		other := slices.Clone(key)
		other[rapid.IntRange(shown, len(key)-5).Draw(t, "hidden")]++
		if !slices.Equal(byok.MaskUTF16(other), masked) {
			t.Fatalf("%x and %x have different masks", key, other)
		}
		if text := string(utf16.Decode(key)); byok.Mask(text) != string(utf16.Decode(byok.MaskUTF16(utf16.Encode([]rune(text))))) {
			t.Fatalf("Mask and MaskUTF16 differ for %q", text)
		}
	})
}

// Trimming takes nothing but white space, and takes it once.
func TestNameProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.StringOfN(rapid.SampledFrom([]rune("\t\n\v\f\r \u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000\ufeff")), 0, 4, -1)
		name := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune(" \u0085\u180e\u200b🔑")))).Draw(t, "name")
		trimmed := byok.TrimName(name)
		if byok.TrimName(trimmed) != trimmed || byok.TrimName(space.Draw(t, "before")+trimmed+space.Draw(t, "after")) != trimmed {
			t.Fatalf("%q is trimmed to %q, which is not the whole of it", name, trimmed)
		}
		before, after, ok := strings.Cut(name, trimmed)
		if !ok || strings.ContainsFunc(before+after, func(r rune) bool { return !byok.IsECMAScriptSpace(r) }) {
			t.Fatalf("%q lost more than white space: %q", name, trimmed)
		}
		if got, want := byok.NameLength(name), len(utf16.Encode([]rune(name))); got != want {
			t.Fatalf("NameLength(%q) = %d, want %d", name, got, want)
		}
	})
}

func TestName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"  a b\t":            "a b",
		"\uFEFFa\u00A0":      "a",
		"\u0085a":            "\u0085a", // white space to Go, not to ECMAScript
		"\u2028\u3000":       "",
		"\u200Ba":            "\u200Ba",
		"\u2003middle\u2003": "middle",
	} {
		if got := byok.TrimName(in); got != want {
			t.Errorf("TrimName(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]int{"": 0, "abc": 3, "é": 1, "🔑": 2, strings.Repeat("🔑", 60): 120} {
		if got := byok.NameLength(in); got != want {
			t.Errorf("NameLength(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestProviderIDs(t *testing.T) {
	t.Parallel()
	if got := len(byok.ProviderIDs()); got != 36 {
		t.Fatalf("%d provider IDs, want 36", got)
	}
	for _, id := range byok.ProviderIDs() {
		if !byok.IsProviderIDForm(id) || !byok.IsKnownProviderID(id) || byok.NearestProviderID(id) != id {
			t.Errorf("%q is not well-formed, known and nearest to itself", id)
		}
	}
	for in, want := range map[string]string{
		"open-ai": "openai", "opena": "openai", "antropic": "anthropic", "google-cloud": "google_cloud",
		"ollama": "", "gemini": "", "cohere2": "cohere",
	} {
		if got := byok.NearestProviderID(in); got != want {
			t.Errorf("NearestProviderID(%q) = %q, want %q", in, got, want)
		}
	}
	for _, id := range []string{"", "OpenAI", "open ai", "-a", "a-", "a/b", strings.Repeat("a", 65)} {
		if byok.IsProviderIDForm(id) {
			t.Errorf("%q passes as a provider ID", id)
		}
	}
}

func TestFormatTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 123987000, time.FixedZone("", 3600))
	if got, want := byok.FormatTime(at), "2026-01-02T02:04:05.123Z"; got != want {
		t.Errorf("FormatTime = %s, want %s: cut, not rounded", got, want)
	}
}
