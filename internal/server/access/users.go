package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// credential is the kind of account that has a password.
const credential = "credential"

// emailForm is the form of addresses that zod accepts, but for two rules that
// a regular expression cannot say here.
var emailForm = regexp.MustCompile(`^[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`)

// IsEmail reports whether sign-in accepts an address.
func IsEmail(text string) bool {
	return emailForm.MatchString(text) && !strings.HasPrefix(text, ".") && !strings.Contains(text, "..")
}

// CheckPassword returns the user of an address and password. ErrBadCredentials
// says neither which was wrong nor, by its time, whether the user exists; for
// the audit log the user comes with it. ErrBanned comes only after a right
// password.
func (a *Access) CheckPassword(ctx context.Context, email, password string) (User, error) {
	user, stored, err := a.findByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	matches, err := a.hasher.matches(ctx, password, stored)
	if err != nil {
		return User{}, wrap("check password", err)
	}
	if !matches {
		return user, ErrBadCredentials
	}
	if a.isBanned(user) {
		return user, ErrBanned
	}
	user.checkedHash = stored
	return user, nil
}

func (a *Access) isBanned(user User) bool {
	return user.Banned && (user.BanExpires == nil || a.now().Before(user.BanExpires.Time))
}

// FindUser returns the user of an address, or ErrNotFound.
func (a *Access) FindUser(ctx context.Context, email string) (User, error) {
	user, _, err := a.findByEmail(ctx, email)
	return user, err
}

// ListUsers returns all users by address.
func (a *Access) ListUsers(ctx context.Context) ([]User, error) {
	rows, err := a.read.QueryContext(ctx, "SELECT "+userColumns+` FROM "user" u ORDER BY u.email`)
	if err != nil {
		return nil, wrap("list users", err)
	}
	defer rows.Close()
	var all []User
	for rows.Next() {
		var user User
		if err := scanUser(rows, &user); err != nil {
			return nil, wrap("list users", err)
		}
		all = append(all, user)
	}
	return all, wrap("list users", rows.Err())
}

// PasswordHash is a password as it is stored. Making one takes a while: make it
// before a transaction begins.
type PasswordHash string

// HashPassword returns the hash to store for a password.
func (a *Access) HashPassword(password string) PasswordHash {
	hash, _ := a.hasher.hash(context.Background(), password) // fails when its context ends
	return PasswordHash(hash)
}

// StoredPassword is what is stored of a user's password.
type StoredPassword struct {
	Hash         PasswordHash
	userID, mark string
}

// StoredPassword returns what is stored of a user's password, nothing where there
// is no such user or no password.
func (a *Access) StoredPassword(ctx context.Context, email string) (stored StoredPassword, err error) {
	var hash, mark sql.NullString
	err = a.read.QueryRowContext(ctx, `SELECT u.id, c.password, k.mark FROM "user" u
		LEFT JOIN account c ON c.user_id = u.id AND c.provider_id = $2
		LEFT JOIN byok_server_known_passwords k ON k.user_id = u.id WHERE u.email = $1`,
		strings.ToLower(email), credential).Scan(&stored.userID, &hash, &mark)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	stored.Hash, stored.mark = PasswordHash(hash.String), mark.String
	return stored, wrap("find password", err)
}

// Matches reports whether a password is the one of the stored hash. That takes a
// while, unless IsRemembered.
func (a *Access) Matches(password string, stored StoredPassword) bool {
	matches, _ := a.hasher.matches(context.Background(), password, string(stored.Hash)) // fails when its context ends
	return matches
}

// IsRemembered reports whether Remember has been told that a password is the one of
// the stored hash. It takes no time.
func (a *Access) IsRemembered(password string, stored StoredPassword) bool {
	mark := a.mark(stored.userID, stored.Hash, password)
	return mark != nil && hmac.Equal([]byte(stored.mark), []byte(hex.EncodeToString(mark)))
}

// Remember keeps that a password is the one of a user's stored hash, for
// IsRemembered.
func (a *Access) Remember(ctx context.Context, userID string, hash PasswordHash, password string) error {
	mark := a.mark(userID, hash, password)
	if mark == nil {
		return nil
	}
	_, err := a.write.ExecContext(ctx, `INSERT INTO byok_server_known_passwords (user_id, mark) VALUES ($1, $2)
		ON CONFLICT (user_id) DO UPDATE SET mark = excluded.mark`, userID, hex.EncodeToString(mark))
	return wrap("remember password", err)
}

// mark is a digest of a password and the hash that it belongs to.
//
// Without the key, it helps nobody to guess the password: it is a random text
// then. Whoever has database and key can guess passwords faster with it than with
// the hash; but that key opens the stored keys, too. The mark is of one user and
// one hash: copied to another user, or once the password is changed, it
// means nothing.
func (a *Access) mark(userID string, hash PasswordHash, password string) []byte {
	if len(a.markKey) == 0 {
		return nil
	}
	mac := hmac.New(sha256.New, a.markKey)
	for _, part := range []string{userID, string(hash), password} {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(part), part) // with lengths, no two triples have one text
	}
	return mac.Sum(nil)
}

// NewUser is a user to be added.
type NewUser struct {
	// ID is made where it is empty.
	ID          string
	Email, Name string
	// Password is hashed where Hash is empty. A user without either cannot sign
	// in.
	Password string
	Hash     PasswordHash
	// Image is the URL of a picture, or nil.
	Image *string
}

// maxName is how much of a user's name is kept, in bytes.
const maxName = 512

// AddUser adds a user who can sign in, or returns ErrEmailTaken.
func (a *Access) AddUser(ctx context.Context, n NewUser) (User, error) {
	if _, err := a.FindUser(ctx, n.Email); !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = ErrEmailTaken
		}
		return User{}, err
	}
	if n.ID == "" {
		n.ID = NewID(a.random)
	}
	n.Name = cut(n.Name, maxName)
	if n.Image != nil && !storable(*n.Image) {
		n.Image = nil
	}
	role, now := "user", database.At(a.now())
	user := User{
		ID: n.ID, Name: n.Name, Email: strings.ToLower(n.Email), Image: n.Image, Role: &role,
		CreatedAt: Timestamp{now.Time}, UpdatedAt: Timestamp{now.Time},
	}
	if n.Password != "" && n.Hash == "" {
		text, err := a.hasher.hash(ctx, n.Password)
		if err != nil {
			return User{}, wrap("add user", err)
		}
		n.Hash = PasswordHash(text)
	}
	var hash *string
	if n.Hash != "" {
		text := string(n.Hash)
		hash = &text
	}
	return user, a.inTransaction(ctx, "add user", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO "user" (id, name, email, email_verified, image, role, banned, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING`, user.ID, user.Name, user.Email, false, user.Image, role, false, now)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrEmailTaken)
		}
		return a.addPassword(ctx, tx, user.ID, hash, now)
	})
}

// addPassword gives a user without one a password, which nil leaves open.
func (a *Access) addPassword(ctx context.Context, tx *sql.Tx, userID string, hash *string, now database.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO account (id, account_id, user_id, provider_id, password, created_at, updated_at)
		VALUES ($1, $2, $2, $3, $4, $5, $5)`, NewID(a.random), userID, credential, hash, now)
	return err
}

// Rename gives a user another name.
func (a *Access) Rename(ctx context.Context, userID, name string) error {
	_, err := a.write.ExecContext(ctx, `UPDATE "user" SET name = $2, updated_at = $3 WHERE id = $1`, userID, name, database.At(a.now()))
	return wrap("rename user", err)
}

// SetPassword gives a user another password, ends the user's sessions and
// returns how many there were.
func (a *Access) SetPassword(ctx context.Context, userID string, hash PasswordHash) (ended int, err error) {
	now := database.At(a.now())
	err = a.inTransaction(ctx, "set password", func(tx *sql.Tx) error {
		if err := a.lockUser(ctx, tx, userID); err != nil {
			return err
		}
		text := string(hash)
		result, err := tx.ExecContext(ctx, "UPDATE account SET password = $3, updated_at = $4 WHERE user_id = $1 AND provider_id = $2",
			userID, credential, text, now)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			err = a.addPassword(ctx, tx, userID, &text, now)
		}
		if err != nil {
			return err
		}
		ended, err = a.endSessions(ctx, tx, userID)
		return err
	})
	return ended, err
}

// lockUser makes the other transactions that lock a user wait: Sim's tables have
// no constraint that keeps a user from getting two passwords at once.
func (a *Access) lockUser(ctx context.Context, tx *sql.Tx, userID string) error {
	if a.db.Dialect != database.Postgres {
		return nil // writers queue anyway
	}
	_, err := tx.ExecContext(ctx, `SELECT 1 FROM "user" WHERE id = $1 FOR NO KEY UPDATE`, userID)
	return err
}

// Disable refuses a user's sign-in from now on, ends the user's sessions and
// returns how many there were.
func (a *Access) Disable(ctx context.Context, userID string) (ended int, err error) {
	err = a.inTransaction(ctx, "disable user", func(tx *sql.Tx) error {
		if err := a.setBanned(ctx, tx, userID, true); err != nil {
			return err
		}
		ended, err = a.endSessions(ctx, tx, userID)
		return err
	})
	return ended, err
}

// Enable lets a user sign in again.
func (a *Access) Enable(ctx context.Context, userID string) error {
	return a.inTransaction(ctx, "enable user", func(tx *sql.Tx) error { return a.setBanned(ctx, tx, userID, false) })
}

func (a *Access) setBanned(ctx context.Context, tx *sql.Tx, userID string, banned bool) error {
	_, err := tx.ExecContext(ctx, `UPDATE "user" SET banned = $2, ban_reason = NULL, ban_expires = NULL, updated_at = $3 WHERE id = $1`,
		userID, banned, database.At(a.now()))
	return err
}

// findByEmail returns a user and the stored hash of the password. Addresses are
// compared in lower case.
func (a *Access) findByEmail(ctx context.Context, email string) (User, string, error) {
	var user User
	var hash sql.NullString
	if !storable(email) {
		return user, "", ErrNotFound
	}
	err := scanUser(a.read.QueryRowContext(ctx, `SELECT c.password, `+userColumns+`
		FROM "user" u LEFT JOIN account c ON c.user_id = u.id AND c.provider_id = $2 WHERE u.email = $1`,
		strings.ToLower(email), credential), &user, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return user, "", ErrNotFound
	}
	if err != nil {
		return user, "", fmt.Errorf("find user: %w", err)
	}
	return user, hash.String, nil
}
