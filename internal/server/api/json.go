package api

import (
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is what ECMAScript's typeof would say of a JSON value, but for arrays
// and null, in the words of the API's validation errors.
type kind string

const (
	undefinedKind kind = "undefined"
	nullKind      kind = "null"
	booleanKind   kind = "boolean"
	numberKind    kind = "number"
	stringKind    kind = "string"
	arrayKind     kind = "array"
	objectKind    kind = "object"
)

// value is one JSON value. Of arrays and nested objects only the kind is kept.
type value struct {
	kind kind
	text text
	yes  bool
	// fields are an object's, by name; the last of several counts.
	fields map[string]value
}

// field returns a field of an object, undefined where there is none.
func (v value) field(name string) value {
	if f, ok := v.fields[name]; ok {
		return f
	}
	return value{kind: undefinedKind}
}

// string returns a string as Go and the database hold it: lone surrogates are
// U+FFFD.
func (v value) string() string { return v.text.string() }

// parseJSON reads a request body as ECMAScript does: TextDecoder (a byte order
// mark goes, invalid UTF-8 becomes U+FFFD), then JSON.parse. Of an object it
// keeps the wanted fields. It never recurses, so depth costs a byte a level.
// WIRE.md section 5.
func parseJSON(body string, wanted ...string) (value, bool) {
	p := parser{in: decodeUTF8(body), wanted: wanted}
	v, ok := p.value(true)
	p.space()
	return v, ok && p.at == len(p.in)
}

type parser struct {
	in     string
	at     int
	wanted []string
}

func (p *parser) peek() byte {
	if p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// value reads one value; fields of an object are kept only at the top.
func (p *parser) value(top bool) (value, bool) {
	p.space()
	switch c := p.peek(); c {
	case '"':
		text, ok := p.text()
		return value{kind: stringKind, text: text}, ok
	case '{':
		if top {
			return p.object()
		}
		return value{kind: objectKind}, p.skip()
	case '[':
		return value{kind: arrayKind}, p.skip()
	case 't':
		return value{kind: booleanKind, yes: true}, p.word("true")
	case 'f':
		return value{kind: booleanKind}, p.word("false")
	case 'n':
		return value{kind: nullKind}, p.word("null")
	default:
		return value{kind: numberKind}, p.number()
	}
}

func (p *parser) object() (value, bool) {
	v := value{kind: objectKind, fields: map[string]value{}}
	p.at++ // {
	if p.space(); p.peek() == '}' {
		p.at++
		return v, true
	}
	for {
		p.space()
		name, ok := p.text()
		if !ok || !p.colon() {
			return v, false
		}
		field, ok := p.value(false)
		if !ok {
			return v, false
		}
		if slices.Contains(p.wanted, string(name)) {
			v.fields[string(name)] = field
		}
		switch p.space(); p.peek() {
		case ',':
			p.at++
		case '}':
			p.at++
			return v, true
		default:
			return v, false
		}
	}
}

// skip reads an array or object of any depth and keeps nothing of it.
func (p *parser) skip() bool {
	var open []byte
	for {
		p.space()
		switch c := p.peek(); c {
		case '{', '[':
			p.at++
			open = append(open, c+2) // its closing bracket
			if p.space(); p.peek() != c+2 {
				if c == '{' && !p.name() {
					return false
				}
				continue
			}
		default:
			if _, ok := p.value(false); !ok {
				return false
			}
		}
		// A value ended: close what ends here, then go on to the next one.
		for {
			p.space()
			if len(open) > 0 && p.peek() == open[len(open)-1] && p.at < len(p.in) {
				p.at++
				open = open[:len(open)-1]
			} else if len(open) > 0 && p.peek() == ',' {
				p.at++
				if open[len(open)-1] == '}' && !p.name() {
					return false
				}
				break
			} else if len(open) > 0 {
				return false
			}
			if len(open) == 0 {
				return true
			}
		}
	}
}

// name reads "name": of a nested object.
func (p *parser) name() bool {
	p.space()
	_, ok := p.text()
	return ok && p.colon()
}

func (p *parser) colon() bool {
	if p.space(); p.peek() != ':' {
		return false
	}
	p.at++
	return true
}

func (p *parser) word(word string) bool {
	if len(p.in)-p.at < len(word) || p.in[p.at:p.at+len(word)] != word {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) number() bool {
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return false
	}
	if p.peek() == '.' {
		if p.at++; !p.digits() {
			return false
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		return p.digits()
	}
	return true
}

func (p *parser) digits() bool {
	start := p.at
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > start
}

// text reads a string literal. One without escapes is a part of the input.
func (p *parser) text() (text, bool) {
	if p.peek() != '"' {
		return "", false
	}
	p.at++
	start := p.at
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			return text(p.in[start : p.at-1]), true
		case c < ' ':
			return "", false
		case c == '\\':
			return p.escapedText(p.in[start:p.at])
		}
		p.at++
	}
	return "", false
}

// escapedText goes on where the first escape is; before is what precedes it.
func (p *parser) escapedText(before string) (text, bool) {
	out := append(make([]byte, 0, 2*len(before)+64), before...)
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			return text(out), true
		case c < ' ':
			return "", false
		case c == '\\':
			unit, ok := p.escape()
			if !ok {
				return "", false
			}
			out = appendUnit(out, unit)
		default:
			out = append(out, c)
			p.at++
		}
	}
	return "", false
}

func (p *parser) escape() (uint16, bool) {
	p.at++ // the backslash
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return uint16(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		var unit uint16
		for range 4 {
			digit, ok := hexDigit(p.peek())
			if !ok {
				return 0, false
			}
			unit = unit<<4 | digit
			p.at++
		}
		return unit, true
	}
	return 0, false
}

func hexDigit(c byte) (uint16, bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint16(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint16(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint16(c-'A') + 10, true
	}
	return 0, false
}

// decodeUTF8 is the WHATWG UTF-8 decoder: a leading byte order mark goes, and
// each maximal part of an ill-formed sequence becomes one U+FFFD, where Go
// would write one for each of its bytes.
func decodeUTF8(in string) string {
	in = strings.TrimPrefix(in, "\ufeff")
	if utf8.ValidString(in) {
		return in
	}
	var out strings.Builder
	out.Grow(len(in) + 16)
	for len(in) > 0 {
		if r, size := utf8.DecodeRuneInString(in); r != utf8.RuneError || size > 1 {
			out.WriteString(in[:size])
			in = in[size:]
			continue
		}
		out.WriteString("\ufffd")
		in = in[illFormed(in):]
	}
	return out.String()
}

// illFormed returns how many bytes at the start of in begin a sequence that
// could have become a rune, at least 1.
func illFormed(in string) int {
	low, high, more := byte(0x80), byte(0xbf), 0
	switch c := in[0]; {
	case 0xc2 <= c && c <= 0xdf:
		more = 1
	case 0xe0 <= c && c <= 0xef:
		more = 2
		switch c {
		case 0xe0:
			low = 0xa0
		case 0xed:
			high = 0x9f
		}
	case 0xf0 <= c && c <= 0xf4:
		more = 3
		switch c {
		case 0xf0:
			low = 0x90
		case 0xf4:
			high = 0x8f
		}
	}
	n := 1
	for ; n <= more && n < len(in) && low <= in[n] && in[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
}

const lowerHex = "0123456789abcdef"

// appendString writes a string as JSON.stringify does: no HTML escapes, U+2028
// and U+2029 as they are, lone surrogates as escapes.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	plain := 0 // where what needs no escape begins
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			out = append(out, s[plain:i]...)
			if unit, ok := loneSurrogate(s[i:]); ok {
				out = appendEscape(out, unit)
				i += 3
			} else {
				out = append(out, "\ufffd"...)
				i++
			}
			plain = i
			continue
		}
		out = appendRune(append(out, s[plain:i]...), rune(c))
		i++
		plain = i
	}
	return append(append(out, s[plain:]...), '"')
}

// appendUTF16 is appendString on UTF-16; lone surrogates become escapes.
func appendUTF16(out []byte, units []uint16) []byte {
	out = append(out, '"')
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 < len(units) {
				if pair := utf16.DecodeRune(r, rune(units[i+1])); pair != utf8.RuneError {
					out = utf8.AppendRune(out, pair)
					i++
					continue
				}
			}
			out = appendEscape(out, units[i])
			continue
		}
		out = appendRune(out, r)
	}
	return append(out, '"')
}

func appendRune(out []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\b':
		return append(out, '\\', 'b')
	case '\f':
		return append(out, '\\', 'f')
	case '\n':
		return append(out, '\\', 'n')
	case '\r':
		return append(out, '\\', 'r')
	case '\t':
		return append(out, '\\', 't')
	}
	if r < ' ' {
		return appendEscape(out, uint16(r)) //nolint:gosec // below U+0020
	}
	return utf8.AppendRune(out, r)
}

func appendEscape(out []byte, unit uint16) []byte {
	return append(out, '\\', 'u', lowerHex[unit>>12], lowerHex[unit>>8&15], lowerHex[unit>>4&15], lowerHex[unit&15])
}

// object writes one JSON object, field by field, after what stands before start.
type object struct {
	out   []byte
	start int
}

func (o *object) key(name string) {
	if len(o.out) == o.start {
		o.out = append(o.out, '{')
	} else {
		o.out = append(o.out, ',')
	}
	o.out = append(appendString(o.out, name), ':')
}

func (o *object) string(name, s string) *object {
	o.key(name)
	o.out = appendString(o.out, s)
	return o
}

func (o *object) utf16(name string, units []uint16) *object {
	o.key(name)
	o.out = appendUTF16(o.out, units)
	return o
}

// nullable writes a string or null.
func (o *object) nullable(name string, s *string) *object {
	if s == nil {
		return o.raw(name, "null")
	}
	return o.string(name, *s)
}

// raw writes JSON as it is.
func (o *object) raw(name, json string) *object {
	o.key(name)
	o.out = append(o.out, json...)
	return o
}

// end closes the object and returns it, with what stands before it.
func (o *object) end() []byte {
	if len(o.out) == o.start {
		o.out = append(o.out, '{')
	}
	return append(o.out, '}')
}
