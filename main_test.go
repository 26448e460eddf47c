package main

import (
	"maps"
	"os/exec"
	"testing"
)

// What the guide on the reference server makes in a clone holds secrets, and is
// not to be committed.
func TestGitIgnoresSecrets(t *testing.T) {
	t.Parallel()
	if err := exec.Command("git", "rev-parse", "--git-dir").Run(); err != nil {
		t.Skipf("not a clone: %v", err)
	}
	for _, name := range []string{
		"byok-server.db", "byok-server.db-wal", "byok-server.db-shm", "byok-server.db.secrets", "examples/demo/x.db.secrets", "keys.sqlite", "server.env", "bootstrap.json",
		"terraform.tfstate", "terraform.tfstate.backup", "change.tfplan",
	} {
		if err := exec.Command("git", "check-ignore", "-q", name).Run(); err != nil {
			t.Errorf("git does not ignore %s: %v", name, err)
		}
	}
}

func TestMuteUnreadLogs(t *testing.T) {
	t.Parallel()
	off := map[string]string{"TF_LOG_SDK": "OFF", "TF_LOG_SDK_PROTO": "OFF", "TF_LOG_SDK_FRAMEWORK": "OFF", "TF_LOG_PROVIDER_BYOK": "OFF"}
	for name, tc := range map[string]struct{ env, want map[string]string }{
		"nobody reads":         {map[string]string{}, off},
		"off":                  {map[string]string{"TF_LOG": "off"}, off},
		"core alone":           {map[string]string{"TF_LOG_CORE": "TRACE"}, off},
		"all":                  {map[string]string{"TF_LOG": "debug"}, nil},
		"providers":            {map[string]string{"TF_LOG_PROVIDER": "TRACE"}, nil},
		"providers, else off":  {map[string]string{"TF_LOG": "OFF", "TF_LOG_PROVIDER": "TRACE"}, nil},
		"one level of its own": {map[string]string{"TF_LOG_SDK": "WARN"}, map[string]string{"TF_LOG_SDK_PROTO": "OFF", "TF_LOG_SDK_FRAMEWORK": "OFF", "TF_LOG_PROVIDER_BYOK": "OFF"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			muteUnreadLogs(
				func(name string) (string, bool) { value, ok := tc.env[name]; return value, ok },
				func(name, value string) error { got[name] = value; return nil })
			if !maps.Equal(got, tc.want) {
				t.Errorf("set %v, want %v", got, tc.want)
			}
		})
	}
}
