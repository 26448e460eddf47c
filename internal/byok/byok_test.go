package byok_test

import (
	"strings"
	"testing"
	"time"

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
