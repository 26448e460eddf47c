package database

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// timeLayout orders as text the way times order: UTC, always six digits.
const timeLayout = "2006-01-02 15:04:05.000000"

// Time is a time as both dialects store it: UTC with microseconds, text on
// SQLite, timestamp without time zone on PostgreSQL.
type Time struct{ time.Time }

// NullTime is a Time or NULL.
type NullTime struct {
	Time  time.Time
	Valid bool
}

// At returns t for storing; finer digits are cut.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// Value writes the time.
func (t Time) Value() (driver.Value, error) { return t.UTC().Format(timeLayout), nil }

// Scan reads the time.
func (t *Time) Scan(value any) error {
	switch v := value.(type) {
	case time.Time:
		t.Time = v.UTC()
		return nil
	case string:
		parsed, err := time.Parse(timeLayout, v)
		t.Time = parsed
		return err
	}
	return fmt.Errorf("a stored time is %T", value)
}

// Value writes the time or NULL.
func (t NullTime) Value() (driver.Value, error) {
	if !t.Valid {
		return nil, nil
	}
	return At(t.Time).Value()
}

// Scan reads the time or NULL.
func (t *NullTime) Scan(value any) error {
	if value == nil {
		*t = NullTime{}
		return nil
	}
	var at Time
	if err := at.Scan(value); err != nil {
		return err
	}
	*t = NullTime{Time: at.Time, Valid: true}
	return nil
}
