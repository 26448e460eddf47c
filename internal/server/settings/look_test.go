package settings_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/acctest"
)

func TestLook(t *testing.T) {
	dir := os.Getenv("LOOK")
	if dir == "" {
		t.Skip()
	}
	s := acctest.Start(t)
	for i, n := range []struct {
		id   string
		keys int
	}{{"openai", 7}, {"anthropic", 3}, {"google", 1}, {"exa", 10}, {"hunter", 2}} {
		for k := range n.keys {
			name := []string{"Production EU", "primary", "", "batch jobs", "spare", "research", "Team Kappa with a rather long name for a key"}[k%7]
			s.Add(t, s.WorkspaceID, n.id, fmt.Sprintf("sk-proj-%d%d-abcdefghijkl%04d", i, k, 1000+k*37), name)
		}
	}
	s.Corrupt(t, s.List(t, s.WorkspaceID)[2].ID)
	for range 23 {
		s.Resolve(t, s.WorkspaceID, "openai")
		s.Resolve(t, s.WorkspaceID, "anthropic")
	}
	for range 5 {
		s.Resolve(t, s.WorkspaceID, "exa")
	}
	base := "/workspace/" + s.WorkspaceID + "/settings/byok"
	for _, dark := range []bool{false, true} {
		for _, width := range []int64{1300, 380} {
			b := newTab(t, s.URL)
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
			b.session(s.SessionToken)
			b.open(base)
			save("list")
			b.click("[data-provider=openai] [data-do=manage]")
			save("manage")
			b.click("#manage-keys .key:nth-child(2) [data-do=update]")
			save("update")
			b.click("#edit [data-close]")
			b.click("#manage-keys .key:nth-child(2) [data-do=delete]")
			save("delete")
			b.click("#delete [data-close]")
			b.click("#manage [data-close]")
			b.click("#as-terraform")
			b.shows("#terraform-text", "import")
			save("terraform")
			b.open(base + "?tab=rotation")
			save("rotation")
			b.open(base + "?search=nothing")
			save("nohits")
		}
	}
}
