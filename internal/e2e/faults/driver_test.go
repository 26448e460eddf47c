package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/faultproxy"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func TestMain(m *testing.M) {
	code := tfrun.Run(m)
	if builtServer != "" {
		_ = os.RemoveAll(builtServer)
	}
	os.Exit(code)
}

// store is where stored keys can be looked at.
type store interface {
	List(t testing.TB, workspaceID string) []byok.Key
	Resolve(t testing.TB, workspaceID, providerID string) *acctest.Served
}

// driver is one owner of keys: a configuration's state and what changes it.
type driver interface {
	// apply makes the keys what is declared, or fails.
	apply(t *testing.T, declared spec) error
	// plan reports what an apply would change, empty for nothing.
	plan(t *testing.T, declared spec) string
	// ids returns the key IDs in state by address.
	ids(t *testing.T) map[string]string
}

// querier is a driver that can also list what a scope has, and read a data
// source.
type querier interface {
	query(t *testing.T, workspaceID string) ([]string, error)
	read(t *testing.T, typeName string, config map[string]any) (map[string]any, error)
}

// spec is a configuration: a key by address.
type spec map[string]key

// key is one resource. workspaceID is a workspace, or that of an organization as
// byok.Scope writes it: organization/ID.
type key struct {
	workspaceID, providerID string
	name                    string // empty for none
	secret                  string
	form                    form
	version                 int64
	// createTimeout is that of the resource: how long an add waits for free capacity.
	// Empty is the default, which users have.
	createTimeout string
}

// form is how a configuration declares a secret.
type form int

const (
	plain     form = iota // api_key
	writeOnly             // api_key_wo
	versioned             // api_key_wo with api_key_wo_version
	forms     = 3
)

func (k key) attributes() map[string]any {
	set := map[string]any{"provider_id": k.providerID}
	setScope(set, k.workspaceID)
	if k.name != "" {
		set["name"] = k.name
	}
	if k.createTimeout != "" {
		set["timeouts"] = map[string]any{"create": k.createTimeout}
	}
	switch k.form {
	case plain:
		set["api_key"] = k.secret
	case versioned:
		set["api_key_wo_version"] = k.version
		fallthrough
	default:
		set["api_key_wo"] = k.secret
	}
	return set
}

func (s spec) attributes() map[string]map[string]any {
	all := map[string]map[string]any{}
	for address, key := range s {
		all[address] = key.attributes()
	}
	return all
}

func (s spec) hcl() string {
	var b strings.Builder
	for _, address := range s.addresses() {
		fmt.Fprintf(&b, "resource \"byok_key\" %q {\n", address)
		set := s[address].attributes()
		for _, name := range sortedKeys(set) {
			switch value := set[name].(type) {
			case string:
				fmt.Fprintf(&b, "  %s = %q\n", name, value)
			case map[string]any:
				fmt.Fprintf(&b, "  %s { create = %q }\n", name, value["create"])
			default:
				fmt.Fprintf(&b, "  %s = %v\n", name, value)
			}
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// pooled is s as one byok_pool for each pool, by address: the map keys are the
// addresses of the keys. What is to be in state (api_key) is write-only here.
func (s spec) pooled() map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, address := range s.addresses() {
		k := s[address]
		element := map[string]any{"api_key_wo": k.secret, "name": k.name}
		if k.form == versioned {
			element["api_key_wo_version"] = k.version
		}
		label := poolType + poolLabel(k.workspaceID, k.providerID)
		if all[label] == nil {
			all[label] = map[string]any{"provider_id": k.providerID, "keys": map[string]any{}}
			setScope(all[label], k.workspaceID)
			if k.createTimeout != "" {
				all[label]["timeouts"] = map[string]any{"create": k.createTimeout, "update": k.createTimeout}
			}
		}
		all[label]["keys"].(map[string]any)[address] = element
	}
	return all
}

func poolLabel(workspaceID, providerID string) string {
	return "pool_" + strings.ReplaceAll(workspaceID, "/", "_") + "_" + providerID
}

// scopeOf is the reverse of byok.Scope.String.
func scopeOf(workspaceID string) byok.Scope {
	if id, ok := strings.CutPrefix(workspaceID, byok.OrganizationScope("").String()); ok {
		return byok.OrganizationScope(id)
	}
	return byok.WorkspaceScope(workspaceID)
}

// setScope sets the attribute for the scope of a resource.
func setScope(attributes map[string]any, workspaceID string) {
	scope := scopeOf(workspaceID)
	attributes[scope.Kind.String()+"_id"] = scope.ID
}

// pooledHCL is pooled as configuration.
func (s spec) pooledHCL(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for address, pool := range s.pooled() {
		label := strings.TrimPrefix(address, poolType)
		// Every JSON string without templates is one of HCL, too.
		keys, err := json.Marshal(pool["keys"])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "resource \"byok_pool\" %q {\n  keys = %s\n", label, keys)
		for _, name := range []string{"workspace_id", "organization_id", "provider_id"} {
			if value, ok := pool[name]; ok {
				fmt.Fprintf(&b, "  %s = %q\n", name, value)
			}
		}
		b.WriteString("}\n")
	}
	return b.String()
}

const poolType = "byok_pool."

func (s spec) addresses() []string { return sortedKeys(s) }

// pools returns the pools that s has keys in.
func (s spec) pools() map[pool]int {
	counts := map[pool]int{}
	for _, k := range s {
		counts[pool{k.workspaceID, k.providerID}]++
	}
	return counts
}

type pool struct{ workspaceID, providerID string }

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// protocol drives the provider in this process.
type protocol struct{ *tfcore.Core }

// newCore returns a Core of the provider; edit sets the pace of its client.
func newCore(t testing.TB, config map[string]any, seed uint64, edit func(*client.Config)) *tfcore.Core {
	t.Helper()
	return tfcore.New(t, provider.NewServer("test", edit), config, seed)
}

func (p protocol) apply(t *testing.T, declared spec) error {
	_, err := p.Core.Apply(context.WithoutCancel(t.Context()), declared.attributes())
	return err
}

func (p protocol) plan(t *testing.T, declared spec) string { return p.planOf(t, declared.attributes()) }

func (p protocol) planOf(t *testing.T, declared map[string]map[string]any) string {
	changes, _, found, err := p.Core.Plan(context.WithoutCancel(t.Context()), declared)
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	for _, ch := range changes {
		fmt.Fprintf(&b, "%s: %s -> %s\n%s", ch.Address, ch.Prior, ch.Planned, found.Error())
	}
	return b.String()
}

func (p protocol) ids(*testing.T) map[string]string {
	ids := map[string]string{}
	for address, at := range p.State {
		ids[address], _ = tfcore.Attributes(at.Value)["id"].(string)
	}
	return ids
}

// query lists the keys of a scope as terraform query does, by ID, or fails.
func (p protocol) query(t *testing.T, workspaceID string) ([]string, error) {
	return queried(t, p.Core, "byok_key", workspaceID, func(identity map[string]any) string { return identity["id"].(string) })
}

// query lists the pools of a scope by provider ID.
func (p pooledProtocol) query(t *testing.T, workspaceID string) ([]string, error) {
	return queried(t, p.Core, "byok_pool", workspaceID, func(identity map[string]any) string { return identity["provider_id"].(string) })
}

func (p protocol) read(t *testing.T, typeName string, config map[string]any) (map[string]any, error) {
	ctx := context.WithoutCancel(t.Context())
	operation := p.Core.Begin(ctx, false)
	if err := operation.Err(); err != nil {
		return nil, err
	}
	attributes, _ := operation.ReadData(ctx, typeName, config)
	return attributes, operation.Err()
}

func (p pooledProtocol) read(t *testing.T, typeName string, config map[string]any) (map[string]any, error) {
	return protocol(p).read(t, typeName, config)
}

func queried(t *testing.T, core *tfcore.Core, typeName, workspaceID string, title func(identity map[string]any) string) (found []string, err error) {
	ctx, scope := context.WithoutCancel(t.Context()), scopeOf(workspaceID)
	operation := core.Begin(ctx, false)
	if err := operation.Err(); err != nil {
		return nil, err
	}
	results, err := operation.List(ctx, tfcore.ListBlock{TypeName: typeName, Include: true, Config: map[string]any{scope.Kind.String() + "_ids": []any{scope.ID}}})
	for _, result := range results {
		if err := result.Found.Err(); err != nil {
			return nil, err
		}
		found = append(found, title(result.Identity))
	}
	return found, err
}

// pooledProtocol drives the provider with pools in place of keys.
type pooledProtocol struct{ *tfcore.Core }

func newPooledProtocol(t *testing.T, provider map[string]any, seed uint64, edit func(*client.Config)) pooledProtocol {
	t.Helper()
	return pooledProtocol{newCore(t, provider, seed, edit)}
}

func (p pooledProtocol) apply(t *testing.T, declared spec) error {
	_, err := p.Core.Apply(context.WithoutCancel(t.Context()), declared.pooled())
	return err
}

func (p pooledProtocol) plan(t *testing.T, declared spec) string {
	return protocol(p).planOf(t, declared.pooled())
}

func (p pooledProtocol) ids(*testing.T) map[string]string {
	ids := map[string]string{}
	for _, at := range p.State {
		elements, _ := tfcore.Attributes(at.Value)["keys"].(map[string]any)
		for address, element := range elements {
			ids[address], _ = element.(map[string]any)["id"].(string)
		}
	}
	return ids
}

// pooledCLI drives the real terraform with pools in place of keys.
type pooledCLI struct{ cli }

func (c pooledCLI) apply(t *testing.T, declared spec) error {
	c.Write(t, "main.tf", c.provider+declared.pooledHCL(t))
	r := c.Try(t, "apply", "-auto-approve", "-no-color")
	if r.Exit == 0 {
		return nil
	}
	for address := range declared.pooled() {
		if strings.Contains(r.Output, "terraform untaint") && strings.Contains(r.Output, address) {
			c.Try(t, "untaint", "-no-color", address)
		}
	}
	return errors.New(r.Output)
}

func (c pooledCLI) plan(t *testing.T, declared spec) string {
	c.Write(t, "main.tf", c.provider+declared.pooledHCL(t))
	if r := c.Plan(t); r.Exit != 0 {
		return r.Output
	}
	return ""
}

func (c pooledCLI) ids(t *testing.T) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for address, values := range c.State(t) {
		if !strings.HasPrefix(address, poolType) {
			continue
		}
		for address, element := range values["keys"].(map[string]any) {
			ids[address], _ = element.(map[string]any)["id"].(string)
		}
	}
	return ids
}

// cli drives the real terraform.
type cli struct {
	*tfrun.Folder
	provider string // the provider block
}

func (c cli) write(t *testing.T, declared spec) {
	t.Helper()
	c.Write(t, "main.tf", c.provider+declared.hcl())
}

func (c cli) apply(t *testing.T, declared spec) error {
	c.write(t, declared)
	if r := c.Try(t, "apply", "-auto-approve", "-no-color"); r.Exit != 0 {
		return errors.New(r.Output)
	}
	return nil
}

func (c cli) plan(t *testing.T, declared spec) string {
	c.write(t, declared)
	if r := c.Plan(t); r.Exit != 0 {
		return r.Output
	}
	return ""
}

// ids reads the state file: terraform show takes as long as a plan.
func (c cli) ids(t *testing.T) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, instance := range c.Instances(t) {
		if instance.Status != "" {
			t.Errorf("%s is %s", instance.Name, instance.Status)
		}
		var attributes struct{ ID string }
		if err := json.Unmarshal(instance.Attributes, &attributes); err != nil {
			t.Fatal(err)
		}
		ids[instance.Name] = attributes.ID
	}
	return ids
}

// faulty starts a fault proxy in front of a server and returns its URL. A
// tenth as many connections as requests fail are closed before anything is
// read from them.
func faulty(t *testing.T, target string, options faultproxy.Options) (*faultproxy.Proxy, string) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := faultproxy.New(to, options)
	server := httptest.NewUnstartedServer(proxy)
	server.Listener = proxy.Listener(server.Listener, options.Rate/10)
	server.Start()
	t.Cleanup(func() {
		server.Close()
		proxy.Wait()
	})
	return proxy, server.URL
}

// served asks for a pool's keys as workflow runs do and returns the secrets by
// key ID: the rotation serves each key once in as many calls as there are keys.
func served(t *testing.T, server store, p pool, size int) map[string]string {
	t.Helper()
	secrets := map[string]string{}
	for range size {
		if got := server.Resolve(t, p.workspaceID, p.providerID); got != nil {
			secrets[got.KeyID] = got.APIKey
		}
	}
	return secrets
}

// foreign are the keys of other owners, with their secrets.
type foreign map[pool]map[string]foreignKey

type foreignKey struct {
	byok.Key
	secret string
}

// addForeign stores a key for another owner.
func (f foreign) add(t *testing.T, server *acctest.Server, p pool, secret, name string) {
	t.Helper()
	scope := scopeOf(p.workspaceID)
	id := server.AddTo(t, byok.Pool{Scope: scope, ProviderID: p.providerID}, secret, name)
	for _, stored := range server.ListIn(t, scope) {
		if stored.ID == id {
			if f[p] == nil {
				f[p] = map[string]foreignKey{}
			}
			f[p][id] = foreignKey{stored, secret}
		}
	}
}

// verdict counts what must not happen.
type verdict struct{ duplicates, losses, wrongSecrets, wrongDeletes, foreignChanges int }

func (v verdict) clean() bool { return v == verdict{} }

// judge compares what the server holds with what is declared, by state, and
// with the other owners' keys.
func judge(t *testing.T, server store, declared spec, ids map[string]string, others foreign) (v verdict) {
	t.Helper()
	count := func(n *int, format string, args ...any) {
		t.Helper()
		*n++
		t.Errorf(format, args...)
	}
	pools := declared.pools()
	for p := range others {
		pools[p] += 0
	}
	owner := map[string]string{} // key ID -> address
	for address, id := range ids {
		if _, ok := declared[address]; !ok {
			count(&v.duplicates, "state has %s (key %s), which is not declared", address, id)
		}
		if owner[id] != "" {
			count(&v.losses, "%s and %s have the same key %s in state", address, owner[id], id)
		}
		owner[id] = address
	}
	workspaces := map[string][]byok.Key{}
	for p := range pools {
		if workspaces[p.workspaceID] == nil {
			workspaces[p.workspaceID] = server.List(t, p.workspaceID)
		}
	}
	stored := map[string]byok.Key{}
	for workspaceID, keys := range workspaces {
		sizes := map[string]int{}
		for _, k := range keys {
			stored[k.ID] = k
			sizes[k.ProviderID]++
			pools[pool{workspaceID, k.ProviderID}] += 0
			if _, other := others[pool{workspaceID, k.ProviderID}][k.ID]; !other && owner[k.ID] == "" {
				count(&v.duplicates, "key %s of %s (%v, %s) is in nobody's state", k.ID, k.ProviderID, k.Name, k.MaskedKey)
			}
		}
		for providerID, size := range sizes {
			if size > byok.Cap {
				count(&v.duplicates, "%s has %d keys", providerID, size)
			}
		}
	}
	for address, want := range declared {
		got, ok := stored[ids[address]]
		switch {
		case !ok:
			count(&v.losses, "%s (key %q) is declared, but not stored", address, ids[address])
		case got.ProviderID != want.providerID, nameOf(got) != want.name:
			count(&v.losses, "%s is stored as %s %q, declared as %s %q", address, got.ProviderID, nameOf(got), want.providerID, want.name)
		}
	}
	for p := range pools {
		secrets := served(t, server, p, byok.Cap)
		for address, want := range declared {
			if want.workspaceID == p.workspaceID && want.providerID == p.providerID && stored[ids[address]].ID != "" && secrets[ids[address]] != want.secret {
				count(&v.wrongSecrets, "%s (key %s) serves another secret than declared", address, ids[address])
			}
		}
		for id, other := range others[p] {
			got, ok := stored[id]
			switch {
			case !ok:
				count(&v.wrongDeletes, "key %s of another owner is gone", id)
			case got.UpdatedAt != other.UpdatedAt || nameOf(got) != nameOf(other.Key) || secrets[id] != other.secret:
				count(&v.foreignChanges, "key %s of another owner has changed", id)
			}
		}
	}
	return v
}

func nameOf(k byok.Key) string {
	if k.Name == nil {
		return ""
	}
	return *k.Name
}

// generator makes random configurations.
type generator struct {
	random        *rand.Rand
	pools         []pool
	free          map[pool]int // capacity that other owners leave
	createTimeout string
	// inheriting is a workspace of the organization, if there is one. workspaces
	// are all workspaces of the user.
	inheriting   string
	organization byok.Scope
	workspaces   []string
	owner        string // begins every secret, and so every mask, when set
	next         int
}

// names are few, so that names are not unique. Some keys have none.
var names = []string{"", "", "production", "staging", "Zürich ü"}

func (g *generator) secret() string {
	g.next++
	if g.owner != "" {
		return fmt.Sprintf("%s-%04d-%08x", g.owner, g.next, g.random.Uint32())
	}
	switch g.random.IntN(4) {
	case 0: // all of these show the same mask
		return fmt.Sprintf("sk-proj-%012d-%08x-tail", g.next, g.random.Uint32())
	case 1:
		return fmt.Sprintf("k%03d%06x", g.next%1000, g.random.IntN(1<<24))
	}
	return fmt.Sprintf("sk-%08x-%d", g.random.Uint32(), g.next)
}

// key makes a key in a pool with free capacity, or false.
func (g *generator) key(s spec) (key, bool) {
	p := g.pools[g.random.IntN(len(g.pools))]
	if s.pools()[p] >= g.free[p] {
		return key{}, false
	}
	k := key{
		workspaceID: p.workspaceID, providerID: p.providerID, name: names[g.random.IntN(len(names))],
		secret: g.secret(), form: form(g.random.IntN(forms)), version: 1, createTimeout: g.createTimeout,
	}
	if k.name != "" && g.owner == "" && g.random.IntN(8) == 0 {
		k.secret = fmt.Sprintf("k%07d", g.next) // its mask shows nothing
	}
	return k, true
}

func (g *generator) grow(s spec, most int) {
	for range most {
		if k, ok := g.key(s); ok {
			g.next++
			s[fmt.Sprintf("k%d", g.next)] = k
		}
	}
}

// mutate changes about half of the keys, removes some and adds others.
func (g *generator) mutate(s spec) spec {
	out := spec{}
	for address, k := range s {
		out[address] = k
	}
	for _, address := range s.addresses() {
		k := out[address]
		switch g.random.IntN(10) {
		case 0, 1:
			delete(out, address)
			continue
		case 2, 3:
			k.secret = g.secret()
			k.version++
		case 4:
			// What has neither a name nor a mask cannot be recognised.
			if name := names[g.random.IntN(len(names))]; name != "" || len(k.secret) > 8 {
				k.name = name
			}
		case 5:
			k.form = form(g.random.IntN(forms))
		case 6: // another pool: a replace
			delete(out, address)
			moved, ok := g.key(out)
			if !ok {
				continue
			}
			k.workspaceID, k.providerID = moved.workspaceID, moved.providerID
		}
		out[address] = k
	}
	g.grow(out, 4)
	return out
}
