package cap

import (
	"fmt"
	"testing"
)

// order is a case whose outcome depends on the order in which Terraform visits
// resources. It goes from its first configuration to its second and back,
// again and again.
type order struct {
	name        string
	parallelism []int
	ignoreHint  bool
	others      []string // names of other people's keys in the pool openai
	configs     [2]string
	taint       []string // addresses, before each run
	args        []string
	fails       []string // summaries; nil when the plan passes
	// applyAt is the parallelism of the apply where creates could take all of
	// fewer slots and leave none to the deletes that they wait for; 0 for that
	// of the plan.
	applyAt int
}

func (o order) named(parallelism int) string {
	name := fmt.Sprintf("%s, parallelism %d", o.name, parallelism)
	if o.ignoreHint {
		name += ", without the hint"
	}
	return name
}

// TestOrders runs each case -runs times; once, as in make test, in one of its
// parallelisms each.
func TestOrders(t *testing.T) {
	t.Parallel()
	both, ten := []int{10, 2}, keys("openai", span(1, 10)...)
	shared := keys("openai", span(1, 8)...)
	triggered := func(input int, names ...string) string {
		return fmt.Sprintf("resource \"terraform_data\" \"trigger\" {\n  input = %d\n}\n", input) +
			keysWith("openai", "openai", "lifecycle {\n    replace_triggered_by = [terraform_data.trigger]\n  }", names...)
	}
	orders := []order{
		{name: "swap of 1", parallelism: both, configs: [2]string{ten, keys("openai", span(2, 11)...)}},
		{name: "swap of 5", parallelism: both, applyAt: 10, configs: [2]string{blocks("openai", span(1, 10)...), blocks("openai", span(6, 15)...)}},
		{name: "swap of 10", parallelism: both, applyAt: 10, configs: [2]string{ten, keys("openai", span(11, 20)...)}},
		{name: "swap of 10 plus one more", parallelism: both, configs: [2]string{ten, keys("openai", span(11, 21)...)}, fails: []string{would("openai", 11)}},
		{
			name: "swap of 10 in two pools", parallelism: []int{10}, applyAt: 21,
			configs: [2]string{ten + keys("anthropic", span(1, 10)...), keys("openai", span(11, 20)...) + keys("anthropic", span(11, 20)...)},
		},
		{name: "swap of 3 beside 7 unmanaged", parallelism: []int{10}, others: span(21, 27), configs: [2]string{keys("openai", span(1, 3)...), keys("openai", span(4, 6)...)}},
		{name: "replace of 10 at the cap", parallelism: both, configs: [2]string{triggered(1, span(1, 10)...), triggered(2, span(1, 10)...)}},
		{name: "-replace of 2 at the cap", parallelism: both, configs: [2]string{ten, ten}, args: []string{`-replace=byok_key.openai["k03"]`, `-replace=byok_key.openai["k07"]`}},
		{name: "tainted at the cap", parallelism: both, configs: [2]string{ten, ten}, taint: []string{`byok_key.openai["k03"]`}},
		{
			name: "tainted plus one create", parallelism: []int{10}, configs: [2]string{ten, keys("openai", span(1, 11)...)},
			taint: []string{`byok_key.openai["k03"]`}, fails: []string{would("openai", 11)},
		},
		{
			name: "a key moving to a full pool with one removed there", parallelism: both,
			configs: [2]string{
				ten + block("anthropic", "mover", ""),
				keys("openai", span(1, 9)...) + block("openai", "mover", ""),
			},
		},
		{
			name: "mixed: swaps, replace and tainted in two full pools", parallelism: both, applyAt: 10,
			configs: [2]string{
				shared + blocks("openai", "a1", "a2") + keys("anthropic", span(1, 10)...),
				shared + blocks("openai", "b1", "b2") + keys("anthropic", span(4, 13)...),
			},
			taint: []string{`byok_key.openai["k03"]`}, args: []string{`-replace=byok_key.openai["k05"]`, `-replace=byok_key.anthropic["k05"]`},
		},
		{name: "swap of 1", parallelism: []int{10}, ignoreHint: true, configs: [2]string{ten, keys("openai", span(2, 11)...)}},
		{name: "swap of 10", parallelism: both, applyAt: 10, ignoreHint: true, configs: [2]string{ten, keys("openai", span(11, 20)...)}},
		{name: "tainted at the cap", parallelism: []int{10}, ignoreHint: true, configs: [2]string{ten, ten}, taint: []string{`byok_key.openai["k03"]`}},
	}
	for i, o := range orders {
		if *runs == 1 {
			o.parallelism = o.parallelism[i%len(o.parallelism):][:1]
		}
		for _, parallelism := range o.parallelism {
			t.Run(o.named(parallelism), func(t *testing.T) {
				t.Parallel()
				o.run(t, parallelism)
			})
		}
	}
}

// run goes to and fro between the two configurations, or plans the second one
// again and again where that fails. After a failure it begins anew.
func (o order) run(t *testing.T, parallelism int) {
	row := figure{name: o.named(parallelism)}
	defer func() {
		if row.runs > 0 {
			results.add(row)
		}
	}()
	args := append([]string{fmt.Sprintf("-parallelism=%d", parallelism)}, o.args...)
	var w *world
	at := 0
	for ; row.runs < *runs; row.runs++ {
		if w == nil {
			w, at = o.start(t), 0
		}
		at = 1 - at
		passed := t.Run(fmt.Sprint("run ", row.runs+1), func(t *testing.T) {
			args := args
			if o.fails != nil {
				w.fails(t, o.fails, args...)
				return
			}
			w.configure(t, o.configs[at])
			w.taint(t, o.taint)
			if o.applyAt > parallelism {
				if plan := w.Plan(t, append(args, "-out=plan.tfplan")...); plan.Exit != 2 {
					t.Fatalf("the plan ended with %d:\n%s", plan.Exit, plan.Output)
				}
				args = []string{fmt.Sprintf("-parallelism=%d", o.applyAt), "plan.tfplan"}
			}
			w.passes(t, args...)
		})
		if !passed {
			row.failures++
			w = nil
		}
	}
}

// start applies the first configuration, and leaves a case that fails ready to
// be planned.
func (o order) start(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if o.ignoreHint {
		w.setHint(t, false)
	}
	w.addOthers(t, "openai", o.others...)
	w.configure(t, o.configs[0])
	w.Apply(t)
	if o.fails != nil {
		w.configure(t, o.configs[1])
		w.taint(t, o.taint)
	}
	return w
}

func (w *world) taint(t *testing.T, addresses []string) {
	t.Helper()
	for _, address := range addresses {
		w.Must(t, "taint", address)
	}
}
