package ledger

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var reportPool = byok.Pool{Scope: byok.WorkspaceScope("0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11"), ProviderID: "openai"}

func reportKeys() []byok.Key {
	ci, long, hostile := "ci", "東京の本番環境で使うとても長い名前のキーです", "\x1b[31mred\nkey"
	return []byok.Key{
		{ID: "V1StGXR8_Z5jdHi6B-myT", Name: &ci, MaskedKey: "sk-pro...9xQ2", CreatedAt: "2026-01-02T03:04:05.123Z"},
		{ID: "aaaaaaaaaaaaaaaaaaaaa", MaskedKey: byok.MaskUnknown, CreatedAt: "2026-01-02T23:59:59.999Z"},
		{ID: "bbbbbbbbbbbbbbbbbbbbb", Name: &long, MaskedKey: "1234...6789", CreatedAt: "2026-02-03T04:05:06.000Z"},
		{ID: "ccccccccccccccccccccc", Name: &hostile, MaskedKey: "sk-pro...wxyz", CreatedAt: "not a time"},
	}
}

// TestReports shows every text as the user reads it.
func TestReports(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		report interface {
			Summary() string
			Detail() string
		}
		summary, detail string
	}{
		"unmanaged keys": {
			&OverCap{Pool: reportPool, Cap: 10, Stored: 10, Kept: 5, Removed: 1, Added: 3, Replaced: 1, Settled: true, Unmanaged: reportKeys(), Sequential: true},
			`Pool "openai" would hold 12 keys, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" can store at most 10 keys for provider ID "openai", and would have to hold 12 keys: the API would refuse 2 of them.

    10  stored now
  -  1  to be removed
  +  3  to be added
  = 12  in the end, 2 too many

If you set -parallelism=1, these are the figures of the plan so far: Terraform plans the rest after this error.

Stored keys that are not part of this plan:

  ID                     NAME                         MASKED KEY     CREATED (UTC)
  V1StGXR8_Z5jdHi6B-myT  ci                           sk-pro...9xQ2  2026-01-02 03:04
  aaaaaaaaaaaaaaaaaaaaa  -                            ••••••••       2026-01-02 23:59
  bbbbbbbbbbbbbbbbbbbbb  東京の本番環境で使うとても…  1234...6789    2026-02-03 04:05
  ccccccccccccccccccccc  �[31mred�key                 sk-pro...wxyz  not a time

What you can do:

- Declare 2 keys fewer, or remove 2 keys from the pool.
- If one of the keys above is no longer needed, delete it in Sim.
- If this plan adds one of the keys above a second time, import it instead:

    import {
      to = byok_key.example
      id = "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11/openai/V1StGXR8_Z5jdHi6B-myT"
    }

- If your configuration removes one of the keys above, Terraform may not have planned that yet, as happens with -parallelism=1. Plan again with the default parallelism.
- A replaced key counts as removed and added. With create_before_destroy, both are stored for a moment, which a full pool does not allow.
- If this is an apply, and its plan passed, keys have been added since by another user: plan again.
- If the server has another cap, set max_keys_per_provider in the provider block.
- If you ran terraform destroy, run it with -refresh=false. Without it, Terraform first plans the keys that are missing, and that plan fails.`,
		},
		"managed keys alone": {
			&OverCap{Pool: reportPool, Cap: 10, Stored: 8, Kept: 8, Added: 3, Certain: true, Settled: true},
			`Pool "openai" would hold 11 keys, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" can store at most 10 keys for provider ID "openai", and would have to hold 11 keys: the API would refuse 1 of them.

     8  stored now
  -  0  to be removed
  +  3  to be added
  = 11  in the end, 1 too many

What you can do:

- Declare 1 key fewer, or remove 1 key from the pool.
- If this is an apply, and its plan passed, keys have been added since by another user: plan again.
- If the server has another cap, set max_keys_per_provider in the provider block.
- If you ran terraform destroy, run it with -refresh=false. Without it, Terraform first plans the keys that are missing, and that plan fails.`,
		},
		"not the whole plan": {
			&OverCap{Pool: reportPool, Cap: 10, Stored: 4, Kept: 4, Added: 7, Certain: true},
			`Pool "openai" would hold at least 11 keys, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" can store at most 10 keys for provider ID "openai", and would have to hold at least 11 keys: the API would refuse at least 1 of them.

     4  stored now
  -  0  to be removed so far
  +  7  to be added so far
  = 11  so far, 1 too many

What you can do:

- Declare at least 1 key fewer, or remove at least 1 key from the pool.
- If this is an apply, and its plan passed, keys have been added since by another user: plan again.
- If the server has another cap, set max_keys_per_provider in the provider block.
- If you ran terraform destroy, run it with -refresh=false. Without it, Terraform first plans the keys that are missing, and that plan fails.`,
		},
		"crowded": {
			&Crowded{Creates: 200},
			`200 creates wait for removals of the same apply`,
			`Their pools are full: the API accepts these keys only after other keys of this plan are removed. Terraform works on 10 resources at a time and does not know that removals must come first. If waiting creates take up all of them, they fail and have to be applied again.

What you can do:

- Run terraform apply -parallelism=210. Then removals always find a free slot.
- Or manage each full pool as one byok_pool. It swaps any number of keys at any parallelism.`,
		},
		"refused, in rotation order": {
			&Refused{Pool: reportPool, Cap: 10, Expect: 10, Stored: []byok.Key{reportKeys()[1], reportKeys()[0]}},
			`Pool "openai" is full, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" already stores as many keys as it can for provider ID "openai". The API refused to add another, and no delete of this apply freed capacity within the create timeout. The key was not added.

Keys in the pool now:

  ID                     NAME  MASKED KEY     CREATED (UTC)
  V1StGXR8_Z5jdHi6B-myT  ci    sk-pro...9xQ2  2026-01-02 03:04
  aaaaaaaaaaaaaaaaaaaaa  -     ••••••••       2026-01-02 23:59

What you can do:

- Plan again: the plan shows how many keys are too many, and which ones it does not manage.
- If this resource replaces another one, remove create_before_destroy from it: a full pool cannot store both.
- If other keys of this apply free capacity, run the apply again: creates that wait can occupy all slots of -parallelism, so that the deletes cannot start.
- If deletes take longer than that, raise create in the timeouts block.`,
		},
		"refused, pool unknown, by another cap": {
			&Refused{Pool: reportPool, Cap: 3, Expect: 10},
			`Pool "openai" is full, its cap is 3`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" already stores as many keys as it can for provider ID "openai". The API refused to add another, and no delete of this apply freed capacity within the create timeout. The key was not added.

What you can do:

- The server's cap is 3, but plans count up to 10: set max_keys_per_provider = 3 in the provider block.
- Plan again: the plan shows how many keys are too many, and which ones it does not manage.
- If this resource replaces another one, remove create_before_destroy from it: a full pool cannot store both.
- If other keys of this apply free capacity, run the apply again: creates that wait can occupy all slots of -parallelism, so that the deletes cannot start.
- If deletes take longer than that, raise create in the timeouts block.`,
		},
		"refused, all slots taken": {
			&Refused{Pool: reportPool, Cap: 10, Expect: 10, Waiting: 10},
			`Pool "openai" is full, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" already stores as many keys as it can for provider ID "openai". The API refused to add another, and nothing was in progress that could free capacity. 10 creates were waiting, this one included: these 10 keys were not added. If this apply also deletes keys of full pools, these creates may have occupied all slots of -parallelism: run terraform apply again, and it adds the keys that are left. If it deletes none, there is no room for them.

What you can do:

- Plan again: the plan shows how many keys are too many, and which ones it does not manage.
- If this resource replaces another one, remove create_before_destroy from it: a full pool cannot store both.
- To swap the keys of full pools in one apply, use a -parallelism above the number of keys that it adds to them, or byok_pool.`,
		},
		"refused again": {
			&Refused{Pool: reportPool, Cap: 10, Expect: 10, Waiting: 1, Repeated: true},
			`Pool "openai" is full, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" already stores as many keys as it can for provider ID "openai". The API refused to add another, and nothing was in progress that could free capacity. The key was not added. If this apply deletes keys of the pool later, run terraform apply again.

Another error about this pool lists its keys and says what you can do.`,
		},
		"refused, alone": {
			&Refused{Pool: reportPool, Cap: 10, Expect: 10, Waiting: 1},
			`Pool "openai" is full, its cap is 10`,
			`Workspace "0b1f1d3e-7c56-4d0c-9d1e-2f1d2a8f4a11" already stores as many keys as it can for provider ID "openai". The API refused to add another, and nothing was in progress that could free capacity. The key was not added. If this apply deletes keys of the pool later, run terraform apply again.

What you can do:

- Plan again: the plan shows how many keys are too many, and which ones it does not manage.
- If this resource replaces another one, remove create_before_destroy from it: a full pool cannot store both.`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.summary, tc.report.Summary()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.detail, tc.report.Detail()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTableIsNoLongerThanAPool(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	writeTable(&b, make([]byok.Key, tableRows+2))
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if got, want := len(lines), 1+tableRows+1; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	if got, want := lines[len(lines)-1], "  ... and 2 more"; got != want {
		t.Errorf("last line %q, want %q", got, want)
	}
	b.Reset()
	if writeTable(&b, make([]byok.Key, tableRows)); strings.Contains(b.String(), "more") {
		t.Errorf("a table with all of %d keys: %s", tableRows, b.String())
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "abcdef": "abcdef", "abcdefg": "abcde…", "本番環": "本番環", "本番環境": "本番…", "a本番環": "a本番…"} {
		if got := shorten(in, 6); got != want {
			t.Errorf("shorten(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzTable: whatever a server and other people put into a key, a table is
// safe to print, keeps its lines, and stays verbatim in Terraform's output.
func FuzzTable(f *testing.F) {
	f.Add("key", "name", "sk-pro...wxyz", "2026-01-02T03:04:05.123Z")
	f.Add("", "\x1b]0;title\a", "🔑🔑...\uFFFD", "\r\n")
	f.Add("a\tb", strings.Repeat("e\u0301", 60), strings.Repeat("\u202e", 9), "2026-01-02T03:04:05+25:00")
	f.Fuzz(func(t *testing.T, id, name, masked, createdAt string) {
		var b strings.Builder
		writeTable(&b, []byok.Key{{ID: id, Name: &name, MaskedKey: masked, CreatedAt: createdAt}})
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d lines, want 2: %q", len(lines), b.String())
		}
		for _, line := range lines {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("Terraform would wrap %q", line)
			}
			for _, r := range line {
				if !unicode.IsPrint(r) {
					t.Errorf("%q in %q", r, line)
				}
			}
		}
	})
}
