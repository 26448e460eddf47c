package settings_test

import (
	_ "embed"
	"strings"
	"testing"
)

// axe is axe-core 4.14.1 from npm, under the Mozilla Public License; testdata/axe
// has its licences.
//
//go:embed testdata/axe/axe.min.js
var axe string

// checkAxe fails the test for everything that axe-core finds in the page as it
// is now.
func checkAxe(b *tab) {
	b.t.Helper()
	// Animations end first: half-transparent text has too little contrast.
	b.until("document.getAnimations().every((a) => a.playState === 'finished')")
	// Without "; null" the evaluation would return all of axe.
	eval[any](b, axe+"; null")
	found := eval[[]string](b, `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap((v) =>
		v.nodes.map((n) => v.id + ": " + v.help + "\n  " + n.html + "\n  " + n.failureSummary)))`)
	if len(found) > 0 {
		b.t.Errorf("axe finds in %s:\n%s", b.path(), strings.Join(found, "\n"))
	}
}

// TestAxe looks at every state of the page, in light colours on a desk and in
// dark ones on a narrow phone.
func TestAxe(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]struct {
		dark  bool
		width int64
	}{"light": {false, 1300}, "dark, 320 pixels": {true, 320}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			w.fill(t)
			b := newTab(t, w.URL)
			b.size(look.width, 900)
			b.dark(look.dark)
			check := func() {
				t.Helper()
				checkAxe(b)
				if over := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
					t.Errorf("%s is %d pixels wider than the window", b.path(), over)
				}
				if over := eval[int](b, "(({ scrollWidth, clientWidth } = { scrollWidth: 0, clientWidth: 0 }) => scrollWidth - clientWidth)(document.querySelector('.tabs nav') ?? undefined)"); over > 0 {
					t.Errorf("the tabs of %s are cut by %d pixels", b.path(), over)
				}
			}
			b.open("/login")
			b.fill("#email", w.Email)
			b.fill("#password", "wrong password")
			b.click("button[type=submit]")
			b.shows("#problem", "wrong")
			check()
			b.session(w.superuser.SessionToken)
			b.open(w.page(""))
			check()
			b.click(".menu-user summary")
			check()
			b.press(escape)
			b.click(manage("openai"))
			check()
			b.click(keyButton(2, "update"))
			b.fill("#edit-key", "sk-anything")
			b.fill("#edit-name", strings.Repeat("n", 121))
			b.click("#edit-save")
			b.shows("#edit-problem", "120 characters")
			check()
			b.click("#edit [data-close]")
			b.click(keyButton(2, "delete"))
			check()
			b.click("#delete [data-close]")
			b.click("#manage [data-close]")
			b.click("#as-terraform")
			b.shows("#terraform-text", "import")
			check()
			b.open(w.page("search=no+such+provider"))
			check()
			b.open(w.page("tab=rotation"))
			check()
			b.open(w.page("scope=organization"))
			check()
			b.open(w.page("tab=mothership&workspace=" + w.WorkspaceID))
			b.until("document.querySelector('#mothership').checkVisibility()")
			check()
			b.session(w.reader.SessionToken)
			b.open(w.page(""))
			b.click(manage("openai"))
			check()
			w.Exec(t, "ALTER TABLE organization_byok_keys RENAME TO hidden_byok_keys")
			b.open(w.page(""))
			b.shows("#coverage", "Could not find out")
			check()
		})
	}
}
