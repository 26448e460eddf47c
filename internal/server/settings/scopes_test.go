package settings_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// An organization's admins switch between its keys and the workspace's, in the
// URL; others see the workspace's alone.
func TestOrganization(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "exa", "exa-workspace-012345", "of the workspace")
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	b.open(w.page(""))
	current := func() string {
		return eval[string](b, "document.querySelector('.switch [aria-current=page]').innerText + ' at ' + location.search")
	}
	if got := current(); got != "Workspace at " {
		t.Errorf("the switch stands on %s", got)
	}
	b.click(".switch a:last-child")
	b.shows("main", "Workspaces of Acme Corporation that have no key of their own")
	if got := current(); got != "Organization at ?scope=organization" {
		t.Errorf("the switch stands on %s", got)
	}
	b.click(add("mistral"))
	b.fill("#edit-key", "mistral-organization-1")
	b.fill("#edit-name", "shared")
	b.click("#edit-save")
	b.shows("[data-provider=mistral] .count", "1 key")
	if b.visible(manage("exa")) {
		t.Error("the organization shows a key of the workspace")
	}
	b.click(manage("mistral"))
	b.click(keyButton(1, "update"))
	b.fill("#edit-key", "mistral-organization-2")
	b.fill("#edit-name", "still shared")
	b.click("#edit-save")
	b.shows("#manage-keys", "still shared")
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "Workspaces without one of their own fall back to hosted keys.")
	b.shows("#delete-title", "Delete this Mistral key of Acme Corporation?")
	b.shows("h1", "Organization keys of Acme Corporation")
	if got := eval[string](b, "document.title"); got != "API keys · Acme Corporation (organization)" {
		t.Errorf("the title is %s", got)
	}
	b.click("#delete [data-close]")
	b.click("#manage [data-close]")

	// The workspace takes mistral from its organization.
	b.click(".switch a:first-child")
	b.shows("[data-provider=mistral] .badge", "From organization")
	if !b.visible(add("mistral")) || b.visible("[data-provider=exa] .badge") {
		t.Error("the badge is not where nothing but the organization serves")
	}
	b.click(add("mistral"))
	b.fill("#edit-key", "mistral-workspace-1")
	b.click("#edit-save")
	b.shows("[data-provider=mistral] .count", "1 key")
	b.until("!document.querySelector('[data-provider=mistral] .badge').checkVisibility()")
	b.click(manage("mistral"))
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "This is the last Mistral key. This workspace falls back to its organization’s keys.")
	b.click("#delete-do")
	b.shows("[data-provider=mistral] .badge", "From organization")

	// Others have no switch, and the URL does not help them.
	for name, user := range map[string]string{"owner": w.SessionToken, "reader": w.reader.SessionToken} {
		b.session(user)
		b.open(w.page(""))
		b.shows("[data-provider=mistral] .badge", "From organization")
		if b.visible(".switch") {
			t.Errorf("the %s has the switch", name)
		}
		if status := b.open(w.page("scope=organization")); status != http.StatusNotFound {
			t.Errorf("the %s gets %d for the organization's keys", name, status)
		}
		b.shows("main", "Only admins of the organization see its keys.")
		b.click(".card-actions a")
		b.shows("[data-provider=mistral] .badge", "From organization")
	}
}

// Where the organization's status cannot be had, the page says so and works.
func TestInheritedUnknown(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.addOrganization(t, "mistral", "mistral-organization-1", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	w.Exec(t, "ALTER TABLE organization_byok_keys RENAME TO hidden_byok_keys")
	b.open(w.page(""))
	b.shows("#coverage", "Could not find out which providers this workspace takes from its organization.")
	b.click(add("openai"))
	b.fill("#edit-key", "sk-0123456789abcdef")
	b.click("#edit-save")
	b.shows("[data-provider=openai] .count", "1 key")
	b.click(manage("openai"))
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "falls back to its organization’s keys, if there are any, else to hosted keys")
	b.click("#delete-do")
	b.until("!document.querySelector('#manage').open")
	w.Exec(t, "ALTER TABLE hidden_byok_keys RENAME TO organization_byok_keys")
	// The stream may be quicker than a mouse.
	eval[any](b, "document.querySelector('#coverage-retry').click()")
	b.shows("[data-provider=mistral] .badge", "From organization")
	b.until("!document.querySelector('#coverage').checkVisibility()")
}

// An organization that is not entitled can view and delete, and is told why no
// more.
func TestNotEntitled(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(c *server.Config) { c.Hosted = false })
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	b.open(w.page(""))
	if b.visible(".switch") {
		t.Error("there is a switch to an organization that neither has keys nor can have any")
	}
	// Keys from when there was a plan. They can be decrypted, and still none is
	// next.
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	for _, id := range []string{"organization-key-0001", "organization-key-0002"} {
		w.Exec(t, `INSERT INTO organization_byok_keys (id, organization_id, provider_id, encrypted_api_key, name, created_by, created_at, updated_at)
			SELECT $1, $2, 'openai', encrypted_api_key, NULL, NULL, '2026-01-02 03:04:05.000000', '2026-01-02 03:04:05.000000' FROM workspace_byok_keys`, id, organizationID)
	}
	b.open(w.page(""))
	b.click(".switch a:last-child")
	b.shows(".notice:not([hidden])", "Organization keys need an active plan, which no organization of a self-hosted server has.")
	if b.visible(add("exa")) {
		t.Error("a key can be added")
	}
	b.shows(".lead", "Workspaces do not use these keys while Acme Corporation has no active plan.")
	b.click(manage("openai"))
	b.shows("#manage-lead", "Workspaces do not use these keys: the organization has no active plan.")
	b.shows("#manage-keys", "a deleted user")
	checkAxe(b)
	if got := eval[string](b, `[...document.querySelectorAll("#manage button")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join()`); got != "Delete,Delete,Close" {
		t.Errorf("the dialog has the buttons %s", got)
	}
	isNext := `[...document.querySelectorAll(".badge.next")].map((e) => e.innerText).join("")`
	if got := eval[string](b, isNext); got != "" {
		t.Errorf("a key that no workspace uses is shown as %s", got)
	}
	b.click("#manage [data-close]")
	b.open(w.page("scope=organization&tab=rotation"))
	b.shows("#since", "Uses are counted since this process started")
	checkAxe(b)
	if got := eval[string](b, "document.querySelector('main').innerText"); strings.Count(got, "no active plan") != 1 || strings.Count(got, "self-hosted") != 1 {
		t.Errorf("why the keys are not used is said more than once:\n%s", got)
	}
	if got := eval[string](b, isNext); got != "" {
		t.Errorf("the rotation shows a key that no workspace uses as %s", got)
	}
	b.open(w.page("scope=organization"))
	b.click(manage("openai"))
	for range 2 {
		b.click(keyButton(1, "delete"))
		b.shows("#delete-follows", "No workspace uses it: the organization has no active plan.")
		b.click("#delete-do")
		b.until("!document.querySelector('#delete').open")
	}
	b.until("!document.querySelector('" + manage("openai") + "').checkVisibility()")
	if b.visible(add("openai")) {
		t.Error("a key can be added once there is none")
	}
}

// A server without --hosted has no hosted keys, and its page mentions none.
func TestSelfHosted(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(c *server.Config) { c.Hosted = false })
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "one")
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdee", "two")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.shows(".lead", "Workflows of this workspace call providers with these keys.")
	b.click(manage("openai"))
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "The other OpenAI key stays in use.")
	b.click("#delete-do")
	b.shows("#manage .count", "1 of 10")
	b.until("!document.querySelector('#delete').open")
	b.click(keyButton(1, "delete"))
	b.shows("#delete-text", "This is the last OpenAI key. This server has no hosted keys: OpenAI requests of this workspace then have no key. This cannot be undone.")
	b.click("#delete [data-close]")
	b.click("#manage [data-close]")
	mentions := `(document.body.innerText.match(/.*(hosted (keys|ones)|organization).*/gi) ?? []).join("; ")`
	for _, query := range []string{"", "tab=rotation"} {
		b.open(w.page(query))
		if got := eval[string](b, mentions); got != "" {
			t.Errorf("%s says: %s", b.path(), got)
		}
	}
	// With hosted keys the page says what these are instead of.
	hosted := startWorld(t)
	b = newTab(t, hosted.URL)
	b.session(hosted.SessionToken)
	b.open(hosted.page(""))
	b.shows(".lead", "Workflows of this workspace call providers with these keys instead of hosted ones.")
}

// The mothership's keys are for superusers alone.
func TestMothership(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(c *server.Config) {
		c.Bootstrap.Users = append(c.Bootstrap.Users, server.BootstrapUser{
			Email: "operator@example.com", Password: "correct horse battery staple", Name: "Operator", Superuser: true,
		})
	})
	target := w.NewWorkspace(t)
	b := newTab(t, w.URL)
	b.session(w.superuser.SessionToken)
	b.open(w.page(""))
	b.click(".tabs a:last-child")
	b.shows("h1", "Mothership keys")
	if b.visible("#mothership") || b.visible("#search") {
		t.Error("something is shown before there is a workspace")
	}
	b.shows("#target-hint", "Enter the ID of a workspace")
	b.fill("#target", "no-such-workspace")
	b.shows("#target-hint.warn", "This server has no workspace with this ID. Check it before you add a key.")
	b.until("document.querySelector('#mothership').checkVisibility()")
	b.fill("#target", "  "+target+" ")
	b.shows("#target-hint:not(.warn)", "Workspace Acceptance")
	b.until("document.querySelector('#mothership').checkVisibility()")
	if got := eval[int](b, `document.querySelectorAll("#search, .group, [data-do=manage], .pips:not(dialog *)").length`); got != 0 {
		t.Errorf("%d parts of the workspace's list are on the tab", got)
	}
	if got := eval[[]string](b, `[...document.querySelectorAll("#mothership h2")].map((e) => e.innerText)`); !cmp.Equal(got, []string{"OpenAI", "Anthropic"}) {
		t.Errorf("the providers are %v", got)
	}
	if got := b.path(); got != w.page("tab=mothership&workspace="+target) {
		t.Errorf("the page is at %s", got)
	}
	buttons := func(provider string) string {
		t.Helper()
		return eval[string](b, fmt.Sprintf(`[...document.querySelectorAll("[data-provider=%s] button")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join()`, provider))
	}
	if got := buttons("openai") + buttons("anthropic"); got != "Add KeyAdd Key" {
		t.Errorf("without keys the buttons are %s", got)
	}
	b.click(add("anthropic"))
	if b.visible("#edit-name") {
		t.Error("the dialog asks for a name")
	}
	b.fill("#edit-key", " sk-ant-0123456789 ")
	b.click("#edit-save")
	b.shows("[data-provider=anthropic]", "Ends in …6789, added")
	b.shows("#toast.shown", "Anthropic key added")
	b.fill("#target", target+" ")
	b.until("!document.querySelector('#toast.shown')")
	b.until("document.querySelector('#mothership').checkVisibility()")
	b.shows("[data-provider=anthropic]", "by you")
	if got := buttons("anthropic"); got != "Update,Delete" {
		t.Errorf("with a key the buttons are %s", got)
	}
	b.click("[data-provider=anthropic] [data-do=update]")
	b.fill("#edit-key", "sk-ant-abcdefghij")
	b.click("#edit-save")
	b.shows("[data-provider=anthropic]", "Ends in …ghij, replaced")
	// The dialogs tell which key it is.
	w.Exec(t, "UPDATE copilot_byok_keys SET created_at = '2026-01-02 03:04:05.678000', updated_at = '2026-02-03 04:05:06.789000'")
	b.open(b.path())
	b.click("[data-provider=anthropic] [data-do=update]")
	b.shows("#edit-lead", "Workspace "+target+", key …ghij. Added 2 Jan 2026, replaced 3 Feb 2026")
	checkAxe(b)
	b.press(escape)
	// They are no pool: neither listed nor served.
	if keys := w.List(t, target); len(keys) != 0 || w.Resolve(t, target, "anthropic") != nil {
		t.Errorf("the workspace's pool has them: %v", keys)
	}
	b.click("[data-provider=anthropic] [data-do=delete]")
	b.shows("#delete-follows", target)
	b.shows("#delete-which", "Added 2 Jan 2026, replaced 3 Feb 2026")
	checkAxe(b)
	b.click("#delete-do")
	b.shows("[data-provider=anthropic]", "No key")
	b.open(b.path())
	b.until("document.querySelector('#mothership').checkVisibility()")

	// A superuser without a workspace has this tab alone.
	b.session(w.User(t, "operator@example.com").SessionToken)
	b.open("/")
	b.shows("h1", "Mothership keys")
	b.fill("#target", target)
	b.shows("#target-hint", "Workspace Acceptance")
	if got := b.text(".tabs nav"); got != "Mothership" {
		t.Errorf("a superuser without a workspace has the tabs %s", got)
	}
	checkAxe(b)
	b.open(w.page(""))
	b.shows("h1", "No access to this workspace")
	checkAxe(b)
	// "/" leads to this tab too: one button is enough.
	if got := b.text(".card-actions"); got != "Mothership keys Sign out" && got != "Mothership keys\nSign out" {
		t.Errorf("a superuser without a workspace has the buttons %q", got)
	}
	b.click(".card-actions a")
	b.shows("h1", "Mothership keys")

	// One who has workspaces has the choice.
	b.session(w.superuser.SessionToken)
	b.open("/workspace/no-such-workspace/settings/byok")
	b.shows(".card-actions a.primary", "Go to your workspaces")
	b.click(".card-actions a:not(.primary)")
	b.shows("h1", "Mothership keys")

	// Who is signed out finds the way back.
	b.fill("#target", target)
	b.shows("#target-hint", "Workspace Acceptance")
	w.EndSessions(t, w.superuser.Email)
	b.clearCache()
	b.fill("#target", w.WorkspaceID)
	b.shows("#mothership-problem", "You are signed out. Sign in, then try again here. Sign in (new tab) Try again")
	checkAxe(b)
	if got := eval[string](b, "(({ target, rel, pathname, search }) => [target, rel, pathname + search].join(' '))(document.querySelector('#mothership-problem a'))"); !strings.HasPrefix(got, "_blank noopener /login?next=") || !strings.HasSuffix(got, url.QueryEscape("workspace="+w.WorkspaceID)) {
		t.Errorf("the link to sign in is %s", got)
	}

	for name, user := range map[string]acctest.User{"owner": {SessionToken: w.SessionToken}, "reader": w.reader} {
		b.session(user.SessionToken)
		b.open(w.page(""))
		if got := eval[string](b, "document.querySelector('.tabs nav').innerText"); strings.Contains(got, "Mothership") {
			t.Errorf("the %s sees the tab", name)
		}
		if status := b.open(w.page("tab=mothership&workspace=" + target)); status != http.StatusNotFound {
			t.Errorf("the %s gets %d", name, status)
		}
		if got := eval[string](b, "fetch('/api/copilot/byok?workspaceId="+target+"').then(async (r) => r.status + ' ' + await r.text())"); got != `401 {"error":"Unauthorized"}` {
			t.Errorf("the %s gets %s from the API", name, got)
		}
		if got := eval[int](b, "fetch('"+w.page("")+"/target?workspaceId="+target+"').then((r) => r.status)"); got != http.StatusUnauthorized {
			t.Errorf("the %s is told of a workspace, with status %d", name, got)
		}
	}
}

// What the rotation serves is seen while it serves.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	var ids []string
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcde"+name, name))
	}
	b := newTab(t, w.URL)
	b.session(w.reader.SessionToken)
	b.open(w.page("tab=rotation"))
	b.shows("#since", "Uses are counted since this process started (")
	for days, want := range map[int]string{0: "09:41", 3: "20 Nov 2026, 09:41"} {
		if got := eval[string](b, fmt.Sprintf("import(document.querySelector('link[href$=\"dom.js\"]').href).then((dom) => dom.since(Date.UTC(2026, 10, %d, 9, 41), Date.UTC(2026, 10, 23, 18, 0)))", 23-days)); got != want {
			t.Errorf("%d days ago is %q, want %q", days, got, want)
		}
	}
	b.shows("#pools", "3 of 10")
	turns := func() []string {
		t.Helper()
		return eval[[]string](b, `[...document.querySelectorAll(".turn")].map((e) => ["key-name", "badge", "turn-count", "turn-last"].map((c) => e.querySelector("." + c).innerText.replace(/\d+ s ago/, "just now")).join(" "))`)
	}
	if diff := cmp.Diff([]string{"a Next served 0× never", "b  served 0× never", "c  served 0× never"}, turns()); diff != "" {
		t.Error(diff)
	}
	wait := func(want ...string) {
		t.Helper()
		b.until(fmt.Sprintf(`[...document.querySelectorAll(".turn-count")].map((e) => e.innerText).join() === %q`, strings.Join(want, ",")))
	}
	// It moves by the stream: nothing is asked again.
	asked := `performance.getEntriesByType("resource").filter((e) => !e.name.includes("/assets/") && !e.name.endsWith("/events")).map((e) => e.name).join()`
	w.Resolve(t, w.WorkspaceID, "openai")
	wait("served 1×", "served 0×", "served 0×")
	if got := eval[string](b, asked); got != "" {
		t.Errorf("the page asks for %s", got)
	}
	b.until("document.querySelector('.turn.pulse')")
	if diff := cmp.Diff([]string{"a  served 1× just now", "b Next served 0× never", "c  served 0× never"}, turns()); diff != "" {
		t.Error(diff)
	}
	// A key that cannot be decrypted is named and skipped; the next one says so.
	w.Corrupt(t, ids[1])
	w.Resolve(t, w.WorkspaceID, "openai")
	wait("served 1×", "served 0×", "served 1×")
	if diff := cmp.Diff([]string{"a  served 1× just now", "b Cannot be decrypted served 0× never", "c Next served 1× just now"}, turns()); diff != "" {
		t.Error(diff)
	}

	// The same in the dialog, which an admin has open.
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.shows("[data-provider=openai] .trouble", "1 cannot be decrypted")
	b.click(manage("openai"))
	b.shows("#manage-lead", "Uses are counted since this process started")
	shown := func() []string {
		t.Helper()
		return eval[[]string](b, `[...document.querySelectorAll("#manage-keys .key")].map((e) => ["key-name", "badge", "key-use"].map((c) => e.querySelector("." + c).innerText.replace(/\n/g, " ").replace(/\d+ s ago/, "just now")).join(" "))`)
	}
	if diff := cmp.Diff([]string{"a  served 1× just now", "b Cannot be decrypted served 0× never", "c Next served 1× just now"}, shown()); diff != "" {
		t.Error(diff)
	}
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows("#manage-keys .key:nth-child(3)", "served 2×")
	b.shows("#manage-keys .key:nth-child(1)", "Next")
	b.shows("#manage-lead", "A key that cannot be decrypted is skipped: the key after it serves its requests, too.")
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "Of the other OpenAI keys, 1 can be used and 1 cannot be decrypted.")
	b.click("#delete-do")
	b.shows("#manage .count", "2 of 10")
	b.click(keyButton(2, "delete"))
	b.shows("#delete-follows", "No other OpenAI key can be decrypted: until one is updated, OpenAI requests of this workspace have no key.")
	b.click("#delete [data-close]")

	// What a deleted key served is not counted among the rest. Without a key that
	// can be decrypted there is nothing to spread.
	b.open(w.page("tab=rotation"))
	b.shows(".pool .what", "2 requests served by these keys")
	w.Corrupt(t, ids[2])
	b.open(w.page(""))
	b.click(manage("openai"))
	b.shows("#manage-lead", "None of these keys can be decrypted: requests have no key until one is updated.")
	b.click(keyButton(1, "delete"))
	b.shows("#delete-follows", "No other OpenAI key can be decrypted")
	b.click("#delete-do")
	b.shows("#manage-lead", "This key cannot be decrypted: requests have no key until it is updated.")

	// An organization has a rotation of its own.
	w.addOrganization(t, "mistral", "mistral-organization-1", "shared")
	w.Resolve(t, w.WorkspaceID, "mistral")
	b.session(w.superuser.SessionToken)
	b.open(w.page("scope=organization&tab=rotation"))
	if diff := cmp.Diff([]string{"shared Next served 1× just now"}, turns()); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyRotation(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("tab=rotation"))
	b.shows("#no-pools", "Nothing to rotate yet")
	checkAxe(b)
	b.click("#no-pools a")
	b.shows("#summary", "No keys yet")
}

// "As Terraform" copies what declares the keys that are stored.
func TestAsTerraform(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.allowClipboard()
	b.click("#as-terraform")
	b.shows("#terraform-hint", "There is nothing to import yet: add a key first.")
	b.until("document.querySelector('#terraform-copy').disabled")
	b.click("#terraform [data-close]")
	id := w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "primary")
	b.click("#as-terraform")
	b.shows("#terraform-text", "byok_pool.openai")
	b.click("#terraform-copy")
	b.shows("#terraform-hint", "Copied. Set TF_VAR_openai_api_keys, then run terraform plan and terraform apply.")
	clipboard := func() string { return eval[string](b, "navigator.clipboard.readText()") }
	for _, want := range []string{"to = byok_pool.openai", `id = "` + w.WorkspaceID + `/openai"`, `primary = { api_key_wo = var.openai_api_keys["primary"] }`} {
		if got := clipboard(); !strings.Contains(got, want) {
			t.Errorf("the clipboard lacks %s:\n%s", want, got)
		}
	}
	b.click("#terraform label:last-of-type")
	b.shows("#terraform-text", "to = byok_key.openai_primary")
	b.click("#terraform-copy")
	b.until("document.querySelector('#terraform-hint').innerText.includes('Copied')")
	if got := clipboard(); !strings.Contains(got, `id = "`+w.WorkspaceID+"/openai/"+id+`"`) || strings.Contains(got, "sk-0123") {
		t.Errorf("the clipboard holds\n%s", got)
	}
	// The same for an organization's keys.
	shared := w.addOrganization(t, "mistral", "mistral-0123456789", "shared")
	b.session(w.superuser.SessionToken)
	b.open(w.page("scope=organization"))
	b.click("#as-terraform")
	b.shows("#terraform-text", `id = "organization/`+organizationID+`/mistral"`)
	b.click("#terraform label:last-of-type")
	b.shows("#terraform-text", `id = "organization/`+organizationID+"/mistral/"+shared+`"`)
	if got := b.text("#terraform-text"); strings.Contains(got, "openai") || strings.Contains(got, "workspace_id") {
		t.Errorf("the organization's keys are exported as\n%s", got)
	}
}

// While the server takes its time, the dialog neither shows nor copies what it
// showed before.
func TestAsTerraformWaits(t *testing.T) {
	t.Parallel()
	var f faults
	w := startWorld(t, f.option())
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "primary")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click("#as-terraform")
	b.shows("#terraform-text", "byok_pool.openai")
	release := make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/terraform") {
			<-release
		}
		return false
	})
	waits := `document.querySelector("#terraform-text").innerText + document.querySelector("#terraform-hint").innerText + document.querySelector("#terraform-copy").disabled === "Loading…true"`
	b.click("#terraform label:last-of-type")
	b.until(waits)
	b.click("#terraform [data-close]")
	b.click("#as-terraform")
	b.until(waits)
	once.Do(func() { close(release) })
	b.shows("#terraform-text", "byok_key.openai_primary")
	b.until(`document.querySelector("#terraform-hint").innerText === "" && !document.querySelector("#terraform-copy").disabled`)
	// No answer at all.
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/terraform") {
			<-r.Context().Done()
		}
		return false
	})
	b.hurry()
	b.click("#terraform label:first-of-type")
	b.shows("#terraform-problem", "The server did not deliver the configuration. Close this dialog and try again.")
	b.until(`document.querySelector("#terraform-text").innerText + document.querySelector("#terraform-hint").innerText === "" && document.querySelector("#terraform-copy").disabled`)
}

// With a key for each provider the dialog still has its text and its buttons.
func TestAsTerraformOfMany(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	all := eval[[]string](b, `[...document.querySelectorAll(".row")].map((e) => e.dataset.provider)`)
	if len(all) != 36 {
		t.Fatalf("the providers are %v", all)
	}
	for _, id := range all {
		w.Add(t, w.WorkspaceID, id, "key-of-"+id+"-0123456789", "primary")
	}
	b.allowClipboard()
	for _, size := range [][2]int64{{1300, 900}, {380, 780}, {320, 568}, {667, 375}, {320, 256}} {
		b.size(size[0], size[1])
		b.open(w.page(""))
		b.click("#as-terraform")
		b.shows("#terraform-text", "byok_pool.millionverifier")
		b.click("#terraform-copy")
		b.shows("#terraform-hint", "Copied. Set the 36 variables TF_VAR_…_api_keys, then run terraform plan and terraform apply.")
		b.inSight("#terraform-copy")
		b.inSight("#terraform [data-close]")
		if got := eval[int](b, "document.querySelector('#terraform .code').clientHeight"); got < 120 {
			t.Errorf("at %d by %d pixels the text has a height of %d", size[0], size[1], got)
		}
	}
	// A few are named.
	for _, id := range all[3:] {
		w.Exec(t, "DELETE FROM workspace_byok_keys WHERE provider_id = $1", id)
	}
	b.open(w.page(""))
	b.click("#as-terraform")
	b.shows("#terraform-text", "byok_pool.google")
	b.click("#terraform-copy")
	b.shows("#terraform-hint", "Set TF_VAR_anthropic_api_keys, TF_VAR_google_api_keys, and TF_VAR_openai_api_keys, then run terraform plan and terraform apply.")
}

// "Updates live." is said while it is true, and otherwise what is done instead.
func TestLive(t *testing.T) {
	t.Parallel()
	var f faults
	w := startWorld(t, f.option())
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("tab=rotation"))
	b.shows("#since", "Updates live.")
	isLive := "document.querySelector('#since').innerText.includes('Updates live.')"

	// The server is gone.
	f.set(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	f.cut()
	b.shows("#offline", "No connection to the server.")
	if eval[bool](b, isLive) {
		t.Error("without a server the page says that it updates live")
	}
	f.set(func(http.ResponseWriter, *http.Request) bool { return false })
	b.until(isLive + " && document.querySelector('#offline').hidden")

	// It is there, but has no stream to give.
	f.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			return false
		}
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	f.cut()
	b.shows("#offline", "No live updates: too many pages may be open. The page asks for changes every few seconds.")
	if eval[bool](b, isLive) {
		t.Error("without a stream the page says that it updates live")
	}
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows(".pool .what", "1 request served by this key")
	b.shows("#offline", "No live updates")
	f.set(func(http.ResponseWriter, *http.Request) bool { return false })
	b.until(isLive + " && document.querySelector('#offline').hidden")
}

// A page that nobody looks at gives its stream back, and is up to date when it is
// looked at again.
func TestHiddenPage(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	w := startWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/events") {
				open.Add(1)
				defer open.Add(-1)
			}
			next.ServeHTTP(rw, r)
		})
	}))
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("tab=rotation"))
	b.shows("#since", "Updates live.")
	hide := func(yes bool) {
		t.Helper()
		eval[bool](b, fmt.Sprintf(`Object.defineProperty(document, "hidden", { value: %t, configurable: true }) && document.dispatchEvent(new Event("visibilitychange"))`, yes))
	}
	hide(true)
	b.wait(func() bool { return open.Load() == 0 }, func() string { return "a hidden page keeps its stream" })
	if b.visible("#offline") || strings.Contains(b.text("#since"), "live") {
		t.Errorf("a hidden page says %q", b.text("main"))
	}
	w.Resolve(t, w.WorkspaceID, "openai")
	hide(false)
	b.shows(".pool .what", "1 request served by this key")
	b.shows("#since", "Updates live.")
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows(".pool .what", "2 requests served by this key")
}

// The clock of the browser does not count, and neither does an event that was
// overtaken by a newer state.
func TestTimeOfTheServer(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page("tab=rotation"))
	b.shows("#since", "Updates live.")
	eval[int64](b, "(() => { const real = Date.now; Date.now = () => real() + 3600e3; return Date.now(); })()")
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows(".turn-count", "served 1×")
	if got := b.text(".turn-last"); got != "just now" && !strings.HasSuffix(got, " s ago") {
		t.Errorf("a browser whose clock is an hour ahead says %q", got)
	}

	var asked atomic.Int64
	var f faults
	f.set(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/state"):
			asked.Add(1)
		case strings.HasSuffix(r.URL.Path, "/events"):
			rw.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(rw, `event: state`+"\n"+`data: {"now": 1, "since": 1, "whole": true, "pools": {}, "can": "save", "covered": []}`+"\n\n")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			return true
		}
		return false
	})
	w = startWorld(t, f.option())
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b = newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.wait(func() bool { return asked.Load() > 0 }, func() string { return "an old event does not lead to a request for the state" })
	b.shows("[data-provider=openai] .count", "1 key")
	b.shows("#summary", "1 key · 1 provider")
}

// The page says when the server is gone and mends itself when it is back.
func TestServerGone(t *testing.T) {
	t.Parallel()
	var f faults
	w := startWorld(t, f.option())
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.click(manage("openai"))

	f.set(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	f.cut()
	b.until("!document.querySelector('#offline').hidden")
	if got := eval[string](b, "document.querySelector('#offline').textContent"); !strings.Contains(got, "No connection to the server. What you see may be out of date. The page tries again.") {
		t.Errorf("the page says %q", got)
	}
	b.shows("#manage", "1 of 10") // what it knows stays
	// It is seen wherever the user is.
	b.isSeen("#offline")
	b.click(keyButton(1, "update"))
	b.isSeen("#edit #offline")
	// A change that fails says so once: the notice would repeat it.
	b.fill("#edit-key", "sk-typed-0123456")
	b.click("#edit-save")
	b.shows("#edit-problem", "No response from the server. It may have made the change or not")
	b.until("!document.querySelector('#edit #offline').checkVisibility()")
	b.click("#edit [data-close]")
	b.isSeen("#manage #offline")
	checkAxe(b)
	b.click("#manage [data-close]")
	b.isSeen("main > #offline")
	b.click(manage("openai"))
	b.isSeen("#manage #offline")
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdee", "")
	f.set(func(http.ResponseWriter, *http.Request) bool { return false })
	b.shows("#manage", "2 of 10")
	b.until("document.querySelector('#offline').hidden")
	b.click("#manage [data-close]")

	// The server is there, its database is not.
	w.Exec(t, "ALTER TABLE workspace_byok_keys RENAME TO hidden_byok_keys")
	b.shows("#offline", "The server cannot read its keys right now.")
	checkAxe(b)
	if status := b.open(w.page("")); status != http.StatusInternalServerError {
		t.Errorf("without a database the page is %d", status)
	}
	b.shows("main", "The server could not read its database. Nothing was changed.")
	w.Exec(t, "ALTER TABLE hidden_byok_keys RENAME TO workspace_byok_keys")
	b.click(".card-actions a")
	b.shows("[data-provider=openai] .count", "2 keys")

	// The session ends, and access is taken away.
	w.EndSessions(t, w.Email)
	b.clearCache()
	f.cut()
	b.shows("#offline", "You are signed out.")
	if got := eval[string](b, "document.querySelector('#offline a').getAttribute('href')"); !strings.HasPrefix(got, "/login?next=%2Fworkspace%2F") {
		t.Errorf("the link leads to %s", got)
	}
	// In a dialog it leaves what was typed alone.
	link := func() string {
		t.Helper()
		return eval[string](b, "(({ target, rel, innerText }) => [target, rel, innerText].join('|'))(document.querySelector('#offline a'))")
	}
	if got := link(); got != "||Sign in" {
		t.Errorf("the link on the page is %s", got)
	}
	b.click(add("exa"))
	b.isSeen("#edit #offline a")
	if got := link(); got != "_blank|noopener|Sign in (new tab)" {
		t.Errorf("the link in a dialog is %s", got)
	}
	b.click("#edit [data-close]")
	b.until("document.querySelector('main > #offline')")
	if got := link(); got != "||Sign in" {
		t.Errorf("after a dialog the link on the page is %s", got)
	}
	b.session(w.reader.SessionToken)
	b.open(w.page(""))
	w.Exec(t, `DELETE FROM permissions WHERE user_id = (SELECT id FROM "user" WHERE email = $1)`, w.reader.Email)
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows("h1", "No access to this workspace")
}

// A server that hangs, as one that was stopped or whose network is gone, ends no
// connection. The page notices that it sends nothing.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	release := make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	wait := func() {
		if hangs.Load() {
			<-release
		}
	}
	w := startWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			wait()
			next.ServeHTTP(waitingWriter{rw, wait}, r)
		})
	}))
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.SessionToken)
	b.open(w.page(""))
	b.hurry()
	hangs.Store(true)
	b.click(add("exa"))
	b.fill("#edit-key", "exa-typed-0123456")
	b.click("#edit-save")
	b.shows("#edit-problem", "No response from the server. It may have made the change or not")
	if got := eval[string](b, "document.querySelector('#edit-key').value"); got != "exa-typed-0123456" {
		t.Errorf("the field holds %q", got)
	}
	b.click("#edit [data-close]")
	b.shows("#offline", "No connection to the server.")
	hangs.Store(false)
	once.Do(func() { close(release) })
	b.until("document.querySelector('#offline').hidden")
	w.Add(t, w.WorkspaceID, "exa", "exa-0123456789abc", "")
	b.shows("[data-provider=exa] .count", "key")
}

// waitingWriter waits before each write.
type waitingWriter struct {
	http.ResponseWriter
	wait func()
}

func (w waitingWriter) Write(p []byte) (int, error) {
	w.wait()
	return w.ResponseWriter.Write(p)
}

func (w waitingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestCopilotRoutes is the API of the mothership's keys.
func TestCopilotRoutes(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	w := startWorld(t, func(c *server.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	send := func(session, method, query, body string, header ...string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.URL+"/api/copilot/byok"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "better-auth.session_token="+session)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return response(t, r)
	}
	issue := func(field string) string {
		return `{"expected":"string","code":"invalid_type","path":["` + field + `"],"message":"` + field + ` is required"}`
	}
	validation := func(issues ...string) string {
		return `400 {"error":"Validation error","details":[` + strings.Join(issues, ",") + `]}`
	}
	const secret = "sk-ant-never-to-be-shown-9876"
	for i, step := range []struct{ session, method, query, body, want string }{
		{"", "GET", "?workspaceId=w", "", `401 {"error":"Unauthorized"}`},
		{w.SessionToken, "GET", "?workspaceId=w", "", `401 {"error":"Unauthorized"}`},
		{w.SessionToken, "POST", "", `{}`, `401 {"error":"Unauthorized"}`},
		{w.SessionToken, "DELETE", "?workspaceId=w&provider=openai", "", `401 {"error":"Unauthorized"}`},
		{w.superuser.SessionToken, "GET", "", "", validation(issue("workspaceId"))},
		{w.superuser.SessionToken, "GET", "?workspaceId=", "", validation(`{"origin":"string","code":"too_small","minimum":1,"inclusive":true,"path":["workspaceId"],"message":"workspaceId is required"}`)},
		{w.superuser.SessionToken, "GET", "?workspaceId=w", "", `200 {"keys":[]}`},
		{w.superuser.SessionToken, "POST", "", `{}`, validation(issue("workspaceId"), issue("provider"), issue("apiKey"))},
		{w.superuser.SessionToken, "POST", "", `{"workspaceId":1,"provider":"exa","apiKey":"x"}`, validation(
			`{"expected":"string","code":"invalid_type","path":["workspaceId"],"message":"Invalid input: expected string, received number"}`,
			`{"code":"invalid_value","values":["openai","anthropic"],"path":["provider"],"message":"Invalid option: expected one of \"openai\"|\"anthropic\""}`)},
		{w.superuser.SessionToken, "POST", "", `nonsense`, `400 {"error":"Request body must be valid JSON"}`},
		{w.superuser.SessionToken, "DELETE", "?workspaceId=w", "", validation(issue("provider"))},
		{w.superuser.SessionToken, "DELETE", "?workspaceId=w&provider=openai", "", `404 {"error":"BYOK key not found"}`},
		{w.superuser.SessionToken, "POST", "", `{"workspaceId":"w","provider":"anthropic","apiKey":"` + secret + `","createdBy":"another-user"}`, `200 {"success":true}`},
		{w.superuser.SessionToken, "POST", "", `{"workspaceId":"w","provider":"openai","apiKey":"short"}`, `200 {"success":true}`},
		{w.superuser.SessionToken, "POST", "", `{"workspaceId":"w","provider":"openai","apiKey":"shorter"}`, `200 {"success":true}`},
	} {
		// A replaced key is to be told from a new one by its times.
		for before := byok.FormatTime(time.Now()); byok.FormatTime(time.Now()) == before; {
			runtime.Gosched()
		}
		if got := send(step.session, step.method, step.query, step.body); got != step.want {
			t.Errorf("%d: %s %s %s\n got %s\nwant %s", i, step.method, step.query, step.body, got, step.want)
		}
	}
	if got := send(w.superuser.SessionToken, "POST", "", `{"workspaceId":"w","provider":"openai","apiKey":"x"}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("a form of another site: %s", got)
	}
	type single struct{ Provider, KeyLastFour, CreatedBy, CreatedAt, UpdatedAt string }
	fields := decode[struct{ Keys []map[string]any }](t, strings.TrimPrefix(send(w.superuser.SessionToken, "GET", "?workspaceId=w", ""), "200 "))
	if got := strings.Join(slices.Sorted(maps.Keys(fields.Keys[0])), " "); got != "createdAt createdBy keyLastFour provider updatedAt" {
		t.Errorf("a key has the fields %s", got)
	}
	listed := decode[struct{ Keys []single }](t, strings.TrimPrefix(send(w.superuser.SessionToken, "GET", "?workspaceId=w", ""), "200 "))
	me := decode[struct{ User struct{ ID string } }](t, w.get(t, w.superuser, "/api/auth/get-session")).User.ID
	if len(listed.Keys) != 2 || listed.Keys[0].Provider != "anthropic" || listed.Keys[0].KeyLastFour != "9876" || listed.Keys[0].CreatedBy != me || listed.Keys[1].KeyLastFour != "••••" {
		t.Errorf("the keys are %+v", listed.Keys)
	}
	if listed.Keys[1].CreatedAt >= listed.Keys[1].UpdatedAt {
		t.Errorf("a replaced key was created at %s and updated at %s", listed.Keys[1].CreatedAt, listed.Keys[1].UpdatedAt)
	}
	if got := send(w.superuser.SessionToken, "DELETE", "?workspaceId=w&provider=openai", ""); got != `200 {"success":true}` {
		t.Errorf("delete: %s", got)
	}
	if got := send(w.superuser.SessionToken, "GET", "?workspaceId=w", ""); strings.Contains(got, "openai") {
		t.Errorf("after a delete: %s", got)
	}
	logged := log.String()
	for _, change := range [][2]string{{"add", "anthropic"}, {"add", "openai"}, {"replace", "openai"}, {"delete", "openai"}} {
		want := "msg=audit action=" + change[0] + " .*actor=" + me + " .*scope=copilot owner=w provider_id=" + change[1] + " "
		if !regexp.MustCompile(want).MatchString(logged) {
			t.Errorf("the log lacks %q:\n%s", want, logged)
		}
	}
	if strings.Contains(logged, secret) {
		t.Error("the log has a secret")
	}
	// A stored value that does not open shows nothing of itself.
	w.Exec(t, "UPDATE copilot_byok_keys SET encrypted_api_key = 'garbage'")
	if got := send(w.superuser.SessionToken, "GET", "?workspaceId=w", ""); !strings.Contains(got, `"keyLastFour":"••••"`) || strings.Contains(got, "garbage") {
		t.Errorf("an undecryptable key: %s", got)
	}
}

// A page follows the role of its user; a dialog keeps what was typed until it
// is closed.
func TestRoleChanges(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Add(t, w.WorkspaceID, "openai", "sk-0123456789abcdef", "")
	b := newTab(t, w.URL)
	b.session(w.reader.SessionToken)
	b.open(w.page("search=ai"))
	b.shows(manage("openai"), "View")
	w.PutPermission(t, w.WorkspaceID, w.reader.Email, "admin")
	b.shows(manage("openai"), "Manage")
	b.click(add("xai"))
	b.fill("#edit-key", "sk-typed-0123456")
	w.PutPermission(t, w.WorkspaceID, w.reader.Email, "read")
	b.click("#edit-save")
	b.shows("#edit-problem", "Only workspace admins can manage BYOK keys.")
	b.shows("#edit-lead", "Only workspace admins can change these keys.")
	w.Resolve(t, w.WorkspaceID, "openai")
	b.shows("[data-provider=openai] .count", "1 key")
	if got := eval[string](b, `document.querySelector("#edit-key").value`); got != "sk-typed-0123456" {
		t.Errorf("the dialog holds %q", got)
	}
	b.click("#edit [data-close]")
	b.shows(manage("openai"), "View")
	if b.visible(add("xai")) {
		t.Error("a reader can add a key")
	}
	// Nothing is typed into the list of keys, whose buttons follow at once.
	b.click(manage("openai"))
	buttons := `[...document.querySelectorAll("#manage button")].filter((e) => e.checkVisibility()).map((e) => e.innerText).join()`
	for _, role := range []struct{ permission, buttons string }{{"read", "Close"}, {"admin", "Update,Delete,Close,Add Key"}, {"read", "Close"}} {
		w.PutPermission(t, w.WorkspaceID, w.reader.Email, role.permission)
		b.until(fmt.Sprintf("%s === %q", buttons, role.buttons))
	}
	b.shows("#manage-hint", "Only workspace admins can change these keys.")
	// Without any role there is nothing to see; what was typed stays until it is given
	// up.
	w.PutPermission(t, w.WorkspaceID, w.reader.Email, "admin")
	b.until(buttons + " === 'Update,Delete,Close,Add Key'")
	b.click("#manage-add")
	b.fill("#edit-key", "sk-typed-0123456")
	w.Exec(t, `DELETE FROM permissions WHERE user_id = (SELECT id FROM "user" WHERE email = $1)`, w.reader.Email)
	b.shows("#edit #offline", "You no longer have access to these keys.")
	if got := eval[string](b, `document.querySelector("#edit-key").value`); got != "sk-typed-0123456" {
		t.Errorf("the dialog holds %q", got)
	}
	if got := eval[int](b, `document.querySelectorAll("#manage-keys .key, .row.held").length`); got != 0 {
		t.Errorf("%d keys are shown without access", got)
	}
	b.click("#edit [data-close]")
	b.shows("h1", "No access to this workspace")
	w.PutPermission(t, w.WorkspaceID, w.reader.Email, "read")
	b.open(w.page(""))
	b.click(manage("openai"))
	w.Exec(t, `DELETE FROM permissions WHERE user_id = (SELECT id FROM "user" WHERE email = $1)`, w.reader.Email)
	b.shows("h1", "No access to this workspace")
}
