package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/pager"
	"bramble/alerting/rules"
	"bramble/collector/backup"
	"bramble/collector/ingest"
	"bramble/collector/presence"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// site holds the parts of the collector that the pages show. The pages are opened before the pager and the
// ingest, which publish to them: connect gives the parts their sources.
type site struct {
	fleet        fleetPart
	incidents    incidentPart
	paging       pagingPart
	maintenances maintenancePart
	heartbeats   heartbeatPart
	links        linkPart
	own          ownPart
	settings     settingPart
	histories    historyPart
	self         selfPart
}

// connect hands the parts their sources. Nobody may ask the pages before.
func (s *site) connect(a *app) {
	tenancy := a.tenancy
	s.fleet = fleetPart{a.registry, a.ingest}
	s.incidents = incidentPart{a.pager}
	s.paging = pagingPart{pager: a.pager, off: a.whatIsOff, test: a.testPage}
	s.maintenances = maintenancePart{a.pager}
	s.heartbeats = heartbeatPart{a.heartbeats, a.pager}
	s.links = linkPart{a.pager, a.registry}
	s.histories = historyPart{
		store: a.store, rollups: a.rollups, ingest: a.ingest, retention: time.Duration(a.config.Retention), kept: time.Duration(a.config.RollupRetention),
	}
	s.settings = settingPart{customers: a.customers, pager: a.pager, limits: a.config.Customers}
	s.own.connect(ownSources{registry: a.registry, db: a.db, customers: a.customers, engine: a.engine, pager: a.pager, tenancy: tenancy}, &s.histories)
	s.self = selfPart{ready: a.ready, reload: a.reload, ingest: a.ingest, backups: a.backups}
}

// pageOptions are those of the pages, whose parts are connected later.
func (a *app) pageOptions(v variant) dashboards.Options {
	s := &a.site
	o := dashboards.Options{
		Version: version(), BoardsPort: portOf(a.broker.URL()), Open: v.open, Demo: v.demo,
		Series: promAPI{a}.handler(s.histories.current(a.store.Handler())), Import: a.importer.Handler(), Rules: rules.Handler(a.engine), Metrics: a.metricsHandler(),
		Alerts:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.pager.Handler().ServeHTTP(w, r) }),
		Rollups: a.rollupsHandler(),
		Fleet:   &s.fleet, Incidents: &s.incidents, Paging: &s.paging, Maintenances: &s.maintenances, Heartbeats: &s.heartbeats,
		Links: &s.links, Own: &s.own, OwnSettings: &s.settings, Histories: &s.histories, Collector: &s.self,
		Log: a.log, Registerer: a.metrics,
	}
	if !v.open {
		o.Auth = auth{a.registry}
	}
	return o
}

// selfPart is the collector itself.
type selfPart struct {
	ready   func() error
	reload  func() error
	ingest  *ingest.Ingest
	backups *backup.Keeper
}

// Ready is nil while everything answers.
func (s *selfPart) Ready() error { return s.ready() }

// Reload puts changed files in force.
func (s *selfPart) Reload() error { return s.reload() }

// Rejected counts dropped reports by reason.
func (s *selfPart) Rejected() map[string]uint64 { return s.ingest.Rejected() }

// Counts are the reports and readings since the start.
func (s *selfPart) Counts() map[string]uint64 {
	reports, readings := s.ingest.Taken()
	return map[string]uint64{"reports": reports, "readings": readings}
}

// Backups is the state of the backups.
func (s *selfPart) Backups() dashboards.Backups { return backupStatus(s.backups) }

// portOf returns the port of a URL, empty where it names none.
func portOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Port()
}

// queryPatience is how long a query waits for readings that are on their way to the store: some 10 ms, and seconds where
// the disk stalls. An open page reads its range again only after a minute, so a late answer is better than a hole.
const queryPatience = 5 * time.Second

// current lets a query see all that the live pages were shown before it.
func (h *historyPart) current(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.caughtUp(r.Context())
		next.ServeHTTP(w, r)
	})
}

func (h *historyPart) caughtUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	h.ingest.CaughtUp(ctx)
}

// fleetPart is the registered boards.
type fleetPart struct {
	registry *registry.Registry
	ingest   *ingest.Ingest
}

// Announcements are the words that Expect takes.
func (f *fleetPart) Announcements() []string { return ingest.Announcements }

// Watch asks for a live lease of a board.
func (f *fleetPart) Watch(board, viewer string, d time.Duration) error {
	return f.ingest.Watch(board, viewer, d)
}

// Boards joins the registry's boards and their own reports.
func (f *fleetPart) Boards() []dashboards.Board {
	status := f.ingest.Status()
	var all []dashboards.Board
	for _, b := range f.registry.Boards() {
		if b.Retired {
			continue
		}
		reported := status[b.Name]
		labels := registry.Map(b.Versions[len(b.Versions)-1].Labels)
		if labels["model"] == "" && reported.Info["model"] != "" {
			labels["model"] = reported.Info["model"]
		}
		board := dashboards.Board{Name: b.Name, Labels: labels, Enrolled: b.Key != "", LastReport: reported.LastReport, Rejected: f.ingest.Dropped(b.Name)}
		if !b.KeyChanged.IsZero() {
			board.KeyChanged = b.KeyChanged.UnixMilli()
		}
		if !b.Enrolled.IsZero() {
			board.EnrolledAt = b.Enrolled.UnixMilli()
		}
		all = append(all, board)
	}
	return all
}

// places says where each board stands, and whether it is expected to report.
func (a *app) places() map[string]alert.Place {
	status := a.ingest.Status()
	now := time.Now().UnixMilli()
	all := map[string]alert.Place{}
	for _, b := range a.registry.Boards() {
		if b.Retired {
			continue
		}
		s := presence.State(status[b.Name].State)
		all[b.Name] = alert.Place{Labels: registry.Map(b.At(now)), Watched: s == presence.Up || s == presence.Silent}
	}
	return all
}

func (a *app) ready() error { return errors.Join(a.ingest.Err(), a.storeErr()) }

// incidentPart is the incidents.
type incidentPart struct{ pager *pager.Pager }

// Incidents lists them.
func (i *incidentPart) Incidents(ctx context.Context) ([]dashboards.Incident, error) {
	found, err := i.pager.Incidents(ctx, incident.Query{})
	if err != nil {
		return nil, err
	}
	all := make([]dashboards.Incident, len(found))
	for i, in := range found {
		all[i] = incidentView(in)
	}
	return all, nil
}

func incidentView(in incident.Incident) dashboards.Incident {
	v := dashboards.Incident{
		ID: in.ID, Number: in.Number, Title: in.Title, Severity: in.Severity, State: "firing", Since: in.StartedAt, ResolvedAt: in.ResolvedAt, Now: in.Now,
		Pages: in.Pages,
	}
	if in.Ack != nil {
		v.State, v.AcknowledgedAt, v.AcknowledgedBy, v.Comment = "acknowledged", in.Ack.At, in.Ack.By, in.Ack.Comment
	}
	if in.ResolvedAt != 0 {
		v.State = "resolved"
	}
	for _, one := range in.Alerts {
		if one.EndsAt != 0 && in.ResolvedAt == 0 {
			continue
		}
		v.Alerts += max(1, len(one.Boards))
		if b := one.Labels["board"]; b != "" {
			v.Boards = append(v.Boards, b)
		}
		v.Boards = append(v.Boards, one.Boards...)
		v.Reason = cmp.Or(one.Annotations[alert.ReasonNote], v.Reason)
		v.Detail = cmp.Or(one.Annotations["description"], v.Detail)
		v.Runbook = cmp.Or(one.Annotations["runbook"], v.Runbook)
		v.Labels = common(v.Labels, one.Labels)
		v.Shadow = v.Shadow || alert.KindOf(in.Receiver) == alert.ToNobody && alert.InShadow(one.Labels)
	}
	slices.Sort(v.Boards)
	v.Boards = slices.Compact(v.Boards)
	v.PagesNobody = alert.KindOf(in.Receiver) == alert.ToNobody
	if v.Labels["board"] != "" {
		v.Labels = nil // one board: its place is not the incident's
	}
	if in.Ack != nil {
		v.SnoozedUntil = in.Ack.Until
	}
	if in.Closing != nil {
		v.Closing, v.ClosedBy = in.Closing.Comment, in.Closing.By
	}
	if e := in.Escalation; e != nil && e.State == "running" {
		v.EscalatesAt, v.EscalatesTo = e.NextAt, e.NextTo
	}
	return v
}

// common returns the labels that both have, with the same value; nil stands for any.
func common(a, b map[string]string) map[string]string {
	if a == nil {
		return maps.Clone(b)
	}
	maps.DeleteFunc(a, func(name, value string) bool { return b[name] != value })
	return a
}

// Acknowledge records who has one.
func (i *incidentPart) Acknowledge(ctx context.Context, id, who, comment string) error {
	return incidentError(i.pager.Acknowledge(ctx, id, who, comment))
}

// Expect notes an announcement for a board.
func (f *fleetPart) Expect(ctx context.Context, board, who, what string, within time.Duration) error {
	now := time.Now()
	err := f.ingest.Expect(ctx, ingest.Expectation{Board: board, What: what, By: who, At: now, Until: now.Add(within)})
	if errors.Is(err, registry.ErrNotFound) {
		return dashboards.ErrUnknownBoard
	}
	return err
}

// auth lets the registry's users and tokens into the pages.
type auth struct{ registry *registry.Registry }

func (a auth) Login(ctx context.Context, name, password string) (string, error) {
	session, err := a.registry.Login(ctx, name, password)
	return session, denied(err)
}

func (a auth) Authenticate(_ context.Context, credential string) (dashboards.User, error) {
	id, err := a.registry.Authenticate(credential)
	return dashboards.User{Name: id.Name, Role: dashboards.Role(id.Role), Customer: id.Customer}, denied(err)
}

func (a auth) Logout(ctx context.Context, session string) error {
	return a.registry.Logout(ctx, session)
}

func denied(err error) error {
	if errors.Is(err, registry.ErrDenied) {
		return dashboards.ErrDenied
	}
	return err
}

// placesOf is where the registry's boards stand, each of them expected to report.
func placesOf(r *registry.Registry) map[string]alert.Place {
	now := time.Now().UnixMilli()
	all := map[string]alert.Place{}
	for _, b := range r.Boards() {
		if !b.Retired {
			all[b.Name] = alert.Place{Labels: registry.Map(b.At(now)), Watched: true}
		}
	}
	return all
}

// placesAge is how old the list of places may be that silences and maintenances are counted by: labels may begin to hold
// without a change of the registry.
const placesAge = 2 * time.Second

// placeCache keeps placesOf from being asked for every silence of every browser. The zero value is empty. The maps that
// it returns are shared: nobody changes them.
type placeCache struct {
	mu         sync.Mutex
	at         time.Time
	generation uint64
	all        map[string]alert.Place
}

func (c *placeCache) of(r *registry.Registry) map[string]alert.Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := r.Generation(); c.all == nil || g != c.generation || time.Since(c.at) > placesAge {
		c.generation, c.all, c.at = g, placesOf(r), time.Now()
	}
	return c.all
}
