package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"bramble/alerting/alert"
	"bramble/alerting/domain"
	"bramble/alerting/incident"
	"bramble/alerting/pager"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
	"bramble/collector/admin"
	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/config"
	"bramble/collector/contents"
	"bramble/collector/customers"
	"bramble/collector/descriptors"
	"bramble/collector/heartbeat"
	"bramble/collector/ingest"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/dashboards"
	"bramble/pisensor/report"
	"bramble/storage"
	"bramble/storage/importer"
)

const (
	// evaluateEvery is how often the rules that need the store are looked at;
	// each is evaluated on its own interval.
	evaluateEvery = time.Second
	// shutdownTime is how long requests may take to finish.
	shutdownTime = 5 * time.Second
)

// app is a collector from the open data directory to the listening server.
type app struct {
	config   config.Config
	log      *slog.Logger
	metrics  *prometheus.Registry
	db       *sql.DB
	reserve  *registry.Reserve
	registry *registry.Registry
	store    seriesStore
	embedded *storage.Store // the same, nil where it is a remote one
	late     lateStart      // of the embedded one; keepStores alone changes it while the app runs
	rolled   *storage.Store // nil with a remote one, as rollups
	rollups  *storage.Rollups
	importer *importer.Importer
	engine   *rules.Engine
	broker   *broker.Broker
	backups  *backup.Keeper
	pager    *pager.Pager

	reloading   sync.Mutex // serialises reloads
	loaded      atomic.Pointer[loading]
	rulesBroken prometheus.Gauge

	heartbeats *heartbeat.Store
	customers  *customers.Store
	fleet      placeCache
	domains    *domain.Decider
	ingest     *ingest.Ingest
	pages      *dashboards.Server
	site       site
	files      *descriptors.Budget
	parts      partsRecord // of the data directory, once all are open
	listener   *descriptors.Web
	teardown   []step
}

// step is one thing to release, by name.
type step struct {
	name string
	run  func() error
}

// variant is the difference between `demo` and `serve`.
type variant struct {
	open         bool // no login
	demo         *dashboards.Demo
	alertmanager []byte // in place of the configured file
	onCall       []byte // in place of the configured file
}

// openApp acquires everything, in the order in which readings flow back, and
// releases what it has when something fails.
func openApp(ctx context.Context, c config.Config, v variant, log *slog.Logger) (_ *app, err error) {
	a := &app{config: c, log: log, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(explainDamage(ctx, c, err), a.close())
		}
	}()
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	a.files = descriptors.New()
	if err := a.files.Check(); err != nil {
		return nil, err
	}
	// The listener first: a taken port is the most likely mistake, and the cheapest to find.
	l, err := listen(c)
	if err != nil {
		return nil, err
	}
	a.listener = a.files.Web(l)
	a.defers("http listener", func() error { return ignoreClosed(a.listener.Close()) })
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w; choose another with --data-dir DIR", err)
	}
	if name, err := admin.ActAsOwner(c.DataDir); err != nil {
		return nil, err
	} else if name != "" {
		log.Info("the collector goes on as the owner of the data directory, not as root", "user", name)
	}
	release, err := admin.Lock(c.DataDir)
	if err != nil {
		return nil, err
	}
	a.defers("lock", release)
	if err := backup.Unfinished(c.DataDir); err != nil {
		return nil, err
	}

	if err := contents.Check(c.DataDir); err != nil {
		return nil, err
	}
	a.defers("record of the parts", func() error { return a.parts.write() })
	if err := a.afterCrash(); err != nil {
		return nil, err
	}
	if err := journal.Check(journalDir(c.DataDir)); err != nil { // before anything is changed
		return nil, err
	}
	if a.db, err = openState(ctx, c, log); err != nil {
		return nil, err
	}
	a.reserve = registry.NewReserve(stateFile(c.DataDir))
	a.defers("reserve", a.reserve.Close)
	a.defers("state", a.db.Close)
	if a.registry, err = registry.Open(ctx, a.db); err != nil {
		return nil, err
	}
	if err := checkChanges(c.DataDir, a.registry); err != nil {
		return nil, err
	}
	if err := a.openStores(ctx); err != nil {
		return nil, err
	}
	limitMemory(log)
	if a.importer, err = openImporter(c, a.store, log, a.metrics); err != nil {
		return nil, err
	}

	loaded, err := a.startRules()
	if err != nil {
		return nil, err
	}
	loaded = loaded.WithOwn()
	a.engine = rules.NewEngine(loaded)
	a.engine.SetExternal(nil, a.url())
	a.engine.RecordTo(a.store)
	if err := a.engine.Register(a.metrics); err != nil {
		return nil, err
	}
	a.broker, err = broker.New(broker.Options{
		Addr: c.NATS, WebSocket: c.NATSWebSocket, Dir: c.DataDir, Names: c.NATSNames, Registry: a.registry, Log: log, Registerer: a.metrics,
		Enough: a.files.Boards,
	})
	if err != nil {
		return nil, err
	}
	a.defers("broker", a.broker.Close)
	a.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "bramble_http_ended_connections_total", Help: "Connections of browsers that ended for newer ones because there were too many.",
	}, func() float64 { return float64(a.listener.Ended()) }))
	if a.pages, err = dashboards.New(a.pageOptions(v)); err != nil {
		return nil, err
	}
	a.defers("pages", func() error { a.pages.Close(); return nil })
	pictures := receivers.NewPictures(a.engine, a.store, log)
	a.defers("pictures", func() error { pictures.Close(); return nil })
	routing, err := a.routing(v)
	if err != nil {
		return nil, err
	}
	onCall, err := a.onCall(v)
	if err != nil {
		return nil, err
	}
	dog, err := a.watchdogOptions()
	if err != nil {
		return nil, err
	}
	a.pager, err = pager.Open(pager.Options{
		DB: a.db, Dir: a.routesDir(), Config: routing, Receivers: c.Receivers, OnCall: onCall,
		ExternalURL: a.url(), Engine: a.engine, Pictures: pictures,
		Fleet: func() map[string]alert.Place { return a.fleet.of(a.registry) }, BoardAlerts: a.engine.BoardAlerts, Expression: a.engine.Expression, Watchdog: dog, StartDelay: time.Duration(c.StartDelay),
		Log: log, Registerer: a.metrics, Changed: func(incident.Incident) { a.pages.Hub().Alerts() },
	})
	if err != nil {
		return nil, a.nameRoutes(err)
	}
	a.defers("pager", a.pager.Close)
	if a.heartbeats, err = heartbeat.Open(ctx, a.db, a.isBoard); err != nil {
		return nil, err
	}
	if err := a.openCustomers(ctx); err != nil {
		return nil, err
	}
	a.metrics.MustRegister(offMetrics{a.whatIsOff}, testMetrics{a.pager.Tests().Failed}, a.heartbeats)
	a.domains = domain.New(domain.Options{
		Apply: a.engine.Apply, Firing: a.engine.Firing, Pager: a.pager, Fleet: a.places, Log: log,
		Commit: func(ts []alert.Transition) error { return a.ingest.Commit(ts) },
	})
	a.ingest, err = ingest.New(ingest.Options{
		Dir: journalDir(c.DataDir), Conn: a.broker.Conn(), Registry: a.registry, Store: a.store, Retention: a.storeDrops(),
		Engine: a.engine, Live: a.pages.Hub().Publish, Deliver: a.deliver, Settle: a.settleAlerts, Forgotten: a.pages.Hub().Forget,
		Address: a.broker.Address,
		Lines:   func() []report.Line { return lines(a.engine) },
		Log:     log, Registerer: a.metrics,
	})
	if err != nil {
		return nil, err
	}
	a.parts = newPartsRecord(c, a.registry, log)
	if err := a.parts.write(); err != nil {
		return nil, err
	}
	if err := a.openBackups(ctx); err != nil {
		return nil, err
	}
	a.site.connect(a)
	ended := a.engine.SetRules(loaded) // alerts of rules that are gone since the collector stopped
	a.domains.Resume(a.engine.Firing())
	if err := a.ingest.Commit(ended); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *app) defers(name string, run func() error) {
	a.teardown = append(a.teardown, step{name, run})
}

// close releases in reverse what openApp has acquired.
func (a *app) close() error {
	var errs []error
	for i := len(a.teardown) - 1; i >= 0; i-- {
		if err := a.teardown[i].run(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", a.teardown[i].name, err))
		}
	}
	a.teardown = nil
	return errors.Join(errs...)
}

// run serves until ctx ends and says where once everything answers.
func (a *app) run(ctx context.Context, stdout io.Writer) error {
	keepHeapSmall()
	a.sayPlaces()
	server := &http.Server{Handler: a.pages.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ConnState: a.listener.State,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	// What readings pass through ends last: pages that a reading has caused
	// still leave when ingest has stopped.
	pagerCtx, stopPager := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPager()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.pager.Run(pagerCtx) })
	g.Go(func() error { return a.domains.Run(pagerCtx) })
	g.Go(func() error { return a.customers.Run(pagerCtx) })
	g.Go(func() error { defer stopPager(); return a.ingest.Run(ctx) })
	g.Go(func() error { return a.evaluate(ctx) })
	g.Go(func() error { return a.backups.Run(ctx) })
	g.Go(func() error { return ownMetrics{a}.storeOwn(ctx) })
	g.Go(func() error { return a.keepStores(ctx) })
	g.Go(func() error { return a.keepState(pagerCtx) })
	g.Go(func() error { return a.parts.keep(ctx) })
	g.Go(func() error { return a.heartbeats.Run(ctx, a.log) })
	g.Go(func() error { return a.beat(ctx) })
	g.Go(func() error { return a.followTests(ctx) })
	g.Go(func() error { return dailyMail{a}.sendDigests(ctx) })
	g.Go(func() error { return a.reloadOnHangup(ctx) })
	g.Go(func() error { return admin.Serve(ctx, filepath.Join(a.config.DataDir, "control.sock"), a.adminState()) })
	g.Go(func() error { return a.serveHTTP(server) })
	g.Go(func() error {
		<-ctx.Done()
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		a.pages.Close() // websockets first: a shutdown does not wait for them
		return ignoreTimeout(server.Shutdown(stopCtx))
	})
	select {
	case <-a.pager.Running():
		fmt.Fprintln(stdout, "ready", a.url())
	case <-ctx.Done():
	}
	return g.Wait()
}

func (a *app) serveHTTP(s *http.Server) error {
	var err error
	if a.config.TLSCert != "" {
		err = s.ServeTLS(a.listener, a.config.TLSCert, a.config.TLSKey)
	} else {
		err = s.Serve(a.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

// evaluate runs the rules that one reading cannot decide.
func (a *app) evaluate(ctx context.Context) error {
	tick := time.NewTicker(evaluateEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			transitions, err := a.engine.Evaluate(ctx, a.store, now)
			if (err != nil) != failing && ctx.Err() == nil {
				failing = err != nil
				a.log.Warn("rules evaluated from the store", "failing", failing, "err", err)
			}
			if err := a.ingest.Commit(transitions); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// sayPlaces says for how many boards the limit of open files is enough.
func (a *app) sayPlaces() {
	places, boards := a.broker.Places(), len(a.registry.Boards())
	if places < boards {
		a.log.Warn("the limit of open files is not enough for all boards: raise it with LimitNOFILE= in the service file, or ulimit -n",
			"limit", a.files.Limit(), "enough_for_boards", places, "boards", boards)
		return
	}
	a.log.Info("limit of open files", "limit", a.files.Limit(), "enough_for_boards", places, "boards", boards)
}

// url is where people reach the pages.
func (a *app) url() string {
	if a.config.ExternalURL != "" {
		return a.config.ExternalURL
	}
	scheme := "http"
	if a.config.TLSCert != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(a.listener.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}

func listen(c config.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", c.HTTP)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is taken by another program; choose another with --http ADDR (port 0 takes a free one)", c.HTTP)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for http: %w; choose another address with --http ADDR", err)
	}
	return l, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ignoreTimeout forgives a browser that reads slowly while the collector stops.
func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (a *app) metricsHandler() http.Handler {
	return promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{})
}
