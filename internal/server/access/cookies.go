package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"net/url"
	"strings"
	"sync"
)

// signatureLength is 32 bytes in padded base64.
const signatureLength = 44

// signer signs cookie values: VALUE.SIGNATURE, the signature in standard
// base64. WIRE.md section 2.
type signer struct{ macs *sync.Pool }

func newSigner(secret string) signer {
	return signer{&sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }}}
}

func (s signer) mac(text []byte) []byte {
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	mac.Write(text)
	return mac.Sum(nil)
}

func (s signer) sign(value string) string {
	return value + "." + base64.StdEncoding.EncodeToString(s.mac([]byte(value)))
}

// open returns the value of a signed cookie.
func (s signer) open(signed string) (string, bool) {
	dot := strings.LastIndexByte(signed, '.')
	if dot < 1 || len(signed)-dot-1 != signatureLength {
		return "", false
	}
	signature, err := base64.StdEncoding.DecodeString(signed[dot+1:])
	return signed[:dot], err == nil && hmac.Equal(signature, s.mac([]byte(signed[:dot])))
}

// SignCookie returns a value as a Set-Cookie header holds it: signed and
// percent-encoded.
func (a *Access) SignCookie(value string) string {
	// The alphabet of base64 and of tokens has nothing that QueryEscape and
	// encodeURIComponent treat differently.
	return url.QueryEscape(a.signer.sign(value))
}

// OpenCookie returns what SignCookie signed, from a cookie value that
// ParseCookies has decoded.
func (a *Access) OpenCookie(value string) (string, bool) { return a.signer.open(value) }

// ParseCookies reads Cookie headers: the first of several cookies of one name
// counts, double quotes around a value go, and percent-escapes are decoded
// where all of them are valid.
func ParseCookies(headers []string) map[string]string {
	cookies := map[string]string{}
	for _, header := range headers {
		for pair := range strings.SplitSeq(header, ";") {
			name, value, ok := strings.Cut(pair, "=")
			name = strings.TrimSpace(name)
			if _, seen := cookies[name]; seen || !ok {
				continue
			}
			value = strings.TrimSpace(value)
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if decoded, err := url.PathUnescape(value); err == nil {
				value = decoded
			}
			cookies[name] = value
		}
	}
	return cookies
}

func equalMAC(a, b []byte) bool { return hmac.Equal(a, b) }
