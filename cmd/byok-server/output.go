package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// addOutputFlag adds the flag of commands that list something.
func addOutputFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("output", "o", "table", "`FORMAT`: table, or json for one object a line")
}

// printer writes rows as a table or as JSON.
type printer struct {
	table *tabwriter.Writer
	json  *json.Encoder
}

func newPrinter(to io.Writer, format string, header ...string) (*printer, error) {
	switch format {
	case "json":
		encoder := json.NewEncoder(to)
		encoder.SetEscapeHTML(false)
		return &printer{json: encoder}, nil
	case "table":
		p := &printer{table: tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)}
		_, err := fmt.Fprintln(p.table, strings.Join(header, "\t"))
		return p, err
	}
	return nil, misused("--output %s: must be table or json", format)
}

// row writes one row: object as JSON, or its cells.
func (p *printer) row(object any, cells ...string) error {
	if p.json != nil {
		return p.json.Encode(object)
	}
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	_, err := fmt.Fprintln(p.table, strings.Join(cells, "\t"))
	return err
}

func (p *printer) flush() error {
	if p.table == nil {
		return nil
	}
	return p.table.Flush()
}

// printable replaces what could steer a terminal: names and user agents are
// chosen by users.
func printable(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// plural is "1 key" or "2 keys".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// bar is a progress bar on a terminal, and nothing elsewhere.
type bar struct {
	to    io.Writer
	size  int64
	shown int
}

const barWidth = 40

func newBar(to io.Writer, size int64) *bar {
	if file, ok := to.(*os.File); ok && size > 0 && isTerminal(file) {
		return &bar{to: to, size: size, shown: -1}
	}
	return &bar{}
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (b *bar) show(done int64) {
	if b.to == nil {
		return
	}
	percent := int(min(100, done*100/b.size))
	if percent == b.shown {
		return
	}
	b.shown = percent
	full := percent * barWidth / 100
	_, _ = fmt.Fprintf(b.to, "\r[%s%s] %3d%%", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), percent)
}

func (b *bar) end() {
	if b.to != nil && b.shown >= 0 {
		_, _ = fmt.Fprintln(b.to)
	}
}

// closing joins the error of closing something.
func closing(err *error, c io.Closer) { *err = errors.Join(*err, c.Close()) }
