package database

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Rider is a query that goes to PostgreSQL along with another one, in one round
// trip: a request asks who sends it, and then for what it came for, and each
// round trip takes longer than either query. It is of one request, and not safe
// for concurrent use.
type Rider struct {
	query   string
	args    []any
	collect func(pgx.Rows) error
	asked   bool
	err     error
}

type riderKey struct{}

// WithRider returns a context under which the next QueryRow takes a query along;
// collect reads its rows.
func WithRider(ctx context.Context, collect func(pgx.Rows) error, query string, args ...any) (context.Context, *Rider) {
	r := &Rider{query: query, args: args, collect: collect}
	return context.WithValue(ctx, riderKey{}, r), r
}

// Asked reports whether the query went along, and its error. It says so once:
// whoever asks again wants to know what has changed since.
func (r *Rider) Asked() (bool, error) {
	asked, err := r.asked, r.err
	r.asked, r.err = false, nil
	return asked, err
}

// QueryRow reads one row from PostgreSQL, and takes the context's Rider along,
// whose failure is the Rider's alone where PostgreSQL could prepare it. The two
// see what was committed when each of them began.
func (db *DB) QueryRow(ctx context.Context, scan func(pgx.Row) error, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	rider, _ := ctx.Value(riderKey{}).(*Rider)
	if rider == nil || rider.query == "" {
		return scan(db.Postgres.QueryRow(ctx, query, args...))
	}
	batch := &pgx.Batch{}
	batch.Queue(query, args...)
	batch.Queue(rider.query, rider.args...)
	rider.query = ""
	results := db.Postgres.SendBatch(ctx, batch)
	err := scan(results.QueryRow())
	rows, riderErr := results.Query()
	if riderErr == nil {
		riderErr = rider.collect(rows)
	}
	if closeErr := results.Close(); riderErr == nil {
		riderErr = closeErr
	}
	rider.asked, rider.err = true, riderErr
	return err
}
