package pager

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"
	"google.golang.org/protobuf/encoding/protodelim"

	"bramble/alerting/database"
	"bramble/alerting/escalation"
	"bramble/alerting/fault"
	"bramble/storage/statedb"
)

// alertmanager are Alertmanager's packages, put together: silences, alerts, groups and the pipeline of notifications. All methods are
// safe for concurrent use, but for those that say otherwise.
type alertmanager struct {
	log     *slog.Logger // warnings and errors alone
	faults  *fault.Guard
	db      *sql.DB
	commits *database.Writer

	recorder        eventrecorder.Recorder // records nothing
	notified        *nflog.Log
	silences        *silence.Silences
	silencer        *silence.Silencer
	alerts          *mem.Alerts
	groupMarker     marker.GroupMarker
	pipelines       *notify.PipelineBuilder
	dispatchMetrics *dispatch.DispatcherMetrics
	api             *alertAPI

	dispatchMu sync.Mutex                  // serialises changes of dispatch
	dispatch   atomic.Pointer[dispatching] // nil while nothing is dispatched

	feedMu sync.Mutex // serialises the way into the store of alerts
	order  order
}

// newAlertmanager makes Alertmanager's parts. Their metrics stay in a registry of their own.
func newAlertmanager(db *sql.DB, commits *database.Writer, faults *fault.Guard, log *slog.Logger) (*alertmanager, error) {
	m := &alertmanager{log: slog.New(warnings{log.Handler()}), faults: faults, db: db, commits: commits, order: order{}}
	reg, flags := prometheus.NewRegistry(), featurecontrol.NoopFlags{}
	var err error
	if m.notified, err = nflog.New(nflog.Options{Retention: escalation.Retention, Logger: m.log, Metrics: reg}); err != nil {
		return nil, fmt.Errorf("open notification log: %w", err)
	}
	if m.silences, err = silence.New(silence.Options{Retention: escalation.Retention, Logger: m.log, Metrics: reg}); err != nil {
		return nil, fmt.Errorf("open silences: %w", err)
	}
	m.silencer = silence.NewSilencer(m.silences, m.log, m.recorder)
	if m.alerts, err = mem.NewAlerts(context.Background(), alertGC, 0, m.silencer, m.log, m.recorder, reg, flags); err != nil {
		return nil, fmt.Errorf("open alerts: %w", err)
	}
	m.groupMarker = marker.NewGroupMarker()
	m.pipelines = notify.NewPipelineBuilder(reg, flags, m.recorder)
	m.dispatchMetrics = dispatch.NewDispatcherMetrics(false, reg, flags)
	m.api = &alertAPI{options: api.Options{
		Alerts: orderedAlerts{m.alerts, m}, Silences: m.silences, GroupMutedFunc: m.groupMarker.Muted, Logger: m.log, Registry: reg, GroupFunc: m.groups,
		RequestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "request_seconds"}, []string{"handler", "method", "code"}),
	}}
	return m, nil
}

// load reads the notifications and silences of an earlier pager, and keeps silences from now on.
func (m *alertmanager) load(ctx context.Context) error {
	if err := m.loadEntries(ctx, `SELECT entry FROM alert_notified`, "notifications", m.notified.Merge); err != nil {
		return err
	}
	if err := m.loadEntries(ctx, `SELECT entry FROM alert_silence`, "silences", m.silences.Merge); err != nil {
		return err
	}
	m.silences.SetBroadcast(m.recordSilence)
	return nil
}

// warnings passes on warnings and errors: Alertmanager's lower levels are about its own insides.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

// dispatching is the part of the pager that a reload replaces.
type dispatching struct {
	inhibitor  *inhibit.Inhibitor
	dispatcher *dispatch.Dispatcher
	tree       *dispatch.Route
	done       chan struct{}
}

// stages are the pager's parts of the pipeline: the first stage of each notification, the end of its way, and the marks of an
// alert of which the API is asked.
type stages struct {
	first notify.Stage
	last  func(receiver string, integrations []notify.Integration) *recorder
	mark  func(context.Context, model.LabelSet)
}

// start puts a routing to work: first inhibition knows the alerts, then they are dispatched. No page leaves before from.
func (m *alertmanager) start(r *routing, own stages, from time.Time) *dispatching {
	d := &dispatching{inhibitor: inhibit.NewInhibitor(m.alerts, r.set.Config.InhibitRules, m.log, m.recorder), tree: r.tree, done: make(chan struct{})}
	ends := map[string][]notify.Integration{}
	for name, integrations := range r.set.Integrations {
		end := own.last(name, integrations)
		ends[name] = []notify.Integration{notify.NewIntegration(end, end, escalation.JournalName, 0, name)}
	}
	pipeline := m.pipelines.New(ends, func() time.Duration { return 0 }, d.inhibitor, m.silencer,
		timeinterval.NewIntervener(r.intervals), m.groupMarker, m.notified, nil)
	m.api.update(r.set.Config, func(ctx context.Context, labels model.LabelSet) {
		d.inhibitor.Mutes(ctx, labels)
		m.silencer.Mutes(ctx, labels)
		own.mark(ctx, labels)
	})
	d.dispatcher = dispatch.NewDispatcher(m.alerts, r.tree, notify.MultiStage{own.first, pipeline}, m.groupMarker, notifyTimeout, maintenanceInterval, nil,
		m.log, m.recorder, m.dispatchMetrics, r.set.Templates)
	inhibitorDone := make(chan struct{})
	go func() { defer close(inhibitorDone); d.inhibitor.Run() }()
	d.inhibitor.WaitForLoading()
	go func() { defer close(d.done); d.dispatcher.Run(from); <-inhibitorDone }()
	d.dispatcher.WaitForLoading()
	return d
}

// stop ends it and waits.
func (d *dispatching) stop() {
	d.inhibitor.Stop()
	d.dispatcher.Stop()
	<-d.done
}

// notifyTimeout is how long the pipeline may take: it only writes to the database.
func notifyTimeout(d time.Duration) time.Duration { return max(d, notify.MinTimeout) }

// groups serves the API.
func (m *alertmanager) groups(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*amalert.Alert, time.Time) bool) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	d := m.dispatch.Load()
	if d == nil {
		return nil, nil, errClosed
	}
	return d.dispatcher.Groups(ctx, routes, alerts)
}

// put stores alerts. An alert that starts before the last one of its labels ended would be merged into the ended one,
// so it is made to start there.
func (m *alertmanager) put(alerts []*amalert.Alert) {
	if len(alerts) == 0 {
		return
	}
	m.inOrder(alerts)
	for _, a := range alerts {
		if old, err := m.alerts.Get(a.Fingerprint()); err == nil && a.EndsAt.IsZero() && !old.EndsAt.IsZero() && old.EndsAt.After(a.StartsAt) {
			a.StartsAt = old.EndsAt
		}
	}
	for _, a := range alerts {
		m.order[a.Fingerprint()] = a
	}
	if m.store(alerts) || len(alerts) == 1 {
		return
	}
	for _, a := range alerts {
		m.store([]*amalert.Alert{a})
	}
}

// store gives alerts to Alertmanager's store, and reports whether no fault was met there.
func (m *alertmanager) store(alerts []*amalert.Alert) (ended bool) {
	return m.faults.Run("store alerts", func() {
		if err := m.alerts.Put(context.Background(), alerts...); err != nil {
			m.log.Error("store alerts", "err", err)
		}
	})
}

const (
	// maxOrderWait bounds how long an update of an alert waits for the one before it: the dispatcher takes updates in within
	// microseconds, and a page must not hang on it.
	maxOrderWait = 10 * time.Second
	// orderPoll is how often the dispatcher is looked at meanwhile; it announces no alert that it has taken in.
	orderPoll = time.Millisecond
)

// order keeps the updates of one alert in their order. Alertmanager's dispatcher reads them with several goroutines: of
// two that come closely the later can be overtaken, and its group keeps the earlier one for good, a resolve that nobody
// hears of. So an update waits until the one before it is in its groups. It holds the alerts that are not known to be there. feedMu
// guards it.
type order map[model.Fingerprint]*amalert.Alert

// orderedAlerts is Alertmanager's store for those who post alerts to the API: their updates keep their order as well.
type orderedAlerts struct {
	provider.Alerts
	am *alertmanager
}

// Put implements provider.Alerts.
func (o orderedAlerts) Put(ctx context.Context, alerts ...*amalert.Alert) error {
	o.am.feedMu.Lock()
	defer o.am.feedMu.Unlock()
	alerts = latest(alerts)
	o.am.inOrder(alerts)
	if err := o.Alerts.Put(ctx, alerts...); err != nil {
		return err
	}
	for _, a := range alerts {
		// The store merges a given alert with its own.
		if stored, err := o.am.alerts.Get(a.Fingerprint()); err == nil {
			o.am.order[a.Fingerprint()] = stored
		}
	}
	return nil
}

// latest drops all but the last update of each alert.
func latest(alerts []*amalert.Alert) []*amalert.Alert {
	at := map[model.Fingerprint]int{}
	var out []*amalert.Alert
	for _, a := range alerts {
		fp := a.Fingerprint()
		if i, ok := at[fp]; ok {
			out[i] = a
			continue
		}
		at[fp] = len(out)
		out = append(out, a)
	}
	return out
}

// inOrder returns when the dispatcher has the last updates of these alerts.
func (m *alertmanager) inOrder(alerts []*amalert.Alert) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for end := time.Now().Add(maxOrderWait); m.onTheWay(alerts); {
		if time.Now().After(end) {
			m.log.Error("alerts are not taken in: later ones do not wait for them", "alerts", len(alerts), "after", maxOrderWait)
			clear(m.order)
			return
		}
		timer.Reset(orderPoll)
		<-timer.C
	}
}

// onTheWay reports whether an earlier update of one of the alerts is not in its groups yet.
func (m *alertmanager) onTheWay(alerts []*amalert.Alert) bool {
	sent := func(a *amalert.Alert) bool { return m.order[a.Fingerprint()] != nil }
	if m.dispatch.Load() == nil || !slices.ContainsFunc(alerts, sent) {
		return false // a dispatcher that starts reads the whole store
	}
	m.lookAtOrder()
	return slices.ContainsFunc(alerts, sent)
}

// lookAtOrder forgets the alerts that the dispatcher has taken in.
func (m *alertmanager) lookAtOrder() {
	o, d := m.order, m.dispatch.Load()
	if d == nil || len(o) == 0 {
		return
	}
	has, older := map[model.Fingerprint]int{}, map[model.Fingerprint]bool{}
	ctx, cancel := context.WithTimeout(context.Background(), maxOrderWait)
	defer cancel()
	_, _, err := d.dispatcher.Groups(ctx, func(*dispatch.Route) bool { return true }, func(a *amalert.Alert, _ time.Time) bool {
		fp := a.Fingerprint()
		if last := o[fp]; last != nil && a.UpdatedAt.Before(last.UpdatedAt) {
			older[fp] = true
		} else if last != nil {
			has[fp]++
		}
		return false
	})
	if err != nil {
		return
	}
	for fp, a := range o {
		// A resolve leaves its groups when it is notified.
		if !older[fp] && (a.Resolved() || has[fp] >= len(d.tree.Match(a.Labels))) {
			delete(o, fp)
		}
	}
}

// alertAPI is Alertmanager's HTTP API. It is made for the first request: the description of itself that it loads takes an
// eighth of a start's time, and 5 MB of memory for good. A configuration comes before the first request.
type alertAPI struct {
	options api.Options

	mu      sync.Mutex
	api     *api.API // nil before the first request
	handler http.Handler
	config  *config.Config
	status  func(context.Context, model.LabelSet)
}

// update puts a configuration in force, and a function that marks alerts of which the status is asked.
func (a *alertAPI) update(c *config.Config, status func(context.Context, model.LabelSet)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config, a.status = c, status
	if a.api != nil {
		a.api.Update(c, status)
	}
}

func (a *alertAPI) open() (http.Handler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.api != nil {
		return a.handler, nil
	}
	nameAlertmanager()
	made, err := api.New(a.options)
	if err != nil {
		return nil, err
	}
	made.Update(a.config, a.status)
	a.api, a.handler = made, made.Register(route.New(), "/")
	return a.handler, nil
}

func (a *alertAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, err := a.open()
	if err != nil {
		a.options.Logger.Error("open alert API", "err", err)
		http.Error(w, "the alert API cannot be opened: the collector's log says why", http.StatusInternalServerError)
		return
	}
	h.ServeHTTP(w, r)
}

// nameAlertmanager sets the version that the API states, and that amtool
// compares with its own, to that of the Alertmanager whose packages are linked.
// The variable is the process's.
var nameAlertmanager = sync.OnceFunc(func() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/prometheus/alertmanager" {
			version.Version = strings.TrimPrefix(m.Version, "v")
		}
	}
})

// recordSilence writes a silence that was set or expired. Alertmanager calls it where it would tell its peers, before
// it answers the client: a confirmed silence survives a crash.
func (m *alertmanager) recordSilence(b []byte) {
	var s silencepb.MeshSilence
	if err := protodelim.UnmarshalFrom(bufio.NewReader(bytes.NewReader(b)), &s); err != nil {
		m.log.Error("decode a silence", "err", err)
		return
	}
	err := m.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_silence (id, entry, expires_at) VALUES (?,?,?)`,
			s.Silence.Id, b, s.ExpiresAt.AsTime().UnixMilli())
		return err
	})
	if err != nil {
		m.log.Error("write a silence: it holds until the next restart only", "id", s.Silence.Id, "err", err)
	}
}

func (m *alertmanager) loadEntries(ctx context.Context, query, what string, merge func([]byte) error) error {
	entries, err := statedb.All(ctx, m.db, statedb.Column[[]byte], query)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	for _, b := range entries {
		if err := merge(b); err != nil {
			return fmt.Errorf("decode %s: %w", what, err)
		}
	}
	return nil
}
