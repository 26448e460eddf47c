package api

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// response is what a route says; write puts it on the wire.
type response struct {
	status int
	body   []byte
	// rendered, if set, is the body with its compressed form.
	rendered *rendered
	// contentType is application/json where it is empty; none says "none".
	contentType string
	header      http.Header
}

const noContentType = "none"

func ok(body []byte) response { return response{status: http.StatusOK, body: body} }

// failure is an error response: {"error":message}, with the details of a
// validation error, and with the request ID on the routes that add it.
type failure struct {
	status  int
	message string
	// details is JSON, or empty.
	details string
}

func (f *failure) Error() string { return f.message }

func (f *failure) response(requestID string) response {
	o := new(object).string("error", f.message)
	if f.details != "" {
		o.raw("details", f.details)
	}
	if requestID != "" {
		o.string("requestId", requestID)
	}
	return response{status: f.status, body: o.end()}
}

// The failures of the API, in its words. WIRE.md sections 3 to 7.
var (
	errUnauthorized      = &failure{status: 401, message: "Unauthorized"}
	errNotWorkspaceAdmin = &failure{status: 403, message: "Only workspace admins can manage BYOK keys"}
	errNoPermission      = &failure{status: 403, message: "Insufficient workspace permissions"}
	errNotMember         = &failure{status: 403, message: "Not a member of the requested organization"}
	errNotOrgAdmin       = &failure{status: 403, message: "Organization admin or owner role required"}
	errNotEntitled       = &failure{status: 403, message: "An active organization plan is required for organization BYOK"}
	errNoWorkspace       = &failure{status: 404, message: "Workspace not found"}
	errNoKey             = &failure{status: 404, message: "BYOK key not found"}
	errWorkspaceFull     = &failure{status: 400, message: "A workspace can store at most 10 keys per provider"}
	errOrganizationFull  = &failure{status: 400, message: "An organization can store at most 10 keys per provider"}
	errInvalidJSON       = &failure{status: 400, message: "Request body must be valid JSON"}
	errTooLarge          = &failure{status: 413, message: "Request body exceeds the maximum allowed size of 10485760 bytes"}
	// The real server's 500 quotes the failed SQL and its parameters.
	errPoolBusy = &failure{status: 500, message: "Another change to these keys took too long; nothing was changed, try again"}
	errSlow     = &failure{status: 500, message: "The database did not respond in time; a change may have been made or not"}
	errInternal = &failure{status: 500, message: "Internal server error"}
)

// toFailure maps an error of the rooms below to what the API says of it.
func toFailure(err error, scope keystore.Scope) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, keystore.ErrNotFound):
		return errNoKey
	case errors.Is(err, keystore.ErrFull) && scope == keystore.Organization:
		return errOrganizationFull
	case errors.Is(err, keystore.ErrFull):
		return errWorkspaceFull
	case errors.Is(err, keystore.ErrLockTimeout):
		return errPoolBusy
	case errors.Is(err, keystore.ErrTimeout):
		return errSlow
	case errors.Is(err, access.ErrNotFound):
		return errNoWorkspace
	}
	return errInternal
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return w
}}

// Values of headers that most responses have. Nobody changes them.
var (
	jsonType        = []string{"application/json"}
	chunkedEncoding = []string{"chunked"}
	gzipEncoding    = []string{"gzip"}
)

// storedLimit is the length of the longest body that is not worth compressing.
const storedLimit = 512

// storedGzip returns a short body in gzip's format as it is: compressing it takes
// longer than all else about the response, and spares nothing of a key.
func storedGzip(body []byte) []byte {
	out := make([]byte, 0, len(body)+23)
	// RFC 1952: deflate, no name and no time, from an unknown system.
	out = append(out, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255)
	// RFC 1951, section 3.2.4: the last block, stored.
	n := uint16(len(body)) //nolint:gosec // at most storedLimit
	out = append(out, 1)
	out = binary.LittleEndian.AppendUint16(out, n)
	out = append(binary.LittleEndian.AppendUint16(out, ^n), body...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	return binary.LittleEndian.AppendUint32(out, uint32(n))
}

// write puts a response on the wire the way Next does: JSON chunked, and
// compressed where the client takes gzip; everything without a body with a
// length of 0. WIRE.md section 1.
func (a response) write(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	switch {
	case a.contentType == noContentType, a.status == http.StatusNoContent:
		h["Content-Type"] = nil
	case a.contentType == "":
		h["Content-Type"] = jsonType
	default:
		h.Set("Content-Type", a.contentType)
	}
	if a.status == http.StatusNoContent {
		w.WriteHeader(a.status)
		return nil
	}
	if r.Method == http.MethodHead || len(a.body) == 0 {
		h.Set("Content-Length", "0")
		w.WriteHeader(a.status)
		return nil
	}
	if a.chunked() {
		h["Transfer-Encoding"] = chunkedEncoding
	}
	if a.contentType == "" {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			h["Content-Encoding"] = gzipEncoding
			w.WriteHeader(a.status)
			switch {
			case a.rendered != nil:
				_, err := w.Write(a.rendered.gzip())
				return err
			case len(a.body) <= storedLimit:
				_, err := w.Write(storedGzip(a.body))
				return err
			}
			zip := gzipWriters.Get().(*gzip.Writer)
			defer gzipWriters.Put(zip)
			zip.Reset(w)
			if _, err := zip.Write(a.body); err != nil {
				return err
			}
			return zip.Close()
		}
	}
	w.WriteHeader(a.status)
	_, err := w.Write(a.body)
	return err
}

// chunked tells the responses of routes from those of Next's router, which know
// their length.
func (a response) chunked() bool {
	return a.status != http.StatusPermanentRedirect && (a.contentType == "" || a.contentType == noContentType)
}

// acceptsGzip reads Accept-Encoding: gzip or *, not refused with q=0.
func acceptsGzip(h http.Header) bool {
	for _, header := range h.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(header, ",") {
			coding, q, _ := strings.Cut(part, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			q = strings.ReplaceAll(q, " ", "")
			if (coding == "gzip" || coding == "*") && strings.Trim(strings.TrimPrefix(q, "q="), "0.") == "" && q != "" {
				return false
			}
			if coding == "gzip" || coding == "*" {
				return true
			}
		}
	}
	return false
}
