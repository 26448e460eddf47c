package access

import (
	"fmt"
	"io"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// NewID returns 32 of A-Za-z0-9, the form of user IDs, session IDs and tokens.
// WIRE.md sections 2 and 4.
func NewID(random io.Reader) string { return randomText(random, alphanumeric, 32) }

// NewKeyID returns byok.KeyIDLength of A-Za-z0-9_-, the form of key IDs. WIRE.md section 4.
func NewKeyID(random io.Reader) string {
	return randomText(random, alphanumeric+"_-", byok.KeyIDLength)
}

// NewUUID returns a version 4 UUID, the form of workspace IDs.
func NewUUID(random io.Reader) string {
	var b [16]byte
	mustRead(random, b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// randomText draws evenly from an alphabet of at most 64: bytes above it are
// drawn again.
func randomText(random io.Reader, alphabet string, n int) string {
	text := make([]byte, 0, n)
	var draw [64]byte
	for {
		mustRead(random, draw[:])
		for _, b := range draw {
			if b &= 63; int(b) < len(alphabet) {
				if text = append(text, alphabet[b]); len(text) == n {
					return string(text)
				}
			}
		}
	}
}

// mustRead stops the process rather than hand out a guessable token.
func mustRead(random io.Reader, into []byte) {
	if _, err := io.ReadFull(random, into); err != nil {
		panic("no random numbers: " + err.Error())
	}
}
