package client

import (
	"net/http"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// TestUnconfirmedReplace: a replace that failed says whether any of its
// attempts may have been stored.
func TestUnconfirmedReplace(t *testing.T) {
	t.Parallel()
	refused := respond(403, `{"error":"Only workspace admins can manage BYOK keys"}`)
	for name, tc := range map[string]struct {
		faults []act // of the requests; the last one goes on
		want   bool
	}{
		"no response":                {[]act{{cut: true}}, true},
		"500":                        {[]act{respond(500, "")}, true},
		"garbage":                    {[]act{respond(200, `{"keys":[`)}, true},
		"refused":                    {[]act{refused}, false},
		"too many requests":          {[]act{respond(429, "")}, false},
		"no such key":                {[]act{respond(404, `{"error":"BYOK key not found"}`)}, false},
		"no response, then refused":  {[]act{{cut: true}, refused}, true},
		"500, then too many":         {[]act{respond(500, ""), respond(429, "")}, true},
		"no response, then redirect": {[]act{{cut: true}, respond(302, "", "Location: https://elsewhere.example/x")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				id := s.model.seed(openaiPool, "sk-old-secret-0000", "old", time.Now())
				s.model.script = func(n int, _ *http.Request, _ []byte) act { return tc.faults[min(n, len(tc.faults)-1)] }
				err := verbs[OpReplace](s, id)
				if err == nil || IsUnconfirmed(err) != tc.want {
					s.Errorf("%v: unconfirmed %v, want %v", err, IsUnconfirmed(err), tc.want)
				}
			})
		})
	}
}

// An add to an organization responds with all times, so that they do not tell
// an incomplete record from an unconfirmed one.
func TestIncompleteAddIsConfirmed(t *testing.T) {
	t.Parallel()
	play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
		s.model.script = func(n int, r *http.Request, _ []byte) act {
			switch {
			case r.Method == http.MethodPost:
				return respond(200, `{"success":true,"key":{"id":"k1","providerId":"openai","name":null,"maskedKey":"sk-can...0001","createdAt":"2026-01-02T03:04:05.000Z","updatedAt":"2026-01-02T03:04:05.000Z"}}`)
			case n == 0:
				return respond(200, `{"keys":[],"entitled":true}`)
			}
			return respond(500, `{}`)
		}
		pool := byok.Pool{Scope: byok.OrganizationScope("o1"), ProviderID: "openai"}
		key, err := s.client.Add(s.ctx, pool, AddInput{APIKey: canary})
		if err == nil || key.ID != "k1" || IsUnconfirmed(err) {
			s.Errorf("%+v, %v, unconfirmed %v", key, err, IsUnconfirmed(err))
		}
	})
}
