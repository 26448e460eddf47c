package access

import (
	"context"
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

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	var raw [16]byte
	mustRead(h.random, raw[:])
	salt := hex.EncodeToString(raw[:])
	key, err := h.derive(ctx, password, salt)
	return salt + ":" + hex.EncodeToString(key), err
}

// matches takes as long for a stored text of any content, so that an unknown
// user cannot be told by time.
func (h *hasher) matches(ctx context.Context, password, stored string) (bool, error) {
	salt, key, _ := strings.Cut(stored, ":")
	want, malformed := hex.DecodeString(key)
	got, err := h.derive(ctx, password, salt)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1 && malformed == nil, err
}

// derive waits for its turn until ctx ends.
func (h *hasher) derive(ctx context.Context, password, salt string) ([]byte, error) {
	select {
	case h.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the hashing of other passwords: %w", ctx.Err())
	}
	defer func() { <-h.turns }()
	key, err := scrypt.Key([]byte(norm.NFKC.String(password)), []byte(salt), h.cost, 16, 1, 64)
	if err != nil {
		panic(fmt.Sprintf("scrypt with N = %d: %v", h.cost, err))
	}
	return key, nil
}
