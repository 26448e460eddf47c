package byok

import "unicode/utf16"

// MaskUnknown is the mask of a key that is too short to show any of it, and of
// a stored key that the server cannot decrypt: eight U+2022. It says nothing
// about the key behind it. WIRE.md section 4.
const MaskUnknown = "••••••••"

// Mask returns what the API shows of apiKey: eight bullets up to 8 UTF-16
// units, the first and last 4 up to 12, the first 6 and last 4 from 13 on. A
// surrogate pair that the mask cuts in two becomes U+FFFD, which is also what
// a Go JSON decoder makes of the lone surrogate that the API sends.
func Mask(apiKey string) string {
	return string(utf16.Decode(MaskUTF16(utf16.Encode([]rune(apiKey)))))
}

// MaskUTF16 is Mask on UTF-16 code units, cut surrogates kept. WIRE.md
// section 4.
func MaskUTF16(apiKey []uint16) []uint16 {
	head := 0
	switch n := len(apiKey); {
	case n <= 8:
		return utf16.Encode([]rune(MaskUnknown))
	case n <= 12:
		head = 4
	default:
		head = 6
	}
	masked := make([]uint16, 0, head+7)
	masked = append(masked, apiKey[:head]...)
	masked = append(masked, '.', '.', '.')
	return append(masked, apiKey[len(apiKey)-4:]...)
}
