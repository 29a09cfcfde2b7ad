package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect"
)

// maxForm bounds the body of a POSTed query.
const maxForm = 1 << 20

// prefix is where vmui expects the API: it asks /prometheus/api/v1/… when it is served from /vmui/.
const prefix = "/prometheus"

// Handler serves the Prometheus HTTP API of this store, read-only: /api/v1/ query, query_range, series,
// series/count, labels, label/NAME/values, metadata, query_exemplars (there are none), export, export/csv and status/{tsdb,buildinfo,
// active_queries,top_queries}; also VictoriaMetrics' explorer /vmui/ with the two routes it needs,
// /prettify-query and /expand-with-exprs. The same routes answer below /prometheus, where vmui looks for
// them. Everything else is 404. It does not authenticate. Filters that a caller in front adds to the URL as
// extra_label or extra_filters[] hold, whatever the body says.
//
// active_queries and top_queries show the queries of all stores of the process and of all users.
func (s *Store) Handler() http.Handler { return s.handler }

// queryPaths are what is handed to the engine, or to a remote.
var queryPaths = []string{
	"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels", "/api/v1/label/{name}/values",
	"/api/v1/metadata", "/api/v1/query_exemplars", "/api/v1/export", "/api/v1/export/csv", "/api/v1/status/tsdb",
	"/api/v1/status/buildinfo", "/api/v1/status/active_queries", "/api/v1/status/top_queries",
	"/prettify-query", "/expand-with-exprs",
}

func (s *Store) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range queryPaths {
		mux.HandleFunc(path, s.serveQuery)
	}
	mux.HandleFunc("/api/v1/series/count", s.serveSeriesCount)
	mux.HandleFunc("/vmui", serveExplorer)
	mux.HandleFunc("/vmui/", serveExplorer)
	mux.HandleFunc("/", notFound)
	outer := http.NewServeMux()
	outer.Handle("/", s.guard(mux))
	outer.Handle(prefix+"/", http.StripPrefix(prefix, s.guard(mux)))
	return outer
}

// guard lets reading requests in while the store is open.
func (s *Store) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, HEAD, POST")
			fail(w, http.StatusMethodNotAllowed, errors.New("method is not allowed"))
			return
		}
		if err := s.gate.enter(); err != nil {
			fail(w, http.StatusServiceUnavailable, err)
			return
		}
		defer s.gate.leave()
		defer s.gate.whenCut(func() {
			// Not every writer has a connection; those that have none cannot hang either.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
		})()
		next.ServeHTTP(w, r)
	})
}

func (s *Store) serveQuery(w http.ResponseWriter, r *http.Request) {
	scoped, err := s.scope(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	s.makeVisible()
	if !vmselect.RequestHandler(w, scoped) {
		notFound(w, r)
	}
}

// filterGroups are the parameters that restrict what a query sees. Those of a group are alternatives to each other,
// and each group restricts further.
var filterGroups = [][]string{{"extra_label"}, {"extra_filters", "extra_filters[]"}}

// filtersOf returns the filters in force, of a request whose form has been parsed: those of a group in the body count
// only where the URL has none of the group. So whoever stands in front and restricts by the URL is not widened.
func filtersOf(r *http.Request) url.Values {
	inURL, filters := r.URL.Query(), url.Values{}
	for _, group := range filterGroups {
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
	return filters
}

// scope returns r with the filter that picks this store. All filters are in the URL, which the engine prefers, and
// nowhere else.
func (s *Store) scope(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return nil, errors.New("multipart bodies are not supported: send a URL-encoded form")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("parse form: %w", err)
	}
	filters := filtersOf(r)
	filters["extra_label"] = append(slices.Clone(filters["extra_label"]), pickLabel+"="+s.id)
	r = r.Clone(r.Context())
	query := r.URL.Query()
	for _, name := range slices.Concat(filterGroups...) {
		query.Del(name)
		r.Form.Del(name)
	}
	maps.Copy(query, filters)
	r.URL.RawQuery = query.Encode()
	r.Form.Del("reduce_mem_usage") // it would export without deduplication
	return r, nil
}

// serveSeriesCount answers VictoriaMetrics' route itself, since the engine's own has no filters and so
// cannot tell stores apart.
func (s *Store) serveSeriesCount(w http.ResponseWriter, _ *http.Request) {
	s.makeVisible()
	n, err := s.db.GetSeriesCount(uint64(time.Now().Add(maxQueryTime).Unix()))
	if err != nil {
		fail(w, http.StatusInternalServerError, errors.New("count series"))
		s.log.Error("count series", "dir", s.dir, "err", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"status":"success","data":[%d]}`, n)
}

func serveExplorer(w http.ResponseWriter, r *http.Request) {
	if !vmselect.RequestHandler(w, r.Clone(r.Context())) {
		notFound(w, r)
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, fmt.Errorf("no such route: %s", r.URL.Path))
}

// fail answers as the Prometheus API does.
func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"status": "error", "errorType": http.StatusText(status), "error": err.Error(),
	})
}
