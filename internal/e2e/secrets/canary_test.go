package secrets

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// use is what a canary is for. It decides where the canary may be found.
type use string

const (
	useAPIKey      use = "api_key"
	useWriteOnly   use = "api_key_wo"
	usePassword    use = "password"
	useSession     use = "session token"    // its signature, without which it opens nothing
	useBareSession use = "unsigned session" // the session token up to the signature
	useHeader      use = "header value"
	useForeign     use = "API key of another owner"
	useControl     use = "control" // no secret: shows that a place can be searched at all
)

// canary is a secret made up for one test, so that whoever finds it knows where
// it comes from.
type canary struct {
	use   use
	shape string
	value string
	// pieces are parts of value that occur nowhere by chance: to find one is
	// to find a leak, even of a value that was cut, wrapped or split.
	pieces []string
}

func (c canary) String() string { return fmt.Sprintf("%s (%s)", c.use, c.shape) }

// pieceLength is longer than anything a mask shows.
const pieceLength = 16

// shapes are the kinds of values that canaries are made of.
var shapes = []string{"ascii", "quotes", "unicode", "pem", "short", "long"}

// newCanary returns a canary that is different each time.
func newCanary(use use, shape string) canary {
	c := canary{use: use, shape: shape}
	secret := ""
	switch shape {
	case "ascii":
		c.value = "sk-proj-" + randomText(40)
	case "quotes":
		// What has a meaning in JSON, HCL, Go, HTML, shells and URLs.
		for _, part := range strings.Split(`" \ \n \" ' < & > ${ } %{ } / + %41 ? = # ; \u0041 `+"`", " ") {
			c.value += part + randomText(6)
		}
	case "unicode":
		// A mask cuts the first emoji in two.
		c.value = "sk-é-😀"
		for _, r := range "ключ\u2028鍵🗝ü" {
			c.value += randomText(6) + string(r)
		}
	case "pem":
		body := make([]byte, 600)
		_, _ = rand.Read(body)
		c.value = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: body}))
		_, secret, _ = strings.Cut(c.value, "\n")
		secret, _, _ = strings.Cut(secret, "-----")
	case "short":
		c.value = randomText(8)
	case "long":
		c.value = "sk-" + randomText(10*1024-3)
	default:
		panic("no shape " + shape)
	}
	if secret == "" {
		secret = c.value
	}
	c.pieces = split(secret)
	return c
}

// canaryOf is a canary with a value that was made elsewhere.
func canaryOf(use use, shape, value string) canary {
	return canary{use: use, shape: shape, value: value, pieces: split(value)}
}

// split cuts a secret into overlapping pieces, the last of which ends where it
// ends, so that any part of it as long as one and a half pieces holds one.
func split(secret string) (pieces []string) {
	for len(secret) >= pieceLength+pieceLength/2 {
		pieces = append(pieces, secret[:boundary(secret, pieceLength)])
		secret = secret[boundary(secret, pieceLength/2):]
	}
	return append(pieces, secret)
}

// boundary is where the first character at or after byte n begins.
func boundary(s string, n int) int {
	for !utf8.RuneStart(s[n]) {
		n++
	}
	return n
}

func randomText(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}

// encoding is one way in which a text can be written. A text inside a longer
// one is written as one of the strings that write returns.
type encoding struct {
	name  string
	write func(text string) []string
}

// encodings are the ways in which a secret is looked for.
var encodings = []encoding{
	{"plain", func(s string) []string { return []string{s} }},
	{"JSON", func(s string) []string { return []string{jsonText(s, true), jsonText(s, false)} }},
	{"JSON in ASCII", func(s string) []string { return []string{jsonASCII(s, "%04x"), jsonASCII(s, "%04X")} }},
	{"JSON in JSON", func(s string) []string {
		return []string{jsonText(jsonText(s, true), true), jsonText(jsonText(s, false), false)}
	}},
	{"Go", func(s string) []string {
		return []string{unquoted(strconv.Quote(s)), unquoted(strconv.QuoteToASCII(s))}
	}},
	{"URL query", func(s string) []string { return bothCases(url.QueryEscape(s)) }},
	{"URL path", func(s string) []string { return bothCases(url.PathEscape(s)) }},
	{"base64, alignment 0", func(s string) []string { return base64Cores(s, 0) }},
	{"base64, alignment 1", func(s string) []string { return base64Cores(s, 1) }},
	{"base64, alignment 2", func(s string) []string { return base64Cores(s, 2) }},
	{"hex", func(s string) []string {
		return []string{hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s)))}
	}},
	{"list of bytes", func(s string) []string { return []string{unquoted(fmt.Sprintf("%d", []byte(s)))} }},
}

func jsonText(s string, escapeHTML bool) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	_ = encoder.Encode(s)
	return unquoted(strings.TrimSuffix(b.String(), "\n"))
}

// jsonASCII is the JSON of encoders that escape everything but ASCII.
func jsonASCII(s, format string) string {
	var b strings.Builder
	for _, r := range jsonText(s, false) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u`+format, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u`+format+`\u`+format, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b.String()
}

// bothCases is a percent-encoded text with both cases of its hex digits.
func bothCases(s string) []string {
	lower := []byte(s)
	for i, c := range lower {
		if c == '%' {
			copy(lower[i:], bytes.ToLower(lower[i:i+3]))
		}
	}
	return []string{s, string(lower)}
}

// base64Cores is what the base64 of any text has in common that holds s after
// a number of bytes whose remainder by 3 is offset.
func base64Cores(s string, offset int) []string {
	data := append(make([]byte, offset), s...)
	start, end := (offset*8+5)/6, len(data)*8/6
	return []string{
		base64.RawStdEncoding.EncodeToString(data)[start:end],
		base64.RawURLEncoding.EncodeToString(data)[start:end],
	}
}

func unquoted(s string) string { return s[1 : len(s)-1] }
