package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// What the settings page asks of the API beyond its routes. The plaintext of a
// key stays in this package.

// KeyView is a stored key as people may see it.
type KeyView struct {
	ID, ProviderID       string
	Name                 *string
	Masked               string
	CreatedBy            string
	CreatedAt, UpdatedAt time.Time
	// Opens is false where ENCRYPTION_KEY does not open the stored value.
	Opens bool
}

// Keys returns all keys of an owner by provider ID, then in rotation order.
func (a *API) Keys(ctx context.Context, owner keystore.Owner) ([]KeyView, error) {
	x := &exchange{API: a, Request: new(http.Request).WithContext(ctx), base: ctx}
	defer x.end()
	records, err := a.Store.List(x.ctx(), owner)
	if err != nil {
		return nil, err
	}
	views := make([]KeyView, 0, len(records))
	view := func(r keystore.Record) error {
		v := KeyView{
			ID: r.ID, ProviderID: r.ProviderID, Name: r.Name, Masked: byok.MaskUnknown,
			CreatedBy: keystore.Text(r.CreatedBy), CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		}
		if apiKey, err := a.Sealer.Open(r.Sealed); err == nil {
			v.Masked, v.Opens = byok.Mask(apiKey), true
		}
		views = append(views, v)
		return nil
	}
	if !slices.ContainsFunc(records, func(r keystore.Record) bool { return r.Sealed == "" }) {
		for _, r := range records {
			_ = view(r)
		}
		return views, nil
	}
	// A mask takes the whole key, so long keys are read and opened one at a time.
	if err := x.takeLarge(); err != nil {
		return nil, err
	}
	return views, a.Store.Visit(x.ctx(), owner, view)
}

// Session returns who sent a request, and the cookies that extend the session.
// access.ErrNotFound where nobody is signed in.
func (a *API) Session(r *http.Request) (user access.User, setCookies []string, err error) {
	return a.sessionOf(&exchange{API: a, Request: r, base: r.Context()})
}

// StoredSession is Session without the session_data cookie, which outlives a
// sign-out by minutes.
func (a *API) StoredSession(r *http.Request) (user access.User, setCookies []string, err error) {
	return a.sessionOf(&exchange{API: a, Request: r, base: r.Context(), withoutCache: true})
}

func (a *API) sessionOf(x *exchange) (user access.User, setCookies []string, err error) {
	if a.DisableAuth {
		return access.User{ID: access.AnonymousID, Email: access.AnonymousEmail, Name: "Anonymous"}, nil, nil
	}
	defer x.end()
	in, err := x.session()
	return in.User, x.setCookies, err
}
