package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const policyDir = "../../examples/ci/policy"

// change is a resource change as terraform show -json has it.
func change(kind, name, actions, before, after string) string {
	return fmt.Sprintf(`{"address":"%[1]s.%[2]s","mode":"managed","type":%[1]q,"change":{"actions":%[3]s,"before":%[4]s,"after":%[5]s,"after_unknown":{}}}`,
		kind, name, actions, before, after)
}

// unknown is change with attributes that are known after the apply.
func unknown(kind, name, actions, before, after, attributes string) string {
	return strings.Replace(change(kind, name, actions, before, after), `"after_unknown":{}`, `"after_unknown":`+attributes, 1)
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	const (
		create, update, remove, replace, none = `["create"]`, `["update"]`, `["delete"]`, `["delete","create"]`, `["no-op"]`

		openai    = `{"workspace_id":"w","provider_id":"openai"}`
		anthropic = `{"workspace_id":"w","provider_id":"anthropic"}`
		elsewhere = `{"workspace_id":"v","provider_id":"openai"}`
		inState   = `{"workspace_id":"w","provider_id":"openai","api_key":"sk-1"}`

		createFirst = `["create","delete"]`
		poolMoved   = `{"workspace_id":"w","provider_id":"anthropic","keys":{"a":{},"b":{}},"unmanaged":{}}`

		pool     = `{"workspace_id":"w","provider_id":"openai","keys":{"a":{},"b":{}},"unmanaged":{"k1":{"masked_key":"sk-abc...1234"}}}`
		poolLess = `{"workspace_id":"w","provider_id":"openai","keys":{"a":{}},"unmanaged":{"k1":{"masked_key":"sk-abc...1234"}}}`
		poolSole = `{"workspace_id":"w","provider_id":"openai","keys":{"a":{},"b":{}},"unmanaged":{}}`
	)
	unmanaged := "byok_pool.x: removes key k1 (sk-abc...1234), which the configuration does not manage; label the pull request remove-unmanaged-keys to allow it"
	element := `byok_pool.x: removes the key "b"; label the pull request remove-keys to allow it`
	for name, test := range map[string]struct {
		changes []string
		labels  []string
		denied  []string
	}{
		"nothing":                 {},
		"a new write-only secret": {changes: []string{change("byok_key", "a", create, "null", openai)}},
		"a secret in state": {
			changes: []string{change("byok_key", "a", create, "null", inState)},
			denied:  []string{"byok_key.a: use api_key_wo instead of api_key, which is stored in state"},
		},
		"a secret that will be in state": {
			changes: []string{unknown("byok_key", "a", create, "null", openai, `{"api_key":true,"id":true}`)},
			denied:  []string{"byok_key.a: use api_key_wo instead of api_key, which is stored in state"},
		},
		"a new write-only secret, all else unknown": {changes: []string{unknown("byok_key", "a", create, "null", openai, `{"id":true,"masked_key":true}`)}},
		"one of two keys goes":                      {changes: []string{change("byok_key", "a", remove, openai, "null"), change("byok_key", "b", none, openai, openai)}},
		"the last key goes": {
			changes: []string{change("byok_key", "a", remove, openai, "null"), change("byok_key", "b", none, anthropic, anthropic)},
			denied:  []string{`byok_key.a: removes the last key of pool "openai" that this configuration manages`},
		},
		"the last key of one of two workspaces goes": {
			changes: []string{change("byok_key", "a", remove, openai, "null"), change("byok_key", "b", none, elsewhere, elsewhere)},
			denied:  []string{`byok_key.a: removes the last key of pool "openai" that this configuration manages`},
		},
		"the last key is replaced": {changes: []string{change("byok_key", "a", replace, openai, openai)}},
		"the last key moves to another pool": {
			changes: []string{change("byok_key", "a", replace, openai, anthropic)},
			denied:  []string{`byok_key.a: removes the last key of pool "openai" that this configuration manages`},
		},
		"one of two keys moves":            {changes: []string{change("byok_key", "a", replace, openai, anthropic), change("byok_key", "b", none, openai, openai)}},
		"a pool is replaced":               {changes: []string{change("byok_pool", "x", replace, pool, pool)}},
		"a pool is replaced, create first": {changes: []string{change("byok_pool", "x", createFirst, pool, pool)}},
		"a pool moves": {
			changes: []string{change("byok_pool", "x", replace, pool, poolMoved)},
			denied:  []string{`byok_pool.x: removes the last keys of pool "openai"`},
		},
		"a pool moves, create first": {
			changes: []string{change("byok_pool", "x", createFirst, pool, poolMoved)},
			denied:  []string{`byok_pool.x: removes the last keys of pool "openai"`},
		},
		"a pool moves to a workspace that is not known yet": {
			changes: []string{unknown("byok_pool", "x", replace, pool, `{"provider_id":"openai","keys":{"a":{},"b":{}}}`, `{"workspace_id":true}`)},
			denied:  []string{`byok_pool.x: removes the last keys of pool "openai"`},
		},
		"a pool changes":                  {changes: []string{change("byok_pool", "x", update, pool, pool)}},
		"unmanaged keys go":               {changes: []string{change("byok_pool", "x", update, pool, poolSole)}, denied: []string{unmanaged}},
		"unmanaged keys go, with a label": {changes: []string{change("byok_pool", "x", update, pool, poolSole)}, labels: []string{"remove-unmanaged-keys"}},
		"unmanaged keys go, with another label": {
			changes: []string{change("byok_pool", "x", update, pool, poolSole)}, labels: []string{"remove-keys"}, denied: []string{unmanaged},
		},
		"an element goes":               {changes: []string{change("byok_pool", "x", update, pool, poolLess)}, denied: []string{element}},
		"an element goes, with a label": {changes: []string{change("byok_pool", "x", update, pool, poolLess)}, labels: []string{"remove-keys"}},
		"a pool goes": {
			changes: []string{change("byok_pool", "x", remove, pool, "null")},
			denied:  []string{`byok_pool.x: removes the last keys of pool "openai"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := []json.RawMessage{}
			for _, text := range test.changes {
				changes = append(changes, json.RawMessage(text))
			}
			text, err := json.Marshal(map[string]any{"resource_changes": changes})
			if err != nil {
				t.Fatal(err)
			}
			var plan any
			if err := json.Unmarshal(text, &plan); err != nil {
				t.Fatal(err)
			}
			labels := []any{}
			for _, label := range test.labels {
				labels = append(labels, label)
			}
			denied, err := evaluate(t.Context(), policyDir, plan, map[string]any{"labels": labels})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(denied, test.denied) {
				t.Errorf("denied %q, want %q", denied, test.denied)
			}
		})
	}
}
