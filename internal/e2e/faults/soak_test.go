package faults

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

var (
	soakRuns      = flag.Int("soak.runs", 4, "soak runs at protocol level")
	soakTerraform = flag.Int("soak.terraform", 1, "soak runs with the real terraform")
	soakSeed      = flag.Uint64("soak.seed", 1, "seed of the first soak run; each run counts one up")
	soakParallel  = flag.Int("soak.parallel", 8, "soak runs at a time")
)

// soakRate is the share of requests with a fault.
const soakRate = 0.2

// soakTotals is what all runs of a soak did.
type soakTotals struct {
	mu                               sync.Mutex
	runs, applies, failed            int
	organizations                    int // runs with pools of an organization
	queried, queriesFailed           int // queries of the provider, where Terraform has them
	read, readsFailed                int // data sources, in process
	adds, replaces, deletes, queries int // as the server did them
	requests                         int // as the proxy saw them
	faults                           map[faultproxy.Kind]int
	verdict                          verdict
}

// TestSoak applies, changes and destroys random configurations through a
// network that fails a fifth of all requests in every way that faultproxy
// knows, beside keys of other owners. Applies may fail. After a last apply
// without faults the server must hold exactly what is declared: every key
// once, with its secret, and the other owners' keys untouched; and the next
// plan must be empty.
//
// A seed fixes the configurations and what becomes of each request; how
// goroutines interleave it does not fix.
func TestSoak(t *testing.T) {
	t.Parallel()
	t.Run("protocol", func(t *testing.T) {
		t.Parallel()
		soak(t, *soakRuns, func(t *testing.T, provider map[string]any, seed uint64) driver {
			return protocol{newCore(t, provider, seed, quickly)}
		})
	})
	t.Run("protocol, pools", func(t *testing.T) {
		t.Parallel()
		soak(t, *soakRuns, func(t *testing.T, provider map[string]any, seed uint64) driver {
			return newPooledProtocol(t, provider, seed, quickly)
		})
	})
	t.Run("terraform", func(t *testing.T) {
		t.Parallel()
		soak(t, *soakTerraform, func(t *testing.T, provider map[string]any, _ uint64) driver {
			return newCLI(t, provider)
		})
	})
	t.Run("terraform, pools", func(t *testing.T) {
		t.Parallel()
		soak(t, *soakTerraform, func(t *testing.T, provider map[string]any, _ uint64) driver {
			return pooledCLI{newCLI(t, provider)}
		})
	})
}

func newCLI(t *testing.T, provider map[string]any) cli {
	t.Helper()
	var block strings.Builder
	for _, name := range sortedKeys(provider) {
		fmt.Fprintf(&block, "  %s = %q\n", name, provider[name])
	}
	// One data source of each kind is read beside the resources.
	const data = `data "byok_keys" "read" {}
data "byok_workspaces" "read" {}
data "byok_inherited_providers" "read" {}
`
	return cli{tfrun.New(t), "provider \"byok\" {\n" + block.String() + "}\n" + data}
}

// quickly shortens the pauses of a client. Delays of the fault proxy are
// shorter still, so that a response that is late is one that the client has to
// reckon with.
func quickly(c *client.Config) {
	c.RetryWaitMin, c.RetryWaitMax = 2*time.Millisecond, 50*time.Millisecond
	c.SettleTime = 200 * time.Millisecond
}

func soak(t *testing.T, runs int, start func(t *testing.T, provider map[string]any, seed uint64) driver) {
	totals := &soakTotals{faults: map[faultproxy.Kind]int{}}
	slots := make(chan struct{}, *soakParallel)
	t.Run("runs", func(t *testing.T) {
		for i := range runs {
			seed := *soakSeed + uint64(i)
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				soakRun(t, seed, totals, start)
			})
		}
	})
	v := totals.verdict
	t.Logf("seeds %d to %d: %d runs, %d with pools of an organization, %d applies (%d failed and were followed by another), %d adds, %d replaces, %d deletes, %d lists done by the server, %d queries (%d failed), %d data sources read (%d failed)\n"+
		"%d requests at the proxy, faults %v\n"+
		"%d duplicates, %d losses, %d wrong secrets, %d wrong deletes, %d changes to keys of other owners",
		*soakSeed, *soakSeed+uint64(runs)-1, totals.runs, totals.organizations, totals.applies, totals.failed, totals.adds, totals.replaces, totals.deletes, totals.queries, totals.queried, totals.queriesFailed, totals.read, totals.readsFailed,
		totals.requests, totals.faults,
		v.duplicates, v.losses, v.wrongSecrets, v.wrongDeletes, v.foreignChanges)
	if !v.clean() {
		t.Error("not every run came out right")
	}
	if runs >= 12 && totals.organizations == 0 {
		t.Error("no run had a pool of an organization")
	}
}

func soakRun(t *testing.T, seed uint64, totals *soakTotals, start func(t *testing.T, provider map[string]any, seed uint64) driver) {
	random := rand.New(rand.NewPCG(seed, 1))
	server := acctest.Start(t, acctest.Hosted())
	proxy, endpoint := faulty(t, server.URL, faultproxy.Options{
		Seed: seed, Rate: soakRate, Kinds: append(faultproxy.Kinds(), faultproxy.Redirect),
	})
	// An endpoint in plain http on loopback warns of nothing.
	provider := map[string]any{"endpoint": endpoint, "workspace_id": server.WorkspaceID}
	if random.IntN(4) == 0 {
		provider["email"], provider["password"] = server.Email, server.Password
	} else {
		provider["session_token"] = server.SessionToken
	}
	g, others := population(t, server, random)
	d := start(t, provider, seed)
	switch d.(type) {
	case protocol, pooledProtocol:
		// After a failed delete the capacity stays taken. Users wait longer.
		g.createTimeout = "20s"
	}

	declared, applies, failed := spec{}, 0, 0
	apply := func() {
		applies++
		if err := d.apply(t, declared); err != nil {
			failed++
			t.Logf("apply %d fails: %s", applies, summaries(err))
		}
		if q, ok := d.(querier); ok {
			workspaceID := g.pools[random.IntN(len(g.pools))].workspaceID
			query(t, q, server, workspaceID, totals)
			read(t, q, server, g, workspaceID, totals)
		}
	}
	g.grow(declared, 4+random.IntN(12))
	for range 2 + random.IntN(2) {
		apply()
		if random.IntN(4) == 0 {
			apply() // as a user does whose apply has failed
		}
		declared = g.mutate(declared)
	}
	if random.IntN(5) == 0 {
		declared = spec{}
		apply()
	}
	apply()

	// What the network still holds back arrives before the last apply.
	proxy.SetQuiet(true)
	proxy.Wait()
	applies++
	if err := d.apply(t, declared); err != nil {
		t.Errorf("the apply without faults fails: %v", err)
	}
	v := judge(t, scopes{server, g.inheriting}, declared, d.ids(t), others)
	if changes := d.plan(t, declared); changes != "" {
		t.Errorf("the plan after it is not empty:\n%s", changes)
	}
	requests, faults := proxy.Counts()
	totals.mu.Lock()
	defer totals.mu.Unlock()
	totals.runs++
	totals.applies += applies
	if slices.ContainsFunc(g.pools, func(p pool) bool { return scopeOf(p.workspaceID).Kind == byok.Organization }) {
		totals.organizations++
	}
	totals.failed += failed
	totals.requests += requests
	for kind, n := range faults {
		totals.faults[kind] += n
	}
	for _, r := range server.Requests() {
		if r.Status != http.StatusOK {
			continue
		}
		var said struct{ ProviderID, KeyID string }
		_ = json.Unmarshal(r.Body, &said)
		switch {
		case r.Method == http.MethodGet:
			totals.queries++
		case r.Method == http.MethodPost && said.KeyID == "" && said.ProviderID != "":
			totals.adds++
		case r.Method == http.MethodPost && said.ProviderID != "":
			totals.replaces++
		case r.Method == http.MethodDelete:
			totals.deletes++
			if said.KeyID == "" {
				v.wrongDeletes++
				t.Error("a DELETE without keyId")
			}
		}
	}
	totals.verdict.duplicates += v.duplicates
	totals.verdict.losses += v.losses
	totals.verdict.wrongSecrets += v.wrongSecrets
	totals.verdict.wrongDeletes += v.wrongDeletes
	totals.verdict.foreignChanges += v.foreignChanges
}

// query lists a scope while the network fails. It may fail; if not, it has found
// what is stored.
func query(t *testing.T, q querier, server *acctest.Server, workspaceID string, totals *soakTotals) {
	t.Helper()
	stored := func() (ids, providerIDs []string) {
		for _, key := range server.ListIn(t, scopeOf(workspaceID)) {
			ids, providerIDs = append(ids, key.ID), append(providerIDs, key.ProviderID)
		}
		slices.Sort(providerIDs)
		return ids, slices.Compact(providerIDs)
	}
	idsBefore, _ := stored()
	found, err := q.query(t, workspaceID)
	ids, want := stored()
	if _, ofKeys := q.(protocol); ofKeys {
		want = slices.Sorted(slices.Values(ids))
		slices.Sort(found)
	}
	totals.mu.Lock()
	defer totals.mu.Unlock()
	totals.queried++
	switch {
	case err != nil:
		totals.queriesFailed++
	case !slices.Equal(found, want) && slices.Equal(idsBefore, ids): // no write that the network held back came between
		totals.verdict.losses++
		t.Errorf("a query of %s finds %q, stored are %q", workspaceID, found, want)
	}
}

// read reads each data source while the network fails. It may fail; if not, it
// has found what is stored.
func read(t *testing.T, q querier, server *acctest.Server, g *generator, workspaceID string, totals *soakTotals) {
	t.Helper()
	scope := scopeOf(workspaceID)
	ids := func() (ids []string) {
		for _, key := range server.ListIn(t, scope) {
			ids = append(ids, key.ID)
		}
		slices.Sort(ids)
		return ids
	}
	inherited := func() (providerIDs []string) {
		if g.inheriting == "" {
			return nil
		}
		for _, key := range server.ListIn(t, g.organization) {
			providerIDs = append(providerIDs, key.ProviderID)
		}
		slices.Sort(providerIDs)
		return slices.Compact(providerIDs)
	}
	check := func(typeName string, config map[string]any, find func(attributes map[string]any) []string, want func() []string) {
		t.Helper()
		before := want()
		attributes, err := q.read(t, typeName, config)
		after := want()
		totals.mu.Lock()
		defer totals.mu.Unlock()
		totals.read++
		if err != nil {
			totals.readsFailed++
			return
		}
		// A write that the network held back may have come between.
		if found := find(attributes); !slices.Equal(found, after) && slices.Equal(before, after) {
			totals.verdict.losses++
			t.Errorf("%s %v finds %q, stored are %q", typeName, config, found, after)
		}
	}
	idsOf := func(list string) func(map[string]any) []string {
		return func(attributes map[string]any) (ids []string) {
			for _, element := range attributes[list].([]any) {
				ids = append(ids, element.(map[string]any)["id"].(string))
			}
			slices.Sort(ids)
			return ids
		}
	}
	check("byok_keys", map[string]any{scope.Kind.String() + "_id": scope.ID}, idsOf("keys"), ids)
	check("byok_workspaces", map[string]any{}, idsOf("workspaces"), func() []string { return g.workspaces })
	inheriting := map[string]any{}
	if g.inheriting != "" {
		inheriting["workspace_id"] = g.inheriting
	}
	check("byok_inherited_providers", inheriting, func(attributes map[string]any) (found []string) {
		for _, id := range attributes["provider_ids"].([]any) {
			found = append(found, id.(string))
		}
		return found
	}, inherited)
}

var errorLine = regexp.MustCompile(`(?m)(?:Error|ERROR)[^:\n]*: (.+)$`)

// summaries are the summaries of the errors in the output of an apply.
func summaries(err error) string {
	counts := map[string]int{}
	for _, match := range errorLine.FindAllStringSubmatch(err.Error(), -1) {
		counts[match[1]]++
	}
	if len(counts) == 0 {
		return err.Error()
	}
	return fmt.Sprint(counts)
}

// scopes is the store of a run, with the workspace that inherits what an
// organization holds.
type scopes struct {
	*acctest.Server
	inheriting string
}

func (s scopes) List(t testing.TB, workspaceID string) []byok.Key {
	t.Helper()
	return s.ListIn(t, scopeOf(workspaceID))
}

func (s scopes) Resolve(t testing.TB, workspaceID, providerID string) *acctest.Served {
	t.Helper()
	if scopeOf(workspaceID).Kind == byok.Organization {
		workspaceID = s.inheriting
	}
	return s.Server.Resolve(t, workspaceID, providerID)
}

// population makes pools in several workspaces, some with keys of other owners
// that look just like those of the configuration.
func population(t *testing.T, server *acctest.Server, random *rand.Rand) (*generator, foreign) {
	t.Helper()
	g := &generator{random: random, free: map[pool]int{}}
	others := foreign{}
	workspaces := []string{server.WorkspaceID}
	for range random.IntN(3) {
		workspaces = append(workspaces, server.NewWorkspace(t))
	}
	g.workspaces = slices.Clone(workspaces)
	// Half of the runs have an organization, too.
	if random.IntN(2) == 0 {
		id := server.NewOrganization(t)
		g.inheriting, g.organization = server.NewNamedWorkspace(t, "Team", id), byok.OrganizationScope(id)
		g.workspaces = append(g.workspaces, g.inheriting)
		workspaces = append(workspaces, g.organization.String())
	}
	slices.Sort(g.workspaces)
	providerIDs := byok.ProviderIDs()
	for range 1 + random.IntN(4) {
		p := pool{workspaces[random.IntN(len(workspaces))], providerIDs[random.IntN(len(providerIDs))]}
		if g.free[p] != 0 {
			continue
		}
		g.pools = append(g.pools, p)
		held := random.IntN(4)
		g.free[p] = byok.Cap - held
		for range held {
			others.add(t, server, p, g.secret(), names[random.IntN(len(names))])
		}
	}
	return g, others
}
