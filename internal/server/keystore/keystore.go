// Package keystore says what a store of keys does: the Store interface, its
// records and its errors. It has no SQL: sqlite and postgres implement it,
// backend chooses between them, and conformance holds what every implementation
// must pass. The API and the legacy import call it. A store only ever sees
// sealed values.
package keystore

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Scope says whose pool a key belongs to.
type Scope string

// The two scopes. WIRE.md sections 7 and 8.
const (
	Workspace    Scope = "workspace"
	Organization Scope = "organization"
)

// Owner is one workspace or one organization.
type Owner struct {
	Scope Scope
	ID    string
}

// Pool is all keys of one provider ID of one owner.
type Pool struct {
	Owner
	ProviderID string
}

// Storable reports whether a database can hold the pool's IDs and texts.
func (p Pool) Storable(texts ...string) bool {
	return Storable(p.ID, p.ProviderID) && Storable(texts...)
}

// Record is one stored key. Times are UTC with microseconds; the wire cuts
// them to milliseconds.
type Record struct {
	ID         string
	ProviderID string
	Name       *string
	// Sealed is empty in a List where it is longer than InlineLimit.
	Sealed    string
	CreatedBy *string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// NewKey is a key to be added. An empty or nil Name and an empty CreatedBy are
// stored as none.
type NewKey struct {
	ID        string
	Name      *string
	Sealed    string
	CreatedBy string
}

// Record is the key as a pool will hold it, but for its times.
func (k NewKey) Record(pool Pool) Record {
	return Record{
		ID: k.ID, ProviderID: pool.ProviderID, Name: Optional(Text(k.Name)),
		Sealed: k.Sealed, CreatedBy: Optional(k.CreatedBy),
	}
}

// Replacement is what a replace stores. A nil Name keeps the stored name, an
// empty one clears it.
type Replacement struct {
	Sealed string
	Name   *string
}

// SealedKey is what the rotation needs of a key.
type SealedKey struct {
	ID string
	// Sealed is empty where it is longer than InlineLimit.
	Sealed string
}

// InlineLimit is the length of the longest sealed value that List and Pool
// return, in bytes. A key may have megabytes, and a pool ten of them: Visit and
// Sealed read long ones one at a time.
const InlineLimit = 64 << 10

// LockWait is how long a write waits for the others of its pool before it
// returns ErrLockTimeout. WIRE.md section 5.
const LockWait = 5 * time.Second

// The errors that callers tell apart.
var (
	// ErrNotFound reports that the pool holds no key of that ID.
	ErrNotFound = errors.New("no such key in this pool")
	// ErrFull reports that an add would exceed the cap.
	ErrFull = errors.New("the pool is full")
	// ErrLockTimeout reports that another writer held the pool for too long, or
	// until the deadline of the call's context; nothing was changed.
	ErrLockTimeout = errors.New("waited too long for another write to this pool")
	// ErrTimeout reports a database that did not respond in time. Whether the
	// change was made is unknown.
	ErrTimeout = errors.New("the database did not respond in time")
	// ErrText reports a value that is not UTF-8 or contains U+0000, which not
	// every database can hold; nothing was changed.
	ErrText = errors.New("a stored text must be UTF-8 without U+0000")
)

// Store holds the keys of all owners. It is safe for concurrent use, by several
// processes too: whatever a call changed is seen by every later call of any
// process that shares the database, and survives a power cut. A call that
// returns its context's error before it began to write has changed nothing.
type Store interface {
	// List returns all keys of an owner by provider ID, then in rotation order
	// (CreatedAt, then ID, in byte order). Nobody may change them. WIRE.md section 4.
	List(ctx context.Context, owner Owner) ([]Record, error)
	// WillList returns the context of a request that asks who sent it, then lists
	// the keys of an owner, and ends soon. What it reads under it is read after
	// WillList, and as few times as the store can.
	WillList(ctx context.Context, owner Owner) context.Context
	// Visit calls visit with each key of an owner, whole, in the order of List.
	// All of them are of one moment. It ends with the first error of visit, which
	// it returns.
	Visit(ctx context.Context, owner Owner, visit func(Record) error) error
	// Pool returns the keys of a pool in rotation order. Nobody may change them.
	Pool(ctx context.Context, pool Pool) ([]SealedKey, error)
	// Sealed returns the whole sealed value of one key, or ErrNotFound.
	Sealed(ctx context.Context, pool Pool, id string) (string, error)
	// Add stores a key at the end of its pool, or returns ErrFull where the pool
	// already holds limit keys. Adds to one pool run one after the other, adds to
	// different pools do not wait for each other's locks; CreatedAt is taken when
	// it is the add's turn. WIRE.md section 5.
	Add(ctx context.Context, pool Pool, key NewKey, limit int) (Record, error)
	// Replace changes a key in place: ID, position, CreatedAt and CreatedBy stay,
	// UpdatedAt always moves. ErrNotFound where the pool has no such key.
	Replace(ctx context.Context, pool Pool, id string, with Replacement) (Record, error)
	// Delete removes one key, or returns ErrNotFound.
	Delete(ctx context.Context, pool Pool, id string) error
	// DeletePool removes every key of a pool and returns their IDs.
	DeletePool(ctx context.Context, pool Pool) ([]string, error)
	// ProviderIDs returns the provider IDs of which an owner holds keys, sorted.
	ProviderIDs(ctx context.Context, owner Owner) ([]string, error)
}

// Storable reports whether every backend can hold the texts: UTF-8 without
// U+0000. A lookup by any other text finds nothing.
func Storable(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	return true
}

// Text returns the text behind an optional one, "" for none.
func Text(optional *string) string {
	if optional == nil {
		return ""
	}
	return *optional
}

// Optional returns none for "".
func Optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
