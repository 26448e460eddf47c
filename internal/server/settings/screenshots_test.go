package settings_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// TestScreenshots makes the pictures of the documentation, in the folder that
// BYOK_SCREENSHOTS names; `make screenshots` runs it.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("BYOK_SCREENSHOTS")
	if dir == "" {
		t.Skip("makes the pictures of the documentation: make screenshots")
	}
	start := time.Now()
	day := time.Date(2026, 11, 23, 9, 41, 0, 0, time.UTC)
	w := startWorld(t, func(c *server.Config) {
		c.Now = func() time.Time { return day.Add(time.Since(start)) }
	})
	w.fill(t)
	w.Exec(t, `UPDATE "user" SET name = 'Dana Whitfield' WHERE name = 'Colleague'`)
	for i, key := range w.List(t, w.WorkspaceID) {
		created := day.AddDate(0, 0, -160+3*i).Format("2006-01-02 15:04:05.000000")
		w.Exec(t, "UPDATE workspace_byok_keys SET created_at = $2, updated_at = $2 WHERE id = $1", key.ID, created)
		if i%4 == 1 {
			w.Exec(t, "UPDATE workspace_byok_keys SET updated_at = '2026-11-16 08:00:00.000000' WHERE id = $1", key.ID)
		}
	}
	for _, shot := range []struct {
		name          string
		width, height int64
		dark          bool
		path          string
		prepare       func(*tab)
	}{
		{name: "settings-keys", width: 1080, height: 760, path: w.page("")},
		{name: "settings-manage", width: 1080, height: 860, path: w.page(""), prepare: func(b *tab) { b.click(manage("openai")) }},
		{name: "settings-rotation", width: 1080, height: 800, dark: true, path: w.page("tab=rotation"), prepare: func(b *tab) { b.shows("#since", "Updates live.") }},
		{name: "settings-terraform", width: 1080, height: 760, path: w.page(""), prepare: func(b *tab) {
			b.click("#as-terraform")
			b.shows("#terraform-text", "import")
		}},
		{name: "settings-phone", width: 380, height: 760, dark: true, path: w.page(""), prepare: func(b *tab) { b.click(manage("openai")) }},
	} {
		b := newTab(t, w.URL)
		call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: shot.width, Height: shot.height, DeviceScaleFactor: 1.5, Mobile: shot.width < 640,
		})
		call(b, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true})
		b.dark(shot.dark)
		b.session(w.superuser.SessionToken)
		w.Resolve(t, w.WorkspaceID, "openai")
		b.open(shot.path)
		// The space that a hidden scrollbar would have.
		eval[string](b, `document.documentElement.style.scrollbarGutter = "auto"`)
		if shot.prepare != nil {
			shot.prepare(b)
		}
		b.until("document.getAnimations().every((a) => a.playState === 'finished')")
		quality := int64(82)
		picture := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality})
		if err := os.WriteFile(filepath.Join(dir, shot.name+".webp"), picture.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s.webp: %d bytes\n", shot.name, len(picture.Data))
	}
}
