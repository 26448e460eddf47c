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
		if at, ok := parse(v); ok {
			t.Time = at
			return nil
		}
		parsed, err := time.Parse(timeLayout, v)
		t.Time = parsed
		return err
	}
	return fmt.Errorf("a stored time is %T", value)
}

// parse reads a time in timeLayout, five times as fast as time.Parse: a list
// has two for each key. It leaves what is wrong to time.Parse.
func parse(text string) (time.Time, bool) {
	if len(text) != len(timeLayout) {
		return time.Time{}, false
	}
	var parts [7]int
	part := 0
	for i := range len(text) {
		c, layout := text[i], timeLayout[i]
		if '0' <= layout && layout <= '9' {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			parts[part] = 10*parts[part] + int(c-'0')
			continue
		}
		if c != layout {
			return time.Time{}, false
		}
		part++
	}
	at := time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5], 1000*parts[6], time.UTC)
	// time.Date takes a 30th of February for the 2nd of March.
	sound := parts[1] >= 1 && parts[1] <= 12 && at.Day() == parts[2] && at.Hour() == parts[3] && at.Minute() == parts[4] && at.Second() == parts[5]
	return at, sound
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
