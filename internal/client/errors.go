package client

// Kind says what went wrong in the reader's terms, so that a caller can say
// what to do about it.
type Kind string

// The kinds of errors.
const (
	// KindUnauthorized: 401. On a list: no valid session, or no permission on
	// the workspace; the answers are identical. WIRE.md section 3.
	KindUnauthorized Kind = "unauthorized"
	// KindForbidden: 403 on an add, replace or delete: not an admin of the
	// workspace, or the workspace does not exist or is archived.
	KindForbidden Kind = "forbidden"
	// KindWorkspaceNotFound: 404 on a list: unknown or archived.
	KindWorkspaceNotFound Kind = "workspace_not_found"
	// KindKeyNotFound: no such key in this workspace under this provider ID.
	KindKeyNotFound Kind = "key_not_found"
	// KindCapReached: an add to a full pool.
	KindCapReached Kind = "cap_reached"
	// KindInvalid: the API refused the request's content; Detail says why.
	// Also an empty ID, refused before any I/O.
	KindInvalid Kind = "invalid"
	// KindRateLimited: 429 until the retries or the time ran out.
	KindRateLimited Kind = "rate_limited"
	// KindServer: 5xx until the retries or the time ran out.
	KindServer Kind = "server"
	// KindNetwork: no answer: DNS, connection, TLS, timeout, cut.
	KindNetwork Kind = "network"
	// KindProtocol: an answer that is not one of this API.
	KindProtocol Kind = "protocol"
	// KindRedirect: the endpoint redirects; Detail names where to.
	KindRedirect Kind = "redirect"
	// KindSignIn: email and password were refused.
	KindSignIn Kind = "sign_in"
	// KindAmbiguous: it could not be decided whether an add made a key;
	// Candidates lists the keys that may be the one.
	KindAmbiguous Kind = "ambiguous"
	// KindCanceled: the context ended first (canceled or past its deadline).
	KindCanceled Kind = "canceled"
)

// Op is the verb that failed.
type Op string

// The verbs.
const (
	OpList    Op = "list"
	OpAdd     Op = "add"
	OpReplace Op = "replace"
	OpDelete  Op = "delete"
	OpSignIn  Op = "sign in"
)

// Error is every error of a Client's verbs. It never holds a secret or the
// body of a 5xx answer, which can carry SQL parameters (WIRE.md section 12).
type Error struct {
	Op   Op
	Kind Kind
	// Status is the HTTP status of the last answer, 0 when there was none.
	Status int
	// RequestID is the server's x-request-id of the last answer, or empty.
	RequestID string

	WorkspaceID, ProviderID, KeyID string

	// Candidates are the key IDs in doubt of KindAmbiguous.
	Candidates []string
	// Detail is what the server or the network said, cleaned, or empty.
	Detail string
	// Attempts is how many requests were sent, sign-ins not counted.
	Attempts int

	err error
}

func (e *Error) Error() string { return string(e.Op) + ": " + string(e.Kind) }

// Unwrap gives the cause: a context error, a network error, or nil.
func (e *Error) Unwrap() error { return e.err }

// IsKind reports whether err is, or wraps, an *Error of one of kinds.
func IsKind(err error, kinds ...Kind) bool { return false }
