package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pool is created in one apply, serves its keys in the order of the sorted
// map keys, and plans empty afterwards. Its secrets are in neither state nor
// plan.
func TestCreate(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			names := span("k", 1, size)
			// Declared in another order than that of the names.
			backwards := slices.Clone(names)
			slices.Reverse(backwards)
			elements, values := "", "secrets = {\n"
			for _, name := range backwards {
				elements += fmt.Sprintf("\"%[1]s\" = { api_key_wo = var.secrets[\"%[1]s\"] }\n", name)
				values += fmt.Sprintf("  %s = %q\n", name, secret(name))
			}
			w.configure(t, pool(openai, elements), secretsVariable)
			w.Write(t, "terraform.tfvars", values+"}\n")
			if planned := w.Plan(t, "-out=saved.tfplan"); planned.Exit != 2 {
				t.Fatal(planned.Output)
			}
			shown := w.Must(t, "show", "-json", "saved.tfplan").Output
			w.Must(t, "apply", "-no-color", "-var-file=terraform.tfvars", "saved.tfplan")
			w.wantEmptyPlan(t)
			w.wantEmptyPlan(t, "-refresh=false")
			if got := w.storedNames(t, openai); !slices.Equal(got, names) {
				t.Errorf("stored in the order %v", got)
			}
			want := secrets(names...)
			w.wantServed(t, openai, append(append(want, want...), want[0])[:2*size]...)
			w.wantStateIsStored(t, openai, openai)
			state, err := os.ReadFile(filepath.Join(w.Dir, "terraform.tfstate"))
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{shown, string(state)} {
				if strings.Contains(text, "sk-test-0123456789") {
					t.Errorf("a secret is in the plan or the state:\n%s", text)
				}
			}
		})
	}
}

// secretsVariable declares the secrets as users do.
const secretsVariable = `variable "secrets" {
  type      = map(string)
  ephemeral = true
  sensitive = true
}
`

// k10 sorts before k2: the order is that of the texts.
func TestCreateOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, keys("k2", "k10", "k1")))
	w.settled(t)
	w.wantServed(t, openai, secrets("k1", "k10", "k2", "k1", "k10", "k2")...)
	// Keys that are added later come last.
	w.configure(t, pool(openai, keys("k2", "k10", "k1", "a")))
	w.settled(t)
	w.wantServed(t, openai, secrets("k1", "k10", "k2", "a")...)
}

func TestDestroy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.add(t, openai, "other")
	w.configure(t, pool(openai, exclusive, keys("a", "b")))
	w.Apply(t)
	w.Destroy(t, "-refresh=false")
	if left := w.stored(t, openai); len(left) != 1 || left[0].ID != other {
		t.Errorf("left are %v, want the key of another user", left)
	}
}
