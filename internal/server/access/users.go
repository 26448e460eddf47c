package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// credential is the kind of account that has a password.
const credential = "credential"

// CheckPassword returns the user of an address and password. ErrBadCredentials
// says neither which was wrong nor, by its time, whether the user exists.
// ErrBanned comes only after a right password.
func (a *Access) CheckPassword(ctx context.Context, email, password string) (User, error) {
	user, stored, err := a.findByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	if !a.hasher.matches(password, stored) {
		return User{}, ErrBadCredentials
	}
	if user.Banned && (user.BanExpires == nil || a.now().Before(user.BanExpires.Time)) {
		return User{}, ErrBanned
	}
	return user, nil
}

// FindUser returns the user of an address, or ErrNotFound.
func (a *Access) FindUser(ctx context.Context, email string) (User, error) {
	user, _, err := a.findByEmail(ctx, email)
	return user, err
}

// NewUser is somebody to be added.
type NewUser struct {
	// ID is made where it is empty.
	ID                    string
	Email, Password, Name string
	// Image is the URL of a picture, or nil.
	Image *string
}

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
	role, now := "user", database.At(a.now())
	user := User{
		ID: n.ID, Name: n.Name, Email: strings.ToLower(n.Email), Image: n.Image, Role: &role,
		CreatedAt: Timestamp{now.Time}, UpdatedAt: Timestamp{now.Time},
	}
	var hash *string
	if n.Password != "" {
		text := a.hasher.hash(n.Password)
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
		_, err = tx.ExecContext(ctx, `INSERT INTO account (id, user_id, provider_id, password, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $5)`, NewID(a.random), user.ID, credential, hash, now)
		return err
	})
}

// UpdateUser gives a user another name and password, where they differ.
func (a *Access) UpdateUser(ctx context.Context, user User, name, password string) error {
	_, stored, err := a.findByEmail(ctx, user.Email)
	if err != nil {
		return err
	}
	now := database.At(a.now())
	return a.inTransaction(ctx, "update user", func(tx *sql.Tx) error {
		if name != user.Name {
			if _, err := tx.ExecContext(ctx, `UPDATE "user" SET name = $2, updated_at = $3 WHERE id = $1`, user.ID, name, now); err != nil {
				return err
			}
		}
		if a.hasher.matches(password, stored) {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE account SET password = $3, updated_at = $4 WHERE user_id = $1 AND provider_id = $2`,
			user.ID, credential, a.hasher.hash(password), now)
		return err
	})
}

// findByEmail returns a user and the stored hash of the password. Addresses are
// compared in lower case.
func (a *Access) findByEmail(ctx context.Context, email string) (User, string, error) {
	var user User
	var hash sql.NullString
	if !storable(email) {
		return user, "", ErrNotFound
	}
	err := scanUser(a.db.Read.QueryRowContext(ctx, `SELECT c.password, `+userColumns+`
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

func (a *Access) inTransaction(ctx context.Context, what string, do func(*sql.Tx) error) error {
	tx, err := a.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := do(tx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
