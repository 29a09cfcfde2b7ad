// Package ingest takes the boards' reports from NATS to the journal, the rules,
// the live pages and the store, and acknowledges them.
//
// It owns the way of a reading: one loop decides, each board's reports in the
// order of arrival and no board's behind another's flood, the journal makes the
// decision durable, and only then is the report acknowledged, its page delivered
// and its rows fed to the store. It never writes to a message's reply subject
// and trusts nothing of a board but the subject that NATS let it publish on.
//
// A panic never ends the process; it is counted and logged, and half changed state is repaired (fault.go):
//
//   - In the loop it costs one message, which is neither journalled nor
//     acknowledged, so that the sensor sends it again. The rules have decided its
//     readings by then and will not do so again: the board's alerts are journalled
//     as they stand and delivered.
//   - Where silence is decided, the state of the boards' reports is made anew,
//     as a start does.
//   - After a commit ack, delivery and feed are guarded one by one. An ack is
//     asked for again; transitions that cannot be delivered together are delivered
//     one by one; readings are read from the journal again.
//   - A record that cannot be placed costs its readings, at a start too; a store
//     whose Add panics is one that takes nothing at present.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	// backlog is how many messages may wait until the loop puts them into its queue. NATS drops and counts further ones;
	// the sensors send them again.
	backlog = 16 << 10
	// checkpointEvery is how often the journal is cut. It bounds the replay at start.
	checkpointEvery = 30 * time.Second
)

// Store keeps rows. Rows added before a Barrier began survive a crash once it has returned. *storage.Store and
// *remote.Store are such stores.
type Store interface {
	Add(rows []storage.Row) error
	Barrier() error
}

// Options of an Ingest. Log and Registerer may be nil, and so may Live and
// Deliver in a test; the rest is needed.
type Options struct {
	Dir      string // of the journal
	Conn     *nats.Conn
	Registry *registry.Registry
	Store    Store
	Engine   *rules.Engine
	// Retention is how long the store keeps rows, where that may be shorter than readings can be late; 0 = longer.
	// Readings that the store would drop silently are rejected and counted.
	Retention time.Duration
	// MaxJournal is how many bytes the journal may hold before readings are left to
	// their sensors; 0 = journal.DefaultMaxBytes.
	MaxJournal int64
	// Live gets each board's new readings in the order of their times, at once.
	// It must not block and must not keep values.
	Live func(board string, at int64, values []live.Value)
	// Deliver gets transitions once they are on disk. It must not block for long.
	Deliver func([]alert.Transition)
	// Forgotten is called for a board that has left the registry.
	Forgotten func(board string)
	// Settle returns when all transitions delivered so far are safe without the journal.
	Settle func() error
	// Address returns the network address of a board's last connection, to be
	// probed when the board is overdue; it is invalid where none is known. nil
	// means that none ever is.
	Address func(board string) netip.Addr
	// Lines are the thresholds near which a sensor looks more often.
	Lines      func() []report.Line
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Ingest is the way of a reading through the collector. Its methods are safe
// for concurrent use.
type Ingest struct {
	Options
	journal  *journal.Journal
	metrics  *metrics
	feeder   *feeder
	handover *handover
	drops    drops
	behind   time.Duration // how late a reading may be

	messages chan *nats.Msg
	calls    chan func()
	stopping chan struct{} // closed when Run ends
	holds    atomic.Int32  // while above 0 the journal is not cut; raised in the loop alone
	shown    atomic.Uint64 // records with rows, counted before these are shown live and then committed
	faults   *faults

	// The fields below belong to the loop alone.
	queue    queue
	boards   map[string]*board
	presence *presenceLoop
	tick     decision     // memory that each report uses again
	recorded uint64       // of those that shown counts: committed
	sinceCut int          // records since the last checkpoint
	cutting  bool         // a checkpoint is on its way
	cut      chan bool    // ends one: whether the older segments are removed
	held     atomic.Int64 // readings in the journal; changed in the loop alone
	older    int64        // of them in the segments that a checkpoint on its way has removed

	seenMessages uint64

	viewers viewers
}

// New opens the journal and replays it into the store and the rules. It
// returns when the state is as it was before the collector stopped.
func New(o Options) (*Ingest, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Live == nil {
		o.Live = func(string, int64, []live.Value) {}
	}
	if o.Deliver == nil {
		o.Deliver = func([]alert.Transition) {}
	}
	if o.Forgotten == nil {
		o.Forgotten = func(string) {}
	}
	if o.Settle == nil {
		o.Settle = func() error { return nil }
	}
	if o.Address == nil {
		o.Address = func(string) netip.Addr { return netip.Addr{} }
	}
	if o.Lines == nil {
		o.Lines = func() []report.Line { return nil }
	}
	in := &Ingest{
		Options: o, stopping: make(chan struct{}),
		messages: make(chan *nats.Msg, backlog),
		calls:    make(chan func()), cut: make(chan bool, 1), queue: queue{lanes: map[string]*lane{}},
		boards: map[string]*board{},
	}
	in.presence = newPresenceLoop(in)
	in.handover = &handover{deliver: in.deliverEach}
	in.behind = maxBehind
	if o.Retention > 0 {
		in.behind = min(in.behind, o.Retention)
	}
	in.metrics = newMetrics(o.Registerer)
	in.faults = newFaults(in.metrics.panics, o.Log)
	p := &replayer{in: in}
	var err error
	if in.journal, err = p.run(); err != nil {
		return nil, err
	}
	in.feeder = in.newFeeder(p.late)
	in.watch(o.Registerer)
	return in, nil
}

// newFeeder returns the way from the journal to the store. It begins with replayed rows that the store did not take, for the
// reason given.
func (in *Ingest) newFeeder(late error) *feeder {
	end := in.journal.End()
	f := &feeder{
		store: in.Store, read: in.journal.Read, rowsOf: newPlacer(in.Registry).rows, changed: in.storeChanged, faults: in.faults,
		wake: make(chan struct{}, 1), stopping: in.stopping, offered: end, from: end, stored: end,
	}
	if late != nil {
		in.Log.Warn("the store does not have all that the journal holds yet; it follows", "err", late)
		f.stored = journal.Position{}
		f.rewind(journal.Position{})
	}
	return f
}

func (in *Ingest) storeChanged(waits error) {
	if waits != nil {
		in.Log.Error("store takes no readings at present; the journal keeps them", "err", waits)
		return
	}
	in.Log.Info("store takes readings again")
}

// Run takes reports until ctx ends, then commits and stores them. It can be called once.
func (in *Ingest) Run(ctx context.Context) error {
	subscription, err := in.subscribe()
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	journalCtx, stopJournal := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJournal()
	var journalErr error
	committed := make(chan struct{})
	go func() { defer close(committed); journalErr = in.journal.Run(journalCtx) }()
	parts.Go(in.feeder.run)

	err = in.loop(ctx, subscription)

	close(in.stopping)
	in.presence.probes.Wait()
	stopJournal()
	<-committed
	in.feeder.end()
	parts.Wait()
	return errors.Join(err, journalErr)
}

func (in *Ingest) subscribe() (*nats.Subscription, error) {
	s, err := in.Conn.ChanSubscribe(telemetry, in.messages)
	if err != nil {
		return nil, fmt.Errorf("subscribe telemetry: %w", err)
	}
	if err := in.Conn.Flush(); err != nil {
		return nil, fmt.Errorf("subscribe telemetry: %w", err)
	}
	return s, nil
}

// loop decides, one message after the other, so that the order of decisions is
// the order of the journal. A board's messages keep their order.
func (in *Ingest) loop(ctx context.Context, s *nats.Subscription) error {
	cuts := time.NewTicker(checkpointEvery)
	defer cuts.Stop()
	looks := time.NewTicker(presenceEvery)
	defer looks.Stop()
	ready := make(chan time.Time)
	close(ready)
	later := time.NewTimer(0)
	defer later.Stop()
	for {
		in.gather()
		turn := (<-chan time.Time)(ready)
		if d := in.untilTurn(); d > 0 {
			later.Reset(d)
			turn = later.C
		}
		var err error
		select {
		case <-ctx.Done():
			return s.Unsubscribe()
		case m := <-in.messages:
			in.enqueue(m)
		case <-turn:
			if in.untilTurn() == 0 {
				err = in.serve(in.queue.take())
			}
		case f := <-in.calls:
			f()
		case a := <-in.presence.answers:
			in.presence.fleet.Probed(a.board, a.answer)
		case <-looks.C:
			in.metrics.setDropped(s)
			in.checkJournal(time.Now())
			err = in.presence.check(time.Now()) // the tick's own time is from before a pause of the process
		case <-cuts.C:
			err = in.guard("begin a segment of the journal", "", in.checkpoint)
		case removed := <-in.cut:
			in.cutting = false
			if removed {
				in.held.Add(-in.older)
			} else {
				in.sinceCut++ // so that it is tried again
			}
		}
		if err != nil {
			return errors.Join(err, s.Unsubscribe())
		}
	}
}

// Do runs f between two messages and waits for it: while f runs, no reading is
// decided. It fails when ctx ends first, the collector stops, or f panics.
func (in *Ingest) Do(ctx context.Context, f func()) error {
	done := make(chan error, 1)
	select {
	case in.calls <- func() { done <- in.faults.try("act between two messages", "", func() error { f(); return nil }) }:
		return <-done
	case <-in.stopping:
		return errors.New("reach the collector's loop: the collector stops")
	case <-ctx.Done():
		return fmt.Errorf("reach the collector's loop: %w", ctx.Err())
	}
}

// Relabel gives a board other labels from now on: later than every reading of
// the board that was taken so far, so that a redelivered one keeps its labels.
func (in *Ingest) Relabel(ctx context.Context, name string, labels map[string]string) error {
	var err error
	if doErr := in.Do(ctx, func() {
		from := max(time.Now().UnixMilli(), in.board(name).seen+1)
		err = in.Registry.Relabel(ctx, name, labels, from)
	}); doErr != nil {
		return doErr
	}
	return err
}

// Err returns why nothing can be acknowledged at present, or nil.
func (in *Ingest) Err() error { return errors.Join(in.journal.Err(), in.tooMany()) }

// maxHeld is how many readings the journal may hold: as many as its bytes do of usual reports (journal.DefaultMaxBytes).
// Reports of constant columns hold a thousand times as many, and a start has to read them all.
const maxHeld = 100_000_000

// tooMany returns why a start would take too long, or nil.
func (in *Ingest) tooMany() error {
	if n := in.held.Load(); n >= maxHeld {
		return fmt.Errorf("the journal %s holds %d readings that the store has not taken, %d are the most: a start would take too long", in.Dir, n, maxHeld)
	}
	return nil
}
