package storage

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect"

	"bramble/storage/internal/promapi"
)

// Handler serves the Prometheus HTTP API of this store, read-only: /api/v1/ query, query_range, series,
// series/count, labels, label/NAME/values, metadata, query_exemplars (there are none), export, export/csv and status/{tsdb,buildinfo,
// active_queries,top_queries}; also VictoriaMetrics' explorer /vmui/ with the two routes it needs,
// /prettify-query and /expand-with-exprs. The same routes answer below /prometheus, where vmui looks for
// them. Everything else is 404. It does not authenticate. Filters that a caller in front adds to the URL as
// extra_label or extra_filters[] hold, even against the body.
//
// active_queries and top_queries show the queries of all stores of the process and of all users.
func (s *Store) Handler() http.Handler { return s.handler }

func (s *Store) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range promapi.QueryPaths {
		mux.HandleFunc(path, s.serveQuery)
	}
	mux.HandleFunc("/api/v1/series/count", s.serveSeriesCount)
	mux.HandleFunc("/vmui", serveExplorer)
	mux.HandleFunc("/vmui/", serveExplorer)
	return promapi.Serve(mux, func(next http.Handler) http.Handler { return promapi.Guard(&s.gate, next.ServeHTTP) })
}

func (s *Store) serveQuery(w http.ResponseWriter, r *http.Request) {
	scoped, err := s.scope(w, r)
	if err != nil {
		promapi.Fail(w, http.StatusBadRequest, err)
		return
	}
	s.makeVisible()
	if !vmselect.RequestHandler(w, scoped) {
		promapi.NotFound(w, r)
	}
}

// scope returns r with the filter that picks this store. All filters are in the URL, which the engine prefers, and
// nowhere else.
func (s *Store) scope(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	filters, err := promapi.Parse(w, r)
	if err != nil {
		return nil, err
	}
	filters["extra_label"] = append(slices.Clone(filters["extra_label"]), pickLabel+"="+s.id)
	r = r.Clone(r.Context())
	query := r.URL.Query()
	for _, name := range slices.Concat(promapi.FilterGroups...) {
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
	n, err := s.db.GetSeriesCount(uint64(time.Now().Add(MaxQueryTime).Unix()))
	if err != nil {
		promapi.Fail(w, http.StatusInternalServerError, errors.New("count series"))
		s.log.Error("count series", "dir", s.dir, "err", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"status":"success","data":[%d]}`, n)
}

// Explorer serves vmui's files, for stores of other packages. dir is a directory for the engine's
// temporary files, which vmui has none of.
func Explorer(dir string) (http.Handler, error) {
	return http.HandlerFunc(serveExplorer), engine.serveExplorer(dir)
}

func serveExplorer(w http.ResponseWriter, r *http.Request) {
	if !vmselect.RequestHandler(w, r.Clone(r.Context())) {
		promapi.NotFound(w, r)
	}
}
