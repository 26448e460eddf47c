package byok

import (
	"strings"
	"unicode/utf16"
)

// MaxNameLength is the longest name, in UTF-16 units after trimming. WIRE.md
// section 5.
const MaxNameLength = 120

// TrimName cuts white space off both ends of a name as ECMAScript's trim does:
// U+FEFF goes, U+0085 stays, unlike in Go's strings.TrimSpace.
func TrimName(name string) string {
	return strings.TrimFunc(name, IsECMAScriptSpace)
}

// NameLength is the length of a name in UTF-16 units, the API's measure.
func NameLength(name string) int {
	n := 0
	for _, r := range name {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

// IsECMAScriptSpace reports whether ECMAScript counts r as white space or as a
// line terminator.
func IsECMAScriptSpace(r rune) bool {
	switch r {
	case '\t', '\n', '\v', '\f', '\r', ' ', 0x00A0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF:
		return true
	}
	return 0x2000 <= r && r <= 0x200A
}
