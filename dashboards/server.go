package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"bramble/dashboards/live"
)

// Server answers the browsers and the HTTP API. It is safe for concurrent use.
type Server struct {
	opts    Options
	hub     *live.Hub
	web     *webFiles
	limiter *limiter // of failed logins
	links   *limiter // of links that do not hold
	acks    *limiter // of acknowledgements by link
	metrics *metrics
	handler http.Handler
	served  []string       // every route, as it is registered
	busy    busy           // requests of customers under way
	faults  rate.Sometimes // limits the log's lines: a client may cause them again and again
}

// New checks the options and assembles the routes. It starts nothing: the caller
// serves Handler and calls Close.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register dashboards metrics: %w", err)
	}
	web, err := loadWeb()
	if err != nil {
		return nil, fmt.Errorf("load web page: %w", err)
	}
	s := &Server{opts: o, web: web, metrics: m, limiter: newLimiter(freeFailures, failureRefill), busy: busy{patience: busyPatience}, faults: rate.Sometimes{First: 10, Interval: time.Minute}}
	s.links, s.acks = newLimiter(freeFailures, failureRefill), newLimiter(freeAcks, ackRefill)
	of := live.Options{
		Version: o.Version, Web: web.prefix, Incidents: s.incidentMessage, Watch: o.Watch, CheckOrigin: sameOrigin, Go: s.apart, Fault: s.faulted, Registerer: o.Registerer,
	}
	if o.Own != nil {
		of.Tenancy = o.Own.Tenancy
	}
	if s.hub, err = live.New(of); err != nil {
		return nil, fmt.Errorf("register live metrics: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// Handler serves every route. Its websockets end with Close.
func (s *Server) Handler() http.Handler { return s.handler }

// Hub is where the collector publishes readings and incident changes.
func (s *Server) Hub() *live.Hub { return s.hub }

// Close ends the websockets and waits for their goroutines. Publish may still be called.
func (s *Server) Close() { s.hub.Close() }

// routes is the list of everything that is served, and of who may see it.
func (s *Server) routes() http.Handler {
	mux := newRoutes()

	// Open to strangers: probes, the login page and its files.
	mux.HandleFunc("GET /-/healthy", s.healthy)
	mux.HandleFunc("GET /-/ready", s.ready)
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.Handle("GET /static/", s.web)

	// Open to whoever holds a signed link from a page.
	mux.HandleFunc("GET /ack/{link}", s.openLink)
	mux.HandleFunc("POST /ack/{link}", s.followLink)
	mux.HandleFunc("GET /picture/{link}", s.linkedPicture)
	mux.HandleFunc("GET /own/contact/{link}", s.contactPage)
	mux.HandleFunc("POST /own/contact/{link}", s.contactPage)

	// A customer's own boards: with /login and the files of pages all that the role reaches (tenancy.go).
	mux.Handle("GET /own", s.ownPage(s.ownHome))
	mux.Handle("GET /own/board/{name}", s.ownPage(s.ownBoardPage))
	mux.Handle("GET /own/live", s.ownLive())
	mux.Handle("GET /api/own/boards", s.own(s.ownBoards))
	mux.Handle("GET /api/own/boards/{name}", s.own(s.ownBoard))
	mux.Handle("GET /api/own/boards/{name}/history", s.own(s.ownHistory))
	mux.Handle("GET /api/own/alerts", s.own(s.ownAlerts))
	mux.Handle("GET /api/customers", s.api(Viewer, s.listCustomers))
	mux.Handle("GET /api/own/settings", s.own(s.ownSettings))
	mux.Handle("POST /api/own/thresholds", s.ownFor(Operator, s.setThreshold))
	mux.Handle("DELETE /api/own/thresholds/{kind}", s.ownFor(Operator, s.removeThreshold))
	mux.Handle("POST /api/own/contacts", s.ownFor(Operator, s.addContact))
	mux.Handle("POST /api/own/contacts/{id}/ask", s.ownFor(Operator, s.askContact))
	mux.Handle("DELETE /api/own/contacts/{id}", s.ownFor(Operator, s.removeContact))

	// Pages.
	mux.Handle("GET /{$}", s.page(s.fleetPage))
	mux.Handle("GET /board/{name}", s.page(s.boardPage))
	mux.Handle("GET /incidents", s.page(s.incidentsPage))
	mux.Handle("GET /oncall", s.page(s.onCallPage))
	mux.Handle("/vmui/", s.page(explorer(s.opts.Series)))
	mux.Handle("/", s.page(s.notFoundPage))

	// Our own JSON, described by openapi.json.
	mux.Handle("GET /api/boards", s.api(Viewer, s.listBoards))
	mux.Handle("GET /api/boards/{name}", s.api(Viewer, s.oneBoard))
	mux.Handle("GET /api/boards/{name}/history", s.api(Viewer, s.boardHistory))
	mux.Handle("GET /api/rollups", s.api(Viewer, s.rollups))
	mux.Handle("POST /api/boards/{name}/expect", s.api(Operator, s.expect))
	mux.Handle("GET /api/incidents", s.api(Viewer, s.listIncidents))
	mux.Handle("GET /api/incidents/{id}", s.api(Viewer, s.oneIncident))
	mux.Handle("POST /api/incidents/{id}/snooze", s.api(Operator, s.snooze))
	mux.Handle("POST /api/incidents/{id}/resolve", s.api(Operator, s.closeIncident))
	mux.Handle("GET /api/oncall", s.api(Viewer, s.onCall))
	mux.Handle("POST /api/oncall/overrides", s.api(Operator, s.override))
	mux.Handle("POST /api/oncall/overrides/{id}/end", s.api(Operator, s.endOverride))
	mux.Handle("POST /api/incidents/{id}/ack", s.api(Operator, s.acknowledge))
	mux.Handle("GET /watch", s.page(s.watchPage))
	mux.Handle("GET /api/heartbeats", s.api(Viewer, s.listHeartbeats))
	mux.Handle("POST /api/heartbeats/{name}", s.api(Beating, s.postHeartbeat))
	mux.Handle("DELETE /api/heartbeats/{name}", s.api(Operator, s.removeHeartbeat))
	mux.Handle("GET /api/oncall/test", s.api(Viewer, s.listTests))
	mux.Handle("POST /api/oncall/test", s.api(Operator, s.startTest))
	mux.Handle("GET /off", s.page(s.offPage))
	mux.Handle("GET /api/oncall/off", s.api(Viewer, s.listOff))
	mux.Handle("GET /api/oncall/maintenance", s.api(Viewer, s.listMaintenances))
	mux.Handle("POST /api/oncall/maintenance", s.api(Operator, s.startMaintenance))
	mux.Handle("POST /api/oncall/maintenance/{number}/end", s.api(Operator, s.endMaintenance))
	mux.Handle("GET /api/status", s.api(Viewer, s.status))
	mux.Handle("GET /api/backups", s.api(Viewer, s.listBackups))
	mux.Handle("GET /api/demo", s.api(Viewer, s.demo))
	mux.Handle("GET /api/openapi.json", s.api(Viewer, s.openAPI))
	mux.Handle("/api/", s.api(Viewer, noSuchRoute))

	// Prometheus' and Alertmanager's.
	mux.Handle("/api/v1/rules", s.api(Viewer, orNotFound(s.opts.Rules)))
	mux.Handle("/api/v1/alerts", s.api(Viewer, orNotFound(s.opts.Rules)))
	mux.Handle("/api/v1/format_query", s.api(Viewer, orNotFound(s.opts.Rules)))
	for _, path := range []string{"/api/v1/write", "/api/v1/import", "/api/v1/import/"} {
		mux.Handle(path, s.api(Importer, orNotFound(s.opts.Import)))
	}
	mux.Handle("/api/v1/", s.api(Viewer, orNotFound(s.opts.Series)))
	mux.Handle("/rollups/api/v1/", http.StripPrefix("/rollups", s.api(Viewer, orNotFound(s.opts.Rollups))))
	mux.Handle("/prometheus/", s.api(Viewer, orNotFound(s.opts.Series))) // vmui asks here
	mux.Handle("/api/v2/", s.api(Operator, orNotFound(s.opts.Alerts)))
	mux.Handle("GET /api/v2/", s.api(Viewer, orNotFound(s.opts.Alerts)))
	mux.Handle("GET /metrics", s.api(Viewer, orNotFound(s.opts.Metrics)))
	mux.Handle("GET /live", s.api(Viewer, s.live))
	mux.Handle("POST /-/reload", s.api(Operator, s.reload))

	s.served = mux.patterns
	return s.guard(s.confine(mux.mux))
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Ready != nil && s.opts.Ready() != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// live serves the websocket.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	u := userOf(r)
	s.hub.Serve(w, r, live.Viewer{
		Name: u.Name, Role: string(u.Role), Own: u.Role == Customer, Customer: u.Customer,
		Still: func() bool { _, err := s.authenticate(r); return err == nil },
	})
}

func orNotFound(h http.Handler) http.HandlerFunc {
	if h == nil {
		return noSuchRoute
	}
	return h.ServeHTTP
}

func noSuchRoute(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, "no route "+r.URL.Path+": see /api/openapi.json")
}

// take reads and decodes the body of a request; where it is not ok, the request has its answer.
func take[T any](w http.ResponseWriter, r *http.Request, what string, decode func([]byte) (T, error)) (v T, ok bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		fail(w, http.StatusBadRequest, "read "+what+": "+err.Error())
		return v, false
	}
	if v, err = decode(b); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return v, false
	}
	return v, true
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func fail(w http.ResponseWriter, code int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "error": why}) // the client has gone
}

func (s *Server) incidents(ctx context.Context) ([]Incident, error) {
	if s.opts.Incidents == nil {
		return []Incident{}, nil
	}
	list, err := s.opts.Incidents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	if list == nil {
		list = []Incident{}
	}
	return list, nil
}

func (s *Server) incidentMessage(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := s.incidents(ctx)
	if err != nil {
		s.opts.Log.Error("incident change not sent to browsers", "error", err)
		return nil, err
	}
	return json.Marshal(map[string]any{"type": "incidents", "incidents": list})
}
