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
	matches, err := a.hasher.matches(ctx, password, stored)
	if err != nil {
		return User{}, wrap("check password", err)
	}
	if !matches {
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
	// Hash stands for Password where it is not empty.
	Hash PasswordHash
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
	if n.Hash == "" && n.Password != "" {
		hash, err := a.hasher.hash(ctx, n.Password)
		if err != nil {
			return User{}, wrap("add user", err)
		}
		n.Hash = PasswordHash(hash)
	}
	err := a.InTransaction(ctx, func(in *Access) error {
		added, err := in.exec(ctx, `INSERT INTO "user" (id, name, email, email_verified, image, role, banned, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING`, user.ID, user.Name, user.Email, false, user.Image, role, false, now)
		if err != nil {
			return err
		}
		if added == 0 {
			return ErrEmailTaken
		}
		_, err = in.exec(ctx, `INSERT INTO account (id, user_id, provider_id, password, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $5)`, NewID(a.random), user.ID, credential, n.Hash.orNull(), now)
		return err
	})
	return user, wrap("add user", err)
}

// PasswordHash is a hashed password. Hashing takes a tenth of a second, so it
// is done before a transaction begins.
type PasswordHash string

func (h PasswordHash) orNull() *string {
	if h == "" {
		return nil
	}
	text := string(h)
	return &text
}

// HashPassword hashes a password for the user of an address: to what is stored
// already, where that is a hash of this password.
func (a *Access) HashPassword(ctx context.Context, email, password string) (PasswordHash, error) {
	_, stored, err := a.findByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	if err == nil {
		if same, err := a.hasher.matches(ctx, password, stored); err != nil || same {
			return PasswordHash(stored), wrap("hash password", err)
		}
	}
	hash, err := a.hasher.hash(ctx, password)
	return PasswordHash(hash), wrap("hash password", err)
}

// UpdateUser gives a user another name and password, where they differ.
func (a *Access) UpdateUser(ctx context.Context, user User, name string, password PasswordHash) error {
	now := database.At(a.now())
	err := a.InTransaction(ctx, func(in *Access) error {
		if name != user.Name {
			if _, err := in.exec(ctx, `UPDATE "user" SET name = $2, updated_at = $3 WHERE id = $1`, user.ID, name, now); err != nil {
				return err
			}
		}
		_, err := in.exec(ctx, `UPDATE account SET password = $3, updated_at = $4
			WHERE user_id = $1 AND provider_id = $2 AND (password IS NULL OR password <> $3)`, user.ID, credential, string(password), now)
		return err
	})
	return wrap("update user", err)
}

// findByEmail returns a user and the stored hash of the password. Addresses are
// compared in lower case.
func (a *Access) findByEmail(ctx context.Context, email string) (User, string, error) {
	var user User
	var hash sql.NullString
	if !storable(email) {
		return user, "", ErrNotFound
	}
	err := a.row(ctx, `SELECT c.password, `+userColumns+`
		FROM "user" u LEFT JOIN account c ON c.user_id = u.id AND c.provider_id = $2 WHERE u.email = $1`,
		[]any{strings.ToLower(email), credential}, append([]any{&hash}, user.columns()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return user, "", ErrNotFound
	}
	if err != nil {
		return user, "", fmt.Errorf("find user: %w", err)
	}
	return user, hash.String, nil
}
