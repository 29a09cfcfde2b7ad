package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bramble/storage"
	"bramble/storage/internal/promapi"
)

// answerTime is how long a remote may take to answer a query: its own limit, and a little for the way.
const answerTime = storage.MaxQueryTime + 5*time.Second

// Handler serves the same routes as [Store.Handler]. Queries are asked of the remote with its credentials; a caller's
// own, and his cookies, stay here. Filters that a caller in front adds to the URL as extra_label or extra_filters[]
// hold, even against the body. vmui is the collector's own.
func (r *Store) Handler() http.Handler { return r.handler }

func (r *Store) routes() (http.Handler, error) {
	to, err := url.Parse(r.options.Read)
	if err != nil {
		return nil, err
	}
	explorer, err := storage.Explorer(r.options.Dir)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Transport: r.client.Transport, FlushInterval: time.Second,
		Rewrite: func(p *httputil.ProxyRequest) { rewrite(p, to) },
		ModifyResponse: func(resp *http.Response) error {
			onlyContent(resp.Header)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, req *http.Request, err error) {
			if req.Context().Err() == nil {
				r.log.Debug("remote query", "path", req.URL.Path, "err", err)
			}
			promapi.Fail(w, http.StatusBadGateway, errors.New("the remote store does not answer"))
		},
	}
	mux := http.NewServeMux()
	for _, path := range append(slices.Clone(promapi.QueryPaths), "/api/v1/series/count") {
		mux.Handle(path, proxy)
	}
	mux.Handle("/vmui", explorer)
	mux.Handle("/vmui/", explorer)
	return promapi.Serve(mux, r.guard), nil
}

// guard lets reading requests in while the store is open, with all their parameters in the form of a body but for the
// filters, which are in the URL: there the remote prefers them.
func (r *Store) guard(next http.Handler) http.Handler {
	return promapi.Guard(&r.gate, func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.URL.Path, "/api/v1/export") { // these may take long
			ctx, cancel := context.WithTimeout(req.Context(), answerTime)
			defer cancel()
			req = req.WithContext(ctx)
		}
		scoped, err := restate(w, req)
		if err != nil {
			promapi.Fail(w, http.StatusBadRequest, err)
			return
		}
		next.ServeHTTP(w, scoped)
	})
}

// restate returns the request with its parameters where guard says.
func restate(w http.ResponseWriter, req *http.Request) (*http.Request, error) {
	filters, err := promapi.Parse(w, req)
	if err != nil {
		return nil, err
	}
	body := req.Form
	for _, name := range slices.Concat(promapi.FilterGroups...) {
		body.Del(name)
	}
	body.Del("reduce_mem_usage") // it would export without deduplication
	fresh(body)
	out := req.Clone(req.Context())
	encoded := body.Encode()
	out.Method, out.URL.RawQuery = http.MethodPost, filters.Encode()
	out.Body, out.ContentLength = io.NopCloser(strings.NewReader(encoded)), int64(len(encoded))
	out.Header = http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Content-Length": {strconv.Itoa(len(encoded))},
	}
	if v := req.Header.Get("Accept-Encoding"); v != "" {
		out.Header.Set("Accept-Encoding", v)
	}
	out.Form, out.PostForm = nil, nil
	return out, nil
}

// rewrite points a request at the remote.
func rewrite(p *httputil.ProxyRequest, to *url.URL) {
	p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host
	p.Out.URL.Path, p.Out.URL.RawPath = to.Path+p.In.URL.Path, ""
	p.Out.Host = ""
}

// onlyContent drops a remote's headers about itself and for browsers.
func onlyContent(h http.Header) {
	for name := range h {
		if !slices.Contains([]string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "Vary"}, name) {
			h.Del(name)
		}
	}
}
