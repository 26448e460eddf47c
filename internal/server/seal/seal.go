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

// Sealer seals and opens with one key. It is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// New returns a Sealer for an ENCRYPTION_KEY of 64 hex digits. Its errors never
// contain the key.
func New(hexKey string) (*Sealer, error) {
	key, err := hex.DecodeString(hexKey)
	if err != nil || len(hexKey) != KeyLength {
		return nil, fmt.Errorf("ENCRYPTION_KEY must be %d hex digits, got %d characters", KeyLength, len(hexKey))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithNonceSize(block, ivSize)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: aead}, nil
}

// Seal returns plaintext as iv:ciphertext:tag in lower-case hex, under a fresh
// random iv.
func (s *Sealer) Seal(plaintext string) string {
	buf := make([]byte, ivSize, ivSize+len(plaintext)+tagSize)
	_, _ = rand.Read(buf) // never fails: the runtime aborts instead
	buf = s.aead.Seal(buf, buf, []byte(plaintext), nil)
	tagAt := len(buf) - tagSize
	return hex.EncodeToString(buf[:ivSize]) + ":" + hex.EncodeToString(buf[ivSize:tagAt]) + ":" + hex.EncodeToString(buf[tagAt:])
}

// Open returns the plaintext of a stored value, ErrMalformed or ErrForeign.
// Hex digits of either case are read.
func (s *Sealer) Open(sealed string) (string, error) {
	iv, rest, ok := strings.Cut(sealed, ":")
	ciphertext, tag, ok2 := strings.Cut(rest, ":")
	// The real server refuses an empty ciphertext too: nothing seals to it.
	if !ok || !ok2 || len(iv) != 2*ivSize || len(tag) != 2*tagSize || ciphertext == "" {
		return "", ErrMalformed
	}
	raw, err := hex.DecodeString(iv + ciphertext + tag)
	if err != nil {
		return "", ErrMalformed
	}
	plaintext, err := s.aead.Open(raw[ivSize:ivSize], raw[:ivSize], raw[ivSize:], nil)
	if err != nil {
		return "", ErrForeign
	}
	return string(plaintext), nil
}
