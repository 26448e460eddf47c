package settings_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// stepDeadline is how long a browser on a busy machine may take for one step.
const stepDeadline = 30 * time.Second

// chromium is the one browser of this test binary; each test has a profile of
// its own in it.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := tfrun.Run(m)
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

func startChromium() {
	path := ""
	// The headless shell is the one without a user interface of its own, which
	// takes two fifths of the CPU.
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		chromium.err = errors.New("no chromium on the PATH (Debian's package chromium-headless-shell or chromium)")
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		// A desktop has scrollbars that take space.
		chromedp.Flag("hide-scrollbars", false),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"), chromedp.WSURLReadTimeout(stepDeadline))
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	chromium.ctx = ctx
	chromium.stop = func() { stop(); stopAllocator() }
	chromium.err = chromedp.Do(ctx)
}

// tab is one page of a browser. Its methods end the test where they fail.
type tab struct {
	t    testing.TB
	ctx  context.Context
	base string

	mu       sync.Mutex
	problems []string
	provoked []string
}

// newTab opens a page in a fresh profile, 1300 by 900 pixels. Scripts that
// throw and everything that the page's policy refuses fail the test. -short leaves
// Chromium out.
func newTab(t testing.TB, base string) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("Chromium is left out by -short")
	}
	chromium.once.Do(startChromium)
	if chromium.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("Chromium does not start, and CI=true needs it: %v", chromium.err)
		}
		t.Skipf("needs Chromium: %v", chromium.err)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	return prepare(t, base, ctx, cancel)
}

// secondTab opens another page with the same cookies.
func (b *tab) secondTab() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	return prepare(b.t, b.base, ctx, cancel)
}

func prepare(t testing.TB, base string, ctx context.Context, cancel func()) *tab {
	t.Helper()
	b := &tab{t: t, ctx: ctx, base: base}
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, problem := range b.problems {
			if !slices.ContainsFunc(b.provoked, func(text string) bool { return strings.Contains(problem, text) }) {
				t.Errorf("the browser reports: %s", problem)
			}
		}
	})
	err := chromedp.Listen(ctx, func(event any) {
		problem := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			problem = fmt.Sprintf("%s:%d: %s", e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1, e.ExceptionDetails.Text)
			if thrown := e.ExceptionDetails.Exception; thrown != nil {
				problem += " " + thrown.Description
			}
		case *log.EventEntryAdded:
			// Statuses of fetches are what tests provoke.
			if e.Entry.Source != log.EntrySourceNetwork && e.Entry.Level == log.EntryLevelError {
				problem = string(e.Entry.Source) + ": " + e.Entry.Text
			}
		}
		if problem != "" {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.problems = append(b.problems, problem)
		}
	})
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	call(b, log.Enable, cdp.Empty{})
	// Each page behaves as the one that is looked at.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(b, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-US"})
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Etc/UTC"})
	b.size(1300, 900)
	return b
}

// run runs one action and returns its value.
func run[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepDeadline)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	return value
}

// call sends one command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepDeadline)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("browser: %s: %v", command.Method, err)
	}
	return result
}

// size sets the window, as a phone's below 640 pixels.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 640})
}

// dark chooses the dark colours.
func (b *tab) dark(yes bool) {
	b.t.Helper()
	scheme := "light"
	if yes {
		scheme = "dark"
	}
	b.media("prefers-color-scheme", scheme)
}

// media answers a media feature of the stylesheet.
func (b *tab) media(name, value string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
}

// open goes to a path of the server and returns the status. A page with modules
// is ready when it returns.
func (b *tab) open(path string) int64 {
	b.t.Helper()
	// The end of the load that a click began would be taken for the end of this one.
	b.until(`document.readyState === "complete" && (location.protocol === "about:" || (performance.getEntriesByType("navigation")[0]?.loadEventEnd ?? 1) > 0)`)
	response := run(b, chromedp.NavigateResponse(b.base+path))
	if response == nil {
		b.t.Fatalf("browser: no response of %s: another page was still loading\n%s", path, b.shown())
	}
	b.until(`!document.querySelector("script[type=module]") || "ready" in document.documentElement.dataset`)
	return response.Status
}

// provokes lets a test do what the browser reports as an error with this text.
func (b *tab) provokes(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.provoked = append(b.provoked, text)
}

// reports waits until the browser has reported an error with a text.
func (b *tab) reports(text string) {
	b.t.Helper()
	var all []string
	b.wait(func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		all = slices.Clone(b.problems)
		return slices.ContainsFunc(all, func(problem string) bool { return strings.Contains(problem, text) })
	}, func() string { return fmt.Sprintf("the browser never reports %q, but %q", text, all) })
}

// session signs in by cookie. It leaves the page, which would follow the change.
func (b *tab) session(token string) {
	b.t.Helper()
	call(b, page.Navigate, page.NavigateParams{URL: "about:blank"})
	b.until(`location.href === "about:blank"`)
	yes := true
	call(b, network.SetCookie, network.SetCookieParams{
		Name: "better-auth.session_token", Value: token, URL: b.base, HTTPOnly: &yes, SameSite: network.CookieSameSiteLax,
	})
}

// clearCache removes the cookie that stands for a lookup of the session.
func (b *tab) clearCache() {
	b.t.Helper()
	call(b, network.DeleteCookies, network.DeleteCookiesParams{Name: "better-auth.session_data", URL: b.base})
}

// allowClipboard lets the page write and the test read the clipboard.
func (b *tab) allowClipboard() {
	b.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		if _, err := chromedp.CallBrowser(b.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted,
			Origin: b.base, BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
		}); err != nil {
			b.t.Fatalf("browser: %s: %v", name, err)
		}
	}
}

// eval runs an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// wait waits until reached returns true, and fails with what failure returns where
// it does not in time.
func (b *tab) wait(reached func() bool, failure func() string) {
	b.t.Helper()
	for deadline := time.Now().Add(stepDeadline); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatal(failure())
		}
	}
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	b.wait(func() bool { return b.holds(expression) }, func() string { return "never true: " + expression + "\n" + b.shown() })
}

// hurry divides the time that the page waits for a response by a hundred.
func (b *tab) hurry() {
	b.t.Helper()
	eval[bool](b, `(() => { const real = AbortSignal.timeout; AbortSignal.timeout = (ms) => real.call(AbortSignal, ms / 100); return true; })()`)
}

// holds reports whether an expression is true. In a page that is just being left,
// or of which the browser has read only a part, nothing is.
func (b *tab) holds(expression string) bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepDeadline)
	defer cancel()
	yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.readyState !== "loading" && Boolean(`+expression+")", chromedp.EvalAwaitPromise))
	if err != nil && !strings.Contains(err.Error(), "navigated or closed") && !strings.Contains(err.Error(), "context") {
		b.t.Fatalf("browser: %s: %v", expression, err)
	}
	return yes && err == nil
}

// shown is the beginning of what the page or its dialog shows.
func (b *tab) shown() string {
	b.t.Helper()
	return fmt.Sprintf("The page shows:\n%.1500s", eval[string](b, "([...document.querySelectorAll('dialog[open]')].at(-1) ?? document.body).innerText"))
}

// shows waits until an element contains a text, as it is rendered.
func (b *tab) shows(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%q)", selector, text))
}

// visible reports whether an element is rendered.
func (b *tab) visible(selector string) bool {
	b.t.Helper()
	return eval[bool](b, fmt.Sprintf("Boolean(document.querySelector(%q)?.checkVisibility())", selector))
}

// isSeen waits until nothing covers the middle of an element.
func (b *tab) isSeen(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q), r = e?.getBoundingClientRect();
		return e?.checkVisibility() && e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2));
	})()`, selector))
}

// inSight waits until the middle of an element is in the window and nothing
// covers it, once it is scrolled to as a user can: what is hidden behind an edge
// does not scroll for anybody else.
func (b *tab) inSight(selector string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		for (let box = e.parentElement; box; box = box.parentElement) {
			if (box.scrollHeight <= box.clientHeight || !/auto|scroll/.test(getComputedStyle(box).overflowY)) continue;
			box.scrollTop += e.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom + 8;
		}
	})()`, selector))
	b.isSeen(selector)
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(eval[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? '(no element)'", selector)))
}

// click clicks the middle of an element with the mouse, once it is there,
// enabled and not covered.
func (b *tab) click(selector string) {
	b.t.Helper()
	where := fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		if (!e || !e.checkVisibility() || e.disabled) return [];
		e.scrollIntoView({ block: "nearest", behavior: "instant" });
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2, hit = document.elementFromPoint(x, y);
		return hit === e || e.contains(hit) ? [x, y] : [];
	})()`, selector)
	var at []float64
	b.wait(func() bool {
		if b.holds(where + ".length") {
			at = eval[[]float64](b, where)
		}
		return len(at) == 2
	}, func() string { return "never to be clicked: " + selector + "\n" + b.shown() })
	run(b, chromedp.MouseClickXY(at[0], at[1]))
}

// fill replaces what a field contains by typing.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("(document.querySelector(%q)?.focus(), document.querySelector(%q)?.select(), document.activeElement === document.querySelector(%q))", selector, selector, selector))
	if text == "" {
		b.press(kb.Backspace)
		return
	}
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press sends keys to whatever has the focus.
func (b *tab) press(keys string) {
	b.t.Helper()
	run(b, chromedp.KeyEvent(keys))
}

// focused describes the element that has the focus.
func (b *tab) focused() string {
	b.t.Helper()
	return eval[string](b, `(() => { const e = document.activeElement; return e.getAttribute("aria-label") || e.id || e.innerText || e.tagName })()`)
}

func (b *tab) path() string {
	b.t.Helper()
	return eval[string](b, "location.pathname + location.search")
}

// tabTo presses Tab until the element with a name has the focus.
func (b *tab) tabTo(name string) {
	b.t.Helper()
	for range 120 {
		b.press(kb.Tab)
		if strings.TrimSpace(b.focused()) == name {
			return
		}
	}
	b.t.Fatalf("Tab does not reach %s\n%s", name, b.shown())
}

// escape is the key.
const escape = kb.Escape
