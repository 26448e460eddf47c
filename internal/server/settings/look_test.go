package settings_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	dir := os.Getenv("LOOK")
	if dir == "" {
		t.Skip()
	}
	var f faults
	w := startWorld(t, f.option())
	b := newTab(t, w.URL)
	save := func(name string) {
		time.Sleep(400 * time.Millisecond)
		if err := os.WriteFile(filepath.Join(dir, name+".png"), b.shot(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.session(w.superuser.SessionToken)
	b.open(w.page("tab=rotation"))
	save("x-empty-rotation")
	w.fill(t)
	b.dark(true)
	b.open(w.page("tab=mothership&workspace=" + w.WorkspaceID))
	b.click(add("openai"))
	b.fill("#edit-key", "sk-0123456789abcdef")
	b.click("#edit-save")
	b.shows("#mothership", "Ends in")
	save("x-mothership")
	b.dark(false)
	b.open(w.page(""))
	b.click(manage("exa"))
	save("x-full")
	b.click(keyButton(1, "update"))
	b.fill("#edit-key", "sk-0123456789abcdef")
	b.fill("#edit-name", strings.Repeat("name", 31))
	b.click("#edit-save")
	b.shows("#edit-problem", "120")
	save("x-refused")
	b.size(380, 800)
	save("x-refused-phone")
	b.click("#edit [data-close]")
	b.click("#manage [data-close]")
	w.Exec(t, "ALTER TABLE organization_byok_keys RENAME TO hidden_byok_keys")
	b.size(320, 700)
	b.session(w.SessionToken)
	b.open(w.page(""))
	save("x-320")
	b.size(1300, 900)
	b.click(".menu-user summary")
	f.set(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	f.cut()
	b.shows("#offline", "No connection")
	save("x-offline")
}
