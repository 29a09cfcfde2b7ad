// Package pager carries alerts out as pages: it routes them, keeps incidents and escalates them, and delivers messages.
//
// It owns routing, grouping, silences and inhibition (Alertmanager's packages), incidents, acknowledgements, escalation and the
// journalled delivery of pages. It refuses to decide when an alert fires, which is package rules' part, and which failure
// explains alerts, which is package domain's.
//
// The way through it goes forward only: the engine of rules turns readings into transitions, the caller journals them and hands
// them to domain's Decider, which passes them to a Pager; the Pager writes pages into its database and sends them from there.
//
// A panic where domains are decided costs an alert its domain and never its page: the state is made anew from the alerts that
// fire. One where a page is made or sent costs that try. One in the pager's own routing costs the step in which it was met,
// of one alert: a question that cannot be answered suppresses nothing, so the alert pages, and a page that cannot be recorded is
// sent unrecorded. A transaction with a panic is taken back. Alertmanager's own goroutines are not guarded: their memory cannot
// be made anew while they run, and a restart delivers from the database and the caller's journal.
//
// Locks are taken in this order; one that stands further down is never held while one above it is taken:
//
//	dispatchMu         changes of the dispatcher: a start, a reload, the end
//	domain.Decider.mu  the caller of Deliver, Resume and Silenced
//	inbox.feedMu       the way into Alertmanager's store, one update after the other
//	inbox.mu           the facts about alerts
//	mutes.mu           silences in force; maintenance.Store's own lock and those of Alertmanager stand beside it
//	outbox.Queue.mu    messages that wait; Health, changes and stepClock have locks of their own that call nothing
//
// The gate is held for reading around all that Alertmanager has written, and keeps Close waiting. No lock but it is held over a
// transaction, except feedMu and dispatchMu.
package pager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/oncall"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

const (
	// alertGC is how often Alertmanager forgets resolved alerts; its own default.
	alertGC = 30 * time.Minute
	// maintenanceInterval is how often empty groups are dropped; Alertmanager's default.
	maintenanceInterval = 30 * time.Second
	// notifiedRetention is how long the notification log remembers at least; Alertmanager's --data.retention.
	notifiedRetention = 120 * time.Hour
)

var errClosed = errors.New("the pager is closed")

// Options configure a Pager. DB is required, all else may be zero.
type Options struct {
	// DB is a SQLite database with WAL, synchronous=FULL, foreign keys and a busy timeout, whose tables are those of statedb; in an
	// empty one the pager makes them. It does not close it.
	DB *sql.DB
	// Dir is where relative paths of the configuration start; the working directory where it is empty.
	Dir string
	// Config is an alertmanager.yml. Without one, incidents are recorded and nobody is paged.
	Config []byte
	// OnCall is an oncall.yml: people, rotas and policies, and which receivers of Config stand for a policy. Without one,
	// receivers send as Alertmanager's do and nothing escalates.
	OnCall []byte
	// Receivers is the path of a receivers.yml: settings of Config's receivers beyond Alertmanager's integrations. It is read
	// at each Reload; empty means none.
	Receivers string
	// ExternalURL is the start of links in pages.
	ExternalURL string
	// Engine decides the alerts that the pager is given; nil: how their conditions stand is known from transitions alone.
	Engine *rules.Engine
	// Pictures draws incidents for pages; nil draws none.
	Pictures *receivers.Pictures
	// Fleet says where every board stands; nil: a silence or a maintenance of any size needs no confirmation.
	Fleet func() map[string]alert.Place
	// BoardAlerts are the names of the rules about boards; nil: any rule may be.
	BoardAlerts func() []string
	// Expression returns the expression of one of the engine's rules by its ID, "" for an unknown one; nil: alerts have no link
	// to their rule's graph.
	Expression func(rule string) string
	// Watchdog says where beats go; nil: nowhere.
	Watchdog *WatchdogOptions
	// StartDelay is how long after the start the first page may leave: alerts that other programs post come one after the other
	// then, and one that inhibits another may come after it. 0 means at once; the engine's own alerts need none.
	StartDelay time.Duration
	// Changed is called after an incident changed, from one goroutine while Run runs; changes that follow closely are
	// one call.
	Changed    func(incident.Incident)
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Pager routes transitions to receivers and keeps incidents. Every message is in its database before it is sent. All methods
// are safe for concurrent use.
type Pager struct {
	db          *sql.DB
	often       *database.Prepared // of db, for the queries of each page
	dir         string
	receivers   string // path of the receivers.yml
	externalURL *url.URL
	log, amLog  *slog.Logger
	changes     *changes
	pagesFrom   time.Time // no page leaves before
	metrics     *pagerMetrics
	faults      *faults
	commits     *database.Writer
	outbox      *outbox.Queue
	// customerOutbox holds the mails to customers, apart from pages.
	customerOutbox *outbox.Queue
	inbox          *inbox
	clock          *stepClock
	steps          *stepper
	rotas          atomic.Pointer[oncall.Config] // with overrides
	engine         *rules.Engine                 // nil for none
	parts          *receivers.Parts
	mutes          *mutes
	running        chan struct{} // closed once Run takes alerts
	health         *outbox.Health
	watchdog       *watchdog // nil for none
	boardAlerts    func() []string
	expression     func(rule string) string

	recorder        eventrecorder.Recorder // records nothing
	notified        *nflog.Log
	threads         *nflog.Log // reads the values that integrations put into a store; holds nothing for long
	silences        *silence.Silences
	silencer        *silence.Silencer
	alerts          *mem.Alerts
	groupMarker     marker.GroupMarker
	pipelines       *notify.PipelineBuilder
	dispatchMetrics *dispatch.DispatcherMetrics
	api             *alertAPI
	routing         atomic.Pointer[routing]

	dispatchMu sync.Mutex                  // serialises changes of dispatch
	dispatch   atomic.Pointer[dispatching] // nil while Run does not run

	gate   sync.RWMutex // held for reading by those who write on Alertmanager's behalf
	closed bool
}

// Open makes a pager and reads the rows of an earlier one in the database: silences, the notification log, open
// incidents and pages that wait. An error names the fault in the configuration. The caller calls Close.
func Open(o Options) (*Pager, error) {
	maintenance.InitMatchers()
	receivers.CarryPageIDs()
	p, err := newPager(o)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if err := prepare(ctx, p.db); err != nil {
		return nil, err
	}
	if err := p.embed(); err != nil {
		return nil, err
	}
	if err := p.load(ctx, o.Fleet); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.reload(o.Config, o.OnCall, true); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func newPager(o Options) (*Pager, error) {
	if o.DB == nil {
		return nil, errors.New("open pager: the database is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open pager in %q: %w", o.Dir, err)
	}
	external, err := url.Parse(o.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("open pager with external URL %q: %w", o.ExternalURL, err)
	}
	p := &Pager{
		db: o.DB, often: database.NewPrepared(o.DB), dir: dir, receivers: o.Receivers, externalURL: external, pagesFrom: time.Now().Add(o.StartDelay), log: o.Log, amLog: slog.New(warnings{o.Log.Handler()}), changes: newChanges(o.Changed),
		commits: database.NewWriter(o.DB), outbox: outbox.NewQueue(), customerOutbox: outbox.NewQueue(), clock: newStepClock(), steps: newStepper(), running: make(chan struct{}),
		engine: o.Engine, health: outbox.NewHealth(), boardAlerts: o.BoardAlerts, expression: o.Expression,
	}
	p.watchdog = newWatchdog(o.Watchdog, p)
	inForce := func(receiver, integration string) bool {
		r := p.routing.Load()
		return r != nil && r.set.Integrates(receiver, integration)
	}
	p.metrics, err = newPagerMetrics(o.Registerer, p.outbox.Waiting, inForce, newRotaGaps(p))
	if err != nil {
		return nil, err
	}
	p.parts = &receivers.Parts{DB: p.often, ExternalURL: external, Pictures: o.Pictures, Drawn: p.metrics.pictures, Log: o.Log, AMLog: p.amLog}
	p.faults = newFaults(p.metrics.faults, o.Log)
	p.inbox = newInbox(p.pagesFor, p.faults)
	if o.Expression != nil {
		p.inbox.graph = p.graphOf
	}
	return p, nil
}

// embed makes Alertmanager's parts. Their metrics stay in a registry of their own.
func (p *Pager) embed() (err error) {
	reg, flags := prometheus.NewRegistry(), featurecontrol.NoopFlags{}
	if p.notified, err = nflog.New(nflog.Options{Retention: notifiedRetention, Logger: p.amLog, Metrics: reg}); err != nil {
		return fmt.Errorf("open notification log: %w", err)
	}
	if p.threads, err = nflog.New(nflog.Options{Retention: time.Minute, Metrics: prometheus.NewRegistry()}); err != nil {
		return fmt.Errorf("open thread log: %w", err)
	}
	if p.silences, err = silence.New(silence.Options{Retention: notifiedRetention, Logger: p.amLog, Metrics: reg}); err != nil {
		return fmt.Errorf("open silences: %w", err)
	}
	p.silencer = silence.NewSilencer(p.silences, p.amLog, p.recorder)
	if p.alerts, err = mem.NewAlerts(context.Background(), alertGC, 0, p.silencer, p.amLog, p.recorder, reg, flags); err != nil {
		return fmt.Errorf("open alerts: %w", err)
	}
	p.groupMarker = marker.NewGroupMarker()
	p.pipelines = notify.NewPipelineBuilder(reg, flags, p.recorder)
	p.dispatchMetrics = dispatch.NewDispatcherMetrics(false, reg, flags)
	p.api = &alertAPI{options: api.Options{
		Alerts: orderedAlerts{p.alerts, p}, Silences: p.silences, GroupMutedFunc: p.groupMarker.Muted, Logger: p.amLog, Registry: reg, GroupFunc: p.groups,
		RequestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "request_seconds"}, []string{"handler", "method", "code"}),
	}}
	return nil
}

// load reads the rows of an earlier pager.
func (p *Pager) load(ctx context.Context, fleet func() map[string]alert.Place) (err error) {
	if p.parts.LinkKey, err = receivers.LinkKey(ctx, p.db); err != nil {
		return err
	}
	if err := p.loadNotified(ctx); err != nil {
		return err
	}
	if err := p.loadSilences(ctx); err != nil {
		return err
	}
	p.silences.SetBroadcast(p.recordSilence)
	if err := p.loadMutes(ctx, fleet); err != nil {
		return err
	}
	if err := p.health.Load(ctx, p.db); err != nil {
		return err
	}
	messages, err := outbox.Waiting(ctx, p.db)
	if err != nil {
		return err
	}
	p.outbox.Add(p.takeCustomerMail(messages))
	if err := p.loadSteps(ctx); err != nil {
		return err
	}
	return p.loadInbox(ctx)
}

// Reload puts a new alertmanager.yml in force, empty meaning the built-in one, and the receivers.yml as it is now. Where it
// returns an error, the old ones stay.
func (p *Pager) Reload(config []byte) error {
	return p.reload(config, p.routing.Load().oncallText, false)
}

// ReloadWithOnCall puts a new alertmanager.yml and a new oncall.yml in force, both or, with an error, neither.
func (p *Pager) ReloadWithOnCall(config, onCall []byte) error {
	err := p.reload(config, onCall, false)
	switch {
	case err == nil:
		p.metrics.oncallBroken.Set(0)
	case errors.Is(err, errOnCall):
		p.metrics.oncallBroken.Set(1)
	}
	return err
}

func (p *Pager) reload(config, onCall []byte, starting bool) error {
	r, err := p.buildRouting(config)
	if err != nil {
		return err
	}
	if err := p.rotasFor(context.Background(), r, onCall, starting); err != nil {
		return err
	}
	rotas, err := p.readyRotas(r)
	if err != nil {
		return err
	}
	p.dispatchMu.Lock()
	defer p.dispatchMu.Unlock()
	if r.silent() {
		p.log.Warn("no receiver sends anything: incidents are recorded and nobody is paged; give an alertmanager.yml with a receiver")
	}
	p.routing.Store(r)
	p.rotas.Store(rotas)
	p.warnOfGaps()
	if old := p.dispatch.Load(); old != nil {
		old.stop()
		p.dispatch.Store(p.start(r))
	}
	p.outbox.Hurry(func(*outbox.Message) bool { return true }) // a receiver that refused may be mended
	p.steps.signal()
	return nil
}

// Silent reports whether the configuration leads pages nowhere.
func (p *Pager) Silent() bool { return p.routing.Load().silent() }

// Run routes and delivers until ctx ends. Transitions that Deliver and Resume were given before it count as the state at the
// start: they are taken in before the first page is decided.
func (p *Pager) Run(ctx context.Context) error {
	if err := p.startFirst(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.outbox.Deliver(ctx, p.try) })
	wg.Go(func() { p.customerOutbox.Deliver(ctx, p.tryCustomer) }) // beside the pages and never before them
	wg.Go(func() { p.escalate(ctx) })
	wg.Go(func() { p.feed(ctx) })
	wg.Go(func() { p.tidy(ctx) })
	wg.Go(func() { p.announce(ctx) })
	<-ctx.Done()
	p.dispatchMu.Lock()
	p.dispatch.Swap(nil).stop()
	p.dispatchMu.Unlock()
	wg.Wait()
	p.announceAll()
	return nil
}

// Running is closed once Run takes alerts.
func (p *Pager) Running() <-chan struct{} { return p.running }

func (p *Pager) startFirst() error {
	p.dispatchMu.Lock()
	defer p.dispatchMu.Unlock()
	if p.dispatch.Load() != nil {
		return errors.New("run pager: it runs already")
	}
	p.takeIn()
	p.dispatch.Store(p.start(p.routing.Load()))
	close(p.running)
	return nil
}

// Close releases the pager's resources, after Run returned. Pages that wait stay in the database.
func (p *Pager) Close() error {
	p.gate.Lock()
	p.closed = true
	p.gate.Unlock()
	p.alerts.Close()
	p.metrics.unregister()
	return p.often.Close()
}

// enter keeps Close waiting until leave; it reports whether the pager is open.
func (p *Pager) enter() bool {
	p.gate.RLock()
	if p.closed {
		p.gate.RUnlock()
		return false
	}
	return true
}

func (p *Pager) leave() { p.gate.RUnlock() }

// Handler serves /api/v2, Alertmanager's API, as amtool speaks it. It answers with 503 until Run runs.
func (p *Pager) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.dispatch.Load() == nil {
			http.Error(w, "the pager is not running yet", http.StatusServiceUnavailable)
			return
		}
		p.guardSilences(p.api).ServeHTTP(w, r)
	})
}

// announceDelay is how long changes are collected before they are announced: eyes do not see it, and a page is written,
// sent and recorded in less.
const announceDelay = 50 * time.Millisecond

// changes collects the incidents that changed until they are announced.
type changes struct {
	notify func(incident.Incident)
	wake   chan struct{}

	mu  sync.Mutex
	ids []string
}

func newChanges(notify func(incident.Incident)) *changes {
	return &changes{notify: notify, wake: make(chan struct{}, 1)}
}

// changed notes that an incident has changed.
func (p *Pager) changed(id string) {
	c := p.changes
	if c.notify == nil {
		return
	}
	c.mu.Lock()
	if !slices.Contains(c.ids, id) {
		c.ids = append(c.ids, id)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// announce tells the owner of changes until ctx ends.
func (p *Pager) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changes.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(announceDelay):
			p.announceAll()
		}
	}
}

func (p *Pager) announceAll() {
	p.changes.mu.Lock()
	ids := p.changes.ids
	p.changes.ids = nil
	p.changes.mu.Unlock()
	for _, id := range ids {
		p.faults.guard("announce incident "+id, func() {
			in, err := p.Incident(context.Background(), id)
			if err != nil {
				p.log.Error("read a changed incident", "incident", id, "err", err)
				return
			}
			p.changes.notify(in)
		})
	}
}

// faults catches panics where an alert or a page is handled, so that a fault in the code costs one of them its domain or a try
// and never the process. It is safe for concurrent use.
type faults struct {
	count prometheus.Counter
	log   *slog.Logger
	lines rate.Sometimes // the same alert may cause one again and again
}

func newFaults(count prometheus.Counter, log *slog.Logger) *faults {
	return &faults{count: count, log: log, lines: rate.Sometimes{First: 10, Interval: time.Minute}}
}

// guard calls f and reports whether it came to its end. The state that f changes may be half changed where it did not.
func (s *faults) guard(where string, f func()) (ended bool) {
	defer func() {
		if v := recover(); v != nil {
			s.count.Inc()
			s.lines.Do(func() {
				s.log.Error("a fault in the collector was met on the way of a page; please report it", "where", where, "panic", v, "stack", string(debug.Stack()))
			})
		}
	}()
	f()
	return true
}

// ask returns the answer to a question about an alert, and false after a fault: where the question is whether something suppresses
// the alert, it pages.
func (s *faults) ask(where string, f func() bool) (yes bool) {
	return s.guard(where, func() { yes = f() }) && yes
}

// Guard calls f and reports whether it came to its end; a panic is counted and logged, and goes no further.
func (p *Pager) Guard(where string, f func()) (ended bool) { return p.faults.guard(where, f) }

// warnings passes on warnings and errors: Alertmanager's lower levels are about its own insides.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

// pagerMetrics count the pager's work.
type pagerMetrics struct {
	tries    *prometheus.CounterVec
	pictures *prometheus.CounterVec
	latency  prometheus.Histogram
	health   *receiverHealth
	// exhausted counts escalations that nobody acknowledged, unmanned steps whose rota had nobody.
	exhausted, unmanned prometheus.Counter
	// oncallBroken is 1 while an older oncall.yml is in force than the one that was given.
	oncallBroken prometheus.Gauge
	faults       prometheus.Counter
	reg          prometheus.Registerer
	all          []prometheus.Collector
}

func newPagerMetrics(reg prometheus.Registerer, waiting func() int, inForce func(receiver, integration string) bool, gaps prometheus.Collector) (*pagerMetrics, error) {
	m := &pagerMetrics{
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_page_tries_total", Help: "Tries to deliver a page, by integration and what became of the page.",
		}, []string{"integration", "state"}),
		pictures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_page_pictures_total", Help: "Pictures that a mail waited for, by what became of them: drawn, late or failed.",
		}, []string{"result"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bramble_page_latency_seconds", Help: "Time from the reading that fired to the page's acceptance by the provider.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 15, 60, 300, 1800},
		}),
		health: newReceiverHealth(inForce),
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_escalations_exhausted_total", Help: "Escalations that went through all rounds and that nobody acknowledged.",
		}),
		unmanned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_escalation_gaps_total", Help: "Times that an escalation asked a rota which had nobody on call.",
		}),
		oncallBroken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bramble_oncall_file_broken", Help: "1 while oncall.yml cannot be used and an older one is in force.",
		}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_alerting_panics_total", Help: "Faults of the collector met on the way of an alert or a page, which went on; the log has their traces.",
		}),
		reg: reg,
	}
	m.all = []prometheus.Collector{m.tries, m.pictures, m.latency, m.health, m.exhausted, m.unmanned, m.oncallBroken, m.faults, gaps, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_pages_waiting", Help: "Pages that no provider has accepted yet.",
	}, func() float64 { return float64(waiting()) })}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *pagerMetrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
