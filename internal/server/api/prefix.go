package api

import (
	"net/http"
	"strings"
)

// ReferencePrefix is the path of everything that the real server does not have.
const ReferencePrefix = "/reference/"

// Only returns the API as a server shows it that serves the paths below prefix
// and nothing else.
func (a *API) Only(prefix string) http.Handler {
	return a.hiding(func(path string) bool { return !strings.HasPrefix(path, prefix) })
}

// Without returns the API as a server shows it that serves all but the paths
// below prefix.
func (a *API) Without(prefix string) http.Handler {
	return a.hiding(func(path string) bool { return strings.HasPrefix(path, prefix) })
}

func (a *API) hiding(isHidden func(path string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, isHidden) })
}

func hidesNothing(string) bool { return false }
