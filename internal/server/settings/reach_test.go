package settings_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// The page on every screen, for every sense and hand: colours, widths, keyboard
// and screen reader.

// The colours follow the system, also while the page is open.
func TestColours(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.open("/login")
	brightness := func(selector, property string) float64 {
		t.Helper()
		return eval[float64](b, fmt.Sprintf(`getComputedStyle(document.querySelector(%q))[%q].match(/[0-9.]+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0) / 765`, selector, property))
	}
	check := func() {
		t.Helper()
		b.dark(false)
		if back, text := brightness("body", "backgroundColor"), brightness("h1", "color"); back < .9 || text > .2 {
			t.Errorf("%s in light: text of %.2f on %.2f", b.path(), text, back)
		}
		b.dark(true)
		if back, text := brightness("body", "backgroundColor"), brightness("h1", "color"); back > .1 || text < .8 {
			t.Errorf("%s in dark: text of %.2f on %.2f", b.path(), text, back)
		}
	}
	check()
	b.session(w.SessionToken)
	b.open(w.page(""))
	check()
	b.click(add("openai"))
	if back := brightness("#edit", "backgroundColor"); back > .2 {
		t.Errorf("in dark the dialog has a background of %.2f", back)
	}
	if scheme := eval[string](b, `getComputedStyle(document.querySelector("#edit-key")).colorScheme`); scheme != "light dark" {
		t.Errorf("the browser draws fields in %q", scheme)
	}
}

// Nothing moves for those who asked their system for that.
func TestReducedMotion(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("tab=rotation"))
	w.Resolve(t, w.WorkspaceID, "openai")
	b.until("document.querySelector('.turn.pulse')")
	moving := `[[".turn.pulse .position", "animationName"], [".share i", "transitionDuration"], [".toast", "transitionDuration"]].map(([selector, property]) => getComputedStyle(document.querySelector(selector))[property]).join()`
	if got := eval[string](b, moving); got != "glow,0.3s,0.15s, 0.15s" {
		t.Errorf("what moves is %s", got)
	}
	b.media("prefers-reduced-motion", "reduce")
	if got := eval[string](b, moving); got != "none,0s,0s" {
		t.Errorf("with reduced motion it is %s", got)
	}
}

// A high-contrast theme replaces the colours, and what is chosen, held and
// served is seen all the same.
func TestForcedColours(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.fill(t)
	b := newTab(t, w.URL)
	b.media("forced-colors", "active")
	b.session(w.superuser.SessionToken)
	look := func(selector, property string) string {
		t.Helper()
		return eval[string](b, fmt.Sprintf(`getComputedStyle(document.querySelector(%q))[%q]`, selector, property))
	}
	// What is filled has another colour than the page.
	filled := func(selector string) {
		t.Helper()
		if got := look(selector, "backgroundColor"); got == look("body", "backgroundColor") {
			t.Errorf("%s: %s is %s, as the page", b.path(), selector, got)
		}
	}
	b.open(w.page(""))
	if !eval[bool](b, `matchMedia("(forced-colors: active)").matches`) {
		t.Fatal("the browser does not force colours")
	}
	canvas := look("body", "backgroundColor")
	if shown, other := look(".tabs a:nth-child(1)", "borderBottomColor"), look(".tabs a:nth-child(2)", "borderBottomColor"); shown == canvas || other != canvas {
		t.Errorf("on %s the tab that is shown is underlined in %s, the other in %s", canvas, shown, other)
	}
	filled(".switch [aria-current]")
	filled(".held .pips .on")
	if got := look(".held .pips i:not(.on)", "borderStyle"); got != "solid" {
		t.Errorf("a free place has a border that is %s", got)
	}
	b.click("#as-terraform")
	b.shows("#terraform-text", "import")
	filled("#terraform .switch label:has(:checked)")
	b.open(w.page("tab=rotation"))
	filled(".share i")
	if got := look(".share", "borderStyle"); got != "solid" {
		t.Errorf("a bar has a border that is %s", got)
	}
}

// From a phone to a wide screen nothing is cut, and every button can be reached.
func TestWidths(t *testing.T) {
	t.Parallel()
	const address = "somebody.with.a.long.name.of.her.own@mail.example.com"
	w := startWorld(t, func(c *server.Config) {
		c.Bootstrap.Users = append(c.Bootstrap.Users, server.BootstrapUser{Email: address, Password: "correct horse battery staple", Name: "Long"})
	})
	w.fill(t)
	stranger := w.User(t, address).SessionToken
	w.Add(t, w.WorkspaceID, "hunter", "hunter-0123456789", strings.Repeat("unbroken", 15))
	w.Call(t, w.superuser, http.MethodPost, "/api/copilot/byok", map[string]string{
		"workspaceId": strings.Repeat("unbroken", 15), "provider": "openai", "apiKey": "sk-0123456789abcdef",
	}, nil)
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	// What is wider than its box, and what text is cut off.
	cut := `[...document.querySelectorAll("main, main *, dialog[open], dialog[open] *, .bar, .bar *")].filter((e) => {
		if (!e.checkVisibility() || e.closest(".sr, .decoy, .skip, pre, svg") || e.clientWidth === 0 || e.localName === "input" || getComputedStyle(e).clipPath !== "none") return false;
		return e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1;
	}).map((e) => e.id || e.className || e.localName).join(", ")`
	// A number and its noun that stand on two lines.
	broken := `[...document.querySelectorAll(".count, .key-use b")].filter((e) => {
		const text = document.createRange();
		text.selectNodeContents(e);
		return e.checkVisibility() && new Set([...text.getClientRects()].map((r) => r.top)).size > 1;
	}).map((e) => e.innerText).join(", ")`
	// Names that do not begin where the masks below them do.
	outOfLine := `[...document.querySelectorAll("#manage[open] .key")].filter((e) => {
		const [name, mask] = [".key-name", ".mask"].map((s) => e.querySelector(s).getBoundingClientRect().left);
		return Math.abs(name - mask) > .5;
	}).map((e) => e.querySelector(".key-name").innerText).join(", ")`
	// Scrollbars that take space, and a bar that does not begin and end where the
	// page below it does.
	scrolled := `[...document.querySelectorAll(".tabs nav")].filter((e) => e.offsetWidth > e.clientWidth || e.scrollHeight > e.clientHeight).map((e) => e.innerText).join(", ")`
	aside := `(() => {
		const box = (s) => document.querySelector(s)?.getBoundingClientRect(), main = box("main"), logo = box(".bar .logo"), avatar = box(".bar .avatar");
		return logo && Math.max(Math.abs(logo.left - main.left - 16), Math.abs(main.right - 16 - avatar.right)) > .6 ? "the bar: " + [main.left + 16, logo.left, avatar.right, main.right - 16] : "";
	})()`
	// Numbers in a head that do not end where what is below them does.
	short := `[...document.querySelectorAll(".dialog[open] .dialog-head .held-state, .pool > header .held-state")].filter((e) => {
		const head = e.parentElement, end = head.getBoundingClientRect().right - parseFloat(getComputedStyle(head).paddingRight);
		return innerWidth > 640 && Math.abs(end - e.getBoundingClientRect().right) > .6;
	}).map((e) => e.innerText).join(", ")`
	// Parts of a line that cover each other.
	covered := `[...document.querySelectorAll(".row, .key, .key-line, .turn, .pool > header")].flatMap((line) => [...line.children].filter((e) => e.checkVisibility()).map((e) => [e, e.getBoundingClientRect()]).filter(([e, r], i, all) =>
		all.some(([, other], j) => j > i && Math.min(r.right, other.right) - Math.max(r.left, other.left) > 1 && Math.min(r.bottom, other.bottom) - Math.max(r.top, other.top) > 1)).map(([e]) => e.className + " " + e.innerText)).join(", ")`
	problems := "({"
	for what, expression := range map[string]string{"cuts": cut, "breaks": broken, "has out of line": outOfLine, "scrolls": scrolled, "puts aside": aside, "ends too early": short, "covers": covered} {
		problems += fmt.Sprintf("%q: %s,", what, expression)
	}
	problems += "})"
	// check looks at the page as it is now in each width. What is within reach
	// is scrolled to as a user would.
	check := func(withinReach ...string) {
		t.Helper()
		for _, width := range []int64{320, 380, 480, 481, 640, 641, 768, 1024, 1300, 2560} {
			b.size(width, 800)
			for what, which := range eval[map[string]string](b, problems) {
				if which != "" {
					t.Errorf("at %d pixels %s %s %s", width, b.path(), what, which)
				}
			}
			for _, selector := range withinReach {
				b.isSeen(selector)
			}
		}
		b.size(320, 800)
	}
	b.size(320, 800)
	b.session(stranger)
	b.open("/")
	b.shows("h1", "No workspace yet")
	check()
	b.open(w.page(""))
	b.shows("h1", "No access to this workspace")
	check()
	b.session(w.superuser.SessionToken)
	b.open(w.page(""))
	check()
	b.click(manage("hunter"))
	check("#manage-add")
	b.click(keyButton(3, "delete"))
	check("#delete-do")
	b.click("#delete [data-close]")
	b.click(keyButton(3, "update"))
	check("#edit-save")
	b.press(escape)
	b.click("#manage [data-close]")
	b.click("#as-terraform")
	b.shows("#terraform-text", "import")
	check("#terraform-copy")
	b.open(w.page("tab=rotation"))
	check()
	b.open(w.page("tab=mothership&workspace=" + w.WorkspaceID))
	b.shows("#target-hint", "Production")
	check()
	// An ID is whatever is typed.
	b.fill("#target", strings.Repeat("unbroken", 15))
	b.shows("#target-hint", "no workspace with this ID")
	b.click("[data-provider=openai] [data-do=update]")
	check()
	b.press(escape)
	b.click("[data-provider=openai] [data-do=delete]")
	check()
	b.open(w.page("scope=organization"))
	check()
}

// The page stays where it is when its scrollbar goes, and does not scroll behind a
// dialog.
func TestPageStaysInPlace(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.fill(t)
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	b.open(w.page(""))
	const left, scrolls = "document.querySelector('h1').getBoundingClientRect().left", "document.documentElement.scrollHeight > innerHeight"
	if !eval[bool](b, scrolls) {
		t.Fatal("the page does not scroll")
	}
	want := eval[float64](b, left)
	b.fill("#search", "no such provider")
	b.until("!(" + scrolls + ")")
	if got := eval[float64](b, left); got != want {
		t.Errorf("the page moves from %v to %v when a search leaves nothing", want, got)
	}
	b.click("#clear-search")
	b.click(manage("openai"))
	if got := eval[float64](b, left); got != want {
		t.Errorf("the page moves from %v to %v when a dialog opens", want, got)
	}
	if got := eval[string](b, "getComputedStyle(document.documentElement).overflowY"); got != "hidden" {
		t.Errorf("behind a dialog the page has overflow %s", got)
	}
	b.open(w.page("tab=mothership"))
	if got := eval[float64](b, left); got != want {
		t.Errorf("the page moves from %v to %v on the Mothership tab", want, got)
	}
}

// Where a dialog has little height, as when a page is enlarged, all of it can be
// scrolled to.
func TestLowWindows(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.fill(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	for _, size := range [][2]int64{{320, 256}, {568, 320}, {667, 375}} {
		b.size(size[0], size[1])
		b.open(w.page(""))
		b.click(manage("exa"))
		if got := eval[int](b, "document.querySelector('#manage-keys').clientHeight"); got < 120 {
			t.Errorf("at %d by %d pixels the list of keys has a height of %d", size[0], size[1], got)
		}
		for _, selector := range []string{"#manage-title", keyButton(1, "update"), keyButton(10, "delete"), "#manage-hint", "#manage-add", "#manage [data-close]"} {
			b.inSight(selector)
		}
		b.click(keyButton(10, "update"))
		b.fill("#edit-key", "exa-0123456789")
		for _, selector := range []string{"#edit-title", "#edit-key", "#edit-name", "#edit-save", "#edit [data-close]"} {
			b.inSight(selector)
		}
		b.click("#edit [data-close]")
		b.click(keyButton(2, "delete"))
		for _, selector := range []string{"#delete-title", "#delete-follows", "#delete-do", "#delete [data-close]"} {
			b.inSight(selector)
		}
		b.click("#delete [data-close]")
		b.click("#manage [data-close]")
		b.click("#as-terraform")
		b.shows("#terraform-text", "import")
		for _, selector := range []string{"#terraform-title", "#terraform label:last-of-type", "#terraform-copy", "#terraform [data-close]"} {
			b.inSight(selector)
		}
	}
}

// In a narrow window whose scrollbars are hidden, a dialog has its whole border: the
// page keeps the space of its scrollbar.
func TestNarrowWindow(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.fill(t)
	b := newTab(t, w.URL)
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 380, Height: 760, DeviceScaleFactor: 1})
	call(b, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true})
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("exa"))
	b.click(keyButton(1, "update"))
	if right := eval[[]float64](b, `[document.querySelector("main"), ...document.querySelectorAll("dialog[open]")].map((e) => e.getBoundingClientRect().right)`); len(right) != 3 || right[1] > right[0] || right[2] > right[0] {
		t.Errorf("the page ends at %v, dialogs at %v", right[0], right[1:])
	}
}

// The switch between a workspace's keys and its organization's does not move
// under the pointer: the title of the organization is longer.
func TestSwitchStaysInPlace(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(c *server.Config) { c.Bootstrap.Organizations[0].Name = "Acme Holdings International" })
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	for _, width := range []int64{768, 1024, 1300, 2560} {
		b.size(width, 800)
		place := func(query string) string {
			b.open(w.page(query))
			return eval[string](b, `(({left, top}) => left + ", " + top)(document.querySelector(".switch").getBoundingClientRect())`)
		}
		for _, tab := range []string{"", "&tab=rotation"} {
			if workspace, organization := place("scope=workspace"+tab), place("scope=organization"+tab); workspace != organization {
				t.Errorf("at %d pixels the switch moves from %s to %s (%s)", width, workspace, organization, b.path())
			}
		}
	}
}

// The whole life of a key without a mouse.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	typing := func(text string) { b.press(text) }
	b.open("/login")
	typing(w.Email)
	b.press(kb.Tab)
	typing(w.Password)
	b.press(kb.Enter)
	b.shows("h1", "Bring your own keys")
	b.until("'ready' in document.documentElement.dataset")

	b.tabTo("search")
	typing("openai")
	b.tabTo("Add Key, OpenAI")
	b.press(kb.Enter)
	b.until("document.activeElement.id === 'edit-key'")
	typing("sk-first-0123456789")
	b.tabTo("Show the API key")
	b.press(" ")
	b.until("document.querySelector('#edit-key').type === 'text' && document.activeElement.id === 'edit-key'")
	b.tabTo("edit-name")
	typing("first")
	b.tabTo("edit-save")
	b.press(" ")
	b.until("document.activeElement.ariaLabel === 'Manage, OpenAI'")
	b.press(kb.Enter)
	b.shows("#manage", "1 of 10")
	b.tabTo("manage-add")
	b.press(kb.Enter)
	b.until("document.activeElement.id === 'edit-key'")
	typing("sk-second-012345678")
	b.press(kb.Enter)
	b.shows("#manage", "2 of 10")
	b.until("document.activeElement === document.querySelector('#manage-keys .key:last-child')")

	b.tabTo("Update first, sk-fir...6789, key 1")
	b.press(kb.Enter)
	b.until("document.activeElement.id === 'edit-key'")
	typing("sk-third-0123456789")
	b.press(kb.Enter)
	b.shows("#manage-keys", "sk-thi...6789")
	b.tabTo("Delete first, sk-thi...6789, key 1")
	b.press(kb.Enter)
	b.shows("#delete-title", "Delete this OpenAI key?")
	if got := b.focused(); got != "Cancel" {
		t.Errorf("a delete begins at %s", got)
	}
	b.tabTo("delete-do")
	b.press(kb.Enter)
	b.shows("#manage", "1 of 10")
	b.until("document.activeElement === document.querySelector('#manage-keys .key')")
	b.press(escape)
	b.until("!document.querySelector('#manage').open")
	if got := w.List(t, w.WorkspaceID); len(got) != 1 || got[0].MaskedKey != "sk-sec...5678" {
		t.Errorf("stored are %+v", got)
	}

	// The configuration, the tabs and the menus.
	b.tabTo("as-terraform")
	b.press(kb.Enter)
	b.shows("#terraform-text", "byok_pool.openai")
	eval[any](b, "document.querySelector('#terraform input:checked').focus()")
	b.press(kb.ArrowRight)
	b.shows("#terraform-text", "byok_key.openai_")
	b.press(escape)
	b.tabTo("Rotation")
	b.press(kb.Enter)
	b.shows("#pools", "OpenAI")
	b.tabTo("Account of Owner\nO")
	b.press(kb.Enter)
	b.shows(".menu-user", "Sign out")
	b.press(escape)
	b.until("!document.querySelector('.menu-user').open")
	b.press(kb.Enter)
	b.tabTo("Sign out")
	b.press(kb.Enter)
	b.shows("h1", "Sign in")
}

// spoken is what a screen reader finds: role, name and description of
// everything with one of the roles, in the order of the page.
func (b *tab) spoken(roles ...string) []string {
	b.t.Helper()
	nodes := map[accessibility.NodeID]*accessibility.Node{}
	tree := call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	for _, node := range tree {
		nodes[node.NodeID] = node
	}
	text := func(v *accessibility.Value) string {
		if v == nil {
			return ""
		}
		return decode[string](b.t, string(v.Value))
	}
	var found []string
	var walk func(*accessibility.Node)
	walk = func(node *accessibility.Node) {
		if !node.Ignored && slices.Contains(roles, text(node.Role)) {
			found = append(found, strings.TrimSpace(text(node.Role)+" "+text(node.Name)+" "+text(node.Description)))
		}
		for _, id := range node.ChildIDs {
			if child := nodes[id]; child != nil {
				walk(child)
			}
		}
	}
	walk(tree[0])
	return found
}

// A screen reader is told what is shown, what a button is for, what follows and
// what went wrong.
func TestScreenReader(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one")
	w.Corrupt(t, w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdee", ""))
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("search=open"))
	if diff := cmp.Diff([]string{
		"heading Bring your own keys", "heading Models", "heading OpenAI", "heading Fireworks", "heading Together AI", "heading Ollama Cloud",
	}, b.spoken("heading")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"main", "navigation Views", "search"}, b.spoken("navigation", "main", "search")); diff != "" {
		t.Error(diff)
	}
	b.click(manage("openai"))
	if diff := cmp.Diff([]string{
		"dialog OpenAI keys", "list OpenAI keys", "button Update one, sk-012...cdef, key 1", "button Delete one, sk-012...cdef, key 1",
		"button Update Unnamed key, ••••••••, key 2", "button Delete Unnamed key, ••••••••, key 2", "button Close", "button Add Key",
	}, b.spoken("dialog", "list", "button")); diff != "" {
		t.Error(diff)
	}
	b.click(keyButton(1, "delete"))
	if got := b.spoken("alertdialog"); len(got) != 1 || !strings.HasPrefix(got[0], "alertdialog Delete this OpenAI key? one") || !strings.Contains(got[0], "No other OpenAI key can be decrypted") || !strings.Contains(got[0], "This cannot be undone.") {
		t.Errorf("a delete is announced as %q", got)
	}
	b.click("#delete [data-close]")
	b.click(keyButton(1, "update"))
	if diff := cmp.Diff([]string{
		"textbox API key Enter the key again, even if only the name changes. Its place in the rotation stays the same.", "textbox Name (optional)",
	}, b.spoken("textbox")); diff != "" {
		t.Error(diff)
	}
	b.fill("#edit-key", "sk-anything-01234")
	b.fill("#edit-name", strings.Repeat("n", 121))
	b.click("#edit-save")
	b.shows("#edit-problem", "Name must be 120 characters or fewer")
	if got := eval[string](b, `document.querySelector("#edit-name").ariaInvalid + document.querySelector("#edit-key").ariaInvalid + document.querySelector("#edit-problem").role`); got != "truenullalert" {
		t.Errorf("a refused name is announced as %s", got)
	}
	if got := b.spoken("textbox"); len(got) != 2 || !strings.Contains(got[1], "Name must be 120 characters or fewer") {
		t.Errorf("the refused field is read as %q", got)
	}
	b.fill("#edit-name", "renamed")
	b.click("#edit-save")
	b.shows("#manage #toast.shown", "OpenAI key updated")
	if got := b.spoken("status"); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "status") }) {
		t.Errorf("what was done is announced by %q", got)
	}
	if got := eval[string](b, `[...document.querySelectorAll("#toast, #offline, #terraform-hint, #summary")].map((e) => e.role).join()`); got != "status,status,status,status" {
		t.Errorf("messages have the roles %s", got)
	}
}
