package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"

	"bramble/alerting/incident"
	"bramble/collector/config"
	"bramble/collector/rack"
	"bramble/dashboards"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	// demoPast is how much history the demo opens with.
	demoPast = 24 * time.Hour
	// demoRows bounds the rows of that history, so that a large demo starts as
	// soon as a small one; the steps between them grow instead.
	demoRows = 3_000_000
	// rowsPerTick is about the number of a simulated board's readings at a time.
	rowsPerTick = 12
	// demoSeed makes each demo the same.
	demoSeed = 1
)

type demoFlags struct {
	Boards  int    `help:"How many simulated boards." default:"24"`
	DataDir string `help:"Keep everything here; without it nothing is left behind." placeholder:"DIR"`
	HTTP    string `name:"http" help:"Address of the pages, on loopback." default:"127.0.0.1:8314" placeholder:"ADDR"`
	NATS    string `name:"nats" help:"Address that boards connect to." default:"127.0.0.1:0" placeholder:"ADDR"`

	UpgradeWithoutBackup bool `help:"Upgrade an older demo's data although no backup of it could be made."`
}

func (f *demoFlags) check() error {
	host, _, err := net.SplitHostPort(f.HTTP)
	if err != nil {
		return config.CheckAddress(f.HTTP)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--http %s: the demo has no login, so it speaks on loopback only; use 127.0.0.1:PORT, or `collector serve`", f.HTTP)
	}
	if f.Boards < 1 || f.Boards > 10_000 {
		return fmt.Errorf("--boards %d: want 1 to 10000", f.Boards)
	}
	return nil
}

// demoRouting pages whoever is on call, but for what follows from another alert of
// the same board. Both people have their pages sent to the demo's inbox.
const demoRouting = `
route:
  receiver: oncall
  group_by: [alertname, rack, switch]
  group_wait: 0s
  group_interval: 30s
  repeat_interval: 1h
  routes:
    - matchers: [alertname =~ "Throttled|FrequencyCapped|SoftTemperatureLimit"]
      group_wait: 1s
inhibit_rules:
  - source_matchers: [alertname =~ "UnderVoltage|SocHot|BoardSilent"]
    target_matchers: [alertname =~ "Throttled|FrequencyCapped|SoftTemperatureLimit"]
    equal: [board]
receivers:
  - name: oncall
  - name: ada
    webhook_configs: [{url: %[1]q}]
  - name: jonas
    webhook_configs: [{url: %[1]q}]
`

// demoOnCall has two people take turns. Who does not acknowledge within three minutes is joined by the
// other: the demo's first faults last for four.
const demoOnCall = `
zone: UTC
people:
  - {name: ada, channels: [{receiver: ada}]}
  - {name: jonas, channels: [{receiver: jonas}]}
rotas:
  - name: first
    layers: [{name: turns, people: [ada, jonas], start: 2026-01-05, handover: "09:00", rotate: daily}]
policies:
  - name: default
    receivers: [oncall]
    steps:
      - {notify: [first], wait: 3m}
      - {notify: [ada, jonas], wait: 10m}
`

func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f demoFlags
	if help, err := parse("demo", "Runs the whole chain with simulated boards.", &f, args, stdout, stderr); help || err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c := config.Default
	c.DataDir, c.HTTP, c.NATS, c.UpgradeWithoutBackup = f.DataDir, f.HTTP, f.NATS, f.UpgradeWithoutBackup
	if c.DataDir == "" {
		if c.DataDir, err = os.MkdirTemp("", "bramble-demo-"); err != nil {
			return fmt.Errorf("make a temporary data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.DataDir)) }()
	}
	return demo(ctx, c, f.Boards, stdout, log)
}

func demo(ctx context.Context, c config.Config, boards int, stdout io.Writer, log *slog.Logger) (err error) {
	inbox, err := openInbox()
	if err != nil {
		return err
	}
	placements := rack.Plan(boards, demoSeed)
	racks := rack.New(rack.Options{
		Placements: placements, Past: demoPast, Scenario: true, Log: log,
		SensorLog: slog.New(slog.DiscardHandler), // the boards' faults are on the page
	})
	a, err := openApp(ctx, c, variant{
		open:         true,
		demo:         &dashboards.Demo{Faults: func() []dashboards.Fault { return faults(racks) }, Inbox: inbox.pages, HistoryEnds: racks.Start()},
		alertmanager: fmt.Appendf(nil, demoRouting, inbox.url()), onCall: []byte(demoOnCall),
	}, log)
	if err != nil {
		return errors.Join(err, inbox.listener.Close())
	}
	defer func() { err = errors.Join(err, a.close()) }()
	inbox.incident = a.incidentOfPage
	identities, err := a.enrolAll(ctx, placements)
	if err != nil {
		return err
	}
	if err := a.tellHistory(racks, identities); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.run(ctx, stdout) })
	g.Go(func() error { return racks.Run(ctx, identities) })
	g.Go(func() error { return inbox.run(ctx) })
	return g.Wait()
}

func faults(r *rack.Racks) []dashboards.Fault {
	var all []dashboards.Fault
	for _, f := range r.Faults() {
		all = append(all, dashboards.Fault{At: f.At, What: f.What, Done: f.Done})
	}
	return all
}

// enrolAll registers the simulated boards, each with a key of its own. A data directory that is kept may hold one that
// somebody has retired: it gets no identity and stays off.
func (a *app) enrolAll(ctx context.Context, placements []rack.Placement) (map[string]rack.Identity, error) {
	identities := make(map[string]rack.Identity, len(placements))
	for _, p := range placements {
		if known, ok := a.registry.Board(p.Board); ok && known.Retired {
			continue
		} else if !ok {
			if err := a.registry.AddBoard(ctx, p.Board, p.Labels()); err != nil {
				return nil, err
			}
		}
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", p.Board, err)
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", p.Board, err)
		}
		token, err := a.registry.NewBoardToken(ctx, p.Board, a.broker.Pin())
		if err != nil {
			return nil, err
		}
		if _, err := a.registry.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: public}); err != nil {
			return nil, err
		}
		identities[p.Board] = rack.Identity{URL: a.broker.URL(), Pin: a.broker.Pin(), Key: key}
	}
	return identities, nil
}

// tellHistory stores the simulated past of the simulated boards. Others that the data directory holds, such as real
// ones that were added to the demo, keep what they reported.
func (a *app) tellHistory(racks *rack.Racks, simulated map[string]rack.Identity) error {
	to := racks.Start()
	step := time.Duration(int64(demoPast)*int64(len(simulated))*rowsPerTick/demoRows).Truncate(10*time.Second) + 10*time.Second
	var rows []storage.Row
	for name := range simulated {
		booted, info, err := racks.Boot(name)
		if err != nil {
			return err
		}
		var failed error
		emit := func(at int64, t *report.Tick) {
			var err error
			if rows, err = a.ingest.Backfill(rows, name, at, t, booted, info); err == nil && len(rows) > 10_000 {
				err = a.store.Add(rows)
				rows = rows[:0]
			}
			failed = errors.Join(failed, err)
		}
		if err := racks.History(name, to.Add(-demoPast), to, step, emit); err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("store the simulated history: %w", failed)
		}
	}
	return a.store.Add(rows)
}

// incidentOfPage finds the incident that a page belongs to.
func (a *app) incidentOfPage(ctx context.Context, pageID string) (id, title string) {
	incidents, err := a.pager.Incidents(ctx, incident.Query{})
	if err != nil {
		return "", ""
	}
	for _, in := range incidents {
		for _, p := range in.Pages {
			if p.ID == pageID {
				return in.ID, in.Title
			}
		}
	}
	return "", ""
}

const (
	// maxInbox pages are kept.
	maxInbox = 200
	// maxPage is the largest page that is taken, in bytes.
	maxPage = 1 << 20
)

// inbox is a real receiver of pages, on a port of its own: a page that it holds has
// left the collector over HTTP. It is safe for concurrent use.
type inbox struct {
	listener net.Listener
	server   http.Server
	incident func(ctx context.Context, pageID string) (id, title string) // whose page it is

	mu       sync.Mutex
	received []dashboards.Received // oldest first
}

func openInbox() (*inbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the demo's inbox: %w", err)
	}
	b := &inbox{listener: l}
	b.server = http.Server{Handler: http.HandlerFunc(b.take), ReadTimeout: 5 * time.Second}
	return b, nil
}

// url is where pages are posted.
func (b *inbox) url() string { return "http://" + b.listener.Addr().String() + "/" }

func (b *inbox) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.Header.Get("Idempotency-Key")
	page := dashboards.Received{At: time.Now(), ID: id, Headers: map[string]string{}, Body: string(body)}
	page.IncidentID, page.Subject = b.incident(r.Context(), id)
	var sent struct{ Receiver string }
	if err := json.Unmarshal(body, &sent); err != nil {
		http.Error(w, "decode page: "+err.Error(), http.StatusBadRequest)
		return
	}
	page.To = sent.Receiver
	for name := range r.Header {
		page.Headers[name] = r.Header.Get(name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, page)
	if len(b.received) > maxInbox {
		b.received = b.received[1:]
	}
}

// pages returns the received pages, newest first.
func (b *inbox) pages() []dashboards.Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]dashboards.Received, 0, len(b.received))
	for i := len(b.received) - 1; i >= 0; i-- {
		all = append(all, b.received[i])
	}
	return all
}

// run takes pages until ctx ends.
func (b *inbox) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.server.Close() })
	defer stop()
	if err := b.server.Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the demo's inbox: %w", err)
	}
	return nil
}
