package provider

import (
	stdcmp "cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// terraformsLimit is the limit of a list block that sets none.
const terraformsLimit = 100

// beginQuery configures a provider for a query. Without workspaceID the
// provider has no default workspace.
func beginQuery(t testing.TB, s *acctest.Server, sessionToken, workspaceID string) *tfcore.Operation {
	t.Helper()
	config := map[string]any{"session_token": sessionToken}
	if workspaceID != "" {
		config["workspace_id"] = workspaceID
	}
	return beginQueryWith(t, s, config)
}

// beginQueryWith also takes other settings of the provider.
func beginQueryWith(t testing.TB, s *acctest.Server, more map[string]any) *tfcore.Operation {
	t.Helper()
	config := map[string]any{"endpoint": s.URL, "max_retries": 0}
	maps.Copy(config, more)
	o := tfcore.New(t, func() tfprotov6.ProviderServer { return newServer(nil) }, config, 1).Begin(t.Context(), false)
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	return o
}

// lists counts the lists of keys by the scope that was asked, as NAME=COUNT.
func lists(s *acctest.Server, names map[string]string) string {
	counts := map[string]int{}
	for _, r := range s.Requests() {
		if !strings.HasSuffix(r.Path, keysPath) {
			continue
		}
		parts := strings.Split(r.Path, "/")
		counts[names[parts[3]]]++
	}
	var all []string
	for name, n := range counts {
		all = append(all, fmt.Sprintf("%s=%d", name, n))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestList(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted())
	organizationID := s.NewOrganization(t)
	// IDs are random: the order of the two decides about the order of results.
	workspaces := []string{s.NewNamedWorkspace(t, "One", organizationID), s.NewNamedWorkspace(t, "Two\x1b[31m", "")}
	slices.Sort(workspaces)
	one, two := workspaces[0], workspaces[1]
	title := map[string]string{}
	for _, id := range workspaces {
		s.Exec(t, "UPDATE workspace SET name = $1 WHERE id = $2", map[string]string{one: "One", two: "Two\x1b[31m"}[id], id)
	}
	archived := s.NewNamedWorkspace(t, "Archived", "")
	s.ArchiveWorkspace(t, archived)
	add := func(label string, scope byok.Scope, providerID, secret, name string) {
		title[s.AddTo(t, byok.Pool{Scope: scope, ProviderID: providerID}, secret, name)] = label
	}
	add("one/openai/2", byok.WorkspaceScope(one), "openai", secretB, "")
	add("one/openai/1", byok.WorkspaceScope(one), "openai", secretA, "prod")
	add("one/anthropic", byok.WorkspaceScope(one), "anthropic", secretA, "esc\x1b]0;")
	add("two/openai", byok.WorkspaceScope(two), "openai", secretA, "prod")
	add("default", byok.WorkspaceScope(s.WorkspaceID), "openai", secretA, "mine")
	add("shared", byok.OrganizationScope(organizationID), "openai", secretA, "shared")
	names := map[string]string{one: "one", two: "two", s.WorkspaceID: "default", organizationID: "org"}

	const keys, pools = keyTypeName, poolTypeName
	ids := func(all ...any) []any { return all }
	every := []string{"one/anthropic", "one/openai/2", "one/openai/1", "two/openai"}
	inOrder := func() []string { // the default workspace has its place by ID
		if s.WorkspaceID < one {
			return append([]string{"default"}, every...)
		}
		if s.WorkspaceID < two {
			return slices.Insert(slices.Clone(every), 3, "default")
		}
		return append(slices.Clone(every), "default")
	}()
	for name, tc := range map[string]struct {
		typeName string
		config   map[string]any
		want     []string
		lists    string
		lookups  int
	}{
		"default":               {keys, nil, []string{"default"}, "default=1", 0},
		"every workspace":       {keys, map[string]any{"workspace_ids": ids("*")}, inOrder, "default=1 one=1 two=1", 1},
		"every one, some twice": {keys, map[string]any{"workspace_ids": ids("*", one, "*")}, inOrder, "default=1 one=1 two=1", 1},
		"some":                  {keys, map[string]any{"workspace_ids": ids(two, one, two)}, every, "one=1 two=1", 0},
		"none":                  {keys, map[string]any{"workspace_ids": ids()}, nil, "", 0},
		"organization":          {keys, map[string]any{"organization_ids": ids(organizationID)}, []string{"shared"}, "org=1", 0},
		"both": {keys, map[string]any{"workspace_ids": ids(two), "organization_ids": ids(organizationID)},
			[]string{"two/openai", "shared"}, "org=1 two=1", 0},
		"provider IDs":      {keys, map[string]any{"workspace_ids": ids(one), "provider_ids": ids("anthropic", "cohere")}, []string{"one/anthropic"}, "one=1", 0},
		"no provider ID":    {keys, map[string]any{"workspace_ids": ids(one), "provider_ids": ids()}, nil, "one=1", 0},
		"pools":             {pools, map[string]any{"workspace_ids": ids(one, two)}, []string{"one/anthropic", "one/openai", "two/openai"}, "one=1 two=1", 0},
		"pools by provider": {pools, map[string]any{"workspace_ids": ids(one, two), "provider_ids": ids("openai")}, []string{"one/openai", "two/openai"}, "one=1 two=1", 0},
		"pool of both":      {pools, map[string]any{"workspace_ids": ids(two), "organization_ids": ids(organizationID)}, []string{"two/openai", "org/openai"}, "org=1 two=1", 0},
		"pool of default":   {pools, nil, []string{"default/openai"}, "default=1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := beginQuery(t, s, s.SessionToken, s.WorkspaceID)
			listed, err := o.List(t.Context(), tfcore.ListBlock{TypeName: tc.typeName, Config: tc.config, Limit: terraformsLimit})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, result := range listed {
				if len(result.Found) > 0 {
					t.Errorf("%s: %v", result.DisplayName, result.Found)
				}
				if result.Resource != nil {
					t.Errorf("%s: the resource was not asked for", result.DisplayName)
				}
				label := title[fmt.Sprint(result.Identity["id"])]
				if tc.typeName == pools {
					label = names[fmt.Sprint(stdcmp.Or(result.Identity["workspace_id"], result.Identity["organization_id"]))] + "/" + fmt.Sprint(result.Identity["provider_id"])
				}
				got = append(got, label)
				for _, secret := range []string{secretA, secretB, "\x1b"} {
					if strings.Contains(result.DisplayName, secret) {
						t.Errorf("display name %q has %q", result.DisplayName, secret)
					}
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got := lists(s, names); got != tc.lists || s.Count("GET", byok.WorkspacesPath) != tc.lookups {
				t.Errorf("lists %s, lookups %d; want %s, %d", got, s.Count("GET", byok.WorkspacesPath), tc.lists, tc.lookups)
			}
		})
	}

	for name, tc := range map[string]struct {
		typeName string
		config   map[string]any
		want     []string
	}{
		"keys": {keys, map[string]any{"workspace_ids": ids(one)}, []string{
			`anthropic key "esc\x1b]0;" (` + byok.Mask(secretA) + ")", "openai key " + byok.Mask(secretB), `openai key "prod" (` + byok.Mask(secretA) + ")",
		}},
		"with the name of the workspace": {keys, map[string]any{"workspace_ids": ids("*"), "provider_ids": ids("anthropic")}, []string{
			`anthropic key "esc\x1b]0;" (` + byok.Mask(secretA) + `) in workspace "One"`,
		}},
		"pools": {pools, map[string]any{"workspace_ids": ids(one)}, []string{
			`anthropic pool of 1 key: "esc\x1b]0;"`, `openai pool of 2 keys: ` + byok.Mask(secretB) + `, "prod"`,
		}},
	} {
		t.Run("display names, "+name, func(t *testing.T) {
			listed, err := beginQuery(t, s, s.SessionToken, "").List(t.Context(), tfcore.ListBlock{TypeName: tc.typeName, Config: tc.config})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, result := range listed {
				got = append(got, result.DisplayName)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a query generates plans no change once the secrets are filled in, and is
// valid before that.
func TestListGeneratesCleanConfiguration(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted())
	organizationID, other := s.NewOrganization(t), s.NewWorkspace(t)
	secrets := map[any]string{} // by key ID
	add := func(scope byok.Scope, providerID, secret, name string) {
		secrets[s.AddTo(t, byok.Pool{Scope: scope, ProviderID: providerID}, secret, name)] = secret
	}
	for i, scope := range []byok.Scope{byok.WorkspaceScope(s.WorkspaceID), byok.WorkspaceScope(other), byok.OrganizationScope(organizationID)} {
		for _, name := range []string{"prod", "", "\u00e9-cole 1"} {
			add(scope, "openai", fmt.Sprintf("%s-%d", secretA, i), name)
		}
		add(scope, "cohere", secretB, "prod")
	}
	where := map[string]any{"workspace_ids": []any{s.WorkspaceID, other}, "organization_ids": []any{organizationID}}
	for typeName, tc := range map[string]struct {
		config map[string]any
		want   int
		fill   func(config, listed map[string]any)
	}{
		keyTypeName: {where, 12, func(config, listed map[string]any) { config["api_key_wo"] = secrets[listed["id"]] }},
		poolTypeName: {where, 6, func(config, listed map[string]any) {
			for name, key := range config["keys"].(map[string]any) {
				key.(map[string]any)["api_key_wo"] = secrets[listed["keys"].(map[string]any)[name].(map[string]any)["id"]]
			}
		}},
	} {
		t.Run(typeName, func(t *testing.T) {
			t.Parallel()
			// The query has no default workspace, the plan after it has one.
			listed, err := beginQuery(t, s, s.SessionToken, "").List(t.Context(), tfcore.ListBlock{TypeName: typeName, Config: tc.config, Include: true, Limit: terraformsLimit})
			if err != nil {
				t.Fatal(err)
			}
			if len(listed) != tc.want {
				t.Fatalf("%d results, want %d", len(listed), tc.want)
			}
			o := beginQuery(t, s, s.SessionToken, s.WorkspaceID)
			for _, result := range listed {
				if err := result.Found.Err(); err != nil {
					t.Fatal(err)
				}
				at, err := o.Import(t.Context(), typeName, result.Identity)
				if err != nil {
					t.Fatal(err)
				}
				state := tfcore.Attributes(at.Value)
				if diff := cmp.Diff(state, result.Resource); diff != "" {
					t.Errorf("%s is listed otherwise than it is imported: %s", result.DisplayName, diff)
				}
				config := o.Generated(typeName, result.Resource)
				tc.fill(config, result.Resource)
				typ := o.Type(typeName + ".x")
				change, ok := o.PlanOne(t.Context(), typeName+".x", tfcore.Object(typ, config), at)
				if !ok {
					t.Fatal(o.Err())
				}
				if !change.Empty() {
					t.Errorf("%s: the plan is not empty: %s", result.DisplayName, cmp.Diff(state, tfcore.Attributes(change.Planned)))
				}
			}
			if len(o.Found) > 0 {
				t.Error(o.Found)
			}
		})
	}
}

// What a query generates has no secrets, and is valid all the same: a secret is
// a rule of planning.
func TestListGeneratesValidConfiguration(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	s.Add(t, s.WorkspaceID, "openai", secretA, "prod")
	for _, typeName := range []string{keyTypeName, poolTypeName} {
		o := beginQuery(t, s, s.SessionToken, s.WorkspaceID)
		listed, err := o.List(t.Context(), tfcore.ListBlock{TypeName: typeName, Include: true})
		if err != nil || len(listed) != 1 {
			t.Fatalf("%d results, %v", len(listed), err)
		}
		typ := o.Type(typeName + ".x")
		resp, err := o.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{
			TypeName: typeName, Config: tfcore.Encode(typ, tfcore.Object(typ, o.Generated(typeName, listed[0].Resource))),
			ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
		})
		if err != nil || len(resp.Diagnostics) > 0 {
			t.Errorf("%s: %v, %v", typeName, tfcore.Diagnostics(resp.Diagnostics), err)
		}
	}
}

// A list ends where Terraform stops to read, whether the provider knows the
// limit or not: pushing one more result would panic. Workspaces that are not
// needed are not asked.
func TestListStops(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	providerIDs := []string{"anthropic", "cohere", "exa", "fireworks", "google", "jina", "kimi", "mistral", "openai", "serper", "zai"}
	const perPool = byok.Cap
	full := len(providerIDs) * perPool // more than Terraform's limit
	for _, providerID := range providerIDs {
		for range perPool {
			s.Add(t, s.WorkspaceID, providerID, secretA, "")
		}
	}
	other := s.NewWorkspace(t)
	s.Add(t, other, "openai", secretA, "")
	// Whichever of the two comes first, it holds what the case is about.
	first, second := s.WorkspaceID, other
	if second < first {
		first, second = second, first
	}
	firstHas := map[string]int{s.WorkspaceID: full, other: 1}[first]
	names := map[string]string{first: "first", second: "second"}
	for title, tc := range map[string]struct {
		workspaceIDs []any
		limit        int64
		stopAfter    int
		want         int
		warns        string
		lists        string
	}{
		"limit 1":                     {[]any{first, second}, 1, 0, 1, "were not asked: 1.", "first=1"},
		"all of the first":            {[]any{first, second}, int64(firstHas), 0, firstHas, "stops after " + fmt.Sprint(firstHas) + ", its limit. Workspaces and organizations that were not asked: 1.", "first=1"},
		"as many as both have":        {[]any{first, second}, int64(full) + 1, 0, full + 1, "", "first=1 second=1"},
		"Terraform's default":         {[]any{s.WorkspaceID}, terraformsLimit, 0, terraformsLimit, "The last workspace or organization has more.", ""},
		"as many as there are":        {[]any{s.WorkspaceID}, int64(full), 0, full, "", ""},
		"no limit":                    {[]any{s.WorkspaceID}, 0, 0, full, "", ""},
		"stops without a limit":       {[]any{first, second}, 0, 1, 1, "", "first=1"},
		"stops before the limit":      {[]any{first, second}, terraformsLimit, 1, 1, "", "first=1"},
		"stops at the limit, no more": {[]any{first, second}, 1, 1, 1, "were not asked: 1.", "first=1"},
	} {
		t.Run(title, func(t *testing.T) {
			o := beginQuery(t, s, s.SessionToken, "")
			var listed []tfcore.Listed
			err := o.EachListed(t.Context(), tfcore.ListBlock{TypeName: keyTypeName, Config: map[string]any{"workspace_ids": tc.workspaceIDs}, Limit: tc.limit}, func(result tfcore.Listed) bool {
				listed = append(listed, result)
				return len(listed) != tc.stopAfter
			})
			if err != nil || len(listed) != tc.want {
				t.Fatalf("%d results, %v; want %d", len(listed), err, tc.want)
			}
			for i, result := range listed {
				warned := result.Found.Error()
				switch last := i == len(listed)-1; {
				case last && tc.warns != "" && (!strings.Contains(warned, tc.warns) || result.Found.Err() != nil):
					t.Errorf("the last result says %q, want %q", warned, tc.warns)
				case (!last || tc.warns == "") && len(result.Found) > 0:
					t.Errorf("result %d: %s", i, warned)
				}
			}
			if got := lists(s, names); tc.lists != "" && got != tc.lists {
				t.Errorf("lists %s, want %s", got, tc.lists)
			}
		})
	}
}

// What cannot be listed is a result of its own that says why, and what can be
// follows.
func TestListErrors(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.Hosted(), acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/broken") || r.URL.Path == byok.WorkspacesPath && r.Header.Get("X-Lookup") != "" {
				http.Error(w, `{"error":"boom"}`, http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
	}))
	organizationID := s.NewOrganization(t)
	forbidden, archived := s.NewNamedWorkspace(t, "Forbidden", organizationID), s.NewNamedWorkspace(t, "Archived", "")
	user := s.NewUser(t, "read", s.WorkspaceID, archived)
	s.ArchiveWorkspace(t, archived)
	s.Add(t, s.WorkspaceID, "openai", secretA, "here")
	for title, tc := range map[string]struct {
		config map[string]any
		want   []string // what each error says, by scope; the key comes as well
	}{
		"no permission":    {map[string]any{"workspace_ids": []any{s.WorkspaceID, forbidden}}, []string{`no access to the workspace|keys in workspace "` + forbidden + `"|set workspace_ids to the other IDs`}},
		"archived":         {map[string]any{"workspace_ids": []any{s.WorkspaceID, archived}}, []string{`workspace not found|"` + archived + `"`}},
		"the server fails": {map[string]any{"workspace_ids": []any{s.WorkspaceID, "broken"}}, []string{`the server failed|"broken"`}},
		"not a member":     {map[string]any{"workspace_ids": []any{s.WorkspaceID}, "organization_ids": []any{organizationID}}, []string{`not a member of the organization|set organization_ids to the other IDs`}},
		"several": {map[string]any{"workspace_ids": []any{forbidden, s.WorkspaceID, "broken", archived}},
			[]string{forbidden, archived, `"broken"`}},
	} {
		t.Run(title, func(t *testing.T) {
			listed, err := beginQuery(t, s, user.SessionToken, "").List(t.Context(), tfcore.ListBlock{TypeName: keyTypeName, Config: tc.config, Limit: terraformsLimit})
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			found := 0
			for _, result := range listed {
				if result.Found.Err() == nil {
					found++
					continue
				}
				failed = append(failed, result.Found.Error())
				if result.Identity != nil || len(result.Found) != 1 {
					t.Errorf("an error with more to it: %+v", result)
				}
			}
			if found != 1 || len(failed) != len(tc.want) {
				t.Fatalf("%d keys, %d errors: %v", found, len(failed), failed)
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(failed, func(text string) bool {
					return !slices.ContainsFunc(strings.Split(want, "|"), func(part string) bool { return !strings.Contains(text, part) })
				}) {
					t.Errorf("no error says %q: %v", want, failed)
				}
			}
		})
	}

	t.Run("no workspace", func(t *testing.T) {
		listed, err := beginQuery(t, s, user.SessionToken, "").List(t.Context(), tfcore.ListBlock{TypeName: poolTypeName})
		if err != nil || len(listed) != 1 || !strings.Contains(listed[0].Found.Error(), "Missing workspace_ids") {
			t.Errorf("%+v, %v", listed, err)
		}
	})
	for title, tc := range map[string]struct {
		provider, config map[string]any
		want             string
	}{
		"the lookup fails": {map[string]any{"session_token": user.SessionToken, "headers": map[string]any{"X-Lookup": "fails"}},
			map[string]any{"workspace_ids": []any{s.WorkspaceID, "*"}}, "Cannot list workspaces: the server failed"},
		"unknown endpoint":  {map[string]any{"endpoint": tftypes.UnknownValue, "session_token": user.SessionToken, "workspace_id": s.WorkspaceID}, nil, "Cannot list pools, because the provider byok does not know endpoint"},
		"unknown workspace": {map[string]any{"session_token": user.SessionToken, "workspace_id": tftypes.UnknownValue}, nil, "does not know workspace_id"},
		"no workspace":      {map[string]any{"session_token": user.SessionToken}, nil, "Missing workspace_ids"},
	} {
		t.Run(title, func(t *testing.T) {
			listed, err := beginQueryWith(t, s, tc.provider).List(t.Context(), tfcore.ListBlock{TypeName: poolTypeName, Config: tc.config})
			if err != nil || len(listed) != 1 || !strings.Contains(listed[0].Found.Error(), tc.want) {
				t.Errorf("%+v, %v; want %q", listed, err, tc.want)
			}
		})
	}
}

// Without a workspace, each data source names the arguments that it has.
func TestDataSourceWithoutWorkspace(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	user := s.NewUser(t, "read", s.WorkspaceID)
	for typeName, organization := range map[string]bool{"byok_keys": true, "byok_inherited_providers": false} {
		t.Run(typeName, func(t *testing.T) {
			o := beginQueryWith(t, s, map[string]any{"session_token": user.SessionToken})
			o.ReadData(t.Context(), typeName, nil)
			err := fmt.Sprint(o.Err())
			if !strings.Contains(err, "Missing workspace_id") || !strings.Contains(err, envWorkspaceID) || strings.Contains(err, "organization_id") != organization {
				t.Errorf("the error says %s", err)
			}
		})
	}
}

// A list block is checked before anything is asked.
func TestListValidation(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	o := beginQuery(t, s, s.SessionToken, s.WorkspaceID)
	for title, tc := range map[string]struct {
		config map[string]any
		want   string
	}{
		"blank workspace":    {map[string]any{"workspace_ids": []any{"*", " "}}, "Invalid workspace ID"},
		"slash":              {map[string]any{"workspace_ids": []any{"a/b"}}, "Invalid workspace ID"},
		"null":               {map[string]any{"workspace_ids": []any{nil}}, "Null"},
		"every organization": {map[string]any{"organization_ids": []any{"*"}}, "name each organization"},
		"provider ID":        {map[string]any{"provider_ids": []any{"Open AI"}}, "Invalid provider ID"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := o.List(t.Context(), tfcore.ListBlock{TypeName: keyTypeName, Config: tc.config})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if n := s.Count("", ""); n > 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Terraform's interruption reaches the request that is under way, and none
// follows it.
func TestListCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, keysPath) {
				next.ServeHTTP(w, r)
				return
			}
			cancel()
			<-r.Context().Done()
			close(ended) // which panics on a second request
		})
	}))
	o := beginQuery(t, s, s.SessionToken, "")
	listed, err := o.List(ctx, tfcore.ListBlock{TypeName: keyTypeName, Config: map[string]any{"workspace_ids": []any{"a", "b", "c"}}})
	if err != nil || len(listed) != 1 || !strings.Contains(listed[0].Found.Error(), "interrupted") {
		t.Errorf("%+v, %v", listed, err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the request goes on")
	}
}

// The context of a list lasts until its results have been read, and is released
// then.
func TestListContext(t *testing.T) {
	t.Parallel()
	recorder := &contextRecorder{Framework: newFramework(&byokProvider{version: "test", getenv: func(string) string { return "" }})}
	server := contextReleasingServer{recorder}
	stream, err := server.ListResource(t.Context(), &tfprotov6.ListResourceRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range stream.Results {
		if recorder.ctx.Err() != nil {
			t.Error("over while the results are read")
		}
		break
	}
	if recorder.ctx.Err() == nil {
		t.Error("not released")
	}
}

// contextRecorder lists two results, and keeps the context of the call.
type contextRecorder struct {
	fastpath.Framework
	ctx context.Context
}

func (r *contextRecorder) ListResource(ctx context.Context, _ *tfprotov6.ListResourceRequest) (*tfprotov6.ListResourceServerStream, error) {
	r.ctx = ctx
	return &tfprotov6.ListResourceServerStream{Results: slices.Values([]tfprotov6.ListResourceResult{{}, {}})}, nil
}
