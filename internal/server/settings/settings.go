// Package settings is the page on which people manage a workspace's keys in a
// browser, at /workspace/{id}/settings/byok: its HTML, stylesheet and modules,
// the login page, and the stream that shows the rotation. It authorizes with
// the API's session and access, and reads through the API; changes are sent by
// the browser to the API's own routes. The server package builds it around the
// API.
package settings

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Pages serves the page, and what it is built around on every other path. It is
// safe for concurrent use.
type Pages struct {
	api       *api.API
	next      http.Handler
	mux       *http.ServeMux
	assets    assets
	templates *template.Template

	// streams ends when the server shuts down.
	streams    context.Context
	endStreams context.CancelFunc
	mu         sync.Mutex
	open       int
}

// New returns the page of an API. next serves every other path: the API, or
// the part of it that this address shows.
func New(routes *api.API, next http.Handler) (*Pages, error) {
	p := &Pages{api: routes, next: next, mux: http.NewServeMux()}
	p.streams, p.endStreams = context.WithCancel(context.Background())
	var err error
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	p.templates, err = template.New("").Funcs(template.FuncMap{
		"asset":    func(name string) string { return p.assets.prefix + name },
		"initials": initials,
	}).ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	p.mux.HandleFunc("GET /{$}", bounded(p.home))
	p.mux.HandleFunc("GET /login", bounded(p.showLogin))
	p.mux.HandleFunc("POST /login", p.login)
	p.mux.HandleFunc("POST /logout", p.logout)
	p.mux.HandleFunc("GET "+pagePath, bounded(p.showKeys))
	p.mux.HandleFunc("GET "+pagePath+"/state", bounded(p.showState))
	p.mux.HandleFunc("GET "+pagePath+"/events", p.stream)
	p.mux.HandleFunc("GET "+pagePath+"/terraform", bounded(p.showTerraform))
	p.mux.HandleFunc("GET "+pagePath+"/target", bounded(p.showTarget))
	p.mux.Handle("GET /assets/", p.assets)
	p.mux.HandleFunc("GET /workspace/", p.notFound)
	return p, nil
}

const pagePath = "/workspace/{workspace}/settings/byok"

// bounded lets the database take database.Deadline for one page, whatever number
// of statements that takes.
func bounded(show http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), database.Deadline)
		defer cancel()
		show(w, r.WithContext(ctx))
	}
}

// EndStreams ends every open stream, so that a shutdown need not wait for them.
func (p *Pages) EndStreams() { p.endStreams() }

// ServeHTTP implements http.Handler.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isPage(r.URL.EscapedPath()) {
		p.next.ServeHTTP(w, r)
		return
	}
	started := time.Now()
	logged := &loggedWriter{ResponseWriter: w, request: r, status: http.StatusOK}
	p.secure(w.Header())
	if err := p.api.SameOrigin.Check(r); err != nil {
		p.refuse(logged, r, http.StatusForbidden, message{
			Title: "Request refused", Text: "This request came from another site. Nothing was changed.",
		})
	} else {
		p.mux.ServeHTTP(logged, r)
	}
	p.log(r, logged, time.Since(started))
}

// isPage tells the paths of the page from those of the API, which also handles every
// path that is not clean.
func isPage(path string) bool {
	if path == "/" || path == "/login" || path == "/logout" {
		return true
	}
	clean := !strings.Contains(path, "//") && !strings.HasSuffix(path, "/")
	return clean && (strings.HasPrefix(path, "/workspace/") || strings.HasPrefix(path, "/assets/"))
}

// secure sets the headers of every page. Referrer-Policy is not no-referrer,
// with which a browser sends "Origin: null" for a form.
func (p *Pages) secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// log writes a request's line, never its query: people type into it.
func (p *Pages) log(r *http.Request, w *loggedWriter, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", w.status), slog.Duration("took", took),
	}
	if w.actor != "" {
		attrs = append(attrs, slog.String("actor", w.actor))
	}
	level := slog.LevelInfo
	if w.failed != nil && !errors.Is(w.failed, context.Canceled) {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", w.failed.Error()))
	}
	p.api.Logger.LogAttrs(r.Context(), level, "request", attrs...)
}

// loggedWriter keeps what the log line says. It does not await the rest of a body
// that a page has not read.
type loggedWriter struct {
	http.ResponseWriter
	request *http.Request
	status  int
	actor   string
	failed  error
}

func (w *loggedWriter) WriteHeader(status int) {
	w.status = status
	if w.request.ContentLength != 0 {
		api.Drain(w.ResponseWriter, w.request)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *loggedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// note keeps actor and error for the log line.
func note(w http.ResponseWriter, actor string, failed error) {
	if logged, ok := w.(*loggedWriter); ok {
		logged.actor, logged.failed = actor, failed
	}
}

// message is a page that only says something.
type message struct {
	Title, Text  string
	Link, Action string
	// Mothership is the address of the mothership's keys, for superusers.
	Mothership string
	SignOut    bool
}

// refuse writes a page with a message.
func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, status int, m message) {
	p.render(w, r, status, "message.html", m)
}

func (p *Pages) notFound(w http.ResponseWriter, r *http.Request) {
	_, _, err := p.api.Session(r)
	p.refuse(w, r, http.StatusNotFound, message{
		Title: "Page not found", Text: "There is nothing at this address.", Link: "/", Action: "Go to your keys", SignOut: err == nil,
	})
}

func (p *Pages) fail(w http.ResponseWriter, r *http.Request, actor string, err error) {
	note(w, actor, err)
	p.refuse(w, r, http.StatusInternalServerError, message{
		Title: "Something went wrong", Text: "The server could not read its database. Nothing was changed. Try again in a moment.",
		Link: r.URL.RequestURI(), Action: "Try again",
	})
}

func (p *Pages) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var page bytes.Buffer
	if err := p.templates.ExecuteTemplate(&page, name, data); err != nil {
		note(w, "", err)
		http.Error(w, "The page could not be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	write(w, r, status, page.Bytes(), nil)
}

// write sends a body, compressed where the browser takes gzip.
func write(w http.ResponseWriter, r *http.Request, status int, plain, compacted []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	body := plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if compacted == nil {
			compacted = compact(plain)
		}
		body = compacted
		h.Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a browser that left is no failure
}

// signedIn returns who sent a request, or responds with the login page.
func (p *Pages) signedIn(w http.ResponseWriter, r *http.Request) (access.User, bool) {
	user, cookies, err := p.api.Session(r)
	switch {
	case errors.Is(err, access.ErrNotFound):
		to := "/login"
		if next := r.URL.RequestURI(); next != "/" {
			to += "?next=" + url.QueryEscape(next)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return user, false
	case err != nil:
		p.fail(w, r, "", err)
		return user, false
	}
	for _, cookie := range cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	note(w, user.ID, nil)
	return user, true
}

// home leads to the user's first workspace, and superusers without one to the
// mothership's keys.
func (p *Pages) home(w http.ResponseWriter, r *http.Request) {
	user, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	workspaces, err := p.api.Access.VisibleWorkspaces(r.Context(), user.ID)
	if err != nil {
		p.fail(w, r, user.ID, err)
		return
	}
	if len(workspaces) == 0 {
		superuser, err := p.api.Access.IsSuperuser(r.Context(), user.ID)
		if err != nil {
			p.fail(w, r, user.ID, err)
			return
		}
		if superuser {
			http.Redirect(w, r, mothershipURL, http.StatusSeeOther)
			return
		}
		p.refuse(w, r, http.StatusOK, message{
			Title: "No workspace yet", SignOut: true,
			Text: "You are signed in as " + user.Email + ", but no workspace is shared with you. Ask an administrator to add you to one.",
		})
		return
	}
	http.Redirect(w, r, pageURL(workspaces[0].ID), http.StatusSeeOther)
}

// mothershipURL is the mothership's tab alone. The tab asks for its workspace
// itself; the one in the address is none.
var mothershipURL = pageURL("-") + "?tab=" + mothershipTab

func pageURL(workspaceID string) string {
	return "/workspace/" + url.PathEscape(workspaceID) + "/settings/byok"
}

// initials are the first letters of up to two words.
func initials(name string) string {
	out := ""
	for i, word := range strings.Fields(name) {
		if i == 2 {
			break
		}
		out += strings.ToUpper(string([]rune(word)[:1]))
	}
	return out
}
