package api

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// text is an ECMAScript string in WTF-8: UTF-8 in which a lone surrogate has
// three bytes of its own. It takes a third of the memory of the API's own
// UTF-16 and keeps what decides masks and lengths.
type text string

// appendUnit appends one UTF-16 unit; a low surrogate joins the high one
// before it.
func appendUnit(out []byte, unit uint16) []byte {
	if !utf16.IsSurrogate(rune(unit)) {
		return utf8.AppendRune(out, rune(unit))
	}
	if at := len(out) - 3; at >= 0 {
		if high, ok := loneSurrogate(string(out[at:])); ok {
			if r := utf16.DecodeRune(rune(high), rune(unit)); r != utf8.RuneError {
				return utf8.AppendRune(out[:at], r)
			}
		}
	}
	return append(out, 0xe0|byte(unit>>12), 0x80|byte(unit>>6)&0xbf, 0x80|byte(unit)&0xbf) //nolint:gosec // bits of a unit
}

// loneSurrogate reads the surrogate that s begins with.
func loneSurrogate(s string) (uint16, bool) {
	if len(s) < 3 || s[0] != 0xed || s[1] < 0xa0 || s[1] > 0xbf || s[2]&0xc0 != 0x80 {
		return 0, false
	}
	return 0xd000 | uint16(s[1]&0x3f)<<6 | uint16(s[2]&0x3f), true
}

// string returns the text with U+FFFD for each lone surrogate.
func (t text) string() string {
	if utf8.ValidString(string(t)) {
		return string(t)
	}
	out := make([]byte, 0, len(t))
	for i := 0; i < len(t); {
		if _, lone := loneSurrogate(string(t[i:])); lone {
			out = append(out, "\ufffd"...)
			i += 3
			continue
		}
		out = append(out, t[i])
		i++
	}
	return string(out)
}

// units returns the text in UTF-16.
func (t text) units() []uint16 {
	units := make([]uint16, 0, len(t))
	for i := 0; i < len(t); {
		if unit, lone := loneSurrogate(string(t[i:])); lone {
			units = append(units, unit)
			i += 3
			continue
		}
		r, size := utf8.DecodeRuneInString(string(t[i:]))
		units = utf16.AppendRune(units, r)
		i += size
	}
	return units
}

// length is the number of UTF-16 units, as ECMAScript counts.
func (t text) length() (n int) {
	for i := range len(t) {
		switch c := t[i]; {
		case c < 0x80, 0xc0 <= c && c < 0xf0:
			n++
		case c >= 0xf0: // a surrogate pair
			n += 2
		}
	}
	return n
}

// trim is ECMAScript's trim.
func (t text) trim() text { return text(strings.TrimFunc(string(t), byok.IsECMAScriptSpace)) }

// maskPart is more than a mask shows of either end of a key, in bytes.
const maskPart = 64

// mask is what the API shows of an API key. WIRE.md section 4.
func (t text) mask() []uint16 {
	if len(t) > 4*maskPart { // the middle of a long key is not looked at
		head, tail := maskPart, len(t)-maskPart
		for t[head]&0xc0 == 0x80 {
			head--
		}
		for t[tail]&0xc0 == 0x80 {
			tail++
		}
		t = t[:head] + t[tail:]
	}
	return byok.MaskUTF16(t.units())
}
