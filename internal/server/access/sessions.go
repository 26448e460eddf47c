package access

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

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

// User is an account, with the fields in the order of the API.
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

	// checkedHash is the stored hash that CheckPassword has compared, or empty.
	checkedHash string
}

// Timestamp is a time that the API writes in byok.TimeLayout.
type Timestamp struct{ time.Time }

// MarshalJSON writes the time.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + byok.FormatTime(t.Time) + `"`), nil
}

// SignedIn is a session and its user.
type SignedIn struct {
	Session Session `json:"session"`
	User    User    `json:"user"`

	// text is the JSON of both, where it is known.
	text string
}

const userColumns = `u.name, u.email, u.email_verified, u.image, u.created_at, u.updated_at, u.role, coalesce(u.banned, FALSE), u.ban_reason, u.ban_expires, u.id`

const sessionColumns = `s.expires_at, s.token, s.created_at, s.updated_at, s.ip_address, s.user_agent, s.user_id, s.id, ` + userColumns

const listSessions = `SELECT ` + sessionColumns + ` FROM session s JOIN "user" u ON u.id = s.user_id`

const findSession = listSessions + " WHERE s.token = $1"

const findRevocation = "SELECT revoked_at FROM byok_server_revocations WHERE user_id = $1"

// FindSession returns the live session of a token, or ErrNotFound. An expired
// session is removed.
func (a *Access) FindSession(ctx context.Context, token string) (SignedIn, error) {
	if !storable(token) {
		return SignedIn{}, ErrNotFound
	}
	in, err := a.sessions.Read(ctx, token, func() (in SignedIn, err error) {
		if e := entryOf(ctx); e != nil {
			in, err = a.findEntry(ctx, token, e)
		} else {
			err = a.readRow(ctx, a.session, func(r row) error { return scanSession(r, &in) }, token)
		}
		if err == nil {
			in.text, err = in.json()
		}
		return in, err
	}, func(SignedIn) bool { return true })
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return in, ErrNotFound
	case err != nil:
		return in, fmt.Errorf("find session: %w", err)
	case in.Session.ExpiresAt.Before(a.now()):
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
// of userAgent are kept with the session. For a user that CheckPassword returned it is
// ErrBadCredentials or ErrBanned where the password was changed, or the user
// disabled, since: nobody gets in on an old password while it is being changed.
func (a *Access) StartSession(ctx context.Context, user User, lifetime time.Duration, ipAddress, userAgent string) (SignedIn, error) {
	now := database.At(a.now())
	userAgent = cut(userAgent, maxUserAgent)
	s := Session{
		ID: NewID(a.random), Token: NewID(a.random), UserID: user.ID,
		ExpiresAt: Timestamp{now.Add(lifetime)}, CreatedAt: Timestamp{now.Time}, UpdatedAt: Timestamp{now.Time},
		IPAddress: &ipAddress, UserAgent: &userAgent,
	}
	err := a.inTransaction(ctx, "start session", func(tx *sql.Tx) error {
		if user.checkedHash != "" {
			if err := a.recheck(ctx, tx, user); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO session (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, s.ID, s.Token, s.UserID, database.At(s.ExpiresAt.Time), now, now, ipAddress, userAgent)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	return SignedIn{Session: s, User: user}, nil
}

// recheck compares the hash that CheckPassword compared with the stored one. On
// PostgreSQL its lock makes a change of the password wait for the session, which
// that change then ends.
func (a *Access) recheck(ctx context.Context, tx *sql.Tx, user User) error {
	query := `SELECT c.password, coalesce(u.banned, FALSE), u.ban_expires FROM "user" u
		JOIN account c ON c.user_id = u.id AND c.provider_id = $2 WHERE u.id = $1`
	if a.db.Dialect == database.Postgres {
		query += " FOR SHARE"
	}
	var hash sql.NullString
	var now User
	var banExpires database.NullTime
	err := tx.QueryRowContext(ctx, query, user.ID, credential).Scan(&hash, &now.Banned, &banExpires)
	if banExpires.Valid {
		now.BanExpires = &Timestamp{banExpires.Time}
	}
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && hash.String != user.checkedHash:
		return ErrBadCredentials
	case err == nil && a.isBanned(now):
		return ErrBanned
	}
	return err
}

// IsDue reports whether a use of the session is to extend it.
func (a *Access) IsDue(s Session) bool {
	return !s.ExpiresAt.Add(-SessionLifetime + SessionUpdateAge).After(a.now())
}

// Extend lets a session live for SessionLifetime from now; its token stays.
// ErrNotFound where it ended meanwhile.
func (a *Access) Extend(ctx context.Context, in SignedIn) (SignedIn, error) {
	now, s := database.At(a.now()), &in.Session
	s.ExpiresAt, s.UpdatedAt, in.text = Timestamp{now.Add(SessionLifetime)}, Timestamp{now.Time}, ""
	result, err := a.write.ExecContext(ctx, "UPDATE session SET expires_at = $2, updated_at = $3 WHERE token = $1",
		s.Token, database.At(s.ExpiresAt.Time), now)
	if err != nil {
		return in, fmt.Errorf("extend session: %w", err)
	}
	if n, err := result.RowsAffected(); err == nil && n == 0 {
		return in, ErrNotFound
	}
	return in, nil
}

// EndSession removes a session; one that is gone already is no error.
func (a *Access) EndSession(ctx context.Context, token string) error {
	if _, err := a.write.ExecContext(ctx, "DELETE FROM session WHERE token = $1", token); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// AgentsOfSessions returns the user agents of the sessions whose user agent begins
// with prefix, by token.
func (a *Access) AgentsOfSessions(ctx context.Context, prefix string) (agents map[string]string, err error) {
	rows, err := a.read.QueryContext(ctx, "SELECT token, user_agent FROM session WHERE substr(user_agent, 1, $1) = $2", utf8.RuneCountInString(prefix), prefix)
	if err != nil {
		return nil, wrap("find sessions", err)
	}
	defer rows.Close()
	agents = map[string]string{}
	for rows.Next() {
		var token, agent string
		if err := rows.Scan(&token, &agent); err != nil {
			return nil, wrap("find sessions", err)
		}
		agents[token] = agent
	}
	return agents, wrap("find sessions", rows.Err())
}

// EndSessions ends every session of a user, those included that a session_data
// cookie stands for, and returns how many there were.
func (a *Access) EndSessions(ctx context.Context, userID string) (ended int, err error) {
	err = a.inTransaction(ctx, "end sessions", func(tx *sql.Tx) error {
		ended, err = a.endSessions(ctx, tx, userID)
		return err
	})
	return ended, err
}

func (a *Access) endSessions(ctx context.Context, tx *sql.Tx, userID string) (int, error) {
	result, err := tx.ExecContext(ctx, "DELETE FROM session WHERE user_id = $1", userID)
	if err != nil {
		return 0, err
	}
	ended, err := result.RowsAffected()
	if err != nil {
		return 0, err
	}
	return int(ended), a.revokeCaches(ctx, tx, userID)
}

// RevokeSession ends the session of an ID, or returns ErrNotFound.
func (a *Access) RevokeSession(ctx context.Context, id string) error {
	return a.inTransaction(ctx, "revoke session", func(tx *sql.Tx) error {
		var userID string
		err := tx.QueryRowContext(ctx, "DELETE FROM session WHERE id = $1 RETURNING user_id", id).Scan(&userID)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return a.revokeCaches(ctx, tx, userID)
	})
}

// ListSessions returns the sessions of a user, or of all where userID is empty,
// the one that was extended last first. Expired ones are left out.
func (a *Access) ListSessions(ctx context.Context, userID string) ([]SignedIn, error) {
	query, args := listSessions+" WHERE s.expires_at > $1", []any{database.At(a.now())}
	if userID != "" {
		query, args = query+" AND s.user_id = $2", append(args, userID)
	}
	rows, err := a.read.QueryContext(ctx, query+" ORDER BY s.updated_at DESC, s.id", args...)
	if err != nil {
		return nil, wrap("list sessions", err)
	}
	defer rows.Close()
	var all []SignedIn
	for rows.Next() {
		var in SignedIn
		if err := scanSession(rows, &in); err != nil {
			return nil, wrap("list sessions", err)
		}
		all = append(all, in)
	}
	return all, wrap("list sessions", rows.Err())
}

// clockSkew is how far the clocks of programs on one database may differ.
const clockSkew = time.Minute

// revokeCaches voids the session_data cookies that a user has by now.
func (a *Access) revokeCaches(ctx context.Context, tx *sql.Tx, userID string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO byok_server_revocations (user_id, revoked_at) VALUES ($1, $2)
		ON CONFLICT (user_id) DO UPDATE SET revoked_at = excluded.revoked_at`, userID, database.At(a.now()))
	return err
}

// isRevoked reports whether a session_data cookie of a user, made at a time, no
// longer stands for a lookup.
func (a *Access) isRevoked(ctx context.Context, userID string, made time.Time) bool {
	var at database.Time
	err := a.readRow(ctx, a.revoked, func(r row) error { return r.Scan(&at) }, userID)
	if errors.Is(err, sql.ErrNoRows) {
		return false
	}
	return err != nil || made.Before(at.Add(clockSkew))
}

// expiredAtOnce is how many sessions one statement removes, so that other writes
// do not wait long.
const expiredAtOnce = 1000

// RemoveExpired removes the sessions that have expired and returns how many
// there were.
func (a *Access) RemoveExpired(ctx context.Context) (removed int64, err error) {
	for {
		n, err := a.removeExpired(ctx)
		removed += n
		if err != nil || n < expiredAtOnce {
			return removed, wrap("remove expired sessions", err)
		}
	}
}

func (a *Access) removeExpired(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	result, err := a.write.ExecContext(ctx, "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires_at < $1 LIMIT $2)",
		database.At(a.now()), expiredAtOnce)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
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
func (p cachePayload) signedText(expiresAt int64) []byte {
	text, _ := json.Marshal(struct { //nolint:errchkjson // raw messages that were just marshaled or parsed
		cachePayload
		ExpiresAt int64 `json:"expiresAt"`
	}{p, expiresAt})
	return text
}

// json is what json.Marshal makes of a SignedIn, without its braces: it would read
// the texts of both again.
func (in SignedIn) json() (string, error) {
	session, err := json.Marshal(in.Session)
	if err != nil {
		return "", err
	}
	user, err := json.Marshal(in.User)
	if err != nil {
		return "", err
	}
	return `"session":` + string(session) + `,"user":` + string(user), nil
}

// CacheSession returns the value of a session_data cookie: the session, good
// for lifetime without a lookup when it comes with its token. WIRE.md section 2.
func (a *Access) CacheSession(in SignedIn, lifetime time.Duration) (string, error) {
	if in.text == "" {
		var err error
		if in.text, err = in.json(); err != nil {
			return "", err
		}
	}
	now := a.now()
	expiresAt := now.Add(lifetime).UnixMilli()
	// What json.Marshal would write of a cacheCookie. Its signature covers the same
	// text with another end, a signedText. OpenCache checks that the two agree.
	const before = `{"session":`
	text := make([]byte, 0, len(in.text)+256)
	text = append(append(append(text, before+"{"...), in.text...), `,"updatedAt":`...)
	text = append(strconv.AppendInt(text, now.UnixMilli(), 10), `,"version":"1"`...)
	covered := len(text)
	text = append(strconv.AppendInt(append(text, `,"expiresAt":`...), expiresAt, 10), '}')
	signature := a.signer.mac(text[len(before):])
	text = strconv.AppendInt(append(text[:covered], `},"expiresAt":`...), expiresAt, 10)
	text = base64.RawURLEncoding.AppendEncode(append(text, `,"signature":"`...), signature)
	return base64.RawURLEncoding.EncodeToString(append(text, `"}`...)), nil
}

// OpenCache returns the session of a session_data cookie that is genuine,
// fresh, of this token, and not from before a revocation.
func (a *Access) OpenCache(ctx context.Context, value, token string) (SignedIn, bool) {
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
	if !fresh || in.Session.Token != token || cookie.Session.Version != "1" {
		return SignedIn{}, false
	}
	return in, !a.isRevoked(ctx, in.Session.UserID, time.UnixMilli(cookie.Session.UpdatedAt))
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

// scanSession reads further columns, then those of listSessions.
func scanSession(r row, in *SignedIn, before ...any) error {
	s := &in.Session
	return scanUser(r, &in.User, append(before,
		scanTime{&s.ExpiresAt}, &s.Token, scanTime{&s.CreatedAt}, scanTime{&s.UpdatedAt}, &s.IPAddress, &s.UserAgent, &s.UserID, &s.ID)...)
}

// scanUser reads further columns, then userColumns.
func scanUser(r row, u *User, before ...any) error {
	var banExpires database.NullTime
	err := r.Scan(append(before, &u.Name, &u.Email, &u.EmailVerified, &u.Image, scanTime{&u.CreatedAt}, scanTime{&u.UpdatedAt},
		&u.Role, &u.Banned, &u.BanReason, &banExpires, &u.ID)...)
	if banExpires.Valid {
		u.BanExpires = &Timestamp{banExpires.Time}
	}
	return err
}
