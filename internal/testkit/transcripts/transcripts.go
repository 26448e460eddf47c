// Package transcripts holds the exchanges recorded from the real server and
// the contract in words (testdata/WIRE.md), for the tests that replay them:
// requests against the reference server, responses against the client. Only
// tests import it.
package transcripts

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
)

//go:embed testdata/transcripts.json
var recorded []byte

//go:embed testdata/workspaces.json
var recordedWorkspaces []byte

// WorkspacesEntry is one recorded GET /api/workspaces. WIRE.md section 14. The
// owner has 12 workspaces, on which the reader has read permission; of the
// stranger's only workspace the real server is the creator. Of a list, the first
// workspaces are recorded, and how many there were.
type WorkspacesEntry struct {
	// As is owner, reader or stranger, or empty without a session.
	As              string          `json:"as"`
	Request         string          `json:"request"` // method and target
	Status          int             `json:"status"`
	WorkspacesInAll int             `json:"workspacesInAll"`
	Body            json.RawMessage `json:"body"`
}

// Workspaces returns the recorded exchanges of GET /api/workspaces.
func Workspaces() ([]WorkspacesEntry, error) {
	var all []WorkspacesEntry
	if err := json.Unmarshal(recordedWorkspaces, &all); err != nil {
		return nil, fmt.Errorf("workspaces.json: %w", err)
	}
	return all, nil
}

// Entry is one recorded exchange. Entries of one group run in order on a fresh
// workspace. WIRE.md section 13.
type Entry struct {
	ID       string            `json:"id"`
	Group    string            `json:"group"`
	Setup    string            `json:"setup"`
	Note     string            `json:"note"`
	Source   string            `json:"source"`
	Request  Request           `json:"request"`
	Response Response          `json:"response"`
	Compare  []string          `json:"compare"`
	Capture  map[string]string `json:"capture"`
}

// Request is what was sent. Body is nil when there was none; BodyBase64 stands
// in for a body that is not UTF-8.
type Request struct {
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Headers    map[string]string `json:"headers"`
	Body       *string           `json:"body"`
	BodyBase64 string            `json:"bodyBase64"`
}

// Response is what came back. Headers hold strings, but for set-cookie-names,
// a list; Body is a string for HTTP and any JSON value for a module call.
type Response struct {
	Status    int                        `json:"status"`
	Headers   map[string]json.RawMessage `json:"headers"`
	Body      json.RawMessage            `json:"body"`
	SetCookie []string                   `json:"set-cookie"`
}

// baseline names the sources that say how the real server behaves today; the
// others record how its first release differed.
var baseline = []string{"next-head", "next-head-dev-hosted", "module-head"}

// Baseline returns the entries to be matched, in recorded order.
func Baseline() ([]Entry, error) {
	var all []Entry
	if err := json.Unmarshal(recorded, &all); err != nil {
		return nil, fmt.Errorf("transcripts.json: %w", err)
	}
	return slices.DeleteFunc(all, func(e Entry) bool { return !slices.Contains(baseline, e.Source) }), nil
}

// Group returns the entries of one group in order.
func Group(entries []Entry, group string) []Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Group != group })
}

// Bytes returns the request body as sent, nil when there was none.
func (r Request) Bytes() ([]byte, error) {
	switch {
	case r.BodyBase64 != "":
		return base64.StdEncoding.DecodeString(r.BodyBase64)
	case r.Body != nil:
		return []byte(*r.Body), nil
	}
	return nil, nil
}

// Text returns the response body of an HTTP exchange.
func (r Response) Text() (string, error) {
	var text string
	if err := json.Unmarshal(r.Body, &text); err != nil {
		return "", fmt.Errorf("response body is no string: %w", err)
	}
	return text, nil
}
