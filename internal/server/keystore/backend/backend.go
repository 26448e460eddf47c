// Package backend chooses the key store that fits an open database. The
// server's assembly and the import call it.
package backend

import (
	"context"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/postgres"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/sqlite"
)

// New returns a store on a migrated database, which it does not close. now is
// the clock that stamps keys.
func New(ctx context.Context, db *database.DB, now func() time.Time) (keystore.Store, error) {
	if db.Dialect == database.Postgres {
		return postgres.New(db, now), nil
	}
	return sqlite.New(ctx, db, now)
}
