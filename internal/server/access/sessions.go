package access

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// How long things live. WIRE.md section 2.
const (
	SessionLifetime = 30 * 24 * time.Hour
	// BriefLifetime is the lifetime of a session that is not to be remembered.
	BriefLifetime = 24 * time.Hour
	// SessionUpdateAge is how old a session is before a use extends it.
	SessionUpdateAge = 24 * time.Hour
	// CacheLifetime is how long a session_data cookie stands for a lookup.
	CacheLifetime = 5 * time.Minute
)

// Session is a signed-in user. The fields stand in the order in which the API
// shows them.
type Session struct {
	ExpiresAt      Timestamp `json:"expiresAt"`
	Token          string    `json:"token"`
	CreatedAt      Timestamp `json:"createdAt"`
	UpdatedAt      Timestamp `json:"updatedAt"`
	IPAddress      *string   `json:"ipAddress"`
	UserAgent      *string   `json:"userAgent"`
	UserID         string    `json:"userId"`
	ImpersonatedBy *string   `json:"impersonatedBy"`
	ID             string    `json:"id"`
}

// User is somebody with an account, in the order of the API.
type User struct {
	Name          string     `json:"name"`
	Email         string     `json:"email"`
	EmailVerified bool       `json:"emailVerified"`
	Image         *string    `json:"image"`
	CreatedAt     Timestamp  `json:"createdAt"`
	UpdatedAt     Timestamp  `json:"updatedAt"`
	Role          *string    `json:"role"`
	Banned        bool       `json:"banned"`
	BanReason     *string    `json:"banReason"`
	BanExpires    *Timestamp `json:"banExpires"`
	ID            string     `json:"id"`
}

// Timestamp is a time that the API writes in byok.TimeLayout.
type Timestamp struct{ time.Time }

// MarshalJSON writes the time.
func (t Timestamp) MarshalJSON() ([]byte, error) { return json.Marshal(byok.FormatTime(t.Time)) }

// SignedIn is a session and its user.
type SignedIn struct {
	Session Session `json:"session"`
	User    User    `json:"user"`
}

const userColumns = `u.name, u.email, u.email_verified, u.image, u.created_at, u.updated_at, u.role, u.banned, u.ban_reason, u.ban_expires, u.id`

const findSession = `SELECT s.expires_at, s.token, s.created_at, s.updated_at, s.ip_address, s.user_agent, s.user_id, s.id, ` + userColumns + `
	FROM session s JOIN "user" u ON u.id = s.user_id WHERE s.token = $1`

// FindSession returns the live session of a token, or ErrNotFound. An expired
// session is removed.
func (a *Access) FindSession(ctx context.Context, token string) (SignedIn, error) {
	var in SignedIn
	if !storable(token) {
		return in, ErrNotFound
	}
	s := &in.Session
	err := a.prepared(ctx, a.session, []any{token}, append([]any{
		scanTime{&s.ExpiresAt}, &s.Token, scanTime{&s.CreatedAt}, scanTime{&s.UpdatedAt}, &s.IPAddress, &s.UserAgent, &s.UserID, &s.ID,
	}, in.User.columns()...)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return in, ErrNotFound
	case err != nil:
		return in, fmt.Errorf("find session: %w", err)
	case s.ExpiresAt.Before(a.now()):
		if err := a.EndSession(ctx, token); err != nil {
			return in, err
		}
		return in, ErrNotFound
	}
	return in, nil
}

// maxUserAgent is how much of a user agent is kept, in bytes.
const maxUserAgent = 512

// StartSession signs a user in without a password. ipAddress and the beginning
// of userAgent are kept with the session.
func (a *Access) StartSession(ctx context.Context, user User, lifetime time.Duration, ipAddress, userAgent string) (SignedIn, error) {
	now := database.At(a.now())
	userAgent = cut(userAgent, maxUserAgent)
	s := Session{
		ID: NewID(a.random), Token: NewID(a.random), UserID: user.ID,
		ExpiresAt: Timestamp{now.Add(lifetime)}, CreatedAt: Timestamp{now.Time}, UpdatedAt: Timestamp{now.Time},
		IPAddress: &ipAddress, UserAgent: &userAgent,
	}
	_, err := a.exec(ctx, `INSERT INTO session (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, s.ID, s.Token, s.UserID, database.At(s.ExpiresAt.Time), now, now, ipAddress, userAgent)
	if err != nil {
		return SignedIn{}, fmt.Errorf("start session: %w", err)
	}
	return SignedIn{Session: s, User: user}, nil
}

// IsDue reports whether a use of the session is to extend it.
func (a *Access) IsDue(s Session) bool {
	return !s.ExpiresAt.Add(-SessionLifetime + SessionUpdateAge).After(a.now())
}

// Extend lets a session live for SessionLifetime from now; its token stays.
// ErrNotFound where it ended meanwhile.
func (a *Access) Extend(ctx context.Context, s Session) (Session, error) {
	now := database.At(a.now())
	s.ExpiresAt, s.UpdatedAt = Timestamp{now.Add(SessionLifetime)}, Timestamp{now.Time}
	extended, err := a.exec(ctx, "UPDATE session SET expires_at = $2, updated_at = $3 WHERE token = $1",
		s.Token, database.At(s.ExpiresAt.Time), now)
	if err != nil {
		return s, fmt.Errorf("extend session: %w", err)
	}
	if extended == 0 {
		return s, ErrNotFound
	}
	return s, nil
}

// EndSession removes a session; one that is gone already is no error.
func (a *Access) EndSession(ctx context.Context, token string) error {
	if _, err := a.exec(ctx, "DELETE FROM session WHERE token = $1", token); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// expiredAtOnce is how many sessions one statement removes, so that other writes
// do not wait long.
const expiredAtOnce = 1000

// RemoveExpired removes the sessions that have expired and returns how many
// there were.
func (a *Access) RemoveExpired(ctx context.Context) (int64, error) {
	var removed int64
	for {
		n, err := a.exec(ctx, `DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires_at < $1 LIMIT $2)`,
			database.At(a.now()), expiredAtOnce)
		removed += n
		if err != nil || n < expiredAtOnce {
			return removed, wrap("remove expired sessions", err)
		}
	}
}

// cachePayload is the signed part of a session_data cookie.
type cachePayload struct {
	Session   json.RawMessage `json:"session"`
	User      json.RawMessage `json:"user"`
	UpdatedAt int64           `json:"updatedAt"`
	Version   string          `json:"version"`
}

type cacheCookie struct {
	Session   cachePayload `json:"session"`
	ExpiresAt int64        `json:"expiresAt"`
	Signature string       `json:"signature"`
}

// signedText is what the signature of a session_data cookie covers.
func (p cachePayload) signedText(expiresAt int64) string {
	text, _ := json.Marshal(struct { //nolint:errchkjson // raw messages that were just marshaled or parsed
		cachePayload
		ExpiresAt int64 `json:"expiresAt"`
	}{p, expiresAt})
	return string(text)
}

// CacheSession returns the value of a session_data cookie: the session, good
// for lifetime without a lookup when it comes with its token. WIRE.md section 2.
func (a *Access) CacheSession(in SignedIn, lifetime time.Duration) (string, error) {
	session, err := json.Marshal(in.Session)
	if err != nil {
		return "", err
	}
	user, err := json.Marshal(in.User)
	if err != nil {
		return "", err
	}
	now := a.now()
	cookie := cacheCookie{
		Session:   cachePayload{Session: session, User: user, UpdatedAt: now.UnixMilli(), Version: "1"},
		ExpiresAt: now.Add(lifetime).UnixMilli(),
	}
	cookie.Signature = base64.RawURLEncoding.EncodeToString(a.signer.mac(cookie.Session.signedText(cookie.ExpiresAt)))
	text, err := json.Marshal(cookie)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// OpenCache returns the session of a session_data cookie that is genuine,
// fresh and of this token.
func (a *Access) OpenCache(value, token string) (SignedIn, bool) {
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return SignedIn{}, false
	}
	var cookie cacheCookie
	if err := json.Unmarshal(text, &cookie); err != nil {
		return SignedIn{}, false
	}
	signature, err := base64.RawURLEncoding.DecodeString(cookie.Signature)
	if err != nil || !equalMAC(signature, a.signer.mac(cookie.Session.signedText(cookie.ExpiresAt))) {
		return SignedIn{}, false
	}
	var in SignedIn
	if json.Unmarshal(cookie.Session.Session, &in.Session) != nil || json.Unmarshal(cookie.Session.User, &in.User) != nil {
		return SignedIn{}, false
	}
	now := a.now()
	fresh := now.UnixMilli() <= cookie.ExpiresAt && !in.Session.ExpiresAt.Before(now)
	return in, fresh && in.Session.Token == token && cookie.Session.Version == "1"
}

// scanTime reads a stored time into a Timestamp.
type scanTime struct{ into *Timestamp }

// Scan implements sql.Scanner.
func (s scanTime) Scan(value any) error {
	var at database.Time
	err := at.Scan(value)
	s.into.Time = at.Time
	return err
}

// columns are where to scan userColumns.
func (u *User) columns() []any {
	return []any{&u.Name, &u.Email, &u.EmailVerified, &u.Image, scanTime{&u.CreatedAt}, scanTime{&u.UpdatedAt},
		&u.Role, &u.Banned, &u.BanReason, scanNullTime{&u.BanExpires}, &u.ID}
}

// scanNullTime reads a stored time or NULL.
type scanNullTime struct{ into **Timestamp }

// Scan implements sql.Scanner.
func (s scanNullTime) Scan(value any) error {
	var at database.NullTime
	err := at.Scan(value)
	*s.into = nil
	if at.Valid {
		*s.into = &Timestamp{at.Time}
	}
	return err
}
