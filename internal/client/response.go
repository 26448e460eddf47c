package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Limits on what a server can make the client hold.
const (
	maxListBytes     = 16 << 20
	maxResponseBytes = 1 << 20
	maxHeaderBytes   = 64 << 10
	maxIDLength      = 128
)

// lazily compiles a regular expression at its first use: Terraform starts the
// provider several times for each command, and seldom needs any of them.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// requestIDForm is the server's own form; a gateway's is of no use to its
// operators. WIRE.md section 1.
var requestIDForm = lazily(`^[0-9a-f]{8}$`)

func requestID(h http.Header) string {
	if id := h.Get("X-Request-Id"); requestIDForm().MatchString(id) {
		return id
	}
	return ""
}

// readBody reads at most limit bytes. A body that ends early is an error.
func readBody(resp *http.Response, limit int64) ([]byte, *failure) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		f := describeNetworkError(err)
		f.detail = "the response was cut off: " + f.detail
		return nil, f
	}
	if int64(len(body)) > limit {
		return nil, &failure{kind: KindProtocol, detail: fmt.Sprintf("it is larger than %d MiB", limit>>20)}
	}
	return body, nil
}

// decodeResponse fills v from a 200 response. Its errors name what is wrong and
// never repeat any of the body.
func decodeResponse(body []byte, contentType string, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		var wrongType *json.UnmarshalTypeError
		switch {
		case errors.As(err, &wrongType) && wrongType.Field != "" && len(wrongType.Field) <= 40:
			kind, _, _ := strings.Cut(wrongType.Value, " ")
			return fmt.Errorf("%s is of type %s", wrongType.Field, kind)
		case errors.As(err, &wrongType):
			return errors.New("its JSON has an unexpected structure")
		}
		return errors.New(notJSON(body, contentType))
	}
	return nil
}

func notJSON(body []byte, contentType string) string {
	trimmed := bytes.TrimSpace(body)
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case len(trimmed) == 0:
		return "it is empty"
	case media == "text/html" || trimmed[0] == '<':
		return "it is HTML, not JSON; the endpoint may be wrong, or a gateway may have responded in place of Sim"
	case trimmed[0] == '{' || trimmed[0] == '[':
		return "it is broken or truncated JSON"
	}
	return "it is not JSON; the endpoint may be wrong"
}

// decodeList returns the keys of a list response.
func decodeList(body []byte, contentType string) (response byok.ListResponse, err error) {
	none := byok.ListResponse{}
	if err := decodeResponse(body, contentType, &response); err != nil {
		return none, err
	}
	if response.Keys == nil {
		return none, errors.New("it has no keys field; the endpoint may be wrong")
	}
	seen := make(map[string]struct{}, len(response.Keys))
	for i, key := range response.Keys {
		if err := checkKey(key); err != nil {
			return none, fmt.Errorf("key %d of %d in the list: %w", i+1, len(response.Keys), err)
		}
		if err := checkTimes(key, updatedAt, createdAt); err != nil {
			return none, fmt.Errorf("key %d of %d in the list: %w", i+1, len(response.Keys), err)
		}
		if _, twice := seen[key.ID]; twice {
			return none, fmt.Errorf("two keys in the list have the ID %q", key.ID)
		}
		seen[key.ID] = struct{}{}
	}
	return response, nil
}

// decodeWorkspaces returns the workspaces of a list that are not archived.
func decodeWorkspaces(body []byte, contentType string) ([]byok.ListedWorkspace, error) {
	var response byok.WorkspacesResponse
	if err := decodeResponse(body, contentType, &response); err != nil {
		return nil, err
	}
	if response.Workspaces == nil {
		return nil, errors.New("it has no workspaces field; the endpoint may be wrong")
	}
	for i, w := range response.Workspaces {
		if w.ID == "" || len(w.ID) > maxIDLength {
			return nil, fmt.Errorf("workspace %d of %d in the list: its id is missing or not an ID", i+1, len(response.Workspaces))
		}
	}
	return slices.DeleteFunc(response.Workspaces, func(w byok.ListedWorkspace) bool { return w.ArchivedAt != nil }), nil
}

// decodeInherited returns the provider IDs that a workspace inherits.
func decodeInherited(body []byte, contentType string) ([]string, error) {
	var response byok.InheritedResponse
	if err := decodeResponse(body, contentType, &response); err != nil {
		return nil, err
	}
	if response.ProviderIDs == nil {
		return nil, errors.New("it has no inheritedProviderIds field; the endpoint may be wrong")
	}
	for _, id := range response.ProviderIDs {
		if !isID(id) {
			return nil, errors.New("one of its provider IDs is not an ID")
		}
	}
	return response.ProviderIDs, nil
}

// decodeAdded returns the key of the response to an add, which has some of the
// timestamps and no createdBy. WIRE.md sections 5 and 7.
func decodeAdded(body []byte, contentType string, pool byok.Pool) (byok.Key, error) {
	key, err := decodeSaved(body, contentType, pool.ProviderID)
	if err != nil {
		return byok.Key{}, err
	}
	return key, checkTimes(key, rules[pool.Scope.Kind].addedTimes...)
}

// decodeReplaced returns the key of the response to a replace, which has no
// createdAt and no createdBy. WIRE.md section 5.
func decodeReplaced(body []byte, contentType, providerID, keyID string) (byok.Key, error) {
	key, err := decodeSaved(body, contentType, providerID)
	switch {
	case err != nil:
		return byok.Key{}, err
	case key.ID != keyID:
		return byok.Key{}, errors.New("it is for another key")
	}
	return key, checkTimes(key, updatedAt)
}

func decodeSaved(body []byte, contentType, providerID string) (byok.Key, error) {
	var response byok.SaveResponse
	if err := decodeResponse(body, contentType, &response); err != nil {
		return byok.Key{}, err
	}
	switch {
	case !response.Success:
		return byok.Key{}, errors.New("it does not report success")
	case response.Key.ProviderID != providerID && response.Key.ProviderID != "":
		return byok.Key{}, errors.New("it is for another provider ID")
	}
	return response.Key, checkKey(response.Key)
}

func decodeDeleted(body []byte, contentType string) error {
	var response struct {
		Success bool `json:"success"`
	}
	if err := decodeResponse(body, contentType, &response); err != nil {
		return err
	}
	if !response.Success {
		return errors.New("it does not report success")
	}
	return nil
}

func checkKey(key byok.Key) error {
	switch {
	case key.ID == "":
		return errors.New("its id is missing or empty")
	case !isID(key.ID):
		return errors.New("its id is not an ID")
	case key.ProviderID == "":
		return errors.New("its providerId is missing or empty")
	case !isID(key.ProviderID):
		return errors.New("its providerId is not a provider ID")
	case key.MaskedKey == "":
		return errors.New("its maskedKey is missing or empty")
	}
	return nil
}

func checkTimes(key byok.Key, times ...keyTime) error {
	for _, at := range times {
		value := at.value(key)
		if value == "" {
			return fmt.Errorf("its %s is missing or empty", at.name)
		}
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return fmt.Errorf("its %s is not a timestamp", at.name)
		}
	}
	return nil
}

// isID reports whether s can stand for an ID in a request, a state and a log
// line: printable ASCII without blanks, not endless.
func isID(s string) bool {
	return s != "" && len(s) <= maxIDLength && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// apiError is the body of every refusal of the BYOK routes; the auth routes
// have message instead of error, and those of organizations have the request ID
// once more. WIRE.md sections 2 to 7.
type apiError struct {
	Error     string `json:"error"`
	Message   string `json:"message"`
	RequestID string `json:"requestId"`
	Details   []struct {
		Path    []any  `json:"path"`
		Message string `json:"message"`
	} `json:"details"`
}

var capText = lazily(`^(A workspace|An organization) can store at most (\d{1,6}) keys per provider$`)

const keyNotFoundText = "BYOK key not found"

// refusal turns a 4xx response into a failure.
func refusal(r *request, status int, body []byte) *failure {
	var parsed apiError
	isAPI := json.Unmarshal(body, &parsed) == nil && parsed.Error+parsed.Message != ""
	f := &failure{refused: true}
	if requestIDForm().MatchString(parsed.RequestID) {
		f.requestID = parsed.RequestID
	}
	known, isKnown := rules[r.scope].refusals[parsed.Error]
	switch status {
	case http.StatusUnauthorized:
		f.kind = KindUnauthorized
		if !isAPI {
			f.kind, f.detail = KindProtocol, "it is a 401 that is not Sim's own; a gateway in front of it may need headers"
		}
	case http.StatusForbidden:
		switch {
		case isKnown:
			f.kind = known
		case isAPI:
			f.kind = KindForbidden
		default:
			f.kind, f.detail = KindProtocol, "it is a 403 that is not Sim's own; a gateway in front of it may have refused"
		}
	case http.StatusNotFound:
		switch {
		case r.method == http.MethodGet && isKnown:
			f.kind = known
		case r.method != http.MethodGet && parsed.Error == keyNotFoundText:
			f.kind = KindKeyNotFound
		default:
			f.kind, f.detail = KindProtocol, "there is no BYOK API at this address; the endpoint may be wrong, or Sim too old"
		}
	case http.StatusBadRequest:
		f.kind, f.detail, f.fields = KindInvalid, knownDetail(parsed), refusedFields(parsed)
		switch {
		case isAPI:
		case bytes.Contains(body, []byte("HTTPS")) || bytes.Contains(body, []byte("SSL-enabled")): // as Go, nginx and Apache say it
			f.kind, f.detail = KindProtocol, "the server uses TLS; the endpoint may have to begin with https://"
		default:
			f.kind, f.detail = KindProtocol, "it is a 400 that is not Sim's own; the endpoint may be wrong, or a gateway may have refused the request"
		}
		if match := capText().FindStringSubmatch(parsed.Error); match != nil {
			f.kind, f.detail = KindCapReached, parsed.Error
			f.cap, _ = strconv.Atoi(match[2])
		}
	case http.StatusRequestEntityTooLarge:
		f.kind, f.detail = KindInvalid, "the request is too large for the server"
	default:
		f.kind, f.detail = KindProtocol, "its status is unexpected"
	}
	return f
}

// knownMessages are the words of the server that may be shown. Any other
// message could repeat the secret, in whatever encoding. WIRE.md section 5.
var knownMessages = []func() *regexp.Regexp{
	capText,
	lazily(`^(API key is required|keyId cannot be empty|Request body must be valid JSON)$`),
	lazily(`^Value cannot contain a NUL character \(U\+0000\)$`),
	lazily(`^Name must be \d{1,6} characters or fewer$`),
	lazily(`^Invalid input: expected [a-z]{1,12}, received [a-z]{1,12}$`),
	lazily(`^Request body exceeds the maximum allowed size of \d{1,12} bytes$`),
}

func knownDetail(parsed apiError) string {
	var parts []string
	for _, issue := range parsed.Details[:min(len(parsed.Details), 4)] {
		field := ""
		if name := requestField(issue.Path); name != "" {
			field = name + ": "
		}
		switch {
		case strings.HasPrefix(issue.Message, "Invalid option: expected one of ") && field == "providerId: ":
			parts = append(parts, field+"the server does not recognize this provider ID")
		case isKnownMessage(issue.Message):
			parts = append(parts, field+issue.Message)
		default:
			parts = append(parts, field+"refused for a reason that is not shown, since it may repeat the request")
		}
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, "; ")
	case isKnownMessage(parsed.Error):
		return parsed.Error
	}
	return "the server gave no reason that can be shown"
}

// requestField is the field of a request that a validation error is about, or
// empty.
func requestField(path []any) string {
	if len(path) > 0 {
		switch name := path[0]; name {
		case "providerId", "apiKey", "keyId", "name":
			return name.(string)
		}
	}
	return ""
}

func refusedFields(parsed apiError) (names []string) {
	for _, issue := range parsed.Details {
		if name := requestField(issue.Path); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func isKnownMessage(message string) bool {
	for _, known := range knownMessages {
		if known().MatchString(message) {
			return true
		}
	}
	return false
}

// knownSignInTexts maps the codes of a refused sign-in to words. WIRE.md
// section 2.
var knownSignInTexts = map[string]string{
	"INVALID_EMAIL_OR_PASSWORD": "email or password is wrong",
	"INVALID_EMAIL":             "the email is not a valid address",
	"VALIDATION_ERROR":          "email or password is malformed",
	"BANNED_USER":               "the user is banned",
	"EMAIL_NOT_VERIFIED":        "the email address has not been verified yet",
	"MISSING_OR_NULL_ORIGIN":    "the server wants an Origin header; a gateway may have added a Cookie header to the sign-in",
	"INVALID_ORIGIN":            "the server does not trust the Origin header; a gateway may have added one",
}

func signInDetail(body []byte) string {
	var parsed struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &parsed) == nil && knownSignInTexts[parsed.Code] != "" {
		return knownSignInTexts[parsed.Code]
	}
	return "the server gave no reason that can be shown"
}

// redirectDetail describes the endpoint that a redirect points to. Of the location
// only what an endpoint has is shown: scheme, host, and a base path.
//
// moved: it leads to the same route of that endpoint.
func redirectDetail(resp *http.Response, apiPath string) (detail string, moved bool) {
	location, err := resp.Location()
	if err != nil || location.Hostname() == "" || (location.Scheme != "http" && location.Scheme != "https") ||
		strings.ContainsFunc(location.Host, func(r rune) bool { return !isHostRune(r) }) || len(location.Host) > 255 {
		return "to a location that cannot be an endpoint", false
	}
	to := url.URL{Scheme: location.Scheme, Host: location.Host}
	if base, ok := strings.CutSuffix(location.Path, apiPath); ok && len(base) < 100 && !strings.ContainsFunc(base, func(r rune) bool { return !isHostRune(r) && r != '/' }) {
		to.Path = base
		return fmt.Sprintf("redirects are not followed; set the endpoint to %s", to.String()), true
	}
	return fmt.Sprintf("redirects are not followed, and this one leads to another page of %s; a gateway may require its own sign-in", to.String()), false
}

func isHostRune(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune(".-:[]_", r)
}

// retryAfter is what the server asks for before another attempt: seconds, or
// a date, in Retry-After or in the X-Retry-After of a sign-in (WIRE.md
// section 2).
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	for _, name := range []string{"Retry-After", "X-Retry-After"} {
		value := strings.TrimSpace(h.Get(name))
		if value == "" {
			continue
		}
		if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
			const most = 24 * 60 * 60
			return time.Duration(min(seconds, most)) * time.Second, true
		} else if errors.Is(err, strconv.ErrRange) {
			return 24 * time.Hour, true
		}
		if at, err := http.ParseTime(value); err == nil {
			// The server's own clock is the better measure of its date.
			if date, err := http.ParseTime(h.Get("Date")); err == nil {
				now = date
			}
			return max(0, min(at.Sub(now), 24*time.Hour)), true
		}
	}
	return 0, false
}
