package settings_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	dir := os.Getenv("LOOK")
	if dir == "" {
		t.Skip()
	}
	w := startWorld(t)
	w.fill(t)
	for _, dark := range []bool{false, true} {
		for _, width := range []int64{1300, 380} {
			b := newTab(t, w.URL)
			b.size(width, 900)
			b.dark(dark)
			save := func(name string) {
				time.Sleep(400 * time.Millisecond)
				mode := map[bool]string{false: "light", true: "dark"}[dark]
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, mode)), b.shot(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b.open("/login")
			save("login")
			b.session(w.SessionToken)
			b.open(w.page(""))
			save("list")
			b.click(manage("openai"))
			save("manage")
			b.click(keyButton(2, "update"))
			save("update")
			b.click("#edit [data-close]")
			b.click(keyButton(2, "delete"))
			save("delete")
			b.click("#delete [data-close]")
			b.click("#manage [data-close]")
			b.click("#as-terraform")
			b.shows("#terraform-text", "import")
			save("terraform")
			b.open(w.page("tab=rotation"))
			save("rotation")
			b.open(w.page("search=nothing"))
			save("nohits")
			b.session(w.reader.SessionToken)
			b.open(w.page(""))
			b.click(manage("openai"))
			save("reader")
			b.session(w.superuser.SessionToken)
			b.open(w.page("tab=mothership&workspace=" + w.WorkspaceID))
			save("mothership")
			b.open(w.page("scope=organization"))
			save("organization")
		}
	}
}
