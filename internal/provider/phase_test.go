package provider

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// shortForms are the severities and first words of diagnostics.
func shortForms(diags []*tfprotov6.Diagnostic) (all []string) {
	for _, d := range diags {
		all = append(all, d.Severity.String()+" "+withoutSubject(d.Summary))
	}
	return all
}

// withoutSubject is a summary without what function about adds.
func withoutSubject(summary string) string {
	whole, _ := headings()
	if heading, _, _ := strings.Cut(summary, ": "); whole[heading] {
		return heading
	}
	return summary
}

func (p *protocol) wantDiagnostics(diags []*tfprotov6.Diagnostic, want ...string) {
	p.t.Helper()
	if diff := cmp.Diff(want, shortForms(diags)); diff != "" {
		p.t.Errorf("diagnostics: %s", diff)
	}
}

// createAll plans and applies keys of openai, as one operation.
func (p *protocol) createAll(n int) (states []map[string]any, privates [][]byte) {
	p.t.Helper()
	for range n {
		state, private, diags := p.apply(p.planAs(true, nil, keyConfig, nil))
		p.check(diags, nil)
		states, privates = append(states, state), append(privates, private)
	}
	return states, privates
}

var (
	keyConfig = map[string]any{"provider_id": "openai", "api_key_wo": secretA}
	// otherKey looks like none that is stored.
	otherKey = map[string]any{"provider_id": "openai", "api_key_wo": secretC}
)

const (
	overByOne = `Pool "openai" would hold 11 keys, its cap is 10`
	asError   = "ERROR "
	asWarn    = "WARNING "
)

// Terraform can configure a provider once and then plan and apply in turn, as
// terraform test does from 1.13 on. The hint is false in plans, true in applies.
func TestPhaseOneConfigureForManyOperations(t *testing.T) {
	t.Parallel()
	for title, readFirst := range map[string]bool{"a plan that begins with a create": false, "a plan that begins with a read": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			p := newProtocol(t, s)
			for range 8 {
				p.check(p.plan(nil, keyConfig, nil).resp.Diagnostics, nil)
			}
			states, privates := p.createAll(8)

			// Another user adds two keys: the list of before is stale.
			s.Add(t, s.WorkspaceID, "openai", secretB, "")
			s.Add(t, s.WorkspaceID, "openai", secretB, "")
			if !readFirst {
				p.wantDiagnostics(p.plan(nil, otherKey, nil).resp.Diagnostics, asError+overByOne)
			}
			for i, state := range states {
				read := p.read(p.value(p.resource, state), privates[i], nil)
				p.check(p.plan(p.attributes(p.resource, read.NewState), keyConfig, read.Private).resp.Diagnostics, nil)
			}
			if readFirst {
				p.wantDiagnostics(p.plan(nil, otherKey, nil).resp.Diagnostics, asError+overByOne)
			}

			// The same again: a removal, applied, gives capacity to a create.
			p.check(p.plan(states[0], nil, privates[0]).resp.Diagnostics, nil)
			_, _, diags := p.apply(planned{prior: states[0], resp: &tfprotov6.PlanResourceChangeResponse{PlannedState: p.value(p.resource, nil)}})
			p.check(diags, nil)
			p.check(p.plan(nil, keyConfig, nil).resp.Diagnostics, nil)
			p.createAll(1)
			p.wantDiagnostics(p.plan(nil, otherKey, nil).resp.Diagnostics, asError+overByOne)
		})
	}
}

// A second plan without an apply, of a provider that is configured once.
func TestPhasePlanAfterPlan(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	p := newProtocol(t, s)
	states, privates := p.createAll(4)
	for range 3 {
		for i, state := range states {
			p.read(p.value(p.resource, state), privates[i], nil)
			p.check(p.plan(state, keyConfig, privates[i]).resp.Diagnostics, nil)
		}
		for range 6 {
			p.check(p.plan(nil, keyConfig, nil).resp.Diagnostics, nil)
		}
	}
}

// Several plans without an apply, before any key exists, and then an apply, of a
// provider that is configured once. Nothing but the creates themselves shows
// where one plan ends.
func TestPhasePlansOfTheSameCreates(t *testing.T) {
	t.Parallel()
	const many = 8 // of them, twice are more than the cap
	t.Run("byok_key", func(t *testing.T) {
		t.Parallel()
		p := newProtocol(t, acctest.Start(t))
		config := func(i int) map[string]any {
			return map[string]any{"provider_id": "openai", "api_key_wo": secretA, "name": strconv.Itoa(i)}
		}
		for range 3 {
			for i := range many {
				p.check(p.plan(nil, config(i), nil).resp.Diagnostics, nil)
			}
		}
		for i := range many { // an apply plans again
			_, _, diags := p.apply(p.planAs(true, nil, config(i), nil))
			p.check(diags, nil)
		}
		for i := range byok.Cap - many {
			p.check(p.plan(nil, config(many+i), nil).resp.Diagnostics, nil)
		}
		p.wantDiagnostics(p.plan(nil, config(byok.Cap), nil).resp.Diagnostics, asError+overByOne)
	})
	t.Run("byok_pool", func(t *testing.T) {
		t.Parallel()
		s := acctest.Start(t)
		core := tfcore.New(t, func() tfprotov6.ProviderServer { return newServer(nil) }, map[string]any{"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken}, 1)
		declared := func(n int) map[string]any {
			elements := map[string]any{}
			for i := range n {
				elements[strconv.Itoa(i)] = map[string]any{"api_key_wo": secretA}
			}
			return map[string]any{"provider_id": "openai", "keys": elements}
		}
		const address = poolTypeName + ".this"
		one := core.Begin(t.Context(), false)
		plan := func(n int) {
			config := tfcore.Object(core.Type(address), declared(n))
			one.PlanOne(t.Context(), address, config, tfcore.Instance{Value: tfcore.Null(core.Type(address))})
		}
		for range 3 {
			plan(many)
		}
		if err := one.Err(); err != nil {
			t.Error(err)
		}
		plan(byok.Cap + 1)
		if one.Err() == nil {
			t.Error("a pool over its cap is planned")
		}
	})
}

// Terraform Stacks and -allow-deferral set the hint in plans, too.
func TestPhaseHintInPlans(t *testing.T) {
	t.Parallel()
	t.Run("only creates, which may be an apply", func(t *testing.T) {
		t.Parallel()
		s := acctest.Start(t)
		for range byok.Cap {
			s.Add(t, s.WorkspaceID, "openai", secretB, "unmanaged")
		}
		p := newProtocol(t, s)
		p.wantDiagnostics(p.planAs(true, nil, keyConfig, nil).resp.Diagnostics, asWarn+overByOne)
	})
	t.Run("too many creates for any pool", func(t *testing.T) {
		t.Parallel()
		p := newProtocol(t, acctest.Start(t))
		for range byok.Cap {
			p.check(p.planAs(true, nil, keyConfig, nil).resp.Diagnostics, nil)
		}
		p.wantDiagnostics(p.planAs(true, nil, keyConfig, nil).resp.Diagnostics, asError+overByOne)
	})
	t.Run("a read shows that it is a plan", func(t *testing.T) {
		t.Parallel()
		s := acctest.Start(t)
		states, privates := newProtocol(t, s).createAll(1)
		for range byok.Cap - 1 {
			s.Add(t, s.WorkspaceID, "openai", secretB, "unmanaged")
		}
		s.Replace(t, s.WorkspaceID, "openai", states[0]["id"].(string), secretB, nil)
		p := newProtocol(t, s)
		read := p.read(p.value(p.resource, states[0]), privates[0], nil)
		state := p.attributes(p.resource, read.NewState)
		p.wantDiagnostics(p.planAs(true, state, keyConfig, read.Private).resp.Diagnostics, asWarn+"Key changed outside of Terraform")
		p.wantDiagnostics(p.planAs(true, nil, keyConfig, nil).resp.Diagnostics, asError+overByOne)
	})
}

// An apply plans its creates and updates again. It neither waits nor repeats
// what the plan has reported, and its lists are those that the adds need.
func TestPhaseApply(t *testing.T) {
	t.Parallel()
	for title, hint := range map[string]bool{"with the hint": true, "without": false} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			states, privates := newProtocol(t, s).createAll(byok.Cap)

			// A swap: the create comes first, and is refused until the delete.
			p := newProtocol(t, s)
			s.Reset()
			start, created := time.Now(), make(chan planned, 1)
			go func() { created <- p.planAs(hint, nil, otherKey, nil) }()
			_, _, diags := p.apply(planned{prior: states[0], resp: &tfprotov6.PlanResourceChangeResponse{PlannedState: p.value(p.resource, nil)}})
			p.check(diags, nil)
			create := <-created
			p.wantDiagnostics(create.resp.Diagnostics)
			_, _, diags = p.apply(create)
			p.check(diags, nil)
			if took := time.Since(start); took >= ledger.DefaultQuiet {
				t.Errorf("took %v", took)
			}
			if lists := s.Count(http.MethodGet, keysPath); lists > 2 {
				t.Errorf("%d lists: want one before the add and one after it", lists)
			}

			// An update of a drifted key.
			s.Replace(t, s.WorkspaceID, "openai", states[1]["id"].(string), secretB, nil)
			read := newProtocol(t, s).read(p.value(p.resource, states[1]), privates[1], nil)
			update := p.planAs(hint, p.attributes(p.resource, read.NewState), keyConfig, read.Private)
			p.wantDiagnostics(update.resp.Diagnostics)
		})
	}
}

// What a replace needs at its destination is checked in its first planning
// call, whose warnings Terraform shows.
func TestPhaseReplaceChecksItsDestinationFirst(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for range byok.Cap {
		s.Add(t, s.WorkspaceID, "anthropic", secretB, "unmanaged")
	}
	states, privates := newProtocol(t, s).createAll(1)
	move := func(attribute, value string) map[string]any {
		config := map[string]any{"provider_id": "openai", "api_key_wo": secretA, "workspace_id": s.WorkspaceID}
		config[attribute] = value
		return config
	}
	full := `Pool "anthropic" would hold 11 keys, its cap is 10`
	for title, tc := range map[string]struct {
		config   map[string]any
		capCheck string
		want     string
	}{
		"workspace that does not exist":           {move("workspace_id", "mistyped"), "error", asError + "Cannot plan keys: workspace not found"},
		"workspace that does not exist, warnings": {move("workspace_id", "mistyped"), "warning", asError + "Cannot plan keys: workspace not found"},
		"full pool":           {move("provider_id", "anthropic"), "error", asError + full},
		"full pool, warnings": {move("provider_id", "anthropic"), "warning", asWarn + full},
		"no secret":           {map[string]any{"provider_id": "anthropic"}, "off", asError + "Missing API key"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			p := newProtocolTo(t, s, newServer(map[string]string{envCapCheck: tc.capCheck}))
			first := p.plan(states[0], tc.config, privates[0])
			p.wantDiagnostics(first.resp.Diagnostics, tc.want)
			if strings.HasPrefix(tc.want, asError) {
				return // Terraform makes no second call
			}
			p.wantDiagnostics(p.plan(nil, tc.config, first.resp.PlannedPrivate).resp.Diagnostics)
		})
	}
}

// A list is fetched again once it is old.
func TestPhaseListsGrowOld(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	server := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	p := newProtocolTo(t, s, newProtocolServer(server))
	states, privates := p.createAll(1)
	state := p.value(p.resource, states[0])
	for range 3 {
		p.read(state, privates[0], nil)
	}
	s.Reset()
	p.read(state, privates[0], nil)
	if lists := s.Count(http.MethodGet, keysPath); lists != 0 {
		t.Errorf("%d lists, want none so soon", lists)
	}
	phase := &server.operation.Load().phase
	phase.mu.Lock()
	phase.listed = phase.listed.Add(-snapshotAge - time.Second)
	phase.mu.Unlock()
	for range 3 {
		p.read(state, privates[0], nil)
	}
	if lists := s.Count(http.MethodGet, keysPath); lists != 1 {
		t.Errorf("%d lists, want 1", lists)
	}
}

// Calls of all kinds, at once: for the race detector.
func TestPhaseConcurrentCalls(t *testing.T) {
	t.Parallel()
	o := &operation{ledger: ledger.New(ledger.Config{Quiet: time.Millisecond, List: func(context.Context, byok.Scope) ([]byok.Key, error) { return nil, nil }})}
	pool := byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: "openai"}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 200 {
				id := strconv.Itoa(n)
				call := o.beginRead()
				call.Read(pool, id)
				call.End()
				call = o.beginPlan(n%3 == 0, i%2 == 0)
				call.Replace(t.Context(), pool, id, pool)
				o.phase.mayApply(n%2 == 0)
				call.End()
				if n%5 == 0 {
					o.beginApply()
				}
			}
		})
	}
	group.Wait()
}
