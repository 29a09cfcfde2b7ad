package dashboards

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/oncall"
	"bramble/alerting/rules"
)

// parts are Options of single functions. A nil one answers as a collector without that part does.
type parts struct {
	Version, BoardsPort                             string
	Started                                         time.Time
	Auth                                            Auth
	Open, SecureCookie                              bool
	Series, Rollups, Import, Rules, Alerts, Metrics http.Handler
	Demo                                            *Demo
	Log                                             *slog.Logger
	Registerer                                      prometheus.Registerer

	Boards        func() []Board
	Announcements []string
	Expect        func(ctx context.Context, board, who, what string, within time.Duration) error
	Watch         func(board, viewer string, d time.Duration) error

	Incidents   func(ctx context.Context) ([]Incident, error)
	Incident    func(ctx context.Context, id string) (Incident, []incident.Event, error)
	Acknowledge func(ctx context.Context, id, who, comment string) error
	Snooze      func(ctx context.Context, id, who, comment string, d time.Duration) error
	Close       func(ctx context.Context, id, who, comment string) error

	OnCall      func() OnCall
	Override    func(ctx context.Context, o oncall.Override) (int64, error)
	EndOverride func(ctx context.Context, id int64, who string) error
	Off         func() alert.OffReport

	Ready    func() error
	Reload   func() error
	Rejected func() map[string]uint64
	Counts   func() map[string]uint64
	Backups  func() Backups

	Links        *links
	Maintenance  *maintenances
	Watcher      *watchers
	Own          *own
	History      func(ctx context.Context, q HistoryQuery) ([]Span, error)
	RollupStatus func() Rollups
}

func (o parts) options() Options {
	all := Options{
		Version: o.Version, BoardsPort: o.BoardsPort, Started: o.Started, Auth: o.Auth, Open: o.Open, SecureCookie: o.SecureCookie,
		Series: o.Series, Rollups: o.Rollups, Import: o.Import, Rules: o.Rules, Alerts: o.Alerts, Metrics: o.Metrics,
		Demo: o.Demo, Log: o.Log, Registerer: o.Registerer,
	}
	if o.Boards != nil {
		all.Fleet = fleetParts{o}
	}
	if o.Incidents != nil || o.Incident != nil || o.Acknowledge != nil {
		all.Incidents = incidentParts{o}
	}
	if o.OnCall != nil || o.Override != nil || o.EndOverride != nil || o.Off != nil || o.Watcher != nil {
		all.Paging = pagingParts{o}
	}
	if o.Ready != nil || o.Reload != nil || o.Rejected != nil || o.Counts != nil || o.Backups != nil {
		all.Collector = collectorParts{o}
	}
	if o.Links != nil {
		all.Links = linkParts{o.Links}
	}
	if o.Maintenance != nil {
		all.Maintenances = maintenanceParts{o.Maintenance}
	}
	if o.Watcher != nil {
		all.Heartbeats = heartbeatParts{o.Watcher}
	}
	if o.Own != nil {
		all.Own = ownParts{o.Own}
		if o.Own.Settings != nil {
			all.OwnSettings = settingParts{o.Own.Settings}
		}
	}
	if o.History != nil || o.RollupStatus != nil {
		all.Histories = historyParts{o}
	}
	return all
}

type fleetParts struct{ of parts }

func (f fleetParts) Boards() []Board         { return f.of.Boards() }
func (f fleetParts) Announcements() []string { return f.of.Announcements }
func (f fleetParts) Expect(ctx context.Context, board, who, what string, within time.Duration) error {
	return f.of.Expect(ctx, board, who, what, within)
}

func (f fleetParts) Watch(board, viewer string, d time.Duration) error {
	if f.of.Watch == nil {
		return nil
	}
	return f.of.Watch(board, viewer, d)
}

type incidentParts struct{ of parts }

func (i incidentParts) Incidents(ctx context.Context) ([]Incident, error) {
	if i.of.Incidents == nil {
		return nil, nil
	}
	return i.of.Incidents(ctx)
}

// Incident finds one in the list where there is no function for it; its pages are its events.
func (i incidentParts) Incident(ctx context.Context, id string) (Incident, []incident.Event, error) {
	if i.of.Incident != nil {
		return i.of.Incident(ctx, id)
	}
	list, err := i.Incidents(ctx)
	if err != nil {
		return Incident{}, nil, err
	}
	at := slices.IndexFunc(list, func(in Incident) bool { return in.ID == id })
	if at < 0 {
		return Incident{}, nil, ErrUnknownIncident
	}
	events := []incident.Event{}
	for _, p := range list[at].Pages {
		events = append(events, incident.Event{At: p.At, Kind: "page", Who: p.Person, Text: p.Integration + ": " + p.State, Page: &p})
	}
	return list[at], events, nil
}

func (i incidentParts) Acknowledge(ctx context.Context, id, who, comment string) error {
	return i.of.Acknowledge(ctx, id, who, comment)
}

func (i incidentParts) Snooze(ctx context.Context, id, who, comment string, d time.Duration) error {
	return i.of.Snooze(ctx, id, who, comment, d)
}

func (i incidentParts) Close(ctx context.Context, id, who, comment string) error {
	return i.of.Close(ctx, id, who, comment)
}

type pagingParts struct{ of parts }

func (p pagingParts) OnCall() OnCall {
	if p.of.OnCall == nil {
		return OnCall{Now: time.Now().UnixMilli(), People: []OnCallPerson{}, Rotas: []Rota{}, Policies: []Policy{}}
	}
	return p.of.OnCall()
}

func (p pagingParts) Override(ctx context.Context, o oncall.Override) (int64, error) {
	return p.of.Override(ctx, o)
}

func (p pagingParts) EndOverride(ctx context.Context, id int64, who string) error {
	return p.of.EndOverride(ctx, id, who)
}

func (p pagingParts) Off() alert.OffReport {
	if p.of.Off == nil {
		return alert.OffReport{Now: time.Now().UnixMilli(), Items: []alert.Off{}, Firing: []alert.Suppressed{}}
	}
	r := p.of.Off()
	r.Firing = append([]alert.Suppressed{}, r.Firing...)
	return r
}

func (p pagingParts) Tests(ctx context.Context) ([]alert.PageTest, error) {
	if p.of.Watcher == nil {
		return []alert.PageTest{}, nil
	}
	return p.of.Watcher.Tests(ctx)
}

func (p pagingParts) Test(ctx context.Context, receiver, who string) (alert.PageTest, error) {
	return p.of.Watcher.Test(ctx, receiver, who)
}

type collectorParts struct{ of parts }

func (c collectorParts) Ready() error {
	if c.of.Ready == nil {
		return nil
	}
	return c.of.Ready()
}

func (c collectorParts) Reload() error { return c.of.Reload() }

func (c collectorParts) Rejected() map[string]uint64 {
	if c.of.Rejected == nil {
		return map[string]uint64{}
	}
	return c.of.Rejected()
}

func (c collectorParts) Counts() map[string]uint64 {
	if c.of.Counts == nil {
		return map[string]uint64{}
	}
	return c.of.Counts()
}

func (c collectorParts) Backups() Backups {
	if c.of.Backups == nil {
		return Backups{Kept: []Backup{}}
	}
	return c.of.Backups()
}

type links struct {
	Open        func(ctx context.Context, link string) (Linked, error)
	Acknowledge func(ctx context.Context, link, name, comment string, from netip.Addr) error
	Picture     func(ctx context.Context, link string) ([]byte, error)
}

type linkParts struct{ of *links }

func (l linkParts) Open(ctx context.Context, link string) (Linked, error) {
	return l.of.Open(ctx, link)
}
func (l linkParts) Acknowledge(ctx context.Context, link, name, comment string, from netip.Addr) error {
	return l.of.Acknowledge(ctx, link, name, comment, from)
}
func (l linkParts) Picture(ctx context.Context, link string) ([]byte, error) {
	return l.of.Picture(ctx, link)
}

type maintenances struct {
	List  func(ctx context.Context) ([]maintenance.Maintenance, error)
	Start func(ctx context.Context, q maintenance.Request) (maintenance.Maintenance, error)
	End   func(ctx context.Context, number int64, who string) (maintenance.Maintenance, error)
}

type maintenanceParts struct{ of *maintenances }

func (m maintenanceParts) List(ctx context.Context) ([]maintenance.Maintenance, error) {
	return m.of.List(ctx)
}

func (m maintenanceParts) Start(ctx context.Context, q maintenance.Request) (maintenance.Maintenance, error) {
	return m.of.Start(ctx, q)
}

func (m maintenanceParts) End(ctx context.Context, number int64, who string) (maintenance.Maintenance, error) {
	return m.of.End(ctx, number, who)
}

type watchers struct {
	List   func() []Heartbeat
	Beat   func(ctx context.Context, name string, beat Beat) (Heartbeat, error)
	Remove func(ctx context.Context, name string) error
	Beats  func() *Beats
	Tests  func(ctx context.Context) ([]alert.PageTest, error)
	Test   func(ctx context.Context, receiver, who string) (alert.PageTest, error)
}

type heartbeatParts struct{ of *watchers }

func (h heartbeatParts) List() []Heartbeat { return h.of.List() }
func (h heartbeatParts) Beats() *Beats     { return h.of.Beats() }
func (h heartbeatParts) Beat(ctx context.Context, name string, beat Beat) (Heartbeat, error) {
	return h.of.Beat(ctx, name, beat)
}
func (h heartbeatParts) Remove(ctx context.Context, name string) error { return h.of.Remove(ctx, name) }

type own struct {
	Tenancy  func(board string, at int64) (customer string, since int64)
	History  func(ctx context.Context, customer string, q HistoryQuery) ([]Span, error)
	Alerts   func(ctx context.Context, customer string) ([]OwnAlert, error)
	Counts   func(ctx context.Context) ([]OwnCount, error)
	Settings *settings
}

type ownParts struct{ of *own }

func (o ownParts) Tenancy(board string, at int64) (string, int64) { return o.of.Tenancy(board, at) }
func (o ownParts) History(ctx context.Context, customer string, q HistoryQuery) ([]Span, error) {
	if o.of.History == nil {
		return nil, nil
	}
	return o.of.History(ctx, customer, q)
}

func (o ownParts) Alerts(ctx context.Context, customer string) ([]OwnAlert, error) {
	if o.of.Alerts == nil {
		return nil, nil
	}
	return o.of.Alerts(ctx, customer)
}

func (o ownParts) Counts(ctx context.Context) ([]OwnCount, error) {
	if o.of.Counts == nil {
		return nil, nil
	}
	return o.of.Counts(ctx)
}

type settings struct {
	Get             func(ctx context.Context, customer string) (OwnBook, error)
	SetThreshold    func(ctx context.Context, customer, who string, t rules.Threshold) error
	RemoveThreshold func(ctx context.Context, customer, who, kind, board string) error
	AddContact      func(ctx context.Context, customer, who, address string) error
	AskContact      func(ctx context.Context, customer, who, id string) error
	RemoveContact   func(ctx context.Context, customer, who, id string) error
	Linked          func(ctx context.Context, link string) (OwnContact, error)
	Answer          func(ctx context.Context, link string, want bool) error
}

type settingParts struct{ of *settings }

func (s settingParts) Get(ctx context.Context, customer string) (OwnBook, error) {
	return s.of.Get(ctx, customer)
}

func (s settingParts) SetThreshold(ctx context.Context, customer, who string, t rules.Threshold) error {
	return s.of.SetThreshold(ctx, customer, who, t)
}

func (s settingParts) RemoveThreshold(ctx context.Context, customer, who, kind, board string) error {
	return s.of.RemoveThreshold(ctx, customer, who, kind, board)
}

func (s settingParts) AddContact(ctx context.Context, customer, who, address string) error {
	return s.of.AddContact(ctx, customer, who, address)
}

func (s settingParts) AskContact(ctx context.Context, customer, who, id string) error {
	return s.of.AskContact(ctx, customer, who, id)
}

func (s settingParts) RemoveContact(ctx context.Context, customer, who, id string) error {
	return s.of.RemoveContact(ctx, customer, who, id)
}

func (s settingParts) Linked(ctx context.Context, link string) (OwnContact, error) {
	return s.of.Linked(ctx, link)
}

func (s settingParts) Answer(ctx context.Context, link string, want bool) error {
	return s.of.Answer(ctx, link, want)
}

type historyParts struct{ of parts }

func (h historyParts) History(ctx context.Context, q HistoryQuery) ([]Span, error) {
	return h.of.History(ctx, q)
}

func (h historyParts) Rollups() Rollups {
	if h.of.RollupStatus == nil {
		return Rollups{}
	}
	return h.of.RollupStatus()
}
