package api

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

var success = []byte(`{"success":true}`)

// listWorkspaceKeys is GET /api/workspaces/{id}/byok-keys. WIRE.md section 4.
func listWorkspaceKeys(x *exchange) response {
	x.base = access.Entering(x.Store.WillList(x.base, workspace(x.pathID)), x.pathID)
	if err := x.authenticate(); err != nil {
		return x.fail(err, keystore.Workspace)
	}
	permission, err := x.Access.WorkspacePermission(x.ctx(), x.actor.ID, x.pathID)
	if err == nil && permission == access.None {
		// A user without a permission gets the response to a request without a session.
		err = errUnauthorized
	}
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	list, err := x.list(workspace(x.pathID), "}")
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	return list
}

// saveWorkspaceKey is POST /api/workspaces/{id}/byok-keys. WIRE.md section 5.
func saveWorkspaceKey(x *exchange) response {
	if err := x.authorizeWorkspaceAdmin(); err != nil {
		return x.fail(err, keystore.Workspace)
	}
	body, err := x.body(saveFields...)
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	request, invalid := readSave(body)
	if invalid != nil {
		return invalid.response("")
	}
	saved, err := x.save(workspace(x.pathID), request)
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	key := saved.start()
	if request.keyID == "" {
		key.string("createdAt", byok.FormatTime(saved.CreatedAt)).mask(saved.masked)
	} else {
		key.mask(saved.masked).string("updatedAt", byok.FormatTime(saved.UpdatedAt))
	}
	return ok(new(object).raw("success", "true").raw("key", string(key.end())).end())
}

// deleteWorkspaceKey is DELETE /api/workspaces/{id}/byok-keys. WIRE.md
// section 6.
func deleteWorkspaceKey(x *exchange) response {
	if err := x.authorizeWorkspaceAdmin(); err != nil {
		return x.fail(err, keystore.Workspace)
	}
	body, err := x.body(deleteFields...)
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	request, invalid := readDelete(body)
	if invalid != nil {
		return invalid.response("")
	}
	if err := x.remove(workspace(x.pathID), request); err != nil {
		return x.fail(err, keystore.Workspace)
	}
	return ok(success)
}

// inheritedStatus is GET /api/workspaces/{id}/byok-keys/inherited-status: the
// provider IDs that the workspace serves from its organization's pools. WIRE.md
// section 7.
func inheritedStatus(x *exchange) response {
	if err := x.authenticate(); err != nil {
		return x.failWithID(err, keystore.Workspace)
	}
	permission, err := x.Access.WorkspacePermission(x.ctx(), x.actor.ID, x.pathID)
	if err == nil && permission == access.None {
		err = errNoPermission
	}
	if err != nil {
		return x.failWithID(err, keystore.Workspace)
	}
	inherited, err := x.inherited()
	if err != nil {
		return x.failWithID(err, keystore.Workspace)
	}
	list := []byte{'['}
	for i, id := range inherited {
		if i > 0 {
			list = append(list, ',')
		}
		list = appendString(list, id)
	}
	return ok(new(object).raw("inheritedProviderIds", string(append(list, ']'))).end())
}

func (x *exchange) inherited() ([]string, error) {
	if !x.Hosted {
		return nil, nil
	}
	organizationID, err := x.Access.WorkspaceOrganization(x.ctx(), x.pathID)
	if err != nil || organizationID == "" {
		return nil, err
	}
	theirs, err := x.Store.ProviderIDs(x.ctx(), organization(organizationID))
	if err != nil {
		return nil, err
	}
	own, err := x.Store.ProviderIDs(x.ctx(), workspace(x.pathID))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(theirs, func(id string) bool { return slices.Contains(own, id) }), nil
}

// listOrganizationKeys is GET /api/organizations/{id}/byok-keys. WIRE.md
// section 7.
func listOrganizationKeys(x *exchange) response {
	if err := x.authenticate(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	if err := x.authorizeOrganization(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	entitled := `,"entitled":false}`
	if x.Hosted {
		entitled = `,"entitled":true}`
	}
	list, err := x.list(organization(x.pathID), entitled)
	if err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	return list
}

// saveOrganizationKey is POST /api/organizations/{id}/byok-keys. Unlike on a
// workspace the body is read before the role.
func saveOrganizationKey(x *exchange) response {
	if err := x.authenticate(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	body, err := x.body(saveFields...)
	if err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	request, invalid := readSave(body)
	if invalid != nil {
		return invalid.response(x.id)
	}
	if err := x.authorizeOrganization(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	if !x.Hosted {
		return errNotEntitled.response(x.id)
	}
	saved, err := x.save(organization(x.pathID), request)
	if err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	key := saved.start().mask(saved.masked)
	if request.keyID == "" {
		key.string("createdAt", byok.FormatTime(saved.CreatedAt))
	}
	key.string("updatedAt", byok.FormatTime(saved.UpdatedAt))
	return ok(new(object).raw("success", "true").raw("key", string(key.end())).end())
}

// deleteOrganizationKey is DELETE /api/organizations/{id}/byok-keys. It needs
// no entitlement, so that what is left can be cleaned up.
func deleteOrganizationKey(x *exchange) response {
	if err := x.authenticate(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	body, err := x.body(deleteFields...)
	if err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	request, invalid := readDelete(body)
	if invalid != nil {
		return invalid.response(x.id)
	}
	if err := x.authorizeOrganization(); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	if err := x.remove(organization(x.pathID), request); err != nil {
		return x.failWithID(err, keystore.Organization)
	}
	return ok(success)
}

func (x *exchange) authorizeWorkspaceAdmin() error {
	x.base = access.Entering(x.base, x.pathID)
	if err := x.authenticate(); err != nil {
		return err
	}
	permission, err := x.Access.WorkspacePermission(x.ctx(), x.actor.ID, x.pathID)
	if err == nil && permission == access.Admin {
		return nil
	}
	// An unknown workspace is a 403 too: the response says nothing about what
	// exists. WIRE.md section 3.
	if f := toFailure(err, keystore.Workspace); err != nil && f != errNoWorkspace {
		return err
	}
	return errNotWorkspaceAdmin
}

func (x *exchange) authorizeOrganization() error {
	role, err := x.Access.OrganizationRole(x.ctx(), x.actor.ID, x.pathID)
	switch {
	case err != nil:
		return err
	case role == access.NoMember:
		return errNotMember
	case !role.Manages():
		return errNotOrgAdmin
	}
	return nil
}

// savedKey is what a POST responds about.
type savedKey struct {
	keystore.Record
	// masked is cut from the request's string. WIRE.md section 5.
	masked []uint16
	// echo is the name of a replace as the request has it; an add returns the
	// stored one.
	echo *text
}

// start writes the fields that all responses to a POST begin with.
func (s savedKey) start() *object {
	o := new(object).string("id", s.ID).string("providerId", s.ProviderID)
	if s.echo != nil && len(*s.echo) > 0 {
		return o.string("name", string(*s.echo))
	}
	return o.nullable("name", s.Name)
}

// save adds or replaces a key.
func (x *exchange) save(owner keystore.Owner, r saveRequest) (savedKey, error) {
	pool := keystore.Pool{Owner: owner, ProviderID: r.providerID}
	saved := savedKey{masked: r.apiKey.mask()}
	if err := x.MaySeal(x.writeCtx()); err != nil {
		return saved, err
	}
	sealed := x.Sealer.Seal(r.apiKey.string())
	var name *string
	if r.name != nil {
		stored := r.name.string()
		name = &stored
	}
	var err error
	if r.keyID != "" {
		saved.echo = r.name
		saved.Record, err = x.Store.Replace(x.writeCtx(), pool, r.keyID, keystore.Replacement{Sealed: sealed, Name: name})
		if err == nil {
			x.audit("replace", pool, saved.ID)
		}
		return saved, err
	}
	if name != nil && *name == "" {
		name = nil
	}
	saved.Record, err = x.Store.Add(x.writeCtx(), pool, keystore.NewKey{
		ID: access.NewKeyID(x.Random), Name: name, Sealed: sealed, CreatedBy: x.actor.ID,
	}, byok.Cap)
	if err == nil {
		x.audit("add", pool, saved.ID)
	}
	return saved, err
}

// remove deletes one key, or without a key ID all of its pool.
func (x *exchange) remove(owner keystore.Owner, r deleteRequest) error {
	pool := keystore.Pool{Owner: owner, ProviderID: r.providerID}
	if r.keyID == "" {
		ids, err := x.Store.DeletePool(x.writeCtx(), pool)
		if err == nil {
			x.audit("delete", pool, ids...)
		}
		return err
	}
	err := x.Store.Delete(x.writeCtx(), pool, r.keyID)
	if err == nil {
		x.audit("delete", pool, r.keyID)
	}
	return err
}

// list is the response with an owner's keys; suffix ends its JSON.
func (x *exchange) list(owner keystore.Owner, suffix string) (response, error) {
	ctx := x.ctx()
	list, err := x.shown.Read(ctx, shownList{owner, suffix}, func() (*rendered, error) { return x.render(ctx, owner, suffix) },
		func(list *rendered) bool { return len(list.body) <= shownBytes })
	if err != nil {
		return response{}, err
	}
	return response{status: http.StatusOK, body: list.body, rendered: list}, nil
}

// render reads an owner's keys and writes the response with them.
func (x *exchange) render(ctx context.Context, owner keystore.Owner, suffix string) (*rendered, error) {
	records, err := x.Store.List(ctx, owner)
	if err != nil {
		return nil, err
	}
	begin := func() []byte { return append(make([]byte, 0, 64+260*len(records)), `{"keys":[`...) }
	if !slices.ContainsFunc(records, func(r keystore.Record) bool { return r.Sealed == "" }) {
		digest := digestOf(suffix, records)
		list := x.lists.get(digest)
		if list == nil {
			out := begin()
			for _, r := range records {
				out = x.appendKey(out, r)
			}
			list = x.lists.put(digest, append(append(out, ']'), suffix...))
		}
		return list, nil
	}
	// A mask takes the whole key, so long keys are read and opened one at a time.
	if err := x.takeLarge(); err != nil {
		return nil, err
	}
	out := begin()
	err = x.Store.Visit(x.ctx(), owner, func(r keystore.Record) error {
		out = x.appendKey(out, r)
		if len(r.Sealed) > largeBody {
			runtime.GC() // or the garbage of ten such keys piles up
		}
		return nil
	})
	return &rendered{body: append(append(out, ']'), suffix...)}, err
}

// appendKey appends one key to a list.
func (x *exchange) appendKey(out []byte, r keystore.Record) []byte {
	if out[len(out)-1] != '[' {
		out = append(out, ',')
	}
	o := object{out: out, start: len(out)}
	return o.string("id", r.ID).string("providerId", r.ProviderID).nullable("name", r.Name).
		mask(x.mask(r.Sealed)).nullable("createdBy", r.CreatedBy).
		string("createdAt", byok.FormatTime(r.CreatedAt)).string("updatedAt", byok.FormatTime(r.UpdatedAt)).end()
}

// mask opens a stored key; one that does not open shows nothing of itself.
func (x *exchange) mask(sealed string) []uint16 {
	apiKey, err := x.Sealer.Open(sealed)
	if err != nil {
		return utf16.Encode([]rune(byok.MaskUnknown))
	}
	if !utf8.ValidString(apiKey) {
		apiKey = string([]rune(apiKey))
	}
	return text(apiKey).mask()
}

// resolve chooses the key that serves a run. WIRE.md section 8.
func (x *exchange) resolve(workspaceID, providerID string) (*served, error) {
	if workspaceID == "" {
		return nil, nil //nolint:nilnil // no key is a valid result
	}
	pool := keystore.Pool{Owner: workspace(workspaceID), ProviderID: providerID}
	keys, err := x.Store.Pool(x.ctx(), pool)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 && x.Hosted {
		organizationID, err := x.Access.WorkspaceOrganization(x.ctx(), workspaceID)
		if err != nil || organizationID == "" {
			return nil, err
		}
		pool.Owner = organization(organizationID)
		if keys, err = x.Store.Pool(x.ctx(), pool); err != nil {
			return nil, err
		}
	}
	var s served
	var failed error
	at := x.Rotation.Next(pool, len(keys), func(i int) bool {
		sealed := keys[i].Sealed
		if sealed == "" {
			if sealed, err = x.sealed(pool, keys[i].ID); errors.Is(err, keystore.ErrNotFound) {
				return false // deleted a moment ago
			}
			if failed = err; err != nil {
				return true
			}
		}
		apiKey, err := x.Sealer.Open(sealed)
		if err != nil {
			x.metrics.undecryptable(pool)
			return false
		}
		s = served{apiKey: apiKey, pool: pool, keyID: keys[i].ID}
		return true
	})
	if at < 0 || failed != nil {
		return nil, failed //nolint:nilnil // no key is a valid result
	}
	x.metrics.serve(pool)
	x.Activity.Served(pool, s.keyID, x.Now())
	return &s, nil
}

// sealed reads a key that is too long for a list.
func (x *exchange) sealed(pool keystore.Pool, id string) (string, error) {
	if err := x.takeLarge(); err != nil {
		return "", err
	}
	return x.Store.Sealed(x.ctx(), pool, id)
}

// served is a key that serves a run.
type served struct {
	apiKey string
	pool   keystore.Pool
	keyID  string
}

func workspace(id string) keystore.Owner { return keystore.Owner{Scope: keystore.Workspace, ID: id} }

func organization(id string) keystore.Owner {
	return keystore.Owner{Scope: keystore.Organization, ID: id}
}
