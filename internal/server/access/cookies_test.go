package access

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseCookies(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]map[string]string{
		"":                       {},
		";;=; ":                  {"": ""},
		"a":                      {},
		"a=1":                    {"a": "1"},
		" a = 1 ;b=2;c":          {"a": "1", "b": "2"},
		"a=1; a=2":               {"a": "1"},
		`a="1"; b="`:             {"a": "1", "b": `"`},
		"a=b=c==":                {"a": "b=c=="},
		"a=x%2By%3D; b=x+y":      {"a": "x+y=", "b": "x+y"},
		"a=%zz; b=%E0%A4%A; c=%": {"a": "%zz", "b": "%E0%A4%A", "c": "%"},
	} {
		if got := ParseCookies([]string{header}); !maps.Equal(got, want) {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// The signature is checked against one made by another implementation:
// HMAC-SHA256 of the token in standard base64.
func TestSignedCookie(t *testing.T) {
	t.Parallel()
	a := &Access{signer: newSigner("secret")}
	const token, signed = "abc", "abc.mUba1OAOkT/Ivo5dP34RCkqegy+D+wnDRShdeGONig4="
	if encoded := a.SignCookie(token); encoded != url.QueryEscape(signed) {
		t.Errorf("SignCookie = %s, want %s", encoded, url.QueryEscape(signed))
	}
	for value, want := range map[string]bool{
		signed:                                true,
		a.signer.sign("a.b"):                  true,
		token:                                 false,
		"":                                    false,
		".":                                   false,
		a.signer.sign(""):                     false,
		token + "." + strings.Repeat("A", 44): false,
		token + "." + strings.Repeat("A", 43) + "=": false,
		a.signer.sign(token) + "=":                  false,
		"x" + a.signer.sign(token):                  false,
	} {
		if _, ok := a.OpenCookie(value); ok != want {
			t.Errorf("OpenCookie(%q) = %v, want %v", value, ok, want)
		}
	}
}

// A signed cookie survives every header around it, and opens with its own
// secret only, unchanged.
func TestCookieProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, cookieProperties)
}

func FuzzCookies(f *testing.F) { f.Fuzz(rapid.MakeFuzz(cookieProperties)) }

func cookieProperties(t *rapid.T) {
	a := &Access{signer: newSigner("secret")}
	header := rapid.OneOf(rapid.String(), rapid.StringMatching(`([ab]? ?=?"?(%[0-9a-f]{0,2}|x|\+|=)*"?; ?)*`)).Draw(t, "header")
	for name := range ParseCookies([]string{header}) {
		if strings.ContainsAny(name, ";=") || strings.TrimSpace(name) != name {
			t.Fatalf("%q has a cookie named %q", header, name)
		}
	}

	token := rapid.StringMatching(`[!-~é🔑]{1,40}`).Draw(t, "token")
	// Anything may stand before it, and another cookie of the name after it.
	before := strings.ReplaceAll(header, "session", "other")
	got := ParseCookies([]string{before + "; session=" + a.SignCookie(token), "session=later"})["session"]
	if opened, ok := a.OpenCookie(got); !ok || opened != token {
		t.Fatalf("the cookie behind %q is read as %q and opens to %q, %t", before, got, opened, ok)
	}

	signed := a.signer.sign(token)
	stranger := &Access{signer: newSigner("another")}
	if opened, ok := stranger.OpenCookie(signed); ok {
		t.Fatalf("%q opens with another secret to %q", signed, opened)
	}
	at := rapid.IntRange(0, len(signed)-1).Draw(t, "at")
	changed := signed[:at] + rapid.StringN(0, 2, -1).Draw(t, "with") + signed[at+rapid.IntRange(0, 1).Draw(t, "replaced"):]
	// The last digit of base64 has bits that mean nothing.
	if opened, ok := a.OpenCookie(changed); ok && (opened != token || len(changed) != len(signed)) {
		t.Fatalf("%q opens to %q, though it was changed from %q", changed, opened, signed)
	}
}
