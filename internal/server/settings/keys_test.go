package settings_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// The sections hold these providers in this order.
func TestSections(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abcdef", "")
	w.Add(t, w.WorkspaceID, "xai", "xai-0123456789abcdef", "")
	w.Add(t, w.WorkspaceID, "xai", "xai-0123456789abcdee", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	if got := b.text("h1 + p"); got == "" {
		t.Error("no line says what the page is for")
	}
	got := eval[[][]string](b, `[...document.querySelectorAll(".group")].map((g) =>
		[g.querySelector("h2").innerText, ...[...g.querySelectorAll(".row")].map((r) => r.dataset.provider)])`)
	want := [][]string{
		strings.Split("Models,openai,anthropic,google,mistral,zai,cohere,xai,kimi,fireworks,together,baseten,ollama-cloud,falai", ","),
		strings.Split("Search & web,firecrawl,exa,context_dev,serper,linkup,parallel_ai,perplexity,jina,google_cloud", ","),
		strings.Split("Enrichment,brandfetch,hunter,peopledatalabs,findymail,prospeo,wiza,datagma,dropcontact,leadmagic,icypeas,enrow,zerobounce,neverbounce,millionverifier", ","),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if incomplete := eval[[]string](b, `[...document.querySelectorAll(".row")].filter((r) => ![".mark", "h3", ".what p"].every((s) => r.querySelector(s).innerText.trim())).map((r) => r.dataset.provider)`); len(incomplete) > 0 {
		t.Errorf("without mark, name or use: %v", incomplete)
	}
	right := func(id string) string {
		return eval[string](b, fmt.Sprintf(`[...document.querySelectorAll("[data-provider=%s] :is(.count, button, .badge)")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join(" | ")`, id))
	}
	for id, want := range map[string]string{"openai": "Add Key", "exa": "1 key | Manage", "xai": "2 keys | Manage"} {
		if got := right(id); got != want {
			t.Errorf("%s has %q on the right, want %q", id, got, want)
		}
	}
	b.session(w.reader.SessionToken)
	b.open(w.page(""))
	for id, want := range map[string]string{"openai": "", "exa": "1 key | View", "xai": "2 keys | View"} {
		if got := right(id); got != want {
			t.Errorf("for a reader %s has %q on the right, want %q", id, got, want)
		}
	}
}

// Keys of provider IDs that no section has, as a newer Sim may have stored, are
// shown. The API refuses to change them.
func TestUnlistedProviders(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	if b.visible("[data-group=other]") {
		t.Error("there is a section of other providers without any")
	}
	for i, id := range []string{"later_one", "another"} {
		w.Add(t, w.WorkspaceID, "xai", fmt.Sprintf("xai-0123456789abcde%d", i), "moved")
		w.Exec(t, "UPDATE workspace_byok_keys SET provider_id = $1 WHERE provider_id = 'xai'", id)
	}
	b.open(w.page(""))
	rows := eval[[]string](b, `[...document.querySelectorAll("[data-group=other] .row")].map((r) => r.innerText.replace(/\s+/g, " "))`)
	want := []string{"A another Not a provider ID of this server 1 key View", "L later_one Not a provider ID of this server 1 key View"}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	b.shows("#summary", "3 keys · 3 providers")
	b.click(manage("later_one"))
	b.shows("#manage", "This server does not have this provider ID: its keys can be looked at, but not changed.")
	b.shows("#manage-keys", "moved")
	buttons := `[...document.querySelectorAll("#manage button")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join()`
	if got := eval[string](b, buttons); got != "Close" {
		t.Errorf("the dialog has the buttons %s", got)
	}
	checkAxe(b)
	b.click("#manage [data-close]")
	b.click(manage("exa"))
	if got := eval[string](b, buttons); got != "Update,Delete,Close,Add Key" {
		t.Errorf("the next dialog has the buttons %s", got)
	}
	b.open(w.page("tab=rotation"))
	b.shows("#pools", "later_one")
}

// The search matches names and descriptions without case, and stands in the
// URL.
func TestSearch(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	hits := func() string {
		t.Helper()
		return eval[string](b, `[...document.querySelectorAll(".row")].filter((r) => r.checkVisibility()).map((r) => r.dataset.provider).join(" ")`)
	}
	b.open(w.page(""))
	for text, want := range map[string]string{
		"JINA": "jina", "  claude ": "anthropic", "phone": "prospeo", "google": "google serper google_cloud", "Kimi": "kimi", "<b>": "",
	} {
		b.fill("#search", text)
		if got := hits(); got != want {
			t.Errorf("%q finds %q, want %q", text, got, want)
		}
		if got := eval[string](b, "new URLSearchParams(location.search).get('search')"); got != text {
			t.Errorf("%q is %q in the URL", text, got)
		}
		summary := fmt.Sprintf("%d of 36 providers", len(strings.Fields(want)))
		b.shows("#summary", summary)
		// The page comes back from the server with the same rows, before any script.
		html := eval[string](b, "fetch(location).then((r) => r.text())")
		if !strings.Contains(html, ">"+summary+"<") {
			t.Errorf("%q: the server does not say %q", text, summary)
		}
		if got := strings.Count(html, "data-provider=") - strings.Count(html, "\" hidden>\n      <span class=\"mark\""); got != len(strings.Fields(want)) {
			t.Errorf("%q: the server shows %d rows, want %q", text, got, want)
		}
	}
	if titles := eval[int](b, `[...document.querySelectorAll(".group")].filter((g) => g.checkVisibility() && ![...g.querySelectorAll(".row")].some((r) => r.checkVisibility())).length`); titles != 0 {
		t.Errorf("%d sections are shown without a row", titles)
	}
	// It is kept on the way to another tab and back.
	b.fill("#search", "jina & more")
	b.click(".tabs a:nth-child(2)")
	b.shows("#no-pools", "Nothing to rotate yet")
	b.click(".tabs a:first-child")
	b.shows("#no-hits", "No provider matches “jina & more”")
	b.until("'ready' in document.documentElement.dataset")
	b.fill("#search", "no such <b>provider</b>")
	b.shows("#no-hits", "No provider matches “no such <b>provider</b>”")
	b.open(b.path())
	b.shows("#no-hits", "No provider matches “no such <b>provider</b>”")
	b.click("#clear-search")
	if got := strings.Fields(hits()); len(got) != 36 || b.path() != w.page("") || b.visible("#no-hits") {
		t.Errorf("a cleared search shows %d rows at %s", len(got), b.path())
	}
}

// The life of keys, from the first to the last.
func TestManage(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	names := func() string {
		t.Helper()
		return eval[string](b, `[...document.querySelectorAll("#manage-keys .key")].map((k) => k.querySelector(".key-name").innerText + " " + k.querySelector(".mask").innerText).join(", ")`)
	}
	saved := func() string {
		t.Helper()
		var all []string
		for _, key := range w.List(t, w.WorkspaceID) {
			name := "null"
			if key.Name != nil {
				name = *key.Name
			}
			all = append(all, name+" "+key.MaskedKey)
		}
		return strings.Join(all, ", ")
	}

	// The first one, from the list.
	b.click(add("openai"))
	if got := b.focused(); got != "edit-key" {
		t.Errorf("the dialog begins at %s", got)
	}
	if got := eval[string](b, `(({ type, placeholder, required, autocomplete }) => [type, placeholder, required, autocomplete].join())(document.querySelector("#edit-key"))`); got != "password,sk-...,true,off" {
		t.Errorf("the field of the API key is %s", got)
	}
	if !eval[bool](b, `["#edit-key", "#edit-name"].every((s) => ["data-1p-ignore", "data-lpignore", "data-bwignore", "data-form-type"].every((a) => document.querySelector(s).hasAttribute(a)) && document.querySelector(s).autocomplete === "off")
		&& document.querySelector("#edit-form").autocomplete === "off"
		&& [...document.querySelectorAll("#edit-form input")].map((i) => i.autocomplete).join() === "username,current-password,off,off"`) {
		t.Error("password managers are not kept off")
	}
	if got := b.text("label[for=edit-name]"); got != "Name (optional)" || eval[bool](b, "document.querySelector('#edit-name').required") {
		t.Errorf("the name is asked for as %q", got)
	}
	isDisabled := func(selector string) bool {
		return eval[bool](b, "document.querySelector('"+selector+"').disabled")
	}
	if !isDisabled("#edit-save") {
		t.Error("Save is enabled without a key")
	}
	b.fill("#edit-key", "   ")
	if !isDisabled("#edit-save") {
		t.Error("Save is enabled for a blank key")
	}
	b.fill("#edit-key", "  sk-first-0123456789  ")
	b.click("#edit-eye")
	if got := eval[string](b, "document.querySelector('#edit-key').type + document.querySelector('#edit-eye').ariaLabel + document.querySelector('#edit-eye').ariaPressed"); got != "textShow the API keytrue" {
		t.Errorf("with the eye open the field is %s", got)
	}
	b.click("#edit-eye")
	b.fill("#edit-name", "  first  ")
	b.click("#edit-save")
	b.shows("[data-provider=openai] .count", "1 key")
	b.shows("#toast", "OpenAI key added")
	b.until("!document.querySelector('#edit').open")
	if got, want := saved(), "first sk-fir...6789"; got != want {
		t.Errorf("stored is %q, want %q: both fields are trimmed", got, want)
	}
	if got := eval[string](b, "document.querySelector('#edit-key').value + document.querySelector('#edit-name').value + document.querySelector('#edit-key').type"); got != "password" {
		t.Errorf("after a save the fields hold %q", got)
	}
	if got := b.focused(); got != "Manage, OpenAI" {
		t.Errorf("after the first key the focus is at %s", got)
	}

	// More of them, from the dialog, up to the cap.
	b.click(manage("openai"))
	b.shows("#manage-lead", "All requests use this key. More keys would take turns.")
	for i := 2; i <= 10; i++ {
		b.click("#manage-add")
		if b.visible("#toast.shown") {
			t.Error("the message on the last change covers the next dialog")
		}
		b.fill("#edit-key", fmt.Sprintf("sk-number-%02d-012345", i))
		b.press(kb.Enter)
		b.shows("#manage .count", fmt.Sprintf("%d of 10", i))
		b.until("!document.querySelector('#edit').open")
		b.shows("#manage #toast.shown", "OpenAI key added") // where a screen reader hears it
	}
	b.shows("#manage-lead", "Requests use these keys in turn, in this order.")
	if !isDisabled("#manage-add") {
		t.Error("an eleventh key can be added")
	}
	b.shows("#manage-hint", "A provider can have at most 10 keys. Delete one to add another.")
	if eval[bool](b, `!document.querySelector("#manage-add").closest("footer")`) {
		t.Error("Add Key does not stand in the footer")
	}
	if got := eval[int](b, `[...document.querySelectorAll("#manage-keys .key")].filter((k) => [...k.querySelectorAll("button")].map((e) => e.innerText).join() === "Update,Delete").length`); got != 10 {
		t.Errorf("%d of 10 keys have Update and Delete", got)
	}
	if got, want := names(), strings.ReplaceAll(saved(), "null", "Unnamed key"); got != want {
		t.Errorf("shown are %s\nstored are %s", got, want)
	}
	if face := eval[string](b, `getComputedStyle(document.querySelector("#manage-keys .mask")).fontFamily`); !strings.Contains(face, "monospace") {
		t.Errorf("masks are set in %s", face)
	}
	if order := eval[bool](b, `(() => { const r = (s) => document.querySelector("#manage-keys .key " + s).getBoundingClientRect(); return r(".key-name").bottom <= r(".mask").top + 1 })()`); !order {
		t.Error("the name does not stand above the mask")
	}
	b.shows("#manage-keys .key:first-child .key-made", "by Owner")

	// Update: the present name, an empty key; renamed and replaced.
	b.click(keyButton(1, "update"))
	if got := eval[string](b, "document.querySelector('#edit-key').value + '|' + document.querySelector('#edit-name').value"); got != "|first" {
		t.Errorf("an update begins with %q", got)
	}
	b.shows("#edit-lead", "sk-fir...6789")
	b.fill("#edit-name", "renamed")
	b.shows("#edit-key-hint", "Enter the key again, even if only the name changes.")
	if !isDisabled("#edit-save") {
		t.Error("a name is saved without the key")
	}
	b.fill("#edit-key", "sk-second-abcdefgh")
	b.click("#edit-save")
	b.until("!document.querySelector('#edit').open")
	b.shows("#manage-keys .key:first-child", "renamed")
	b.shows("#manage-keys .key:first-child .mask", "sk-sec...efgh")
	b.shows("#manage-keys .key:first-child .key-made", "replaced")
	b.click(keyButton(1, "update"))
	b.fill("#edit-key", "sk-second-abcdefgh")
	b.fill("#edit-name", "")
	b.click("#edit-save")
	b.shows("#manage-keys .key:first-child .key-name", "Unnamed key")

	// Delete down to none.
	b.click(keyButton(10, "delete"))
	b.shows("#delete-title", "OpenAI")
	b.shows("#delete-text", "The other 9 OpenAI keys stay in use. This cannot be undone.")
	b.click("#delete [data-close]")
	b.shows("#manage .count", "10 of 10")
	for left := 9; left >= 1; left-- {
		b.click(keyButton(1, "delete"))
		b.click("#delete-do")
		b.shows("#manage .count", fmt.Sprintf("%d of 10", left))
		b.until("!document.querySelector('#delete').open")
		if left == 1 {
			break
		}
		if isDisabled("#manage-add") {
			t.Fatal("below the cap no key can be added")
		}
	}
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "This is the last OpenAI key. This workspace falls back to hosted keys.")
	b.click("#delete-do")
	b.until("!document.querySelector('#manage').open")
	b.until("document.querySelector('" + add("openai") + "').checkVisibility()")
	b.shows("body > #toast.shown", "OpenAI key deleted")
	if got := b.focused(); got != "Add Key, OpenAI" {
		t.Errorf("after the last key the focus is at %s", got)
	}
	if got := saved(); got != "" {
		t.Errorf("stored are %s", got)
	}
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	for id, want := range map[string]string{
		"openai": "sk-...", "kimi": "sk-...", "anthropic": "sk-ant-...", "xai": "xai-...", "perplexity": "pplx-...", "jina": "jina_...", "enrow": "Paste the API key",
	} {
		b.click(add(id))
		if got := eval[string](b, "document.querySelector('#edit-key').placeholder"); got != want {
			t.Errorf("the placeholder of %s is %q, want %q", id, got, want)
		}
		b.press(escape)
	}
}

// When a key was added and replaced, and by whom, stands in the dialogs.
func TestTimes(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	for i, id := range []string{w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one"), w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdee", "two")} {
		w.Exec(t, "UPDATE workspace_byok_keys SET created_at = $2, updated_at = $3 WHERE id = $1", id,
			fmt.Sprintf("2026-01-0%d 03:04:05.678000", 2+i), []string{"2026-01-02 03:04:05.678000", "2026-02-03 04:05:06.789000"}[i])
	}
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("openai"))
	for i, want := range []string{
		"Added 2 Jan 2026 by Colleague | 2026-01-02T03:04:05.678Z 2 Jan 2026, 03:04:05",
		"Added 3 Jan 2026 by Colleague, replaced 3 Feb 2026 | 2026-01-03T03:04:05.678Z 3 Jan 2026, 03:04:05 | 2026-02-03T04:05:06.789Z 3 Feb 2026, 04:05:06",
	} {
		got := eval[string](b, fmt.Sprintf(`(({ innerText, children }) => [innerText, ...[...children].filter((e) => e.tagName === "TIME").map((e) => e.dateTime + " " + e.title)].join(" | "))(document.querySelector("#manage-keys .key:nth-child(%d) .key-made"))`, i+1))
		if got != want {
			t.Errorf("key %d shows %s\nwant %s", i+1, got, want)
		}
	}
	b.click(keyButton(2, "update"))
	b.shows("#edit-lead", "two sk-012...cdee. Key 2 of 2, added 3 Jan 2026, replaced 3 Feb 2026")
	b.click("#edit [data-close]")
	b.click(keyButton(2, "delete"))
	b.shows("#delete-which", "Key 2 of 2, added 3 Jan 2026, replaced 3 Feb 2026")
}

// What is known is shown at once: the list before any script, and a provider's
// keys without asking the server again.
func TestNothingToWaitFor(t *testing.T) {
	t.Parallel()
	var f faults
	w := startWorld(t, f.option())
	w.fill(t)
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	run(b, chromedp.NavigateResponse(w.URL+w.page("search=a")))
	rows := `[...document.querySelectorAll(".row")].filter((r) => r.checkVisibility()).map((r) => r.innerText.replace(/\s+/g, " ") + r.querySelectorAll(".pips .on").length).join("\n") + document.querySelector("#summary").innerText`
	if eval[bool](b, "'ready' in document.documentElement.dataset") {
		t.Fatal("the modules run")
	}
	b.shows("noscript", "This page needs JavaScript.")
	before := eval[string](b, rows)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})

	// From here on the server responds to nothing but the page and its files.
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/settings/byok") || strings.HasPrefix(r.URL.Path, "/assets/") {
			return false
		}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	b.open(w.page("search=a"))
	if diff := cmp.Diff(before, eval[string](b, rows)); diff != "" {
		t.Errorf("the modules change the list:\n%s", diff)
	}
	for _, want := range []string{"Anthropic Claude models 3 keys Manage3", "Mistral Mistral models and document parsing From organization Add Key0"} {
		if !strings.Contains(before, want) {
			t.Errorf("the list lacks %q:\n%s", want, before)
		}
	}
	b.click(manage("anthropic"))
	b.shows("#manage", "3 of 10")
	b.shows("#manage-keys .key:nth-child(2)", "production-us")
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "The other 2 Anthropic keys stay in use.")
	b.click("#delete [data-close]")
	b.open(w.page("tab=rotation"))
	b.shows("#pools", "47 requests served")
	if got := eval[string](b, `[...document.querySelectorAll("progress, [role=progressbar], [aria-busy], .spinner")].map((e) => e.outerHTML).join()`); got != "" {
		t.Errorf("the page waits: %s", got)
	}
}

// Whoever may not change keys finds no way to, and everything else.
func TestReader(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.fill(t)
	for name, user := range map[string]acctest.User{"reader": w.reader, "writer": w.writer} {
		b := newTab(t, w.URL)
		b.session(user.SessionToken)
		b.open(w.page(""))
		b.click(manage("exa"))
		b.shows("#manage", "10 of 10")
		b.shows("#manage-hint", "Only workspace admins can change these keys.")
		if got := eval[string](b, `[...document.querySelectorAll("#manage button")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join()`); got != "Close" {
			t.Errorf("the dialog of a %s has the buttons %s", name, got)
		}
		if got := eval[int](b, `[...document.querySelectorAll("[data-do=add]")].filter((e) => e.checkVisibility()).length`); got != 0 {
			t.Errorf("a %s can add %d keys", name, got)
		}
		b.click("#manage [data-close]")
		// Neither do the buttons show before the scripts run.
		html := eval[string](b, "fetch(location.href).then((r) => r.text())")
		buttons := regexp.MustCompile(`<button[^>]* data-do="add"[^>]*>`).FindAllString(html, -1)
		if len(buttons) == 0 || slices.ContainsFunc(buttons, func(button string) bool { return !strings.Contains(button, " hidden") }) {
			t.Errorf("the HTML for a %s has the buttons %q", name, buttons)
		}
		b.open(w.page("tab=rotation"))
		b.shows("#pools", "OpenAI")
	}
	// Without keys they are told who adds them.
	empty := w.NewWorkspace(t)
	path := "/workspace/" + empty + "/settings/byok"
	b := newTab(t, w.URL)
	b.session(w.NewUser(t, "read", empty).SessionToken)
	b.open(path)
	b.shows("#summary", "No keys yet. Workspace admins can add them.")
	b.fill("#search", "a")
	b.shows("#summary", "of 36 providers")
	b.fill("#search", "")
	b.shows("#summary", "No keys yet. Workspace admins can add them.")
	b.click("#as-terraform")
	b.shows("#terraform-hint", "There is nothing to import yet: no key is stored.")
	b.open(path + "?tab=rotation")
	b.shows("#no-pools", "Workspace admins can add them.")
}

// What the API refuses stands in the dialog, which keeps what was typed.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var f faults
	w := startWorld(t, f.option())
	id := w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "kept")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("openai"))

	b.click("#manage-add")
	b.fill("#edit-key", "sk-typed-0123456")
	b.fill("#edit-name", strings.Repeat("n", 121))
	b.click("#edit-save")
	b.shows("#edit-problem", "Name must be 120 characters or fewer.")
	if got := b.focused(); got != "edit-name" {
		t.Errorf("a refused name moves the focus to %s", got)
	}
	typed := func(want string) {
		t.Helper()
		if got := eval[string](b, "document.querySelector('#edit-key').value"); got != want || !eval[bool](b, "document.querySelector('#edit').open") {
			t.Errorf("after a refusal the field holds %q, want %q", got, want)
		}
	}
	typed("sk-typed-0123456")

	// While saving nothing can be saved twice, nor the dialog be closed.
	b.fill("#edit-name", "short")
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	f.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		reached <- struct{}{}
		<-release
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("X-Request-Id", "1a2b3c4d")
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = rw.Write([]byte(`{"error":"Another change to these keys took too long"}`))
		return true
	})
	b.click("#edit-save")
	<-reached
	state := eval[string](b, `[...document.querySelectorAll("#edit .dialog-foot button")].map((e) => e.innerText + " " + e.ariaDisabled).join(", ") + ", " + document.querySelector("#edit-name").readOnly`)
	if state != "Cancel true, Saving… true, true" {
		t.Errorf("while saving the dialog is %s", state)
	}
	// What was typed can be hidden all the same.
	for _, want := range []string{"text", "password"} {
		b.click("#edit-eye")
		if got := eval[string](b, `document.querySelector("#edit-key").type + " " + document.querySelector("#edit-eye").ariaDisabled`); got != want+" null" {
			t.Errorf("after a click on the eye the field is %q", got)
		}
	}
	b.click("#edit [data-close]")
	b.press("\r") // the button has the focus
	// Chromium closes a dialog at the second Escape, whatever the page says.
	for range 3 {
		b.press(escape)
	}
	b.isSeen("#edit")
	typed("sk-typed-0123456")
	once.Do(func() { close(release) })
	b.shows("#edit-problem", "Another change to these keys took too long (status 500, request 1a2b3c4d).")
	typed("sk-typed-0123456")

	// The connection is cut: nobody knows what was stored.
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	b.click("#edit-save")
	b.shows("#edit-problem", "may have made the change or not")
	typed("sk-typed-0123456")
	b.click("#edit [data-close]")
	b.until("!document.querySelector('#edit').open")
	if got := eval[string](b, "document.querySelector('#edit-key').value"); got != "" {
		t.Errorf("a closed dialog keeps %q", got)
	}

	// The same for a delete.
	b.click(keyButton(1, "delete"))
	b.click("#delete-do")
	b.shows("#delete-problem", "may have made the change or not")
	reached, release = make(chan struct{}), make(chan struct{})
	f.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		reached <- struct{}{}
		<-release
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`{"error":"Only workspace admins can manage BYOK keys"}`))
		return true
	})
	b.click("#delete-do")
	<-reached
	if got := b.focused(); got != "delete-do" {
		t.Errorf("while deleting the focus is on %s", got)
	}
	b.press("\r")
	for range 3 {
		b.press(escape)
	}
	b.isSeen("#delete")
	// What closes a dialog all the same does not lose it.
	eval[any](b, "document.querySelector('#delete').close()")
	b.isSeen("#delete")
	close(release)
	b.shows("#delete-problem", "Only workspace admins can manage BYOK keys.")
	b.click("#delete [data-close]")
	f.set(func(http.ResponseWriter, *http.Request) bool { return false })

	// The session ends while the user types.
	b.click(keyButton(1, "update"))
	b.fill("#edit-key", "sk-typed-again-1")
	w.EndSessions(t, w.Email)
	b.clearCache()
	b.click("#edit-save")
	b.shows("#edit-problem", "You are signed out. Sign in, then try again here. Sign in (new tab)")
	if got := eval[string](b, "(({ target, rel, pathname, search }) => [target, rel, pathname + search].join(' '))(document.querySelector('#edit-problem a'))"); got != "_blank noopener /login?next="+url.QueryEscape(w.page("")) {
		t.Errorf("the link to sign in is %s", got)
	}
	typed("sk-typed-again-1")
	b.click("#edit [data-close]")
	b.click(keyButton(1, "delete"))
	b.click("#delete-do")
	b.shows("#delete-problem", "You are signed out. Sign in, then try again here. Sign in (new tab)")
	if got := w.List(t, w.WorkspaceID); len(got) != 1 || got[0].ID != id || got[0].MaskedKey != "sk-012...cdef" {
		t.Errorf("stored are %+v", got)
	}
}

// A dialog that is opened again before the browser has told of its closing
// keeps what is typed.
func TestReopenedDialog(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("openai"))
	b.click("#manage-add")
	for _, closing := range []string{"document.querySelector('#edit [data-close]').click()", "edit.dispatchEvent(new Event('cancel', { cancelable: true }))"} {
		got := eval[string](b, `(async () => {
			const edit = document.querySelector("#edit"), field = document.querySelector("#edit-key");
			field.value = "sk-abandoned-0123";
			const closed = new Promise((done) => edit.addEventListener("close", done, { once: true }));
			`+closing+`;
			if (edit.open || field.value) return "open, with " + field.value;
			document.querySelector("#manage-add").click();
			field.value = "sk-typed-01234567";
			await closed;
			return field.value;
		})()`)
		if want := "sk-typed-01234567"; got != want {
			t.Errorf("after %s the field holds %q, want %q", closing, got, want)
		}
	}
}

// The focus stays in sight where the button that opened a dialog is gone.
func TestFocusWithoutItsButton(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	for i := range 9 {
		w.Add(t, w.WorkspaceID, "exa", fmt.Sprintf("exa-0123456789ab%d", i), "")
	}
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("exa"))
	b.click("#manage-add")
	b.shows("#edit-lead", "It is added at the end of the rotation.")
	w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abc", "")
	b.shows("#edit-lead", "A provider can have at most 10 keys. Delete one to add another.")
	b.press(escape)
	b.until("document.activeElement === document.querySelector('#manage [data-close]')")
}

// Two tabs show the same keys, and what one deletes the other is told.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one")
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdee", "two")
	one := newTab(t, w.URL)
	one.session(w.SessionToken)
	one.open(w.page(""))
	two := one.secondTab()
	two.open(w.page(""))

	two.click(manage("openai"))
	two.click(keyButton(1, "update"))
	two.fill("#edit-key", "sk-typed-in-two")
	one.click(manage("openai"))
	one.click(keyButton(1, "delete"))
	one.click("#delete-do")
	one.shows("#manage .count", "1 of 10")

	two.shows("#manage .count", "1 of 10")
	two.click("#edit-save")
	two.shows("#edit-problem", "it was deleted elsewhere")
	if got := eval[string](two, "document.querySelector('#edit-key').value"); got != "sk-typed-in-two" {
		t.Errorf("the other tab's field holds %q", got)
	}
	two.click("#edit [data-close]")
	two.click("#manage-add")
	two.fill("#edit-key", "sk-added-in-two-3")
	two.click("#edit-save")
	one.shows("#manage .count", "2 of 10")
	one.shows("#manage-keys", "sk-add...wo-3")
	// Another user's, by the API.
	w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abc", "")
	one.shows("[data-provider=exa] .count", "1 key")
	two.shows("[data-provider=exa] .count", "1 key")
}

// Names are text, whatever they look like.
func TestEscaping(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Exec(t, "UPDATE workspace SET name = $1", `</script><img src=x onerror=alert(1)> "W" & 'S'`)
	names := []string{
		`<script>window.hacked = true</script>`, `"><img src=x onerror="window.hacked = true">`, "\u202Egnp.exe\u202C", "</script><script>window.hacked=true</script>",
		"{{.Data}} ${window.hacked = true}", "a\u2028b &amp; 'c'",
	}
	for _, name := range names {
		w.Add(t, w.WorkspaceID, "openai", "sk-<b>bold</b>-0123456789", name)
	}
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("openai"))
	if diff := cmp.Diff(names, eval[[]string](b, `[...document.querySelectorAll("#manage-keys .key-name")].map((e) => e.textContent)`)); diff != "" {
		t.Error(diff)
	}
	// Marks that turn the direction stay within the name.
	if got := eval[bool](b, `[...document.querySelectorAll("#manage-keys .key-name")].every((e) => getComputedStyle(e).unicodeBidi === "isolate")`); !got {
		t.Error("names are not isolated")
	}
	b.click(keyButton(1, "delete"))
	if got := eval[string](b, "document.querySelector('#delete-name').textContent"); got != names[0] {
		t.Errorf("the delete dialog shows %q", got)
	}
	b.click("#delete [data-close]")
	b.click(keyButton(2, "update"))
	if got := eval[string](b, "document.querySelector('#edit-name').value"); got != names[1] {
		t.Errorf("the update dialog shows %q", got)
	}
	if got := eval[string](b, "document.querySelector('#edit-lead bdi').textContent"); got != names[1] {
		t.Errorf("the update dialog is about %q", got)
	}
	b.press(escape)
	b.press(escape)
	b.open(w.page("tab=rotation"))
	if diff := cmp.Diff(names, eval[[]string](b, `[...document.querySelectorAll(".turn .key-name")].map((e) => e.textContent)`)); diff != "" {
		t.Error(diff)
	}
	if eval[bool](b, "window.hacked === true || document.querySelectorAll('img').length > 0") {
		t.Error("a name became HTML")
	}
}

// No secret is in a page, a URL, a log or the browser's storage, and the page
// asks no other host.
func TestSecretsStayAway(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	w := startWorld(t, func(c *server.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b := newTab(t, w.URL)
	var mu sync.Mutex
	var seen []string
	if err := chromedp.Listen(b.ctx, func(event any) {
		if e, ok := event.(*network.EventRequestWillBeSent); ok {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e.Request.URL)
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.session(w.SessionToken)
	b.open(w.page(""))
	secrets := []string{"sk-very-secret-one-1234", "sk-very-secret-two-5678", "sk-never-to-be-saved-90", "sk-ant-for-the-mothership"}
	b.click(add("openai"))
	b.fill("#edit-key", secrets[2])
	// What is typed and left behind is gone, also on the way back.
	eval[any](b, "document.querySelector('.tabs a:nth-child(2)').click(); null")
	b.shows("#no-pools", "Nothing to rotate yet")
	eval[any](b, "history.back(); null")
	b.until("document.querySelector('#search') && 'ready' in document.documentElement.dataset")
	if got := eval[string](b, "document.querySelector('#edit-key').value"); got != "" {
		t.Errorf("on the way back the field holds %q", got)
	}
	b.click(add("openai"))
	b.fill("#edit-key", secrets[2])
	b.fill("#edit-name", strings.Repeat("n", 121))
	b.click("#edit-save")
	b.shows("#edit-problem", "120 characters")
	b.press(escape)
	b.click(add("openai"))
	b.fill("#edit-key", secrets[0])
	b.click("#edit-save")
	b.shows("[data-provider=openai] .count", "1 key")
	b.click(manage("openai"))
	b.click(keyButton(1, "update"))
	b.fill("#edit-key", secrets[1])
	b.click("#edit-save")
	b.shows("#manage-keys", "5678")
	b.until("!document.querySelector('#edit').open")
	var cookies strings.Builder
	for _, cookie := range call(b, network.GetCookies, network.GetCookiesParams{}).Cookies {
		cookies.WriteString(cookie.Value)
	}
	everything := log.String() + cookies.String() + eval[string](b, `(async () => [document.documentElement.outerHTML, ...[...document.querySelectorAll("input")].map((i) => i.value),
		JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(history.state), JSON.stringify(await indexedDB.databases()), JSON.stringify(await caches.keys()),
		await (await fetch(location)).text(), await (await fetch(location.pathname + "/state")).text(), await (await fetch(location.pathname + "/terraform")).text()].join("\n"))()`)
	if got := eval[string](b, "fetch(location).then((r) => r.headers.get('Cache-Control'))"); got != "no-store" {
		t.Errorf("browsers may keep the page: Cache-Control is %q", got)
	}
	b.session(w.superuser.SessionToken)
	b.open(w.page("tab=mothership&workspace=" + w.WorkspaceID))
	b.click(add("anthropic"))
	b.fill("#edit-key", secrets[3])
	b.click("#edit-save")
	b.shows("[data-provider=anthropic]", "Ends in …ship")
	everything += log.String() + eval[string](b, `(async () => [document.documentElement.outerHTML, ...[...document.querySelectorAll("input")].map((i) => i.value), JSON.stringify(history.state),
		await (await fetch("/api/copilot/byok?workspaceId=`+w.WorkspaceID+`")).text()].join("\n"))()`)
	for _, want := range []string{"action=add", "action=replace", "scope=copilot", "path=/workspace/" + w.WorkspaceID + "/settings/byok"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, address := range seen {
		if !strings.HasPrefix(address, w.URL+"/") {
			t.Errorf("the page asks %s", address)
		}
	}
	everything += strings.Join(seen, "\n")
	for _, secret := range secrets {
		if strings.Contains(everything, secret) || strings.Contains(everything, secret[8:]) {
			t.Errorf("%s is in the page, its storage or a URL", secret)
		}
	}
}

// The keyboard alone reaches everything; dialogs give the focus back.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	tab := func(n int) []string {
		t.Helper()
		var steps []string
		for range n {
			b.press(kb.Tab)
			steps = append(steps, strings.TrimSpace(b.focused()))
		}
		return steps
	}
	want := []string{"Skip to the keys", "byok-server, to your first workspace", "Workspace\nProduction", "Account of Owner\nO", "Keys", "Rotation", "as-terraform", "search", "Manage, OpenAI", "Add Key, Anthropic"}
	if diff := cmp.Diff(want, tab(len(want))); diff != "" {
		t.Error(diff)
	}
	if got := eval[string](b, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + " " + s.outlineWidth })()`); got != "solid 2px" {
		t.Errorf("the focus is shown as %q", got)
	}
	// A menu is open as long as the focus is in it.
	eval[any](b, "document.querySelector('.menu summary').focus()")
	b.press(kb.Enter)
	b.press(kb.Tab)
	if got := b.focused(); got != "Production" {
		t.Errorf("the menu of the workspaces leads to %s", got)
	}
	b.press(kb.Tab)
	if got := b.focused(); got != "Account of Owner\nO" || eval[bool](b, "Boolean(document.querySelector('.menu[open]'))") {
		t.Errorf("the menu of the workspaces is left open, or for %s", got)
	}
	// What gets the focus is in sight, not under the bar.
	eval[any](b, "document.querySelector('"+add("enrow")+"').focus()")
	eval[any](b, "document.querySelector('"+manage("openai")+"').focus()")
	if top := eval[float64](b, "document.activeElement.getBoundingClientRect().top - document.querySelector('.bar').getBoundingClientRect().bottom"); top < 0 {
		t.Errorf("the focus is %.0f pixels under the bar", -top)
	}
	b.press(kb.Enter)
	b.until("document.querySelector('#manage').open")
	for range 12 { // the focus stays in the dialog
		b.press(kb.Tab)
		if !eval[bool](b, "document.activeElement === document.body || Boolean(document.activeElement.closest('#manage'))") {
			t.Fatalf("the focus leaves the dialog for %s", b.focused())
		}
	}
	eval[any](b, "document.querySelector('"+keyButton(1, "update")+"').focus()")
	b.press(kb.Enter)
	b.until("document.querySelector('#edit').open")
	b.press(escape)
	b.until("!document.querySelector('#edit').open")
	if got := b.focused(); got != "Update one, sk-012...cdef, key 1" {
		t.Errorf("closing the update moves the focus to %s", got)
	}
	b.press(escape)
	b.until("!document.querySelector('#manage').open")
	if got := b.focused(); got != "Manage, OpenAI" {
		t.Errorf("closing the dialog moves the focus to %s", got)
	}
}

// A key is deleted while its place has the focus: the next one gets it.
func TestFocusAfterDelete(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	for i := range 3 {
		w.Add(t, w.WorkspaceID, "exa", fmt.Sprintf("exa-0123456789ab%d", i), "")
	}
	b := newTab(t, w.URL)
	b.size(380, 760)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("exa"))
	// Keys that look the same are told apart by their places.
	if got := eval[string](b, `[...document.querySelectorAll("#manage-keys .position")].map((e) => e.innerText).join()`); got != "1,2,3" {
		t.Errorf("the keys have the numbers %s", got)
	}
	b.click(keyButton(2, "update"))
	b.shows("#edit-lead", "Key 2 of 3, added ")
	b.click("#edit [data-close]")
	b.click(keyButton(3, "delete"))
	b.shows("#delete-which", "Key 3 of 3, added ")
	b.click("#delete-do")
	b.shows("#manage .count", "2 of 10")
	b.until("document.activeElement === document.querySelector('#manage-keys .key:nth-child(2)')")
	// On a phone the message does not cover the buttons.
	b.until("document.querySelector('#manage #toast.shown').getBoundingClientRect().bottom <= document.querySelector('#manage [data-close]').getBoundingClientRect().top")
}

// What others delete while a dialog is open: what a delete leaves is said anew, and
// without keys the dialog says so and leads back to a button that is there.
func TestOthersDelete(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	var ids []string
	for _, name := range []string{"one", "two", "three"} {
		ids = append(ids, w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abc", name))
	}
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("exa"))
	b.click(keyButton(3, "update"))
	b.shows("#edit-lead", "three exa-01...9abc. Key 3 of 3")
	last := w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abc", "four")
	b.shows("#edit-lead", "three exa-01...9abc. Key 3 of 4")
	w.Delete(t, w.WorkspaceID, "exa", last)
	b.shows("#edit-lead", "three exa-01...9abc. Key 3 of 3")
	b.click("#edit [data-close]")
	b.click(keyButton(3, "delete"))
	b.shows("#delete-which", "Key 3 of 3")
	w.Delete(t, w.WorkspaceID, "exa", ids[0])
	b.shows("#delete-which", "Key 2 of 2")
	b.shows("#delete-follows", "The other Exa key stays in use.")
	w.Delete(t, w.WorkspaceID, "exa", ids[1])
	b.shows("#delete-follows", "This is the last Exa key.")
	w.Delete(t, w.WorkspaceID, "exa", ids[2])
	b.shows("#delete-which", "This key was deleted elsewhere")
	b.click("#delete-do")
	b.shows("#delete-problem", "it was deleted elsewhere")
	b.click("#delete [data-close]")
	b.until("document.querySelector('#manage-lead').innerText === 'All keys were deleted.'")
	b.press(escape)
	b.until("document.activeElement === document.querySelector('[data-provider=exa] [data-do=add]')")
}

// decode reads JSON of the server.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}
