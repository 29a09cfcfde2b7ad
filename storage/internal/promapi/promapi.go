// Package promapi holds the common part of the stores' HTTP APIs: the routes of Prometheus and
// VictoriaMetrics that are served, the guard in front of them, the filters that restrict a query, and
// errors as clients expect them.
package promapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bramble/storage/internal/lifecycle"
)

// MaxForm bounds the body of a POSTed query, in bytes.
const MaxForm = 1 << 20

// Prefix is where vmui expects the API: it asks /prometheus/api/v1/… when it is served from /vmui/.
const Prefix = "/prometheus"

// QueryPaths are the routes that are handed to the engine, or to a remote.
var QueryPaths = []string{
	"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels", "/api/v1/label/{name}/values",
	"/api/v1/metadata", "/api/v1/query_exemplars", "/api/v1/export", "/api/v1/export/csv", "/api/v1/status/tsdb",
	"/api/v1/status/buildinfo", "/api/v1/status/active_queries", "/api/v1/status/top_queries",
	"/prettify-query", "/expand-with-exprs",
}

// Serve answers at the root and below Prefix, for all routes that the mux has; others are 404.
func Serve(mux *http.ServeMux, guard func(http.Handler) http.Handler) http.Handler {
	mux.HandleFunc("/", NotFound)
	outer := http.NewServeMux()
	outer.Handle("/", guard(mux))
	outer.Handle(Prefix+"/", http.StripPrefix(Prefix, guard(mux)))
	return outer
}

// Guard lets reading requests in while the gate is open.
func Guard(gate *lifecycle.Gate, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, HEAD, POST")
			Fail(w, http.StatusMethodNotAllowed, errors.New("method is not allowed"))
			return
		}
		if err := gate.Enter(); err != nil {
			Fail(w, http.StatusServiceUnavailable, err)
			return
		}
		defer gate.Leave()
		defer gate.WhenCut(func() {
			// Not every writer has a connection; those that have none cannot hang either.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
		})()
		next(w, r)
	})
}

// FilterGroups are the parameters that restrict a query. Those of a group are alternatives to each other,
// and each group restricts further.
var FilterGroups = [][]string{{"extra_label"}, {"extra_filters", "extra_filters[]"}}

// Parse reads the request's form and returns the filters in force: those of a group in the body count
// only where the URL has none of the group, so that a restriction by the URL is never widened.
func Parse(w http.ResponseWriter, r *http.Request) (filters url.Values, err error) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return nil, errors.New("multipart bodies are not supported: send a URL-encoded form")
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("parse form: %w", err)
	}
	inURL, filters := r.URL.Query(), url.Values{}
	for _, group := range FilterGroups {
		from := r.PostForm
		if slices.ContainsFunc(group, inURL.Has) {
			from = inURL
		}
		for _, name := range group {
			if values, ok := from[name]; ok {
				filters[name] = values
			}
		}
	}
	return filters, nil
}

// NotFound answers 404 as the API does.
func NotFound(w http.ResponseWriter, r *http.Request) {
	Fail(w, http.StatusNotFound, fmt.Errorf("no such route: %s", r.URL.Path))
}

// Fail answers an error as the Prometheus API does.
func Fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"status": "error", "errorType": http.StatusText(status), "error": err.Error(),
	})
}
