// Package seal keeps API keys unreadable at rest: AES-256-GCM in the text form
// of the real server, so that either can read what the other stored (WIRE.md
// section 9). It knows neither the store nor HTTP; the API seals before it
// stores, the rotation opens what it serves.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeyLength is the length of an encryption key in hex digits.
const KeyLength = 64

const (
	ivSize  = 16
	tagSize = 16
)

// ErrMalformed reports a stored value that is not iv:ciphertext:tag in hex.
var ErrMalformed = errors.New("sealed value is not of the form iv:ciphertext:tag")

// ErrForeign reports a well-formed stored value that this key does not open: it
// was sealed with another ENCRYPTION_KEY, or changed since.
var ErrForeign = errors.New("sealed value was not sealed with this ENCRYPTION_KEY, or was changed since")

// Sealer seals with one key and opens with that and, while the key is being
// changed, with others. It is safe for concurrent use.
type Sealer struct {
	current cipher.AEAD
	others  []cipher.AEAD
}

// New returns a Sealer for an ENCRYPTION_KEY of 64 hex digits. others are
// further keys of that form, which open and never seal. Errors never contain a
// key.
func New(hexKey string, others ...string) (*Sealer, error) {
	current, err := newAEAD("ENCRYPTION_KEY", hexKey)
	if err != nil {
		return nil, err
	}
	s := &Sealer{current: current}
	for _, other := range others {
		aead, err := newAEAD("each of DECRYPTION_KEYS", other)
		if err != nil {
			return nil, err
		}
		s.others = append(s.others, aead)
	}
	return s, nil
}

func newAEAD(name, hexKey string) (cipher.AEAD, error) {
	key, err := hex.DecodeString(hexKey)
	if err != nil || len(hexKey) != KeyLength {
		return nil, fmt.Errorf("%s must be %d hex digits, got %d characters (openssl rand -hex 32 makes one)", name, KeyLength, len(hexKey))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, ivSize)
}

// Seal returns plaintext as iv:ciphertext:tag in lower-case hex, under a fresh
// random iv.
func (s *Sealer) Seal(plaintext string) string {
	// A key may have megabytes: it is encrypted in place, and encoded once.
	buf := append(make([]byte, ivSize, ivSize+len(plaintext)+tagSize), plaintext...)
	_, _ = rand.Read(buf[:ivSize]) // never fails: the runtime aborts instead
	buf = s.current.Seal(buf[:ivSize], buf[:ivSize], buf[ivSize:], nil)
	tagAt := len(buf) - tagSize
	var out strings.Builder
	out.Grow(2*len(buf) + 2)
	encoder := hex.NewEncoder(&out)
	for i, part := range [][]byte{buf[:ivSize], buf[ivSize:tagAt], buf[tagAt:]} {
		if i > 0 {
			out.WriteByte(':')
		}
		_, _ = encoder.Write(part) // a Builder takes everything
	}
	return out.String()
}

// Open returns the plaintext of a stored value, ErrMalformed or ErrForeign.
// Hex digits of either case are read.
func (s *Sealer) Open(sealed string) (string, error) {
	plaintext, _, err := s.OpenWith(sealed)
	return plaintext, err
}

// HasOthers reports whether there are further keys besides the one that Seal
// uses.
func (s *Sealer) HasOthers() bool { return len(s.others) > 0 }

// OpenWith is Open and reports whether the value was sealed with the key that
// Seal uses.
func (s *Sealer) OpenWith(sealed string) (plaintext string, isCurrent bool, err error) {
	iv, rest, _ := strings.Cut(sealed, ":")
	ciphertext, tag, _ := strings.Cut(rest, ":")
	// The real server refuses an empty ciphertext too: nothing seals to it.
	if len(iv) != 2*ivSize || len(tag) != 2*tagSize || ciphertext == "" {
		return "", false, ErrMalformed
	}
	raw := make([]byte, ivSize+(len(ciphertext)+1)/2+tagSize)
	for _, part := range []struct {
		at  int
		hex string
	}{{0, iv}, {ivSize, ciphertext}, {len(raw) - tagSize, tag}} {
		if _, err := hex.Decode(raw[part.at:], []byte(part.hex)); err != nil { // the compiler makes no copy
			return "", false, ErrMalformed
		}
	}
	if len(s.others) == 0 {
		// In place: a failure leaves nothing that another key could open.
		opened, err := s.current.Open(raw[ivSize:ivSize], raw[:ivSize], raw[ivSize:], nil)
		if err != nil {
			return "", false, ErrForeign
		}
		return string(opened), true, nil
	}
	if opened, err := s.current.Open(nil, raw[:ivSize], raw[ivSize:], nil); err == nil {
		return string(opened), true, nil
	}
	for _, other := range s.others {
		if opened, err := other.Open(nil, raw[:ivSize], raw[ivSize:], nil); err == nil {
			return string(opened), false, nil
		}
	}
	return "", false, ErrForeign
}
