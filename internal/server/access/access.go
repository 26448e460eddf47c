// Package access says who may do what: users and their passwords, sessions and
// their cookies, workspaces and organizations and the permissions on them. It
// holds the queries on those tables; it knows neither HTTP nor keys. The API
// asks it on every request, the bootstrap fills it.
package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// AnonymousID is the user that every request acts as when authentication is
// disabled. WIRE.md section 2.
const AnonymousID = "00000000-0000-0000-0000-000000000000"

// AnonymousEmail is that user's address.
const AnonymousEmail = "anonymous@localhost"

// The errors that callers tell apart.
var (
	// ErrNotFound reports that there is no such user, session or workspace.
	ErrNotFound = errors.New("not found")
	// ErrBadCredentials reports a wrong password or an unknown user; which of
	// the two is not told.
	ErrBadCredentials = errors.New("invalid email or password")
	// ErrBanned reports a user who may not sign in.
	ErrBanned = errors.New("user is banned")
	// ErrEmailTaken reports a sign-up with the address of a user.
	ErrEmailTaken = errors.New("email is taken")
	// ErrOwner reports that an organization's owner was to be removed from it.
	ErrOwner = errors.New("is the owner")
)

// Config is what an Access is made of.
type Config struct {
	DB *database.DB
	// Secret signs cookies, BETTER_AUTH_SECRET.
	Secret string
	Now    func() time.Time
	// Random must be safe for concurrent use, as crypto/rand.Reader is.
	Random io.Reader
	// MarkKey is the key of the marks that Remember leaves; without one it leaves
	// none. It must not be in the database.
	MarkKey []byte
	// PasswordCost is scrypt's N; 0 means the real server's.
	PasswordCost int
}

// Access is asked about users, sessions and permissions. It is safe
// for concurrent use.
type Access struct {
	db *database.DB
	// read and write are the database, or within Change its transaction.
	read, write querier
	tx          *sql.Tx
	now         func() time.Time
	random      io.Reader
	signer      signer
	hasher      *hasher
	markKey     []byte
	sessions    *database.Memo[string, SignedIn]
	grants      *database.Memo[grantKey, Permission]
	session     rowQuery
	revoked     rowQuery
	grant       rowQuery
	entry       rowQuery
}

// rowQuery is a query of one row that every request makes, prepared on SQLite.
type rowQuery struct {
	text string
	stmt *sql.Stmt
}

// New prepares an Access on a migrated database.
func New(ctx context.Context, cfg Config) (*Access, error) {
	a := &Access{
		db: cfg.DB, read: cfg.DB.Read, write: writer{cfg.DB.Write, cfg.DB}, now: cfg.Now, random: cfg.Random,
		signer:   newSigner(cfg.Secret),
		hasher:   newHasher(cfg.PasswordCost, cfg.Random),
		markKey:  cfg.MarkKey,
		sessions: database.NewMemo[string, SignedIn](cfg.DB),
		grants:   database.NewMemo[grantKey, Permission](cfg.DB),
	}
	for _, q := range []struct {
		into  *rowQuery
		query string
	}{{&a.session, findSession}, {&a.revoked, findRevocation}, {&a.grant, findGrant}, {&a.entry, findEntry}} {
		stmt, err := cfg.DB.Read.PrepareContext(ctx, q.query)
		if err != nil {
			return nil, fmt.Errorf("prepare the queries on users and sessions: %w", err)
		}
		*q.into = rowQuery{q.query, stmt}
	}
	return a, nil
}

// querier is a database or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// writer is a database for writes: it refuses them where the database's file is
// no longer there.
type writer struct {
	*sql.DB
	database *database.DB
}

// ExecContext implements querier.
func (w writer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := w.database.Present(); err != nil {
		return nil, err
	}
	return w.DB.ExecContext(ctx, query, args...)
}

// row is a row of either driver.
type row interface{ Scan(into ...any) error }

// readRow reads one row, as every request does a few times. On PostgreSQL it goes
// past database/sql, and takes a database.Rider along.
func (a *Access) readRow(ctx context.Context, q rowQuery, scan func(row) error, args ...any) error {
	if a.db.Dialect == database.Postgres {
		return database.Explain(a.db.QueryRow(ctx, func(r pgx.Row) error { return scan(r) }, q.text, args...))
	}
	ctx, done, err := a.db.ForRead(ctx)
	if err != nil {
		return err
	}
	defer done()
	return database.Explain(scan(q.stmt.QueryRowContext(ctx, args...)))
}

// changeLock is the PostgreSQL advisory lock that lets one Change run at a time.
const changeLock = "byok-server:access"

// Change runs do in one transaction: what the Access that it gets changes takes
// effect as a whole, or not at all where do returns an error. Changes wait for
// each other, those of other processes too.
func (a *Access) Change(ctx context.Context, do func(*Access) error) error {
	return a.inTransaction(ctx, "change", func(tx *sql.Tx) error {
		if a.db.Dialect == database.Postgres {
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", changeLock); err != nil {
				return err
			}
		}
		in := *a
		in.read, in.write, in.tx = tx, tx, tx
		return do(&in)
	})
}

// inTransaction runs do in the transaction that a is bound to, or in one of its
// own.
func (a *Access) inTransaction(ctx context.Context, what string, do func(*sql.Tx) error) error {
	if a.tx != nil {
		return wrap(what, do(a.tx))
	}
	if err := a.db.Present(); err != nil {
		return wrap(what, err)
	}
	tx, err := a.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return wrap(what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := do(tx); err != nil {
		return wrap(what, err)
	}
	return wrap(what, tx.Commit())
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// storable reports whether a database can hold text at all: PostgreSQL refuses
// NUL and invalid UTF-8, so such an ID names nothing on either dialect.
func storable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// cut returns the first bytes of text, as whole characters that every database
// can store.
func cut(text string, limit int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
