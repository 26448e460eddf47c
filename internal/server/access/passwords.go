package access

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"strings"

	"golang.org/x/crypto/scrypt"
	"golang.org/x/text/unicode/norm"
)

// passwordCost is the N of the real server's scrypt.
const passwordCost = 16384

// hasher hashes passwords as better-auth does: hex(salt):hex(scrypt(NFKC
// password, the hex salt as text)), r = 16, p = 1, 64 bytes.
type hasher struct {
	cost   int
	random io.Reader
	// turns bounds the memory that sign-ins take at once, 32 MiB each.
	turns chan struct{}
}

func newHasher(cost int, random io.Reader) *hasher {
	if cost == 0 {
		cost = passwordCost
	}
	return &hasher{cost: cost, random: random, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

func (h *hasher) hash(password string) string {
	var raw [16]byte
	mustRead(h.random, raw[:])
	salt := hex.EncodeToString(raw[:])
	return salt + ":" + hex.EncodeToString(h.derive(password, salt))
}

// matches takes as long for a stored text of any content, so that an unknown
// user cannot be told by time.
func (h *hasher) matches(password, stored string) bool {
	salt, key, _ := strings.Cut(stored, ":")
	want, err := hex.DecodeString(key)
	return subtle.ConstantTimeCompare(h.derive(password, salt), want) == 1 && err == nil
}

func (h *hasher) derive(password, salt string) []byte {
	h.turns <- struct{}{}
	defer func() { <-h.turns }()
	key, err := scrypt.Key([]byte(norm.NFKC.String(password)), []byte(salt), h.cost, 16, 1, 64)
	if err != nil {
		panic(fmt.Sprintf("scrypt with N = %d: %v", h.cost, err))
	}
	return key
}
