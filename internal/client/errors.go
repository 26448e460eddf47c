package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Kind is what went wrong, in the terms of a user, so that a caller can say what
// to do about it.
type Kind string

// The kinds of errors.
const (
	// KindUnauthorized: 401. On a list: no valid session, or no permission on
	// the workspace, where the session could not be asked for: the responses are
	// identical. WIRE.md section 3.
	KindUnauthorized Kind = "unauthorized"
	// KindNoAccess: the user has no permission on the workspace: a 401 of a list
	// with a session that is valid, or a 403 of inherited-status.
	// WIRE.md sections 3 and 7.
	KindNoAccess Kind = "no_access"
	// KindNotMember: the user is not a member of the organization, or it does
	// not exist. WIRE.md section 7.
	KindNotMember Kind = "not_member"
	// KindRoleRequired: the user is a member of the organization, but neither
	// admin nor owner.
	KindRoleRequired Kind = "role_required"
	// KindNotEntitled: an add to an organization without an active plan.
	KindNotEntitled Kind = "not_entitled"
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
	// Also an ID that cannot be one, refused before any I/O.
	KindInvalid Kind = "invalid"
	// KindRateLimited: 429 until the retries or the time ran out.
	KindRateLimited Kind = "rate_limited"
	// KindServer: 5xx until the retries or the time ran out.
	KindServer Kind = "server"
	// KindNetwork: no response: DNS, connection, TLS, timeout, cut.
	KindNetwork Kind = "network"
	// KindCertificate: the server's certificate is signed by an authority that
	// is not trusted.
	KindCertificate Kind = "certificate"
	// KindProtocol: a response that is not one of this API.
	KindProtocol Kind = "protocol"
	// KindRedirect: the endpoint redirects; Detail says where to.
	KindRedirect Kind = "redirect"
	// KindSignIn: the server refused email and password; Detail says why.
	KindSignIn Kind = "sign_in"
	// KindAmbiguous: it could not be decided whether an add made a key, or
	// which one; Candidates lists the keys that may be it, if any.
	KindAmbiguous Kind = "ambiguous"
	// KindCanceled: the context ended first; Unwrap tells whether it was
	// canceled or its deadline passed.
	KindCanceled Kind = "canceled"
)

// Op is the operation that failed.
type Op string

// The operations.
const (
	OpList    Op = "list"
	OpAdd     Op = "add"
	OpReplace Op = "replace"
	OpDelete  Op = "delete"
	OpSignIn  Op = "sign in"
	OpSession Op = "check session"
	// OpWorkspaces lists the workspaces of the user.
	OpWorkspaces Op = "list workspaces"
	// OpInherited asks what a workspace takes from its organization.
	OpInherited Op = "list inherited provider IDs"
)

// Error is every error of a Client's operations. It never holds a secret or the
// body of a 5xx response, which can carry SQL parameters (WIRE.md section 12).
type Error struct {
	Op   Op
	Kind Kind
	// Status is the HTTP status of the last response, 0 when there was none.
	Status int
	// Cap is the cap that the server named, with KindCapReached.
	Cap int
	// RequestID is the server's x-request-id of the last response, or empty.
	RequestID string

	// URL is where the last request was sent, or empty.
	URL string

	// Pool is what the request was about. A list is about a scope: its pool
	// has no ProviderID.
	Pool  byok.Pool
	KeyID string

	// Waiting is how many adds gave up waiting for capacity together, with
	// KindCapReached, because nothing else was in flight. 0 where the time
	// ran out, and where the add did not wait.
	Waiting int
	// Candidates are the IDs of the keys that KindAmbiguous is about.
	Candidates []string
	// Fields are the fields of the request that the API refused, by their
	// names on the wire, with KindInvalid.
	Fields []string
	// Detail is one clause about the cause, cleaned, or empty.
	Detail string
	// Unconfirmed is set when the API may have stored what a replace sent, and
	// when it is not certain that it stores what an add sent for a key that
	// comes with the error.
	Unconfirmed bool
	// Listed is set where the user has read the scope in this operation.
	Listed bool
	// Attempts is how many requests were sent, sign-ins not counted.
	Attempts int

	err error
}

// Error is one sentence: what was tried, on which key, what happened.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Op == OpSignIn:
		b.WriteString("signing in with email and password")
	case e.Op == OpSession:
		b.WriteString("checking the session")
	case e.Op == OpWorkspaces:
		b.WriteString("listing the workspaces of the user")
	case e.Op == OpInherited:
		fmt.Fprintf(&b, "listing what %s %q inherits", e.Pool.Scope.Kind, e.Pool.Scope.ID)
	case e.Op == OpList && e.KeyID != "":
		fmt.Fprintf(&b, "reading key %q of %s %q", e.KeyID, e.Pool.Scope.Kind, e.Pool.Scope.ID)
	case e.Op == OpList:
		fmt.Fprintf(&b, "listing the keys of %s %q", e.Pool.Scope.Kind, e.Pool.Scope.ID)
	case e.Op == OpAdd:
		fmt.Fprintf(&b, "adding a key to %s in %s %q", e.Pool.ProviderID, e.Pool.Scope.Kind, e.Pool.Scope.ID)
	default:
		fmt.Fprintf(&b, "%s key %q of %s in %s %q", map[Op]string{OpReplace: "replacing", OpDelete: "deleting"}[e.Op], e.KeyID, e.Pool.ProviderID, e.Pool.Scope.Kind, e.Pool.Scope.ID)
	}
	b.WriteString(": ")
	b.WriteString(e.what())
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if len(e.Candidates) > 0 {
		fmt.Fprintf(&b, "; keys that may be the one: %s", strings.Join(e.Candidates, ", "))
	}
	var notes []string
	switch {
	case e.Status != 0 && e.URL != "":
		notes = append(notes, fmt.Sprintf("status %d from %s", e.Status, e.URL))
	case e.Status != 0:
		notes = append(notes, fmt.Sprintf("status %d", e.Status))
	}
	if e.RequestID != "" {
		notes = append(notes, "request "+e.RequestID)
	}
	if e.Attempts > 1 {
		notes = append(notes, fmt.Sprintf("%d attempts", e.Attempts))
	}
	if len(notes) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(notes, ", "))
	}
	return b.String()
}

func (e *Error) what() string {
	switch e.Kind {
	case KindUnauthorized:
		if e.Op == OpList {
			return rules[e.Pool.Scope.Kind].unauthorizedList
		}
		return "the session is not valid"
	case KindNoAccess:
		return "the user has no permission on this workspace"
	case KindForbidden:
		switch e.Op {
		case OpList, OpInherited, OpSignIn, OpWorkspaces:
			return "the server refused access"
		}
		return rules[e.Pool.Scope.Kind].forbidden
	case KindNotMember:
		return "the user is not a member of the organization, or it does not exist"
	case KindRoleRequired:
		return "the user is neither admin nor owner of the organization"
	case KindNotEntitled:
		return "the organization has no active plan that includes keys of its own"
	case KindWorkspaceNotFound:
		return "the workspace does not exist or is archived"
	case KindKeyNotFound:
		return "there is no such key"
	case KindCapReached:
		return "the pool is full"
	case KindInvalid:
		return "the request is not valid"
	case KindRateLimited:
		return "the server asks for fewer requests"
	case KindServer:
		return "the server failed"
	case KindNetwork:
		if e.Status != 0 {
			return "incomplete response"
		}
		return "no response from " + e.URL
	case KindCertificate:
		return "the certificate of " + e.URL + " is not trusted"
	case KindProtocol:
		return "the response is not one of this API"
	case KindRedirect:
		return "the endpoint redirects"
	case KindSignIn:
		return "the server refused"
	case KindAmbiguous:
		return "it is not known whether the key was stored"
	case KindCanceled:
		if errors.Is(e.err, context.DeadlineExceeded) {
			return "the time for this operation ran out"
		}
		return "canceled"
	}
	return string(e.Kind)
}

// Unwrap gives the context's error of KindCanceled, otherwise nil.
func (e *Error) Unwrap() error { return e.err }

// IsKind reports whether err is, or wraps, an *Error of one of kinds.
func IsKind(err error, kinds ...Kind) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(kinds, e.Kind)
}

// IsUnconfirmed reports whether err is, or wraps, an *Error of a write that the
// API may have stored all the same.
func IsUnconfirmed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Unconfirmed
}

// failure is why one attempt of one request failed.
type failure struct {
	kind      Kind
	status    int
	requestID string
	detail    string

	// transient: another attempt may succeed.
	transient bool
	// refused: the request certainly changed nothing on the server.
	refused bool
	// finished: the application has responded, so nothing of this request is
	// still in progress.
	finished bool
	// connRefused: there was no connection, so nothing was sent.
	connRefused bool
	// moved: the endpoint redirects to the same route of another one.
	moved bool
	// wait is how long the server asked to wait before the next attempt, if it did.
	wait time.Duration

	// unconfirmed: an attempt of this write may have been stored.
	unconfirmed bool

	url        string
	attempts   int
	candidates []string
	fields     []string
	cap        int
	waiting    int
	op         Op // OpSignIn when signing in failed, otherwise empty
	err        error
}

func (f *failure) Error() string { return string(f.kind) }

// is reports whether f is a failure of kind k; a nil one is of none.
func (f *failure) is(k Kind) bool { return f != nil && f.kind == k }
