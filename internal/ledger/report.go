package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Terraform wraps the lines of a diagnostic to the terminal, except those that
// begin with a space: figures, tables and examples below do, sentences do not.

// OverCap says that a plan would leave a pool with more keys than its cap.
type OverCap struct {
	Pool      byok.Pool
	Cap       int
	Stored    int        // keys in the pool today
	Kept      int        // of these, the keys that this plan keeps
	Removed   int        // of these, the keys that this plan removes, replaced ones included
	Added     int        // keys that this plan creates, replacements included
	Replaced  int        // of the added keys, those known to replace another
	Unmanaged []byok.Key // stored keys that this plan does not contain, in rotation order; nil unless Settled
	Certain   bool       // the keys that this plan keeps and adds exceed the cap by themselves
	Whole     bool       // resources have whole pools, none has a single key
	Exclusive bool       // one of these is to be exclusive
	Settled   bool       // the figures are those of the whole plan, otherwise of the plan so far

	// Sequential is set when Terraform never had two calls in flight, as with
	// -parallelism=1: removals that come later in the plan are then missing.
	Sequential bool
}

// Total is the number of keys that the pool would hold.
func (o *OverCap) Total() int {
	return o.Stored - o.Removed + o.Added
}

// Summary is the one-line title of the error.
func (o *OverCap) Summary() string {
	return fmt.Sprintf("Pool %q would hold %s, its cap is %d", clean(o.Pool.ProviderID), o.total(), o.Cap)
}

// Detail is the body of the error.
func (o *OverCap) Detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q can store at most %s for provider ID %q, and would have to hold %s: the API would refuse %s of them.\n",
		capitalized(o.Pool.Scope.Kind.String()), clean(o.Pool.Scope.ID), keys(o.Cap), clean(o.Pool.ProviderID), o.total(), o.atLeast(fmt.Sprint(o.excess())))

	// True at plan and at apply, which cannot always be told apart.
	so, end := "", "in the end"
	if !o.Settled {
		so, end = " so far", "so far"
	}
	writeFigures(&b,
		figure{" ", o.Stored, "stored now"},
		figure{"-", o.Removed, "to be removed" + so},
		figure{"+", o.Added, "to be added" + so},
		figure{"=", o.Total(), fmt.Sprintf("%s, %d too many", end, o.excess())})
	if o.Settled && o.Sequential {
		b.WriteString("\nIf you set -parallelism=1, these are the figures of the plan so far: Terraform plans the rest after this error.\n")
	}
	if len(o.Unmanaged) > 0 {
		b.WriteString("\nStored keys that are not part of this plan:\n\n")
		writeTable(&b, o.Unmanaged)
	}

	b.WriteString("\nWhat you can do:\n\n")
	excess := o.atLeast(keys(o.excess()))
	fmt.Fprintf(&b, "- Declare %s fewer, or remove %s from the pool.\n", excess, excess)
	if len(o.Unmanaged) > 0 {
		b.WriteString("- If one of the keys above is no longer needed, delete it in Sim.\n")
		b.WriteString("- If this plan adds one of the keys above a second time, import it instead:\n\n")
		to, id := "byok_key.example", o.Pool.String()+"/"+clean(o.Unmanaged[0].ID)
		if o.Whole {
			to, id = "byok_pool.example", o.Pool.String()
		}
		fmt.Fprintf(&b, "    import {\n      to = %s\n      id = %q\n    }\n\n", to, id)
		if o.Exclusive {
			b.WriteString("- A create leaves the keys above alone, even with exclusive = true. To have them removed, import the pool first.\n")
		}
		if o.Whole {
			b.WriteString("- If the keys above are those of a byok_pool that has a new address in your configuration, add a moved block.\n")
		}
		if o.Sequential {
			b.WriteString("- If your configuration removes one of the keys above, Terraform may not have planned that yet, as happens with -parallelism=1. Plan again with the default parallelism.\n")
		}
	}
	if o.Replaced > 0 {
		b.WriteString("- A replaced key counts as removed and added. With create_before_destroy, both are stored for a moment, which a full pool does not allow.\n")
	}
	b.WriteString("- If this is an apply, and its plan passed, keys have been added since by another user: plan again.\n")
	b.WriteString("- If the server has another cap, set max_keys_per_provider in the provider block.\n")
	b.WriteString("- If you ran terraform destroy, run it with -refresh=false. Without it, Terraform first plans the keys that are missing, and that plan fails.")
	return b.String()
}

func (o *OverCap) excess() int { return o.Total() - o.Cap }

func (o *OverCap) total() string { return o.atLeast(keys(o.Total())) }

// atLeast adds a caveat to a number when it may grow.
func (o *OverCap) atLeast(n string) string {
	if o.Settled {
		return n
	}
	return "at least " + n
}

// Crowded says that many creates of a plan wait for removals of the same plan.
type Crowded struct {
	Creates int
}

// Summary is the one-line title of the warning.
func (c *Crowded) Summary() string {
	return fmt.Sprintf("%d creates wait for removals of the same apply", c.Creates)
}

// Detail is the body of the warning.
func (c *Crowded) Detail() string {
	return fmt.Sprintf("Their pools are full: the API accepts these keys only after other keys of this plan are removed. Terraform works on %d resources at a time "+
		"and does not know that removals must come first. If waiting creates take up all of them, they fail and have to be applied again.\n\n"+
		"What you can do:\n\n"+
		"- Run terraform apply -parallelism=%d. Then removals always find a free slot.\n"+
		"- Or manage each full pool as one byok_pool. It swaps any number of keys at any parallelism.",
		DefaultParallelism, c.Creates+DefaultParallelism)
}

// Refused is the error at apply: the API refused a create because the pool was
// full, and no delete of this apply freed capacity in time. The provider builds
// it.
type Refused struct {
	Pool   byok.Pool
	Cap    int        // as the server says
	Expect int        // the cap that plans count up to
	Stored []byok.Key // the keys of the pool; nil if unknown
	// Waiting is how many creates waited for free capacity when nothing else
	// was in progress, and failed together. 0: the create timeout ran out.
	Waiting int
	// Repeated says that this apply has reported the pool before.
	Repeated bool
}

// Summary is the one-line title of the error.
func (r *Refused) Summary() string {
	return fmt.Sprintf("Pool %q is full, its cap is %d", clean(r.Pool.ProviderID), r.Cap)
}

// Detail is the body of the error.
func (r *Refused) Detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q already stores as many keys as it can for provider ID %q. The API refused to add another, and ",
		capitalized(r.Pool.Scope.Kind.String()), clean(r.Pool.Scope.ID), clean(r.Pool.ProviderID))
	switch {
	case r.Waiting > 1:
		fmt.Fprintf(&b, "nothing was in progress that could free capacity. %d creates were waiting, this one included: these %d keys were not added. "+
			"If this apply also deletes keys of full pools, these creates may have occupied all slots of -parallelism: run terraform apply again, and it adds the keys that are left. If it deletes none, there is no room for them.\n", r.Waiting, r.Waiting)
	case r.Waiting == 1:
		b.WriteString("nothing was in progress that could free capacity. The key was not added. If this apply deletes keys of the pool later, run terraform apply again.\n")
	default:
		b.WriteString("no delete of this apply freed capacity within the create timeout. The key was not added.\n")
	}
	if r.Repeated {
		b.WriteString("\nAnother error about this pool lists its keys and says what you can do.")
		return b.String()
	}
	if len(r.Stored) > 0 {
		b.WriteString("\nKeys in the pool now:\n\n")
		writeTable(&b, slices.SortedFunc(slices.Values(r.Stored), rotationOrder))
	}
	b.WriteString("\nWhat you can do:\n\n")
	if r.Cap != r.Expect {
		fmt.Fprintf(&b, "- The server's cap is %d, but plans count up to %d: set max_keys_per_provider = %d in the provider block.\n", r.Cap, r.Expect, r.Cap)
	}
	b.WriteString("- Plan again: the plan shows how many keys are too many, and which ones it does not manage.\n")
	b.WriteString("- If this resource replaces another one, remove create_before_destroy from it: a full pool cannot store both.\n")
	switch {
	case r.Waiting > 1:
		b.WriteString("- To swap the keys of full pools in one apply, use a -parallelism above the number of keys that it adds to them, or byok_pool.")
	case r.Waiting == 0:
		b.WriteString("- If other keys of this apply free capacity, run the apply again: creates that wait can occupy all slots of -parallelism, so that the deletes cannot start.\n")
		b.WriteString("- If deletes take longer than that, raise create in the timeouts block.")
	}
	return strings.TrimRight(b.String(), "\n")
}

// figure is one line of a sum.
type figure struct {
	sign string
	n    int
	text string
}

func writeFigures(b *strings.Builder, figures ...figure) {
	digits := 0
	for _, f := range figures {
		digits = max(digits, len(fmt.Sprint(f.n)))
	}
	b.WriteString("\n")
	for _, f := range figures {
		fmt.Fprintf(b, "  %s %*d  %s\n", f.sign, digits, f.n, f.text)
	}
}

// tableRows is the longest table: a pool, unless the cap was raised.
const tableRows = byok.Cap

// nameColumns is the widest name, for a table that fits a terminal.
const nameColumns = 28

func writeTable(b *strings.Builder, stored []byok.Key) {
	rows := [][]string{{"ID", "NAME", "MASKED KEY", "CREATED (UTC)"}}
	for _, key := range stored[:min(len(stored), tableRows)] {
		name := "-"
		if key.Name != nil && *key.Name != "" {
			name = shorten(clean(*key.Name), nameColumns)
		}
		rows = append(rows, []string{clean(key.ID), name, clean(key.MaskedKey), created(key)})
	}
	var widest [4]int
	for _, row := range rows {
		for i, cell := range row {
			widest[i] = max(widest[i], columns(cell))
		}
	}
	for _, row := range rows {
		line := " "
		for i, cell := range row {
			line += " " + cell
			if i < len(row)-1 {
				line += strings.Repeat(" ", widest[i]-columns(cell)+1)
			}
		}
		b.WriteString(line + "\n")
	}
	if more := len(stored) - tableRows; more > 0 {
		fmt.Fprintf(b, "  ... and %d more\n", more)
	}
}

func created(key byok.Key) string {
	at, err := time.Parse(time.RFC3339, key.CreatedAt)
	if err != nil {
		return clean(key.CreatedAt)
	}
	return at.UTC().Format("2006-01-02 15:04")
}

func keys(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// capitalized is word at the beginning of a sentence.
func capitalized(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// clean makes text from elsewhere safe for a terminal and for one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// shorten cuts s to a number of columns.
func shorten(s string, most int) string {
	if columns(s) <= most {
		return s
	}
	var cut strings.Builder
	left := most - 1
	for _, r := range s {
		if left -= runeColumns(r); left < 0 {
			break
		}
		cut.WriteRune(r)
	}
	return cut.String() + "…"
}

// columns is the width of s in a terminal.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if unicode.Is(unicode.Mn, r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
