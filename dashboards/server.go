package dashboards

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bramble/dashboards/live"
)

// Server answers the browsers and the HTTP API. It is safe for concurrent use.
type Server struct {
	opts      Options
	hub       *live.Hub
	web       *webFiles
	access    *access
	pages     *renderer
	incidents *incidentPages
	onCall    *onCallPages
	links     *linkPages
	customers *customerPages
	handler   http.Handler
	served    []string // every route, as it is registered
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
	s := &Server{opts: o, web: web}
	s.pages = &renderer{web: web, open: o.Open, demo: o.Demo != nil, version: o.Version, boardsPort: o.BoardsPort, log: o.Log}
	s.access = &access{
		auth: o.Auth, open: o.Open, secureCookie: o.SecureCookie, limiter: newLimiter(freeFailures, failureRefill),
		faults: rate.Sometimes{First: 10, Interval: time.Minute}, pages: s.pages, metrics: m, log: o.Log,
	}
	s.incidents = &incidentPages{access: s.access, pages: s.pages, of: o.Incidents, log: o.Log}
	of := live.Options{
		Version: o.Version, Web: web.prefix, Incidents: s.incidents.incidentMessage, Watch: o.Fleet.Watch, CheckOrigin: sameOrigin, Go: s.access.apart, Fault: s.access.faulted, Registerer: o.Registerer,
	}
	if o.Own != nil {
		of.Tenancy = o.Own.Tenancy
	}
	if s.hub, err = live.New(of); err != nil {
		return nil, fmt.Errorf("register live metrics: %w", err)
	}
	s.incidents.hub = s.hub
	s.onCall = &onCallPages{access: s.access, pages: s.pages, of: o.Paging, maintenances: o.Maintenances, heartbeats: o.Heartbeats}
	wrong := newLimiter(freeFailures, failureRefill)
	s.links = &linkPages{access: s.access, pages: s.pages, of: o.Links, hub: s.hub, wrong: wrong, acks: newLimiter(freeAcks, ackRefill)}
	s.customers = &customerPages{
		access: s.access, pages: s.pages, fleet: o.Fleet, of: o.Own, settings: o.OwnSettings, hub: s.hub, live: s.live,
		busy: busy{patience: busyPatience}, links: wrong,
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
	mux.HandleFunc("GET /login", s.access.loginPage)
	mux.HandleFunc("POST /login", s.access.login)
	mux.HandleFunc("POST /logout", s.access.logout)
	mux.Handle("GET /static/", s.web)

	// Open to whoever holds a signed link from a page.
	mux.HandleFunc("GET /ack/{link}", s.links.openLink)
	mux.HandleFunc("POST /ack/{link}", s.links.followLink)
	mux.HandleFunc("GET /picture/{link}", s.links.linkedPicture)
	mux.HandleFunc("GET /own/contact/{link}", s.customers.contactPage)
	mux.HandleFunc("POST /own/contact/{link}", s.customers.contactPage)

	// A customer's own boards: with /login and the files of pages all that the role reaches (tenancy.go).
	mux.Handle("GET /own", s.customers.ownPage(s.customers.ownHome))
	mux.Handle("GET /own/board/{name}", s.customers.ownPage(s.customers.ownBoardPage))
	mux.Handle("GET /own/live", s.customers.ownLive())
	mux.Handle("GET /api/own/boards", s.customers.own(s.customers.ownBoards))
	mux.Handle("GET /api/own/boards/{name}", s.customers.own(s.customers.ownBoard))
	mux.Handle("GET /api/own/boards/{name}/history", s.customers.own(s.customers.ownHistory))
	mux.Handle("GET /api/own/alerts", s.customers.own(s.customers.ownAlerts))
	mux.Handle("GET /api/customers", s.access.api(Viewer, s.customers.listCustomers))
	mux.Handle("GET /api/own/settings", s.customers.own(s.customers.ownSettings))
	mux.Handle("POST /api/own/thresholds", s.customers.ownFor(Operator, s.customers.setThreshold))
	mux.Handle("DELETE /api/own/thresholds/{kind}", s.customers.ownFor(Operator, s.customers.removeThreshold))
	mux.Handle("POST /api/own/contacts", s.customers.ownFor(Operator, s.customers.addContact))
	mux.Handle("POST /api/own/contacts/{id}/ask", s.customers.ownFor(Operator, s.customers.askContact))
	mux.Handle("DELETE /api/own/contacts/{id}", s.customers.ownFor(Operator, s.customers.removeContact))

	// Pages.
	mux.Handle("GET /{$}", s.access.page(s.fleetPage))
	mux.Handle("GET /board/{name}", s.access.page(s.boardPage))
	mux.Handle("GET /incidents", s.access.page(s.incidents.incidentsPage))
	mux.Handle("GET /oncall", s.access.page(s.onCall.onCallPage))
	mux.Handle("/vmui/", s.access.page(explorer(s.opts.Series)))
	mux.Handle("/", s.access.page(s.notFoundPage))

	// Our own JSON, described by openapi.json.
	mux.Handle("GET /api/boards", s.access.api(Viewer, s.listBoards))
	mux.Handle("GET /api/boards/{name}", s.access.api(Viewer, s.oneBoard))
	mux.Handle("GET /api/boards/{name}/history", s.access.api(Viewer, s.boardHistory))
	mux.Handle("GET /api/rollups", s.access.api(Viewer, s.rollups))
	mux.Handle("POST /api/boards/{name}/expect", s.access.api(Operator, s.expect))
	mux.Handle("GET /api/incidents", s.access.api(Viewer, s.incidents.listIncidents))
	mux.Handle("GET /api/incidents/{id}", s.access.api(Viewer, s.incidents.oneIncident))
	mux.Handle("POST /api/incidents/{id}/snooze", s.access.api(Operator, s.incidents.snooze))
	mux.Handle("POST /api/incidents/{id}/resolve", s.access.api(Operator, s.incidents.closeIncident))
	mux.Handle("GET /api/oncall", s.access.api(Viewer, s.onCall.onCall))
	mux.Handle("POST /api/oncall/overrides", s.access.api(Operator, s.onCall.override))
	mux.Handle("POST /api/oncall/overrides/{id}/end", s.access.api(Operator, s.onCall.endOverride))
	mux.Handle("POST /api/incidents/{id}/ack", s.access.api(Operator, s.incidents.acknowledge))
	mux.Handle("GET /watch", s.access.page(s.onCall.watchPage))
	mux.Handle("GET /api/heartbeats", s.access.api(Viewer, s.onCall.listHeartbeats))
	mux.Handle("POST /api/heartbeats/{name}", s.access.api(Beating, s.onCall.postHeartbeat))
	mux.Handle("DELETE /api/heartbeats/{name}", s.access.api(Operator, s.onCall.removeHeartbeat))
	mux.Handle("GET /api/oncall/test", s.access.api(Viewer, s.onCall.listTests))
	mux.Handle("POST /api/oncall/test", s.access.api(Operator, s.onCall.startTest))
	mux.Handle("GET /off", s.access.page(s.onCall.offPage))
	mux.Handle("GET /api/oncall/off", s.access.api(Viewer, s.onCall.listOff))
	mux.Handle("GET /api/oncall/maintenance", s.access.api(Viewer, s.onCall.listMaintenances))
	mux.Handle("POST /api/oncall/maintenance", s.access.api(Operator, s.onCall.startMaintenance))
	mux.Handle("POST /api/oncall/maintenance/{number}/end", s.access.api(Operator, s.onCall.endMaintenance))
	mux.Handle("GET /api/status", s.access.api(Viewer, s.status))
	mux.Handle("GET /api/backups", s.access.api(Viewer, s.listBackups))
	mux.Handle("GET /api/demo", s.access.api(Viewer, s.demo))
	mux.Handle("GET /api/openapi.json", s.access.api(Viewer, s.openAPI))
	mux.Handle("/api/", s.access.api(Viewer, noSuchRoute))

	// Prometheus' and Alertmanager's.
	mux.Handle("/api/v1/rules", s.access.api(Viewer, orNotFound(s.opts.Rules)))
	mux.Handle("/api/v1/alerts", s.access.api(Viewer, orNotFound(s.opts.Rules)))
	mux.Handle("/api/v1/format_query", s.access.api(Viewer, orNotFound(s.opts.Rules)))
	for _, path := range []string{"/api/v1/write", "/api/v1/import", "/api/v1/import/"} {
		mux.Handle(path, s.access.api(Importer, orNotFound(s.opts.Import)))
	}
	mux.Handle("/api/v1/", s.access.api(Viewer, orNotFound(s.opts.Series)))
	mux.Handle("/rollups/api/v1/", http.StripPrefix("/rollups", s.access.api(Viewer, orNotFound(s.opts.Rollups))))
	mux.Handle("/prometheus/", s.access.api(Viewer, orNotFound(s.opts.Series))) // vmui asks here
	mux.Handle("/api/v2/", s.access.api(Operator, orNotFound(s.opts.Alerts)))
	mux.Handle("GET /api/v2/", s.access.api(Viewer, orNotFound(s.opts.Alerts)))
	mux.Handle("GET /metrics", s.access.api(Viewer, orNotFound(s.opts.Metrics)))
	mux.Handle("GET /live", s.access.api(Viewer, s.live))
	mux.Handle("POST /-/reload", s.access.api(Operator, s.reload))

	s.served = mux.patterns
	return s.access.guard(s.access.confine(mux.mux))
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Collector != nil && s.opts.Collector.Ready() != nil {
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
		Still: func() bool { _, err := s.access.authenticate(r); return err == nil },
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

// reload takes over changed rule files and routes, as Prometheus' and Alertmanager's route of that name do. Its answer
// says what is wrong with them; the old ones then stay in force.
func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Collector == nil {
		fail(w, http.StatusNotFound, "this collector has no files to reload")
		return
	}
	if err := s.opts.Collector.Reload(); err != nil {
		fail(w, http.StatusUnprocessableEntity, "nothing is changed: "+err.Error())
		return
	}
	reply(w, map[string]string{"status": "success"})
}

type metrics struct {
	denied prometheus.Counter
	panics prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_login_denied_total", Help: "Logins refused: wrong password or too many attempts.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_http_panics_total", Help: "Faults of the collector that ended the connection of one client; the log has their traces.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.denied, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
