package api

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// The audit log says who changed, got or was refused what. It never contains a
// secret, a name or an e-mail address. Each line has the client's address and
// the request's ID, which the request log has too. Where it is ambiguous whom a proxy
// forwards for, the address is that of the proxy.

// audit writes a line about keys of a pool.
func (x *exchange) audit(action string, pool keystore.Pool, keyIDs ...string) {
	x.writeAudit(action, append(poolAttrs(pool), slog.Any("key_ids", keyIDs))...)
}

// auditServed writes that a workspace has been given a key.
func (x *exchange) auditServed(workspaceID string, key *served) {
	x.writeAudit("serve", append(poolAttrs(key.pool), slog.String("workspace", workspaceID), slog.Any("key_ids", []string{key.keyID}))...)
}

// auditRefused writes a response that refuses a request: without a session,
// without a permission, one of too many, or one with a refusal of its own.
func (x *exchange) auditRefused(route string, out response) {
	switch out.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		if x.refusal == "" {
			return
		}
	}
	var said struct{ Error, Message string }
	_ = json.Unmarshal(out.body, &said) // without a reason the line is still of use
	attrs := []slog.Attr{
		slog.String("method", x.Request.Method), slog.String("route", route), slog.Int("status", out.status),
		slog.String("reason", cmp.Or(x.refusal, said.Error, said.Message)),
	}
	if x.refusedUser != "" {
		attrs = append(attrs, slog.String("user", x.refusedUser))
	}
	if x.pathID != "" {
		attrs = append(attrs, slog.String("owner", x.pathID))
	}
	x.writeAudit("refused", attrs...)
}

func (x *exchange) writeAudit(action string, attrs ...slog.Attr) {
	all := make([]slog.Attr, 0, len(attrs)+4)
	all = append(all, slog.String("action", action), slog.String("address", cmp.Or(x.clientAddress(), x.Request.RemoteAddr)))
	if x.actor.ID != "" {
		all = append(all, slog.String("actor", x.actor.ID))
	}
	all = append(all, attrs...)
	x.Audit.LogAttrs(x.Request.Context(), slog.LevelInfo, "audit", append(all, slog.String("request_id", x.id))...)
}

func poolAttrs(pool keystore.Pool) []slog.Attr {
	return []slog.Attr{slog.String("scope", string(pool.Scope)), slog.String("owner", pool.ID), slog.String("provider_id", pool.ProviderID)}
}
