package postgres

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// versionOf is a query for which rows an owner's keys are: their IDs, and the
// transactions that wrote them, which PostgreSQL notes in each row. A change of
// any program writes another row. It takes a quarter of the time of the list.
const versionOf = "SELECT coalesce(string_agg(id || ' ' || xmin::text, ' '), '') FROM {owner}_byok_keys WHERE {owner}_id = $1"

// listing is a request that lists an owner's keys after it has asked who sent it:
// the version is read along with that question.
type listing struct {
	owner   keystore.Owner
	rider   *database.Rider
	version string
}

type listingKey struct{}

// WillList implements keystore.Store.
func (s *Store) WillList(ctx context.Context, owner keystore.Owner) context.Context {
	if !keystore.Storable(owner.ID) {
		return ctx
	}
	l := &listing{owner: owner}
	ctx, l.rider = database.WithRider(ctx, func(rows pgx.Rows) (err error) {
		l.version, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	}, s.on(owner.Scope).version, owner.ID)
	return context.WithValue(ctx, listingKey{}, l)
}

// List implements keystore.Store.
func (s *Store) List(ctx context.Context, owner keystore.Owner) ([]keystore.Record, error) {
	if !keystore.Storable(owner.ID) {
		return nil, nil
	}
	l, _ := ctx.Value(listingKey{}).(*listing)
	if l == nil || l.owner != owner {
		records, err := s.read(ctx, owner)
		return records, explain("list keys", err)
	}
	asked, err := l.rider.Asked()
	switch {
	case err != nil:
		return nil, explain("list keys", err)
	case !asked:
		records, err := s.read(ctx, owner)
		return records, explain("list keys", err)
	case l.version == "":
		return nil, nil
	}
	if records, found := s.lists.get(owner, l.version); found {
		return records, nil
	}
	// Read after the version. What another program has changed in between is kept
	// under a version that no later request is told.
	records, err := s.read(ctx, owner)
	if err == nil {
		s.lists.put(owner, l.version, records)
	}
	return records, explain("list keys", err)
}

func (s *Store) read(ctx context.Context, owner keystore.Owner) ([]keystore.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	rows, _ := s.pool.Query(ctx, s.on(owner.Scope).list, owner.ID) // AppendRows returns its error
	records, err := pgx.AppendRows(make([]keystore.Record, 0, 32), rows, scanRecord)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	return records, nil
}

// What lists holds at most: owners, and sealed text of one owner in bytes.
const (
	keptOwners = 1024
	keptBytes  = 64 << 10
)

// lists remembers the keys of owners, sealed as they are stored, by version.
type lists struct {
	mu      sync.Mutex
	entries map[keystore.Owner]list
}

type list struct {
	version string
	records []keystore.Record
}

func (l *lists) get(owner keystore.Owner, version string) ([]keystore.Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, found := l.entries[owner]
	return kept.records, found && kept.version == version
}

func (l *lists) put(owner keystore.Owner, version string, records []keystore.Record) {
	size := 0
	for _, record := range records {
		size += len(record.Sealed)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > keptBytes {
		delete(l.entries, owner)
		return
	}
	for other := range l.entries { // in no order
		if len(l.entries) < keptOwners {
			break
		}
		delete(l.entries, other)
	}
	l.entries[owner] = list{version, records}
}
