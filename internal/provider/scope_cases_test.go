package provider

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// scopeWorld is a server with a scope in it, a configuration that manages one
// pool of the scope by resources of one type, and its state.
type scopeWorld struct {
	*testing.T
	*tfcore.Core
	server *acctest.Server
	pool   byok.Pool
	form   resourceForm
	// settings are set in every resource.
	settings map[string]any
	// lost is set while the server cuts connections in place of responses to
	// writes, for which there is only one attempt then.
	lost *atomic.Bool
	// entitled is false while lists say that the organization has no plan.
	entitled *atomic.Bool
	// noDiscovery is set while the server lacks the routes of discovery.
	noDiscovery *atomic.Bool
}

// declaredKey is a key of a configuration.
type declaredKey struct {
	secret, name string
	version      int
}

// declaredKeys are the keys of a configuration by label, which is the name of a
// byok_key or the map key in a byok_pool.
type declaredKeys map[string]declaredKey

// resourceForm is how a configuration declares keys.
type resourceForm struct {
	typeName string
	// resources declares keys, with these settings in each resource.
	resources func(keys declaredKeys, settings map[string]any) map[string]map[string]any
	// ids are the IDs in state by label.
	ids func(state map[string]tfcore.Instance) map[string]any
}

// importAddress is where an import ends up.
const importAddress = "imported"

var resourceForms = []resourceForm{
	{
		typeName: keyTypeName,
		resources: func(keys declaredKeys, settings map[string]any) map[string]map[string]any {
			all := map[string]map[string]any{}
			for label, key := range keys {
				all[label] = maps.Clone(settings)
				maps.Copy(all[label], key.attributes())
			}
			return all
		},
		ids: func(state map[string]tfcore.Instance) map[string]any {
			ids := map[string]any{}
			for address, at := range state {
				ids[address] = tfcore.Attributes(at.Value)["id"]
			}
			return ids
		},
	},
	{
		typeName: poolTypeName,
		resources: func(keys declaredKeys, settings map[string]any) map[string]map[string]any {
			if len(keys) == 0 {
				return nil
			}
			pool, elements := maps.Clone(settings), map[string]any{}
			for label, key := range keys {
				elements[label] = key.attributes()
			}
			pool["keys"] = elements
			return map[string]map[string]any{poolTypeName + "." + importAddress: pool}
		},
		ids: func(state map[string]tfcore.Instance) map[string]any {
			ids := map[string]any{}
			for _, at := range state {
				for label, element := range tfcore.Attributes(at.Value)["keys"].(map[string]any) {
					ids[label] = element.(map[string]any)["id"]
				}
			}
			return ids
		},
	},
}

func (k declaredKey) attributes() map[string]any {
	set := map[string]any{"api_key_wo": k.secret, "name": k.name}
	if k.version != 0 {
		set["api_key_wo_version"] = k.version
	}
	return set
}

// newScopeWorld starts a server. The workspace of the provider block is another
// one than that of the scope.
func newScopeWorld(t *testing.T, kind byok.ScopeKind, form resourceForm) *scopeWorld {
	t.Helper()
	w := &scopeWorld{T: t, form: form, lost: &atomic.Bool{}, entitled: &atomic.Bool{}, noDiscovery: &atomic.Bool{}}
	w.entitled.Store(true)
	w.server = acctest.Start(t, acctest.Hosted(), acctest.WithMiddleware(func(next http.Handler) http.Handler { return withoutDiscovery(w.noDiscovery, w.middleware(next)) }))
	w.pool = byok.Pool{Scope: w.newScope(kind), ProviderID: "openai"}
	w.settings = map[string]any{idAttribute(w.pool.Scope): w.pool.Scope.ID, "provider_id": w.pool.ProviderID}
	w.Core = tfcore.New(t, func() tfprotov6.ProviderServer {
		return newProtocolServer(&byokProvider{version: "test", getenv: func(string) string { return "" }, edits: []func(*client.Config){func(c *client.Config) {
			c.RetryWaitMin, c.RetryWaitMax, c.SettleTime = 2*time.Millisecond, 50*time.Millisecond, 200*time.Millisecond
			if w.lost.Load() {
				c.MaxRetries = 0
			}
		}}})
	}, map[string]any{"endpoint": w.server.URL, "workspace_id": w.server.WorkspaceID, "session_token": w.server.SessionToken}, 1)
	return w
}

func (w *scopeWorld) newScope(kind byok.ScopeKind) byok.Scope {
	w.Helper()
	return map[byok.ScopeKind]func() byok.Scope{
		byok.Workspace:    func() byok.Scope { return byok.WorkspaceScope(w.server.NewWorkspace(w)) },
		byok.Organization: func() byok.Scope { return byok.OrganizationScope(w.server.NewOrganization(w)) },
	}[kind]()
}

func (w *scopeWorld) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, keysPath):
		case w.lost.Load() && r.Method == http.MethodPost:
			next.ServeHTTP(discard{}, r)
			panic(http.ErrAbortHandler)
		case !w.entitled.Load() && r.Method == http.MethodGet:
			r.Header.Del("Accept-Encoding")
			rw = &replacingWriter{rw, `"entitled":true`, `"entitled":false`}
		}
		next.ServeHTTP(rw, r)
	})
}

func (w *scopeWorld) resources(keys declaredKeys) map[string]map[string]any {
	return w.form.resources(keys, w.settings)
}

// apply makes the keys what is declared.
func (w *scopeWorld) apply(keys declaredKeys) { w.Helper(); _ = w.applyWarnings(keys) }

// applyWarnings is apply, and returns the warnings.
func (w *scopeWorld) applyWarnings(keys declaredKeys) tfcore.Diagnostics {
	w.Helper()
	found, err := w.Apply(w.Context(), w.resources(keys))
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// settled applies and wants no warning, exactly these keys in the pool, and an
// empty plan.
func (w *scopeWorld) settled(keys declaredKeys) {
	w.Helper()
	if found := w.applyWarnings(keys); len(found) > 0 {
		w.Errorf("%v", found)
	}
	w.holds(keys)
	w.plansNothing(keys)
}

// holds wants exactly these keys in the pool, under the IDs in state.
func (w *scopeWorld) holds(keys declaredKeys) {
	w.Helper()
	ids := w.form.ids(w.State)
	got, want := map[string]string{}, map[string]string{}
	for _, key := range w.stored() {
		got[key.ID] = nameOf(key) + " " + key.MaskedKey
	}
	for label, key := range keys {
		want[fmt.Sprint(ids[label])] = key.name + " " + byok.Mask(key.secret)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("the pool is not as declared: %s", diff)
	}
}

func nameOf(key byok.Key) string {
	if key.Name == nil {
		return ""
	}
	return *key.Name
}

func (w *scopeWorld) stored() []byok.Key {
	w.Helper()
	return inPool(w.server.ListIn(w, w.pool.Scope), w.pool)
}

// plans wants a plan to change so many resources, with diagnostics of exactly
// these summaries.
func (w *scopeWorld) plans(keys declaredKeys, changes int, summaries ...string) {
	w.Helper()
	_ = w.planDiagnostics(keys, changes, summaries...)
}

// planDiagnostics is plans, and returns the diagnostics.
func (w *scopeWorld) planDiagnostics(keys declaredKeys, changes int, summaries ...string) tfcore.Diagnostics {
	w.Helper()
	planned, _, found, err := w.Plan(w.Context(), w.resources(keys))
	var got []string
	for _, d := range found {
		got = append(got, withoutSubject(d.Summary))
	}
	slices.Sort(got)
	slices.Sort(summaries)
	if !slices.Equal(got, summaries) || len(planned) != changes {
		w.Errorf("the plan changes %d resources, want %d, and says %q, want %q: %v", len(planned), changes, got, summaries, err)
	}
	return found
}

func (w *scopeWorld) plansNothing(keys declaredKeys) { w.Helper(); w.plans(keys, 0) }

// changes is how many resources change when n keys do.
func (w *scopeWorld) changes(n int) int {
	if w.form.typeName == poolTypeName {
		return min(n, 1)
	}
	return n
}

// imported puts what is imported into state.
func (w *scopeWorld) imported(req *tfprotov6.ImportResourceStateRequest, address string) {
	w.Helper()
	o := w.Begin(w.Context(), false)
	req.TypeName = w.form.typeName
	resp, err := o.ImportResourceState(w.Context(), req)
	if !o.Report(err, resp.Diagnostics) {
		w.Fatal(o.Err())
	}
	of := resp.ImportedResources[0]
	read, err := o.ReadResource(w.Context(), &tfprotov6.ReadResourceRequest{
		TypeName: w.form.typeName, CurrentState: of.State, Private: of.Private, CurrentIdentity: of.Identity,
	})
	if !o.Report(err, read.Diagnostics) {
		w.Fatal(o.Err())
	}
	w.State[address] = tfcore.Instance{Value: tfcore.Decode(w.Type(address), read.NewState), Private: read.Private}
}

// declared is the key that the tests declare under a label.
func declared(label, secret string) declaredKey { return declaredKey{secret: secret, name: label} }

var (
	oneKey  = declaredKeys{"a": declared("a", secretA)}
	twoKeys = declaredKeys{"a": declared("a", secretA), "b": declared("b", secretB)}
)

const secretC = "sk-test-CCCCCCCCCCCCcccc"

// scopeCases are what byok_key and byok_pool do in every kind of scope.
var scopeCases = map[string]func(w *scopeWorld){
	"create, update, destroy": func(w *scopeWorld) {
		w.settled(twoKeys)
		ids := w.form.ids(w.State)
		w.settled(declaredKeys{"a": declared("a", secretC), "b": {secret: secretB, name: "renamed"}})
		if diff := cmp.Diff(ids, w.form.ids(w.State)); diff != "" {
			w.Errorf("an update changes IDs: %s", diff)
		}
		w.settled(declaredKeys{"a": declared("a", secretC), "c": declared("c", secretB)})
		if others := w.server.List(w, w.server.WorkspaceID); len(others) > 0 {
			w.Errorf("the workspace of the provider holds %+v", others)
		}
		w.apply(nil)
		w.holds(nil)
	},
	"version of a secret": func(w *scopeWorld) {
		w.settled(declaredKeys{"a": {secret: secretA, name: "a", version: 1}})
		// Another secret under the same version is not noticed.
		w.plansNothing(declaredKeys{"a": {secret: secretB, name: "a", version: 1}})
		w.settled(declaredKeys{"a": {secret: secretB, name: "a", version: 2}})
	},
	"requests": func(w *scopeWorld) {
		w.server.Reset()
		w.plans(twoKeys, w.changes(2))
		gets := 2 // the session and a list
		if scopeKinds[w.pool.Scope.Kind].inherits {
			gets++ // whether the organization's keys step aside
		}
		w.sends(map[string]int{"GET": gets})
		w.apply(twoKeys)
		w.server.Reset()
		w.plansNothing(twoKeys)
		w.sends(map[string]int{"GET": 2})
	},
	"drift is repaired": func(w *scopeWorld) {
		w.settled(twoKeys)
		w.server.ReplaceIn(w, w.pool, w.form.ids(w.State)["a"].(string), secretC, nil)
		w.plans(twoKeys, 1, changedSummary)
		w.apply(twoKeys)
		w.holds(twoKeys)
		w.plansNothing(twoKeys)
	},
	"drift is only reported": func(w *scopeWorld) {
		w.settings["on_remote_change"] = onRemoteChangeWarn
		w.settled(twoKeys)
		w.server.ReplaceIn(w, w.pool, w.form.ids(w.State)["a"].(string), secretC, nil)
		w.plans(twoKeys, 0, changedSummary)
	},
	"deleted by another user": func(w *scopeWorld) {
		w.settled(twoKeys)
		w.server.DeleteFrom(w, w.pool, w.form.ids(w.State)["a"].(string))
		w.plans(twoKeys, 1, "Key deleted outside of Terraform")
		w.apply(twoKeys)
		w.holds(twoKeys)
		w.plansNothing(twoKeys)
	},
	"lost state": func(w *scopeWorld) {
		keys := declaredKeys{"a": declared("a", secretA), "no name": {secret: secretB}, "short": {secret: "short", name: "short"}}
		w.settled(keys)
		w.State = map[string]tfcore.Instance{}
		found := w.planDiagnostics(keys, w.changes(3), lookalike, lookalike)
		for _, key := range w.stored() {
			if told := strings.Contains(found.Error(), w.pool.String()+"/"+key.ID); told != (key.MaskedKey != byok.MaskUnknown) {
				w.Errorf("key %q (%s) is named: %t: %v", nameOf(key), key.MaskedKey, told, found)
			}
		}
		w.plans(declaredKeys{"other name": declared("other name", secretA), "a": declared("a", secretC)}, w.changes(2))
	},
	"cap at plan": func(w *scopeWorld) {
		for i := range byok.Cap - 1 {
			w.server.AddTo(w, w.pool, secretC, fmt.Sprint("other ", i))
		}
		w.settledBesideOthers(oneKey)
		found := w.planDiagnostics(twoKeys, 0, `Pool "openai" would hold 11 keys, its cap is 10`)
		if !strings.Contains(strings.ToLower(found.Error()), fmt.Sprintf("%s %q can store", w.pool.Scope.Kind, w.pool.Scope.ID)) {
			w.Errorf("the error does not name the %s: %v", w.pool.Scope.Kind, found)
		}
	},
	"another provider ID": func(w *scopeWorld) {
		w.settled(twoKeys)
		before := w.pool
		w.pool.ProviderID, w.settings["provider_id"] = "anthropic", "anthropic"
		w.settled(twoKeys)
		w.pool = before
		if left := w.stored(); len(left) > 0 {
			w.Errorf("left: %+v", left)
		}
	},
	"another scope": func(w *scopeWorld) {
		w.settled(twoKeys)
		for kind := range scopeKinds {
			before := w.pool
			w.pool.Scope = w.newScope(byok.ScopeKind(kind))
			w.settings = map[string]any{idAttribute(w.pool.Scope): w.pool.Scope.ID, "provider_id": w.pool.ProviderID}
			w.plans(twoKeys, w.changes(2))
			w.settled(twoKeys)
			if left := w.server.ListIn(w, before.Scope); len(left) > 0 {
				w.Errorf("left in %s: %+v", before.Scope.Kind, left)
			}
		}
	},
	"import": func(w *scopeWorld) {
		id := w.server.AddTo(w, w.pool, secretA, "a")
		address, importID, attributes := "a", w.pool.String()+"/"+id, map[string]any{"id": id}
		if w.form.typeName == poolTypeName {
			address, importID, attributes = poolTypeName+"."+importAddress, w.pool.String(), map[string]any{"provider_id": w.pool.ProviderID}
		}
		attributes[idAttribute(w.pool.Scope)] = w.pool.Scope.ID
		identity := w.identity(w.Begin(w.Context(), false), attributes)
		for _, req := range []*tfprotov6.ImportResourceStateRequest{{ID: importID}, {Identity: identity}} {
			w.State = map[string]tfcore.Instance{}
			w.imported(req, address)
			w.plansNothing(oneKey)
			w.holds(oneKey)
		}
	},
	"lost response to an add": func(w *scopeWorld) {
		w.lost.Store(true)
		_, _ = w.Apply(w.Context(), w.resources(oneKey)) // may succeed: the list shows the key
		w.lost.Store(false)
		w.apply(oneKey)
		w.holds(oneKey)
		w.plansNothing(oneKey)
	},
	"lost response to a replace": func(w *scopeWorld) {
		w.settled(twoKeys)
		changed := declaredKeys{"a": declared("a", secretC), "b": declared("b", secretB)}
		w.lost.Store(true)
		if _, err := w.Apply(w.Context(), w.resources(changed)); err == nil {
			w.Error("the apply succeeds, although the response was lost")
		}
		w.lost.Store(false)
		w.plans(changed, 1, unconfirmedSummary)
		w.apply(changed)
		w.holds(changed)
		w.plansNothing(changed)
	},
	"secrets stay out of plan and state": func(w *scopeWorld) {
		changes, _, _, err := w.Plan(w.Context(), w.resources(twoKeys))
		if err != nil {
			w.Fatal(err)
		}
		for _, change := range changes {
			w.clean("the plan of "+change.Address, change.Planned, change.Private)
		}
		w.apply(twoKeys)
		for address, at := range w.State {
			w.clean("the state of "+address, at.Value, at.Private)
		}
	},
	"bad input": func(w *scopeWorld) {
		attribute := idAttribute(w.pool.Scope)
		for title, set := range map[string]map[string]any{
			"blank ID": {attribute: ""}, "slash in the ID": {attribute: "a/b"}, "NUL in the ID": {attribute: "a\x00b"},
			"both": {"workspace_id": "w", "organization_id": "o"},
		} {
			w.settings = map[string]any{"provider_id": "openai"}
			maps.Copy(w.settings, set)
			if _, _, found, err := w.Plan(w.Context(), w.resources(oneKey)); err == nil || len(found) != 1 || found[0].Attribute == nil || !strings.HasSuffix(pathText(found[0].Attribute), "_id") {
				w.Errorf("%s: %v", title, found)
			}
		}
	},
	"state without organization_id": func(w *scopeWorld) {
		if w.pool.Scope.Kind != byok.Workspace {
			return // there was no such state
		}
		w.settled(oneKey)
		w.upgrade()
		w.plansNothing(oneKey)
		w.holds(oneKey)
	},
	"without a plan of the organization": func(w *scopeWorld) {
		w.settled(oneKey)
		w.entitled.Store(false)
		w.plansNothing(oneKey)
		const refused = "Cannot store key: the organization has no paid subscription"
		changed := declaredKeys{"a": declared("a", secretC)}
		if w.pool.Scope.Kind == byok.Organization {
			w.plans(twoKeys, 0, refused)
			w.plans(changed, 0, refused)
			w.settings["provider_id"] = "anthropic"
			w.plans(oneKey, 0, refused)
			w.Config["deployment"] = deploymentSelfHosted // which would use none of these keys
			w.plans(oneKey, 0, refused)
		} else {
			w.settled(twoKeys)
			w.settled(changed)
		}
		w.apply(nil)
		w.holds(nil)
	},
}

// settledBesideOthers is settled in a pool with keys of other users.
func (w *scopeWorld) settledBesideOthers(keys declaredKeys) {
	w.Helper()
	if found := w.applyWarnings(keys); len(found) > 0 {
		w.Errorf("%v", found)
	}
	w.plansNothing(keys)
}

// sends compares what the server has seen since the last look.
func (w *scopeWorld) sends(want map[string]int) {
	w.Helper()
	expectRequests(w.T, w.server, "requests", want)
}

// clean wants no secret in a value and its private state.
func (w *scopeWorld) clean(where string, value tftypes.Value, private []byte) {
	w.Helper()
	text := fmt.Sprint(tfcore.Attributes(value)) + string(private)
	var values map[string][]byte
	_ = json.Unmarshal(private, &values)
	for _, decoded := range values {
		text += string(decoded)
	}
	for _, secret := range []string{secretA, secretB, secretC} {
		if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
			w.Errorf("a secret is in %s", where)
		}
	}
}

func (w *scopeWorld) identity(o *tfcore.Operation, attributes map[string]any) *tfprotov6.ResourceIdentityData {
	w.Helper()
	schemas, err := o.GetResourceIdentitySchemas(w.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	if !o.Report(err, schemas.Diagnostics) {
		w.Fatal(o.Err())
	}
	typ := schemas.IdentitySchemas[w.form.typeName].ValueType()
	return &tfprotov6.ResourceIdentityData{IdentityData: tfcore.Encode(typ, tfcore.Object(typ, attributes))}
}

// upgrade takes organization_id out of the stored state, as versions without
// organizations have written it, and has it upgraded and read.
func (w *scopeWorld) upgrade() {
	w.Helper()
	o := w.Begin(w.Context(), false)
	for address, at := range w.State {
		attributes := tfcore.Attributes(at.Value)
		delete(attributes, "organization_id")
		stored, err := json.Marshal(attributes)
		if err != nil {
			w.Fatal(err)
		}
		state, err := o.UpgradeResourceState(w.Context(), &tfprotov6.UpgradeResourceStateRequest{
			TypeName: w.form.typeName, RawState: &tfprotov6.RawState{JSON: stored},
		})
		if !o.Report(err, state.Diagnostics) {
			w.Fatal(o.Err())
		}
		// Terraform itself completes an identity of the present version.
		id := map[string]any{"workspace_id": w.pool.Scope.ID, "provider_id": w.pool.ProviderID}
		if w.form.typeName == keyTypeName {
			id = map[string]any{"workspace_id": w.pool.Scope.ID, "id": attributes["id"]}
		}
		identity := w.identity(o, id)
		read, err := o.ReadResource(w.Context(), &tfprotov6.ReadResourceRequest{
			TypeName: w.form.typeName, CurrentState: state.UpgradedState, Private: at.Private, CurrentIdentity: identity,
		})
		if !o.Report(err, read.Diagnostics) {
			w.Fatal(o.Err())
		}
		if diff := cmp.Diff(identity, read.NewIdentity); diff != "" {
			w.Errorf("%s: the read changes the identity: %s", address, diff)
		}
		w.State[address] = tfcore.Instance{Value: tfcore.Decode(w.Type(address), read.NewState), Private: read.Private}
	}
}

func pathText(p *tftypes.AttributePath) string {
	steps := p.Steps()
	name, _ := steps[len(steps)-1].(tftypes.AttributeName)
	return string(name)
}

// Every case runs once for each resource in each kind of scope.
func TestScopes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ran := map[string]int{}
	t.Run("cases", func(t *testing.T) {
		for title, run := range scopeCases {
			for kind := range scopeKinds {
				for _, form := range resourceForms {
					name := fmt.Sprintf("%s/%s/%s", title, form.typeName, byok.ScopeKind(kind))
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						run(newScopeWorld(t, byok.ScopeKind(kind), form))
						mu.Lock()
						defer mu.Unlock()
						ran[name]++
					})
				}
			}
		}
	})
	for title := range scopeCases {
		for _, typeName := range []string{"byok_key", "byok_pool"} {
			for _, kind := range []string{"workspace", "organization"} {
				if name := title + "/" + typeName + "/" + kind; ran[name] != 1 && !t.Failed() {
					t.Errorf("%s ran %d times, want once", name, ran[name])
				}
			}
		}
	}
}
