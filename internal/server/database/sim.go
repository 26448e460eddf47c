package database

import (
	"context"
	"database/sql"
	_ "embed" // simTablesText
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ownSchema holds, in a database of Sim, what byok-server has of its own.
const ownSchema = "byok_server"

// usedTables are the tables of Sim that byok-server reads and writes.
var usedTables = []string{
	"user", "session", "account", "workspace", "permissions", "organization", "member", "workspace_byok_keys", "organization_byok_keys",
}

// layout says whose tables a database has.
type layout int

const (
	// own: the tables are byok-server's, or there are none yet.
	own layout = iota
	// foreign: there are tables that byok-server did not make.
	foreign
	// adopted: the tables are Sim's, and byok-server may work on them.
	adopted
)

// ErrNotAdopted reports tables that byok-server did not make.
var ErrNotAdopted = errors.New("byok-server did not make the tables of this database. If they are Sim's, `byok-server migrate adopt` lets byok-server work on them, without changing them; " +
	"otherwise give it a database of its own, or a schema of its own: CREATE SCHEMA byok, and add search_path=byok to the URL")

// inspect finds out whose tables the schema has that conn uses by default, and
// its name.
func inspect(ctx context.Context, conn *sql.DB) (found layout, schema string, err error) {
	var name sql.NullString
	var hasOwn, hasOthers, isAdopted bool
	err = conn.QueryRowContext(ctx, `SELECT current_schema(),
		EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'byok_server_migrations'),
		EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ANY ($1)),
		EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $2 AND tablename = 'byok_server_migrations')`,
		usedTables, ownSchema).Scan(&name, &hasOwn, &hasOthers, &isAdopted)
	switch {
	case err != nil:
		return own, "", err
	case !name.Valid:
		return own, "", errors.New("there is no schema for the tables: create the one that search_path in the URL names (CREATE SCHEMA byok), and let the user that byok-server connects as use it")
	case hasOwn || !hasOthers:
		return own, name.String, nil
	case isAdopted:
		return adopted, name.String, nil
	}
	return foreign, name.String, nil
}

// Adopt lets byok-server work on the tables that Sim made in this database, and
// returns the migrations that it applied to its own schema. Sim's tables stay
// as they are; where they differ from the known ones, the error says in what.
// The database is to be opened again afterwards.
func (db *DB) Adopt(ctx context.Context) (applied []Migration, err error) {
	switch {
	case db.Dialect != Postgres:
		return nil, errors.New("only a PostgreSQL database can hold Sim's tables")
	case db.layout == own:
		return nil, fmt.Errorf("the schema %s has no tables of Sim: there is nothing to adopt; byok-server serve makes its own tables", db.schema)
	}
	err = db.migrating(ctx, func(tx *sql.Tx) error {
		if err := checkSim(ctx, tx, db.schema); err != nil {
			return err
		}
		if err := makeOwnSchema(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "SELECT set_config('search_path', $1, true)", adoptedPath(db.schema)); err != nil {
			return err
		}
		adopting := *db
		adopting.layout = adopted
		applied, err = adopting.apply(ctx, tx, -1)
		return err
	})
	return applied, err
}

// makeOwnSchema makes the schema, unless an administrator has: IF NOT EXISTS
// would need the right to create one all the same.
func makeOwnSchema(ctx context.Context, tx *sql.Tx) error {
	var exists bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", ownSchema).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := tx.ExecContext(ctx, "CREATE SCHEMA "+ownSchema)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("the user that byok-server connects as may not create the schema %s: connect as one that may for this command, or let an administrator run CREATE SCHEMA %[1]s AUTHORIZATION <that user> (%[2]w)", ownSchema, err)
	}
	return err
}

// adoptedPath is the search path on a database of Sim. The own schema comes
// first: nothing is ever created in Sim's, and no table that Sim may get one day
// hides one of byok-server's.
func adoptedPath(schema string) string {
	return pgx.Identifier{ownSchema}.Sanitize() + ", " + pgx.Identifier{schema}.Sanitize()
}

// IsAdopted reports whether the tables are Sim's, which byok-server works on but
// never changes.
func (db *DB) IsAdopted() bool { return db.layout == adopted }

// CheckTables reports how the tables of Sim in this database differ from those
// that byok-server knows. It finds nothing in a database of its own.
func (db *DB) CheckTables(ctx context.Context) error {
	switch db.layout {
	case foreign:
		return ErrNotAdopted
	case adopted:
		return checkSim(ctx, db.Read, db.schema)
	}
	return nil
}

// Difference is one point in which a table of Sim is not as it is known. Column
// is empty where the table itself, a constraint or a unique index is meant.
type Difference struct{ Table, Column, Expected, Found string }

func (d Difference) String() string {
	at := "table " + d.Table
	if d.Column != "" {
		at += ", column " + d.Column
	}
	return fmt.Sprintf("%s: expected %s, found %s", at, d.Expected, d.Found)
}

// DifferentTablesError reports tables of Sim that are not as they are known.
type DifferentTablesError struct{ Differences []Difference }

// maxDifferences is how many differences the text of an error lists.
const maxDifferences = 20

func (e *DifferentTablesError) Error() string {
	lines := make([]string, 0, maxDifferences+2)
	lines = append(lines, "the tables of Sim in this database are not those that this byok-server knows ("+knownVersion()+"). "+
		"Nothing was changed. Use a byok-server that knows them, or a database of its own:")
	for i, d := range e.Differences {
		if i == maxDifferences {
			lines = append(lines, fmt.Sprintf("  and %d more", len(e.Differences)-i))
			break
		}
		lines = append(lines, "  "+d.String())
	}
	return strings.Join(lines, "\n")
}

// checkSim compares Sim's tables in a schema with the known ones.
func checkSim(ctx context.Context, q querier, schema string) error {
	known, err := parseTables(simTablesText)
	if err != nil {
		return err
	}
	found, err := readTables(ctx, q, schema)
	if err != nil {
		return fmt.Errorf("read the definitions of Sim's tables: %w", Explain(err))
	}
	if different := known.compare(found); len(different) > 0 {
		return &DifferentTablesError{different}
	}
	return nil
}

// simTablesText is the description of Sim's tables, as its migrations made them.
//
//go:embed sim-tables.md
var simTablesText string

// knownVersion is the version of Sim that simTablesText is of.
func knownVersion() string {
	title, _, _ := strings.Cut(simTablesText, "\n")
	_, version, _ := strings.Cut(title, "HEAD ")
	commit, version, _ := strings.Cut(version, ", ")
	version, _, _ = strings.Cut(version, ",")
	return "Sim " + version + ", commit " + commit
}

// catalogue describes tables and enumerations.
type catalogue struct {
	// columns are the columns of each table by name, each as "text",
	// "text, nullable" or "boolean, default false".
	columns map[string]map[string]string
	// rules are the constraints and unique indexes of each table, without their
	// names: they say the same under any.
	rules map[string][]string
	// labels are those of each enumeration, sorted.
	labels map[string]string
}

func newCatalogue() catalogue {
	return catalogue{columns: map[string]map[string]string{}, rules: map[string][]string{}, labels: map[string]string{}}
}

func (c catalogue) addColumn(table, name, kind string, nullable bool, preset string) {
	if c.columns[table] == nil {
		c.columns[table] = map[string]string{}
	}
	if nullable {
		kind += ", nullable"
	}
	if preset != "" {
		kind += ", default " + preset
	}
	c.columns[table][name] = kind
}

func (c catalogue) addRule(table, rule string) {
	// A constraint that is not validated yet binds every new row all the same.
	c.rules[table] = append(c.rules[table], strings.TrimSuffix(rule, " NOT VALID"))
}

// compare lists how found differs in the tables that byok-server uses.
func (c catalogue) compare(found catalogue) (all []Difference) {
	for _, table := range usedTables {
		want, got := c.columns[table], found.columns[table]
		if got == nil {
			all = append(all, Difference{table, "", "to exist", "no such table"})
			continue
		}
		all = append(all, compareColumns(table, want, got)...)
		for _, rule := range without(c.rules[table], found.rules[table]) {
			all = append(all, Difference{table, "", rule, "none"})
		}
		for _, rule := range without(found.rules[table], c.rules[table]) {
			all = append(all, Difference{table, "", "no such rule", rule})
		}
	}
	for _, name := range sortedKeys(c.labels) {
		if got, want := found.labels[name], c.labels[name]; got != want && c.uses(name) {
			all = append(all, Difference{"(enumeration) " + name, "", "the labels " + want, orNone(got)})
		}
	}
	return all
}

func compareColumns(table string, want, got map[string]string) (all []Difference) {
	for _, column := range sortedKeys(want) {
		if kind, exists := got[column]; !exists {
			all = append(all, Difference{table, column, want[column], "no such column"})
		} else if kind != want[column] {
			all = append(all, Difference{table, column, want[column], kind})
		}
	}
	for _, column := range sortedKeys(got) {
		if _, known := want[column]; !known {
			all = append(all, Difference{table, column, "no such column", got[column]})
		}
	}
	return all
}

// uses reports whether a column of a table in use has a type.
func (c catalogue) uses(kind string) bool {
	for _, table := range usedTables {
		for _, column := range c.columns[table] {
			if name, _, _ := strings.Cut(column, ","); name == kind {
				return true
			}
		}
	}
	return false
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func without(all, those []string) (rest []string) {
	for _, rule := range all {
		if !slices.Contains(those, rule) {
			rest = append(rest, rule)
		}
	}
	slices.Sort(rest)
	return rest
}

func sortedKeys(of map[string]string) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// parseTables reads a description such as sim-tables.md: a section for each
// table, its columns in one line, then a list of its constraints and indexes.
func parseTables(text string) (catalogue, error) {
	c := newCatalogue()
	for section := range strings.SplitSeq(text[strings.Index(text, "\n## ")+1:], "\n## ") {
		title, body, _ := strings.Cut(strings.TrimPrefix(section, "## "), "\n")
		table := strings.TrimSpace(title)
		for line := range strings.Lines(body) {
			line = strings.TrimSpace(line)
			name, definition, _ := strings.Cut(strings.TrimPrefix(line, "- "), ": ")
			switch {
			case line == "", strings.HasPrefix(line, "- INDEX "):
			case strings.HasPrefix(line, "`"):
				if err := parseColumns(c, table, line); err != nil {
					return c, err
				}
			case table == "Enumerations":
				c.labels[name] = sortedLabels(strings.Split(definition, ", "))
			case strings.HasPrefix(line, "- UNIQUE INDEX "):
				c.addRule(table, uniqueIndex(line))
			case strings.HasPrefix(line, "- "):
				c.addRule(table, definition)
			default:
				return c, fmt.Errorf("sim-tables.md, table %s: %q is not understood", table, line)
			}
		}
	}
	return c, nil
}

func parseColumns(c catalogue, table, line string) error {
	for text := range strings.SplitSeq(line, "; `") {
		name, rest, ok := strings.Cut(strings.TrimPrefix(text, "`"), "` ")
		if !ok {
			return fmt.Errorf("sim-tables.md, table %s: column %q is not understood", table, text)
		}
		kind, preset, _ := strings.Cut(rest, " = ")
		kind, nullable := strings.CutSuffix(kind, "?")
		c.addColumn(table, name, kind, nullable, preset)
	}
	return nil
}

// uniqueIndex is the definition of a unique index from its columns on.
func uniqueIndex(definition string) string {
	return "UNIQUE INDEX " + definition[strings.Index(definition, "("):]
}

func sortedLabels(labels []string) string {
	slices.Sort(labels)
	return strings.Join(labels, ", ")
}

const (
	readColumns = `SELECT c.relname, a.attname, CASE WHEN t.typtype = 'e' THEN t.typname ELSE format_type(a.atttypid, a.atttypmod) END, NOT a.attnotnull,
		coalesce(pg_get_expr(d.adbin, d.adrelid), '')
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY ($2)`
	readConstraints = `SELECT c.relname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2) AND k.contype IN ('p', 'u', 'f', 'c', 'x')`
	readUniqueIndexes = `SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2) AND i.indisunique
		AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid)`
	readLabels = `SELECT t.typname, string_agg(e.enumlabel, ', ' ORDER BY e.enumlabel COLLATE "C") FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
		WHERE t.typnamespace = $1::text::regnamespace GROUP BY t.typname`
)

// readTables reads the definitions of the tables in use from PostgreSQL's
// catalogue. The search path contains the schema, so that names in definitions
// come without it.
func readTables(ctx context.Context, q querier, schema string) (catalogue, error) {
	c := newCatalogue()
	quoted := pgx.Identifier{schema}.Sanitize()
	for _, part := range []struct {
		query string
		args  []any
		add   func(*sql.Rows) error
	}{
		{readColumns, []any{quoted, usedTables}, func(rows *sql.Rows) error {
			var table, name, kind, preset string
			var nullable bool
			err := rows.Scan(&table, &name, &kind, &nullable, &preset)
			c.addColumn(table, name, strings.Replace(kind, "timestamp without time zone", "timestamp", 1), nullable, preset)
			return err
		}},
		{readConstraints, []any{quoted, usedTables}, func(rows *sql.Rows) error {
			var table, rule string
			err := rows.Scan(&table, &rule)
			c.addRule(table, rule)
			return err
		}},
		{readUniqueIndexes, []any{quoted, usedTables}, func(rows *sql.Rows) error {
			var table, definition string
			err := rows.Scan(&table, &definition)
			if err == nil {
				c.addRule(table, uniqueIndex(definition))
			}
			return err
		}},
		{readLabels, []any{quoted}, func(rows *sql.Rows) error {
			var name, labels string
			err := rows.Scan(&name, &labels)
			c.labels[name] = labels
			return err
		}},
	} {
		if err := eachRow(ctx, q, part.query, part.args, part.add); err != nil {
			return c, err
		}
	}
	return c, nil
}

func eachRow(ctx context.Context, q querier, query string, args []any, do func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
