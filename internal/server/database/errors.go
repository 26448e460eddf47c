package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The errors of a database that an operator can mend. Each says how.
var (
	// ErrReadOnly reports a database that cannot be written.
	ErrReadOnly = errors.New("the database is read-only: let the user that runs byok-server write the file and its folder, and see that the file system is not mounted read-only")
	// ErrDiskFull reports a disk, or a quota, without room.
	ErrDiskFull = errors.New("the disk of the database is full: free some space; nothing that was acknowledged is lost")
	// ErrBusy reports that another session or process held the database for too
	// long.
	ErrBusy = errors.New("another session or process kept a table locked for too long: " +
		"on PostgreSQL, find the session in pg_stat_activity; on SQLite, the program that has the file open. Wait until it ends, or end it, then try again")
	// ErrDamaged reports a file that is no sound SQLite database.
	ErrDamaged = errors.New("the file is damaged or is not a SQLite database: restore it from a backup")
	// ErrTimeout reports a database that did not respond within Deadline.
	ErrTimeout = errors.New("the database did not respond in time: look for sessions that hold locks, and at its load and its disk")
	// ErrVanished reports a SQLite file that is no longer at its path.
	ErrVanished = errors.New("the database file was removed or replaced while byok-server was running: stop byok-server, put the file back and start again")
	// ErrUnreachable reports a file that cannot be opened or read.
	ErrUnreachable = errors.New("the database file cannot be opened or read: check its path, its permissions and its disk")
)

// Explain adds what to do to the error of either driver, where there is
// something to do; the driver's own stays within reach of errors.As.
func Explain(err error) error {
	if reason := reasonOf(err); reason != nil && !errors.Is(err, reason) {
		return fmt.Errorf("%w (%w)", reason, err)
	}
	return err
}

// IsDuplicate reports a row that a unique index refused.
func IsDuplicate(err error) bool {
	pg := (*pgconn.PgError)(nil)
	lite := (*sqlite.Error)(nil)
	return errors.As(err, &pg) && pg.Code == "23505" ||
		errors.As(err, &lite) && lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}

func reasonOf(err error) error {
	if lite := (*sqlite.Error)(nil); errors.As(err, &lite) {
		switch lite.Code() & 0xff { // the primary result code
		case sqlite3.SQLITE_READONLY:
			return ErrReadOnly
		case sqlite3.SQLITE_FULL:
			return ErrDiskFull
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return ErrBusy
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return ErrDamaged
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR:
			return ErrUnreachable
		}
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		switch pg.Code {
		case "25006": // read_only_sql_transaction
			return ErrReadOnly
		case "53100": // disk_full
			return ErrDiskFull
		case "55P03": // lock_not_available
			return ErrBusy
		case "57014": // query_canceled, which is how statement_timeout ends a statement
			return ErrTimeout
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return nil
}
