package byok

import "time"

// Cap is the largest pool: the number of keys that one workspace (or one
// organization) can store for one provider ID. WIRE.md section 5.
const Cap = 10

// KeyIDLength is the length of the key IDs that the API makes, all of
// A-Za-z0-9_-. WIRE.md section 4.
const KeyIDLength = 21

// TimeLayout is the only form in which the API writes a time: UTC, always
// three fraction digits. Finer digits are cut, never rounded. WIRE.md
// section 4.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Key is one stored API key as a list shows it; its plaintext is never part
// of it. The fields stand in the order of the wire. WIRE.md section 4.
type Key struct {
	ID         string  `json:"id"`
	ProviderID string  `json:"providerId"`
	Name       *string `json:"name"`
	MaskedKey  string  `json:"maskedKey"`
	CreatedBy  *string `json:"createdBy"`
	CreatedAt  string  `json:"createdAt"`
	UpdatedAt  string  `json:"updatedAt"`
}

// ListResponse is the response to GET /api/workspaces/{id}/byok-keys: every key
// of the workspace by provider ID, then in rotation order. WIRE.md section 4.
type ListResponse struct {
	Keys []Key `json:"keys"`
	// Entitled is part of an organization's list only: whether keys can be
	// added to it. WIRE.md section 7.
	Entitled *bool `json:"entitled,omitempty"`
}

// SaveRequest is the body of POST: an add without KeyID, a replace with it.
// A nil Name leaves a stored name alone; an empty one clears it. WIRE.md
// section 5.
type SaveRequest struct {
	ProviderID string  `json:"providerId"`
	APIKey     string  `json:"apiKey"`
	KeyID      string  `json:"keyId,omitempty"`
	Name       *string `json:"name,omitempty"`
}

// SaveResponse is the response to POST. An add leaves UpdatedAt and CreatedBy
// out, a replace leaves CreatedAt and CreatedBy out. WIRE.md section 5.
type SaveResponse struct {
	Success bool `json:"success"`
	Key     Key  `json:"key"`
}

// DeleteRequest is the body of DELETE. KeyID is never left out of it: without
// one the API removes every key of the provider ID. WIRE.md section 6.
type DeleteRequest struct {
	ProviderID string `json:"providerId"`
	KeyID      string `json:"keyId"`
}

// FormatTime writes t as the API does.
func FormatTime(t time.Time) string {
	return t.UTC().Truncate(time.Millisecond).Format(TimeLayout)
}
