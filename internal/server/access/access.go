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
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

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
)

// Config is what an Access is made of.
type Config struct {
	DB *database.DB
	// Secret signs cookies, BETTER_AUTH_SECRET.
	Secret string
	Now    func() time.Time
	// Random must be safe for concurrent use, as crypto/rand.Reader is.
	Random io.Reader
	// PasswordCost is scrypt's N; 0 means the real server's.
	PasswordCost int
}

// Access answers questions about users, sessions and permissions. It is safe
// for concurrent use.
type Access struct {
	db      *database.DB
	now     func() time.Time
	random  io.Reader
	signer  signer
	hasher  *hasher
	session *sql.Stmt
	grant   *sql.Stmt
	// tx is the transaction that everything runs in; nil outside of one.
	tx *sql.Tx
}

// New prepares an Access on a migrated database.
func New(ctx context.Context, cfg Config) (*Access, error) {
	a := &Access{
		db: cfg.DB, now: cfg.Now, random: cfg.Random,
		signer: signer{secret: []byte(cfg.Secret)},
		hasher: newHasher(cfg.PasswordCost, cfg.Random),
	}
	for _, q := range []struct {
		into  **sql.Stmt
		query string
	}{{&a.session, findSession}, {&a.grant, findGrant}} {
		stmt, err := cfg.DB.Read.PrepareContext(ctx, q.query)
		if err != nil {
			return nil, fmt.Errorf("access: %w", err)
		}
		*q.into = stmt
	}
	return a, nil
}

// InTransaction calls do with an Access whose reads and writes are one
// transaction, which holds if do returns nil.
func (a *Access) InTransaction(ctx context.Context, do func(*Access) error) error {
	if a.tx != nil {
		return do(a)
	}
	if err := a.db.Present(); err != nil {
		return err
	}
	// Each statement has the database's own limit; a bootstrap has many.
	ctx, cancel := context.WithTimeout(ctx, 6*database.Deadline)
	defer cancel()
	tx, err := a.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return database.Explain(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	within := *a
	within.tx = tx
	if err := do(&within); err != nil {
		return err
	}
	return database.Explain(tx.Commit())
}

// row reads one row.
func (a *Access) row(ctx context.Context, query string, args []any, into ...any) error {
	if a.tx != nil {
		return database.Explain(a.tx.QueryRowContext(ctx, query, args...).Scan(into...))
	}
	ctx, done, err := a.db.ForRead(ctx)
	if err != nil {
		return database.Explain(err)
	}
	defer done()
	return database.Explain(a.db.Read.QueryRowContext(ctx, query, args...).Scan(into...))
}

// prepared reads one row with a prepared statement.
func (a *Access) prepared(ctx context.Context, stmt *sql.Stmt, args []any, into ...any) error {
	ctx, done, err := a.db.ForRead(ctx)
	if err != nil {
		return database.Explain(err)
	}
	defer done()
	return database.Explain(stmt.QueryRowContext(ctx, args...).Scan(into...))
}

// exec runs one write and returns how many rows it changed.
func (a *Access) exec(ctx context.Context, query string, args ...any) (int64, error) {
	run := a.db.Write.ExecContext
	if a.tx != nil {
		run = a.tx.ExecContext
	} else {
		var cancel context.CancelFunc
		var err error
		if ctx, cancel, err = a.db.ForWrite(ctx); err != nil {
			return 0, err
		}
		defer cancel()
	}
	result, err := run(ctx, query, args...)
	if err != nil {
		return 0, database.Explain(err)
	}
	return result.RowsAffected()
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

// emailForm is the form of addresses that zod accepts, but for two rules that
// a regular expression cannot say here.
var emailForm = regexp.MustCompile(`^[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`)

// IsEmail reports whether sign-in takes text for an e-mail address.
func IsEmail(text string) bool {
	return emailForm.MatchString(text) && !strings.HasPrefix(text, ".") && !strings.Contains(text, "..")
}
