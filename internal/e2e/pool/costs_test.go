package pool

import (
	"fmt"
	"strings"
	"testing"
)

// hundredPools declares a pool of three keys in each of 100 workspaces.
func (w *world) hundredPools(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "%s", poolWith(fmt.Sprintf("p%03d", i), openai, keys(span("k", 1, 3)...), fmt.Sprintf("workspace_id = %q", w.server.NewWorkspace(t))))
	}
	return b.String()
}

// A plan of 100 pools in 100 workspaces costs 100 lists. An apply of their
// 300 keys costs 300 adds and no more than 200 lists, and a destroy 300 deletes.
// make bench counts those of 1,000 keys.
func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, w.hundredPools(t))
	w.Plan(t, "-out=saved.tfplan")
	w.server.Reset()
	w.Must(t, "apply", "-no-color", "saved.tfplan")
	if adds, lists, all := w.server.Count("POST", "/byok-keys"), w.server.Count("GET", "/byok-keys"), w.server.Count("", "/byok-keys"); adds != 300 || lists > 200 || all != adds+lists {
		t.Errorf("the apply sent %d adds and %d lists of %d requests, want 300 and at most 200, and nothing else", adds, lists, all)
	}
	w.server.Reset()
	w.wantEmptyPlan(t)
	if lists, all := w.server.Count("GET", "/byok-keys"), w.server.Count("", "/byok-keys"); lists != 100 || all != 100 {
		t.Errorf("the plan sent %d lists of %d requests, want 100", lists, all)
	}
	w.server.Reset()
	w.Destroy(t, "-refresh=false")
	if deletes, all := w.server.Count("DELETE", "/byok-keys"), w.server.Count("", "/byok-keys"); deletes != 300 || all != 300 {
		t.Errorf("the destroy sent %d deletes of %d requests, want 300", deletes, all)
	}
}
