package settings

import (
	"context"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
)

// Watched returns store, with every change told to those who watch activity, so
// that an open page shows what another user changed.
func Watched(store keystore.Store, activity *rotation.Activity) keystore.Store {
	return watched{store, activity}
}

type watched struct {
	keystore.Store
	activity *rotation.Activity
}

func (w watched) Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error) {
	defer w.activity.Changed(pool.Owner)
	return w.Store.Add(ctx, pool, key, limit)
}

func (w watched) Replace(ctx context.Context, pool keystore.Pool, id string, with keystore.Replacement) (keystore.Record, error) {
	defer w.activity.Changed(pool.Owner)
	return w.Store.Replace(ctx, pool, id, with)
}

func (w watched) Delete(ctx context.Context, pool keystore.Pool, id string) error {
	defer w.activity.Changed(pool.Owner)
	return w.Store.Delete(ctx, pool, id)
}

func (w watched) DeletePool(ctx context.Context, pool keystore.Pool) ([]string, error) {
	defer w.activity.Changed(pool.Owner)
	return w.Store.DeletePool(ctx, pool)
}
