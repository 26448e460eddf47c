package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// loginPage is what login.html shows.
type loginPage struct {
	Next, Email, Problem string
}

// maxForm bounds the body of a login.
const maxForm = 64 << 10

func (p *Pages) showLogin(w http.ResponseWriter, r *http.Request) {
	if _, _, err := p.api.Session(r); err == nil {
		http.Redirect(w, r, localPath(r.URL.Query().Get("next")), http.StatusSeeOther) //nolint:gosec // a path of this server
		return
	} else if !errors.Is(err, access.ErrNotFound) {
		p.fail(w, r, "", err)
		return
	}
	p.render(w, r, http.StatusOK, "login.html", loginPage{Next: localPath(r.URL.Query().Get("next"))})
}

// login signs in through the API's own route, with its rate limit, and starts
// the session that the API starts.
func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	page := loginPage{Next: localPath(r.PostFormValue("next")), Email: r.PostFormValue("email")}
	body, err := json.Marshal(map[string]string{"email": page.Email, "password": r.PostFormValue("password")})
	if err != nil {
		p.fail(w, r, "", err)
		return
	}
	response := p.forward(w, r, "/api/auth/sign-in/email", body)
	if response.status == http.StatusOK {
		http.Redirect(w, r, page.Next, http.StatusSeeOther)
		return
	}
	page.Problem = loginProblem(response, p.api.AppURL)
	p.render(w, r, response.status, "login.html", page)
}

func loginProblem(response *forwarded, appURL *url.URL) string {
	var said struct{ Message, Code string }
	_ = json.Unmarshal(response.body.Bytes(), &said) // a problem without a code has the last text
	switch {
	case response.status == http.StatusTooManyRequests:
		return "Too many attempts. Wait " + response.header.Get("X-Retry-After") + " seconds, then try again."
	case said.Code == "INVALID_EMAIL_OR_PASSWORD":
		return "The email address or the password is wrong."
	case said.Code == "INVALID_EMAIL":
		return "Enter a whole email address, such as name@example.com."
	case said.Code == "BANNED_USER":
		return "This user may not sign in. Ask an administrator."
	case said.Code == "INVALID_ORIGIN", said.Code == "MISSING_OR_NULL_ORIGIN":
		return "This server is known as " + appURL.Scheme + "://" + appURL.Host + ". Open it under that address and sign in there."
	}
	return "The server could not sign you in. Try again in a moment."
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	if response := p.forward(w, r, "/api/auth/sign-out", []byte("{}")); response.status != http.StatusOK {
		p.refuse(w, r, response.status, message{
			Title: "Still signed in", Text: "The server could not sign you out. Try again in a moment.", Link: "/", Action: "Back to your keys",
		})
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// forward sends a body to a route of the API, as the same client, and sets the
// cookies that it sets.
func (p *Pages) forward(w http.ResponseWriter, r *http.Request, path string, body []byte) *forwarded {
	to := r.Clone(r.Context())
	to.URL = &url.URL{Path: path}
	to.Header.Set("Content-Type", "application/json")
	to.Header.Del("Accept-Encoding")
	to.Body, to.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response := &forwarded{header: http.Header{}, status: http.StatusOK}
	p.api.ServeHTTP(response, to)
	for _, cookie := range response.header.Values("Set-Cookie") {
		w.Header().Add("Set-Cookie", cookie)
	}
	return response
}

// forwarded is a response of the API.
type forwarded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (f *forwarded) Header() http.Header         { return f.header }
func (f *forwarded) WriteHeader(status int)      { f.status = status }
func (f *forwarded) Write(b []byte) (int, error) { return f.body.Write(b) }

// localPath is where to go after signing in: a page of this server, never one
// of another.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/workspace/") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return u.RequestURI()
}
