package access

import (
	"maps"
	"net/url"
	"strings"
	"testing"
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
	a := &Access{signer: signer{secret: []byte("secret")}}
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

func FuzzParseCookies(f *testing.F) {
	for _, seed := range []string{"", "a=1; b=2", `better-auth.session_token="x%2By"`, "a=%", ";=;", "a==; a"} {
		f.Add(seed)
	}
	a := &Access{signer: signer{secret: []byte("secret")}, now: nil}
	f.Fuzz(func(t *testing.T, header string) {
		for name, value := range ParseCookies([]string{header}) {
			if strings.ContainsAny(name, ";=") || strings.TrimSpace(name) != name {
				t.Errorf("%q: name %q", header, name)
			}
			if opened, ok := a.OpenCookie(value); ok && a.signer.sign(opened)[:len(opened)] != value[:len(opened)] {
				t.Errorf("%q opens to %q", value, opened)
			}
		}
		if signed := ParseCookies([]string{"c=" + a.SignCookie("tokenABC")})["c"]; signed != a.signer.sign("tokenABC") {
			t.Errorf("a signed cookie does not survive: %q", signed)
		}
		if opened, ok := a.OpenCookie(header); ok && strings.LastIndexByte(header, '.') != len(opened) {
			t.Errorf("%q opens to %q", header, opened)
		}
	})
}
