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
	"bramble/alerting/rules"
	"bramble/collector/ingest"
	"bramble/collector/presence"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// site answers the pages and the API, and does their acts.
type site struct{ app *app }

// pageOptions hands the pages what they show. The funcs are called only after
// openApp has returned.
func (s site) pageOptions(v variant) dashboards.Options {
	o := dashboards.Options{
		Version: version(), BoardsPort: portOf(s.app.broker.URL()), Boards: s.boards, Open: v.open, Demo: v.demo,
		Series: promAPI(s).handler(s.current(s.app.store.Handler())), Import: s.app.importer.Handler(), Rules: rules.Handler(s.app.engine), Metrics: s.app.metricsHandler(),
		Alerts: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.app.pager.Handler().ServeHTTP(w, r) }),
		Links:  s.links(), Rollups: s.rollupsHandler(), History: s.history, RollupStatus: s.rollupStatus,
		Incidents: s.incidents, Acknowledge: s.acknowledge, Incident: s.incident, Snooze: s.snooze, Close: s.closeIncident,
		OnCall: s.onCallView, Override: s.override, EndOverride: s.endOverride, Expect: s.expect, Announcements: ingest.Announcements, Ready: s.app.ready,
		Watch:   func(board, viewer string, d time.Duration) error { return s.app.ingest.Watch(board, viewer, d) },
		Backups: s.backupStatus, Reload: s.app.reload, Maintenance: s.maintenance(), Off: s.app.whatIsOff, Watcher: s.watcher(),
		Rejected: func() map[string]uint64 { return s.app.ingest.Rejected() },
		Log:      s.app.log, Registerer: s.app.metrics, Own: s.own(),
	}
	if !v.open {
		o.Auth = auth{s.app.registry}
	}
	return o
}

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
func (s site) current(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.caughtUp(r.Context())
		next.ServeHTTP(w, r)
	})
}

func (s site) caughtUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	s.app.ingest.CaughtUp(ctx)
}

// boards joins what the registry and what the boards themselves say.
func (s site) boards() []dashboards.Board {
	status := s.app.ingest.Status()
	var all []dashboards.Board
	for _, b := range s.app.registry.Boards() {
		if b.Retired {
			continue
		}
		reported := status[b.Name]
		labels := registry.Map(b.Versions[len(b.Versions)-1].Labels)
		if labels["model"] == "" && reported.Info["model"] != "" {
			labels["model"] = reported.Info["model"]
		}
		board := dashboards.Board{Name: b.Name, Labels: labels, Enrolled: b.Key != "", LastReport: reported.LastReport, Rejected: s.app.ingest.Dropped(b.Name)}
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

func (s site) incidents(ctx context.Context) ([]dashboards.Incident, error) {
	found, err := s.app.pager.Incidents(ctx, incident.Query{})
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
		v.Shadow = v.Shadow || in.Receiver == alert.Nobody && alert.InShadow(one.Labels)
	}
	slices.Sort(v.Boards)
	v.Boards = slices.Compact(v.Boards)
	v.PagesNobody = in.Receiver == alert.Nobody
	if v.Labels["board"] != "" {
		v.Labels = nil // one board: its place is not the incident's
	}
	for _, p := range in.Pages {
		v.Pages = append(v.Pages, pageView(p))
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

func pageView(p incident.Page) dashboards.Page {
	page := dashboards.Page{
		At: max(p.LeftAt, p.CreatedAt), Channel: p.Integration, To: p.Receiver, Person: p.Person, About: p.About, Bundle: p.Bundle,
		Attempt: p.Attempts, Result: p.State, LatencyMs: p.LatencyMs,
	}
	if p.State != "delivered" {
		page.Error = p.Answer
	}
	return page
}

// common returns the labels that both have, with the same value; nil stands for any.
func common(a, b map[string]string) map[string]string {
	if a == nil {
		return maps.Clone(b)
	}
	maps.DeleteFunc(a, func(name, value string) bool { return b[name] != value })
	return a
}

func (s site) acknowledge(ctx context.Context, id, who, comment string) error {
	return incidentError(s.app.pager.Acknowledge(ctx, id, who, comment))
}

// expect notes what somebody announces for a board.
func (s site) expect(ctx context.Context, board, who, what string, within time.Duration) error {
	now := time.Now()
	err := s.app.ingest.Expect(ctx, ingest.Expectation{Board: board, What: what, By: who, At: now, Until: now.Add(within)})
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
