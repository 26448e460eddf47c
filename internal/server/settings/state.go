package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// visit is one authorized look at the page: who, of which keys, and what they
// may do with them.
type visit struct {
	user       access.User
	superuser  bool
	workspace  access.Workspace
	permission access.Permission
	owner      keystore.Owner
	// organization is nil for a workspace without one, and for users who do not
	// manage it.
	organization *managedOrganization
}

type managedOrganization struct {
	ID, Name string
	HasKeys  bool
}

var (
	// errNoAccess covers strangers and workspaces that do not exist: which of the
	// two is not told.
	errNoAccess = errors.New("no such workspace, or no access to it")
	// errNotManaged is for users of the workspace who do not manage its
	// organization.
	errNotManaged = fmt.Errorf("%w: not an admin of its organization", errNoAccess)
)

// scopeParameter chooses whose keys the page shows, in its URL.
const scopeParameter = "scope"

// visit authorizes a request of a signed-in user.
func (p *Pages) visit(r *http.Request, user access.User) (visit, error) {
	ctx, cancel := context.WithTimeout(r.Context(), database.Deadline) // a stream's request has none
	defer cancel()
	id := r.PathValue("workspace")
	v := visit{user: user, owner: keystore.Owner{Scope: keystore.Workspace, ID: id}}
	var err error
	if v.superuser, err = p.api.Access.IsSuperuser(ctx, user.ID); err != nil {
		return v, err
	}
	v.permission, err = p.api.Access.WorkspacePermission(ctx, user.ID, id)
	if err == nil {
		v.workspace, err = p.api.Access.FindWorkspace(ctx, id)
	}
	if errors.Is(err, access.ErrNotFound) || (err == nil && v.permission == access.None) {
		return v, errNoAccess
	}
	if err != nil {
		return v, err
	}
	if v.workspace.OrganizationID != "" {
		role, err := p.api.Access.OrganizationRole(ctx, user.ID, v.workspace.OrganizationID)
		if err != nil {
			return v, err
		}
		if role.Manages() {
			if v.organization, err = p.managedOrganization(ctx, v.workspace.OrganizationID); err != nil {
				return v, err
			}
		}
	}
	if r.URL.Query().Get(scopeParameter) == string(keystore.Organization) {
		if v.organization == nil {
			return v, errNotManaged
		}
		v.owner = keystore.Owner{Scope: keystore.Organization, ID: v.organization.ID}
	}
	return v, nil
}

func (p *Pages) managedOrganization(ctx context.Context, id string) (*managedOrganization, error) {
	name, err := p.api.Access.OrganizationName(ctx, id)
	if err != nil {
		return nil, err
	}
	held, err := p.api.Store.ProviderIDs(ctx, keystore.Owner{Scope: keystore.Organization, ID: id})
	return &managedOrganization{ID: id, Name: name, HasKeys: len(held) > 0}, err
}

func (v visit) ofOrganization() bool { return v.owner.Scope == keystore.Organization }

// canDelete reports whether the user may delete keys; canSave, whether also add
// and update. An organization that is not entitled can still clean up.
func (v visit) canDelete() bool { return v.ofOrganization() || v.permission == access.Admin }

func (v visit) canSave(hosted bool) bool {
	return v.canDelete() && (hosted || !v.ofOrganization())
}

// can is both of them for the page's modules.
func (v visit) can(hosted bool) string {
	switch {
	case v.canSave(hosted):
		return "save"
	case v.canDelete():
		return "delete"
	}
	return ""
}

// apiPath is the API's route for the keys.
func (v visit) apiPath() string {
	return "/api/" + string(v.owner.Scope) + "s/" + url.PathEscape(v.owner.ID) + "/byok-keys"
}

// state is what the page shows of the keys, in the page itself and in the
// stream. Times are milliseconds since 1970.
type state struct {
	// Now lets a browser with a wrong clock tell how long ago something was.
	Now   int64 `json:"now"`
	Since int64 `json:"since"`
	// Pools are by provider ID; null in the stream for a pool that is empty now.
	Pools map[string]*pool `json:"pools"`
	// Whole says that what is not in Pools has no keys.
	Whole bool `json:"whole,omitempty"`
	// Can is what the user may do with the keys: save (add, update and delete) or
	// delete, or nothing.
	Can string `json:"can"`
	// Covered are the provider IDs of which the workspace's organization holds
	// keys; null where that could not be found out.
	Covered []string `json:"covered"`
}

// pool is one pool in rotation order.
type pool struct {
	Keys []key `json:"keys"`
	// Next is the index of the key that serves next; -1 where none opens, and
	// where the keys are not used.
	Next int `json:"next"`
}

type key struct {
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Mask     string `json:"mask"`
	By       string `json:"by,omitempty"`
	Created  int64  `json:"created"`
	Replaced int64  `json:"replaced,omitempty"`
	Served   uint64 `json:"served,omitempty"`
	Last     int64  `json:"last,omitempty"`
	Broken   bool   `json:"broken,omitempty"`
}

// sameMoment is how far the two times of a key that was never replaced can be
// apart: an add reads the clock twice.
const sameMoment = 10 * time.Millisecond

// state reads the keys of a visit.
func (p *Pages) state(ctx context.Context, v visit) (*state, error) {
	now := p.api.Now()
	views, err := p.api.Keys(ctx, v.owner)
	if err != nil {
		return nil, err
	}
	var creators []string
	for _, view := range views {
		if view.CreatedBy != "" && !slices.Contains(creators, view.CreatedBy) {
			creators = append(creators, view.CreatedBy)
		}
	}
	names, err := p.api.Access.UserNames(ctx, creators)
	if err != nil {
		return nil, err
	}
	s := &state{Can: v.can(p.api.Hosted), Now: now.UnixMilli(), Since: p.api.Activity.Since.UnixMilli(), Pools: map[string]*pool{}, Whole: true}
	for len(views) > 0 {
		id := views[0].ProviderID
		end := slices.IndexFunc(views, func(view api.KeyView) bool { return view.ProviderID != id })
		if end < 0 {
			end = len(views)
		}
		s.Pools[id] = p.pool(keystore.Pool{Owner: v.owner, ProviderID: id}, views[:end], names)
		views = views[end:]
	}
	s.Covered = p.covered(ctx, v)
	return s, nil
}

func (p *Pages) pool(of keystore.Pool, views []api.KeyView, names map[string]string) *pool {
	uses := p.api.Activity.Pool(of)
	shown := &pool{Keys: make([]key, len(views))}
	for i, view := range views {
		k := key{
			ID: view.ID, Name: keystore.Text(view.Name), Mask: view.Masked, By: names[view.CreatedBy],
			Created: view.CreatedAt.UnixMilli(), Served: uses[view.ID].Count, Broken: !view.Opens,
		}
		if view.UpdatedAt.Sub(view.CreatedAt) > sameMoment {
			k.Replaced = view.UpdatedAt.UnixMilli()
		}
		if k.Served > 0 {
			k.Last = uses[view.ID].Last.UnixMilli()
		}
		shown.Keys[i] = k
	}
	if p.unused(of.Owner) {
		shown.Next = -1
		return shown
	}
	shown.Next = p.api.Rotation.Upcoming(of, len(views), func(i int) bool { return views[i].Opens })
	return shown
}

// unused reports whether no workspace uses the keys of an owner: those of an
// organization that is not entitled.
func (p *Pages) unused(owner keystore.Owner) bool {
	return owner.Scope == keystore.Organization && !p.api.Hosted
}

// covered returns the provider IDs that a workspace would serve from its
// organization, nil where that cannot be found out.
func (p *Pages) covered(ctx context.Context, v visit) []string {
	if !p.api.Hosted || v.ofOrganization() || v.workspace.OrganizationID == "" {
		return []string{}
	}
	ids, err := p.api.Store.ProviderIDs(ctx, keystore.Owner{Scope: keystore.Organization, ID: v.workspace.OrganizationID})
	if err != nil {
		p.api.Logger.ErrorContext(ctx, "inherited status", "workspace", v.workspace.ID, "error", err.Error())
		return nil
	}
	return append([]string{}, ids...)
}

// showState is the state alone, which the page fetches after a change.
func (p *Pages) showState(w http.ResponseWriter, r *http.Request) {
	user, _, err := p.api.Session(r)
	var v visit
	if err == nil {
		note(w, user.ID, nil)
		v, err = p.visit(r, user)
	}
	var s *state
	if err == nil {
		s, err = p.state(r.Context(), v)
	}
	p.writeJSON(w, r, user.ID, s, err)
}

// writeJSON responds to the page's modules.
func (p *Pages) writeJSON(w http.ResponseWriter, r *http.Request, actor string, body any, err error) {
	status := http.StatusOK
	switch {
	case err == nil:
	case errors.Is(err, access.ErrNotFound):
		status, body = http.StatusUnauthorized, map[string]string{"error": "Unauthorized"}
	case errors.Is(err, errNoAccess):
		status, body = http.StatusForbidden, map[string]string{"error": "You no longer have access to these keys"}
	case errors.Is(err, errTooManyStreams):
		status, body = http.StatusServiceUnavailable, map[string]string{"error": "Too many pages are open; the rotation is shown again when there are fewer"}
	default:
		note(w, actor, err)
		status, body = http.StatusInternalServerError, map[string]string{"error": "The server could not read its database"}
	}
	text, err := json.Marshal(body)
	if err != nil {
		note(w, actor, err)
		status, text = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	write(w, r, status, text, nil)
}

// showKeys is the page.
func (p *Pages) showKeys(w http.ResponseWriter, r *http.Request) {
	user, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	v, err := p.visit(r, user)
	tab := r.URL.Query().Get("tab")
	switch {
	case errors.Is(err, errNoAccess) && tab == mothershipTab && v.superuser && !v.ofOrganization():
		// The mothership's keys of any workspace are shown to superusers.
	case errors.Is(err, errNotManaged):
		text := "Only admins of the organization see its keys."
		if v.workspace.OrganizationID == "" {
			text = "This workspace belongs to no organization."
		}
		p.refuse(w, r, http.StatusNotFound, message{
			Title: "No organization keys to see here", Text: text, Link: pageURL(v.workspace.ID), Action: "Go to the workspace’s keys",
		})
		return
	case errors.Is(err, errNoAccess):
		refusal := message{
			Title: "No access to this workspace", SignOut: true, Link: "/", Action: "Go to your workspaces",
			Text: "It does not exist, or it is not shared with " + user.Email + ". Ask an administrator of the workspace to add you.",
		}
		if v.superuser {
			workspaces, err := p.api.Access.VisibleWorkspaces(r.Context(), user.ID)
			if err != nil {
				p.fail(w, r, user.ID, err)
				return
			}
			if len(workspaces) > 0 {
				refusal.Mothership = mothershipURL
			} else {
				refusal.Link, refusal.Action = mothershipURL, "Mothership keys"
			}
		}
		p.refuse(w, r, http.StatusNotFound, refusal)
		return
	case err != nil:
		p.fail(w, r, user.ID, err)
		return
	}
	page, err := p.keysPage(r, v, tab)
	if err != nil {
		p.fail(w, r, user.ID, err)
		return
	}
	if page == nil {
		p.notFound(w, r)
		return
	}
	p.render(w, r, http.StatusOK, "keys.html", page)
}

// The tabs besides the keys.
const (
	rotationTab   = "rotation"
	mothershipTab = "mothership"
)

// keysPage is what keys.html shows.
type keysPage struct {
	User         access.User
	Workspace    access.Workspace
	Workspaces   []access.Workspace
	Organization *managedOrganization
	Scope, Tab   string
	Noun         string
	Superuser    bool
	// HasAccess says that the user may see the workspace's keys: superusers see
	// the mothership's keys without.
	HasAccess bool
	// Hosted says that there are hosted keys, which a workspace without its own
	// uses.
	Hosted    bool
	CanSave   bool
	CanDelete bool
	// NotEntitled says why an organization's keys are not used and cannot be
	// added to.
	NotEntitled bool
	Search      string
	Target      string
	Sections    []shownSection
	Keys, Pools int
	Cap         int
	Data        *pageData
	Base        string
}

// Link is the address of a tab of the same keys.
func (k *keysPage) Link(tab string) string { return k.link(k.Scope, tab) }

// ScopeLink is the address of the same tab with the keys of a scope.
func (k *keysPage) ScopeLink(scope string) string { return k.link(scope, k.Tab) }

// link keeps the search.
func (k *keysPage) link(scope, tab string) string {
	query := url.Values{}
	if scope == string(keystore.Organization) && tab != mothershipTab {
		query.Set(scopeParameter, scope)
	}
	if tab != "" {
		query.Set("tab", tab)
	}
	if k.Search != "" {
		query.Set("search", k.Search)
	}
	if len(query) == 0 {
		return k.Base
	}
	return k.Base + "?" + query.Encode()
}

// Modules are what app.js imports, so that a browser asks for all at once.
func (*keysPage) Modules() []string {
	return []string{"dom.js", "state.js", "dialogs.js", "keys.js", "rotation.js", "mothership.js", "terraform.js"}
}

// Verb is what the button of a provider with keys says.
func (k *keysPage) Verb() string {
	if k.CanDelete {
		return "Manage"
	}
	return "View"
}

// CoverageKnown reports whether it could be found out what the organization
// covers.
func (k *keysPage) CoverageKnown() bool { return k.Data.State == nil || k.Data.State.Covered != nil }

// HasHits reports whether the search finds a provider.
func (k *keysPage) HasHits() bool {
	return slices.ContainsFunc(k.Sections, func(s shownSection) bool { return !s.Hidden })
}

// Summary says how many keys there are, and how many providers a search finds.
func (k *keysPage) Summary() string {
	if strings.TrimSpace(k.Search) != "" {
		hits, all := 0, 0
		for _, s := range k.Sections {
			for _, r := range s.Rows {
				all++
				if !r.Hidden {
					hits++
				}
			}
		}
		return fmt.Sprintf("%d of %d providers", hits, all)
	}
	if k.Keys == 0 {
		switch {
		case k.NotEntitled:
			return "No keys"
		case !k.CanSave:
			return "No keys yet. Workspace admins can add them."
		}
		return "No keys yet"
	}
	return plural(k.Keys, "key") + " · " + plural(k.Pools, "provider")
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// pageData is what the modules need to know, as JSON in the page.
type pageData struct {
	Base  string `json:"base"`
	Query string `json:"query"`
	API   string `json:"api"`
	// Noun is workspace or organization.
	Noun string `json:"noun"`
	User string `json:"user"`
	Cap  int    `json:"cap"`
	// Beat is how often the stream sends an event at least, in milliseconds.
	Beat int64 `json:"beat"`
	// Hosted says that there are hosted keys.
	Hosted bool `json:"hosted,omitempty"`
	// Organization is the name of the organization whose keys these are.
	Organization string `json:"organization,omitempty"`
	// Unused says that no workspace uses these keys.
	Unused bool   `json:"unused,omitempty"`
	State  *state `json:"state,omitempty"`
}

type shownSection struct {
	ID, Title string
	Rows      []row
	Hidden    bool
}

type row struct {
	provider
	Count int
	// Broken counts the keys that cannot be decrypted.
	Broken    int
	Pips      []bool
	Inherited bool
	Hidden    bool
}

// keysPage returns nil where there is no such tab for the user.
func (p *Pages) keysPage(r *http.Request, v visit, tab string) (*keysPage, error) {
	page := &keysPage{
		User: v.user, Workspace: v.workspace, Organization: v.organization, Scope: string(v.owner.Scope), Tab: tab, Noun: string(v.owner.Scope),
		Superuser: v.superuser, HasAccess: v.permission != access.None, Hosted: p.api.Hosted, CanSave: v.canSave(p.api.Hosted), CanDelete: v.canDelete(), Search: r.URL.Query().Get("search"), Cap: byok.Cap,
		Base: pageURL(r.PathValue("workspace")),
	}
	page.NotEntitled = p.unused(v.owner)
	if v.organization != nil && !p.api.Hosted && !v.organization.HasKeys && !v.ofOrganization() {
		page.Organization = nil // nothing to switch to
	}
	page.Data = &pageData{
		Base: page.Base, API: v.apiPath(), Noun: page.Noun, User: v.user.ID, Cap: byok.Cap, Beat: recheck.Milliseconds(), Unused: page.NotEntitled,
		Hosted: page.Hosted,
	}
	if v.ofOrganization() {
		page.Data.Organization = v.organization.Name
		page.Data.Query = "?" + scopeParameter + "=" + page.Scope
	}
	var err error
	if page.Workspaces, err = p.api.Access.VisibleWorkspaces(r.Context(), v.user.ID); err != nil {
		return nil, err
	}
	switch tab {
	case "", rotationTab:
	case mothershipTab:
		if !v.superuser {
			return nil, nil //nolint:nilnil // others do not see it
		}
		page.Target = r.URL.Query().Get("workspace")
		page.Sections = []shownSection{{Rows: mothershipRows()}}
		return page, nil
	default:
		return nil, nil //nolint:nilnil // no such tab
	}
	if page.Data.State, err = p.state(r.Context(), v); err != nil {
		return nil, err
	}
	page.Sections = sections(page.Data.State, page.Search)
	for _, shown := range page.Data.State.Pools {
		page.Keys += len(shown.Keys)
		page.Pools++
	}
	return page, nil
}

func sections(s *state, search string) []shownSection {
	var out []shownSection
	groups := catalogue()
	if others := unlisted(s, groups); len(others) > 0 {
		groups = append(groups, unknown(others))
	}
	for _, group := range groups {
		shown := shownSection{ID: group.ID, Title: group.Title, Hidden: true}
		for _, provider := range group.Providers {
			r := row{provider: provider, Hidden: !provider.matches(search), Pips: make([]bool, byok.Cap)}
			if held := s.Pools[provider.ID]; held != nil {
				r.Count = len(held.Keys)
				for _, k := range held.Keys {
					if k.Broken {
						r.Broken++
					}
				}
			}
			for i := range min(r.Count, byok.Cap) {
				r.Pips[i] = true
			}
			r.Inherited = r.Count == 0 && slices.Contains(s.Covered, provider.ID)
			shown.Hidden = shown.Hidden && r.Hidden
			shown.Rows = append(shown.Rows, r)
		}
		out = append(out, shown)
	}
	return out
}

// unlisted returns the provider IDs with keys that no section has.
func unlisted(s *state, groups []section) []string {
	ids := maps.Clone(s.Pools)
	for _, group := range groups {
		for _, provider := range group.Providers {
			delete(ids, provider.ID)
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// showTarget tells a superuser the name of the workspace whose mothership keys
// are about to be shown; null where this server has no such workspace. Its keys
// can be stored all the same: in the real product another service holds them.
func (p *Pages) showTarget(w http.ResponseWriter, r *http.Request) {
	user, _, err := p.api.Session(r)
	var isSuperuser bool
	if err == nil {
		note(w, user.ID, nil)
		isSuperuser, err = p.api.Access.IsSuperuser(r.Context(), user.ID)
	}
	if err == nil && !isSuperuser {
		err = access.ErrNotFound
	}
	var target struct {
		Name *string `json:"name"`
	}
	if err == nil {
		var workspace access.Workspace
		workspace, err = p.api.Access.FindWorkspace(r.Context(), r.URL.Query().Get("workspaceId"))
		if err == nil {
			target.Name = &workspace.Name
		} else if errors.Is(err, access.ErrNotFound) {
			err = nil
		}
	}
	p.writeJSON(w, r, user.ID, target, err)
}

func mothershipRows() []row {
	var rows []row
	for _, group := range catalogue() {
		for _, provider := range group.Providers {
			if provider.ID == "openai" || provider.ID == "anthropic" {
				rows = append(rows, row{provider: provider})
			}
		}
	}
	return rows
}
