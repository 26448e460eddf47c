package client

import "time"

// Model is the in-memory Sim of this package's tests.
type Model = model

// NewModel returns an empty Model that accepts every session.
func NewModel() *Model { return newModel() }

// Seed stores a key as another user would have.
func (m *model) Seed(pool, secret, name string) string {
	return m.seed(pool, secret, name, time.Now().Add(-time.Hour))
}

// Secrets returns what is stored, by pool and key ID.
func (m *model) Secrets() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	secrets := map[string]string{}
	for pool, keys := range m.pools {
		for _, key := range keys {
			secrets[pool+" "+key.ID] = key.secret
		}
	}
	return secrets
}
