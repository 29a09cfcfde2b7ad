// Package pager carries alerts out as pages.
//
// It owns routing, grouping, silences and inhibition (Alertmanager's packages, put together), the suppressions of an alert, the
// hand-over of alerts from the caller's journal to its own database, and the delivery of messages. It refuses to decide when an alert
// fires, which is package rules' part, and which failure explains alerts, which is package domain's; it leaves the life of incidents to
// package escalation, and the words of a page and its sending to package receivers.
//
// The way through it goes forward only: the engine of rules turns readings into transitions, the caller journals them and hands
// them to domain's Decider, which passes them to a Pager; the Pager has escalation write pages into its database, and sends them from there.
//
// A panic where domains are decided costs an alert its domain and never its page: the state is made anew from the alerts that
// fire. One where a page is made or sent costs that try. One in the pager's own routing costs the step in which it was met,
// of one alert: a question that cannot be answered suppresses nothing, so the alert pages, and a page that cannot be recorded is
// sent unrecorded. A transaction with a panic is taken back. Alertmanager's own goroutines are not guarded: their memory cannot
// be made anew while they run, and a restart delivers from the database and the caller's journal.
//
// Locks are taken in this order; one that stands further down is never held while one above it is taken:
//
//	alertmanager.dispatchMu  changes of the dispatcher: a start, a reload, the end
//	domain.Decider.mu        the caller of Deliver, Resume and Silenced
//	alertmanager.feedMu      the way into Alertmanager's store, one update after the other
//	inbox.mu                 the facts about alerts
//	mutes.mu                 silences in force; maintenance.Store's own lock and those of Alertmanager stand beside it
//	outbox.Queue.mu          messages that wait; Health, changes and escalation's clock have locks of their own that call nothing
//
// The gate is held for reading around all that Alertmanager has written, and keeps Close waiting. No lock but it is held over a
// transaction, except feedMu and dispatchMu.
package pager

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/escalation"
	"bramble/alerting/fault"
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
	db        *sql.DB
	often     *database.Prepared // of db, for the queries of each page
	commits   *database.Writer
	log       *slog.Logger
	dir       string
	ownFile   string    // path of the receivers.yml
	pagesFrom time.Time // no page leaves before
	metrics   *pagerMetrics
	faults    *fault.Guard
	changes   *changes
	running   chan struct{} // closed once Run takes alerts

	am         *alertmanager
	inbox      *inbox
	suppress   *suppressor
	mutes      *mutes
	escalation *escalation.Engine
	parts      *receivers.Parts
	routing    atomic.Pointer[routing]
	rotas      *Rotas
	reach      *reach
	outbox     *outbox.Queue
	health     *outbox.Health
	pages      *pages
	customers  *CustomerMails
	tests      *PageTests
	watchdog   *watchdog // nil for none
	expression func(rule string) string

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
		db: o.DB, often: database.NewPrepared(o.DB), commits: database.NewWriter(o.DB), log: o.Log, dir: dir, ownFile: o.Receivers,
		pagesFrom: time.Now().Add(o.StartDelay), changes: newChanges(o.Changed), running: make(chan struct{}), outbox: outbox.NewQueue(),
		health: outbox.NewHealth(), expression: o.Expression,
	}
	p.rotas = &Rotas{db: p.db, commits: p.commits, log: p.log, routing: p.routing.Load}
	p.reach = &reach{routing: p.routing.Load, rotas: p.rotas, health: p.health}
	p.tests = &PageTests{db: p.db, commits: p.commits, log: p.log, routing: p.routing.Load}
	p.watchdog = newWatchdog(o.Watchdog, p)
	inForce := func(receiver, integration string) bool {
		r := p.routing.Load()
		return r != nil && r.set.Integrates(receiver, integration)
	}
	if p.metrics, err = newPagerMetrics(o.Registerer, p.outbox.Waiting, inForce, newRotaGaps(p.rotas)); err != nil {
		return nil, err
	}
	p.rotas.broken, p.faults = p.metrics.oncallBroken, fault.NewGuard(p.metrics.faults, o.Log)
	return p, p.assemble(o, external)
}

// assemble makes the parts that know each other.
func (p *Pager) assemble(o Options, external *url.URL) (err error) {
	if p.am, err = newAlertmanager(p.db, p.commits, p.faults, p.log); err != nil {
		return err
	}
	p.inbox = newInbox(func(by, t *alert.Transition) bool { return p.suppress.pagesFor(by, t) }, p.faults)
	if o.Expression != nil {
		p.inbox.graph = p.graphOf
	}
	p.suppress = &suppressor{am: p.am, inbox: p.inbox, faults: p.faults, engine: o.Engine, tree: func() *dispatch.Route { return p.routing.Load().tree }}
	p.mutes = &mutes{
		am: p.am, inbox: p.inbox, suppress: p.suppress, commits: p.commits, log: p.log, boardAlerts: o.BoardAlerts, silences: map[string]watchedSilence{},
	}
	p.suppress.mutes = p.mutes
	p.parts = &receivers.Parts{DB: p.often, ExternalURL: external, Pictures: o.Pictures, Drawn: p.metrics.pictures, Log: p.log, AMLog: p.am.log}
	threads, err := nflog.New(nflog.Options{Retention: time.Minute, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return fmt.Errorf("open thread log: %w", err)
	}
	p.pages = &pages{
		db: p.db, commits: p.commits, log: p.log, metrics: p.metrics, health: p.health, outbox: p.outbox, threads: threads, routing: p.routing.Load, changed: p.changed,
	}
	p.customers = &CustomerMails{
		db: p.db, commits: p.commits, log: p.log, tries: p.metrics.tries, host: cmp.Or(external.Hostname(), "bramble.invalid"), outbox: outbox.NewQueue(), routing: p.routing.Load,
	}
	p.escalation = escalation.New(escalation.Options{
		DB: p.db, Often: p.often, Commits: p.commits, Faults: p.faults, Log: p.log, ExternalURL: external,
		Routes: func() escalation.Routes { return p.routing.Load() }, OnCall: p.rotas.InForce,
		Suppressed: p.suppress.allSuppressed, OverSince: p.suppress.overSince, Now: p.suppress.now, Fires: p.anyFires, Besides: p.reach.besides,
		Committed: p.committed, Shift: p.outbox.Shift,
	})
	return nil
}

// load reads the rows of an earlier pager.
func (p *Pager) load(ctx context.Context, fleet func() map[string]alert.Place) (err error) {
	if p.parts.LinkKey, err = receivers.LinkKey(ctx, p.db); err != nil {
		return err
	}
	if err := p.am.load(ctx); err != nil {
		return err
	}
	if err := p.mutes.load(ctx, fleet); err != nil {
		return err
	}
	if err := p.health.Load(ctx, p.db); err != nil {
		return err
	}
	messages, err := outbox.Waiting(ctx, p.db)
	if err != nil {
		return err
	}
	p.outbox.Add(p.customers.take(messages))
	if err := p.escalation.Load(ctx); err != nil {
		return err
	}
	return p.inbox.load(ctx, p.db)
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
	if err := p.rotas.parse(context.Background(), r, onCall, starting); err != nil {
		return err
	}
	rotas, err := p.rotas.ready(r)
	if err != nil {
		return err
	}
	p.am.dispatchMu.Lock()
	defer p.am.dispatchMu.Unlock()
	if r.silent() {
		p.log.Warn("no receiver sends anything: incidents are recorded and nobody is paged; give an alertmanager.yml with a receiver")
	}
	p.routing.Store(r)
	p.rotas.current.Store(rotas)
	p.rotas.warnOfGaps()
	if old := p.am.dispatch.Load(); old != nil {
		old.stop()
		p.am.dispatch.Store(p.start(r))
	}
	p.outbox.Hurry(func(*outbox.Message) bool { return true }) // a receiver that refused may be mended
	p.escalation.Signal()
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
	wg.Go(func() { p.outbox.Deliver(ctx, p.courier(p.pages, p.outbox).try) })
	wg.Go(func() { p.customers.outbox.Deliver(ctx, p.courier(p.customers, p.customers.outbox).try) }) // beside the pages and never before them
	wg.Go(func() { p.escalation.Run(ctx) })
	wg.Go(func() { p.feed(ctx) })
	wg.Go(func() { p.tidy(ctx) })
	wg.Go(func() { p.announce(ctx) })
	<-ctx.Done()
	p.am.dispatchMu.Lock()
	p.am.dispatch.Swap(nil).stop()
	p.am.dispatchMu.Unlock()
	wg.Wait()
	p.announceAll()
	return nil
}

func (p *Pager) courier(c carrier, queue *outbox.Queue) *courier {
	return &courier{carrier: c, outbox: queue, faults: p.faults, record: p.escalation.RecordTry}
}

// Running is closed once Run takes alerts.
func (p *Pager) Running() <-chan struct{} { return p.running }

// start puts a routing to work. The caller holds dispatchMu.
func (p *Pager) start(r *routing) *dispatching {
	return p.am.start(r, stages{
		first: suppressStage{p.suppress}, mark: p.suppress.mark,
		last: func(receiver string, integrations []notify.Integration) *recorder {
			return &recorder{pager: p, receiver: receiver, integrations: integrations}
		},
	}, p.pagesFrom)
}

func (p *Pager) startFirst() error {
	p.am.dispatchMu.Lock()
	defer p.am.dispatchMu.Unlock()
	if p.am.dispatch.Load() != nil {
		return errors.New("run pager: it runs already")
	}
	p.takeIn()
	p.am.dispatch.Store(p.start(p.routing.Load()))
	close(p.running)
	return nil
}

// Close releases the pager's resources, after Run returned. Pages that wait stay in the database.
func (p *Pager) Close() error {
	p.gate.Lock()
	p.closed = true
	p.gate.Unlock()
	p.am.alerts.Close()
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
		if p.am.dispatch.Load() == nil {
			http.Error(w, "the pager is not running yet", http.StatusServiceUnavailable)
			return
		}
		p.mutes.guard(p.am.api).ServeHTTP(w, r)
	})
}

// Rotas are people, rotas and policies as they are in force.
func (p *Pager) Rotas() *Rotas { return p.rotas }

// OnCall is Rotas.InForce.
func (p *Pager) OnCall() *oncall.Config { return p.rotas.InForce() }

// Tests are the test pages.
func (p *Pager) Tests() *PageTests { return p.tests }

// CustomerMails are the mails to customers.
func (p *Pager) CustomerMails() *CustomerMails { return p.customers }

// Maintenances are the maintenances that this pager keeps to.
func (p *Pager) Maintenances() *maintenance.Store { return p.mutes.maintenances }

// SendMail sends a mail once, as receivers.Set.SendMail does.
func (p *Pager) SendMail(ctx context.Context, to, receiver string, m receivers.Mail) error {
	return p.routing.Load().set.SendMail(ctx, to, receiver, m)
}

// Off are the sources for all that can keep an alert from paging somebody.
func (p *Pager) Off() []alert.OffSource {
	return []alert.OffSource{p.mutes.silencesOff, p.mutes.maintenancesOff, p.reach.off, p.rotas.Off}
}

// Guard calls f and reports whether it came to its end; a panic is counted and logged, and goes no further.
func (p *Pager) Guard(where string, f func()) (ended bool) { return p.faults.Run(where, f) }
