// Package rack is a hosting operator's racks of simulated boards, which run
// the daemon's own code over real connections, and the faults that happen to
// them. `collector demo` and `collector swarm` share it.
//
// It enrols nobody: the caller makes the boards' identities and passes them in.
package rack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
	"bramble/pisensor/sim"
)

const (
	// warmUp is how long boards are simulated before they are first seen.
	warmUp = 30 * time.Minute
	// connectGap is the time between two boards' starts, so that a thousand
	// TLS handshakes do not come at once; startWithin bounds their sum.
	connectGap  = 5 * time.Millisecond
	startWithin = 20 * time.Second
)

// Options say which racks there are. Placements is required.
type Options struct {
	Placements []Placement
	Start      time.Time     // when the live part begins; zero = now
	Past       time.Duration // length of the boards' past that History can replay
	Scenario   bool          // faults happen
	Interval   time.Duration // between two ticks; 0 = the sensor's default
	SpoolBytes int           // per board; 0 = the sensor's default
	Log        *slog.Logger  // for the racks and their faults; nil = slog.Default()
	SensorLog  *slog.Logger  // for the boards' daemons; nil = Log
}

// Identity is how a board reaches its collector, and as whom.
type Identity struct {
	URL, Pin string
	Key      nkeys.KeyPair
}

// Racks are the simulated boards and their switches. They are safe for
// concurrent use.
type Racks struct {
	options  Options
	boards   map[string]*board
	uplinks  map[string]*uplink
	scenario *scenario
}

type board struct {
	Placement
	sim    *sim.Board
	uplink *uplink
	wake   chan struct{} // holds at most one call
}

// New sets the racks up. Nothing runs yet.
func New(o Options) *Racks {
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.SensorLog == nil {
		o.SensorLog = o.Log
	}
	o.Start = o.Start.Truncate(time.Second)
	r := &Racks{options: o, boards: make(map[string]*board), uplinks: make(map[string]*uplink)}
	for _, p := range o.Placements {
		r.place(p)
	}
	if o.Scenario {
		r.scenario = newScenario(r, o.Start)
	}
	return r
}

func (r *Racks) place(p Placement) {
	if r.uplinks[p.Switch] == nil {
		r.uplinks[p.Switch] = newUplink(p.Switch)
	}
	r.boards[p.Board] = &board{
		Placement: p, sim: p.board(&r.options), uplink: r.uplinks[p.Switch], wake: make(chan struct{}, 1),
	}
}

// Start is when the live part begins and History ends.
func (r *Racks) Start() time.Time { return r.options.Start }

// History replays a board's past: emit is called for each step from from until before to, with a time
// in Unix milliseconds and a tick that is valid only during the call. Steps before Start − Past or
// after Start are left out. Each board's past can be replayed once, before Run, and its present
// follows without a seam. Different boards may be replayed concurrently.
func (r *Racks) History(name string, from, to time.Time, step time.Duration, emit func(at int64, t *report.Tick)) error {
	b, ok := r.boards[name]
	if !ok {
		return fmt.Errorf("history of %q: no such board", name)
	}
	if first := r.options.Start.Add(-r.options.Past); from.Before(first) {
		from = first
	}
	if to.After(r.options.Start) {
		to = r.options.Start
	}
	var t report.Tick
	for at := from; at.Before(to); at = at.Add(step) {
		t.Reset()
		b.sim.ReadAt(at, &t)
		emit(at.UnixMilli(), &t)
	}
	return nil
}

// Boot returns when a board booted, and its description: its past and its present belong to one boot.
func (r *Racks) Boot(name string) (booted time.Time, info []report.Attribute, err error) {
	b, ok := r.boards[name]
	if !ok {
		return time.Time{}, nil, fmt.Errorf("boot of %q: no such board", name)
	}
	return b.sim.Booted(), b.sim.Attributes(), nil
}

// Run starts each board's daemon with its identity and blocks until ctx ends
// and all of them have stopped. A board without an identity stays off. Run may
// be called once.
func (r *Racks) Run(ctx context.Context, identities map[string]Identity) error {
	sensors := make([]*sensor.Sensor, 0, len(r.options.Placements))
	for _, p := range r.options.Placements {
		id, ok := identities[p.Board]
		if !ok {
			continue
		}
		s, err := r.boards[p.Board].sensor(&r.options, id)
		if err != nil {
			return fmt.Errorf("start simulated board %s: %w", p.Board, err)
		}
		sensors = append(sensors, s)
	}
	return r.run(ctx, sensors)
}

func (r *Racks) run(ctx context.Context, sensors []*sensor.Sensor) error {
	errs := make([]error, len(sensors))
	var running sync.WaitGroup
	if r.scenario != nil {
		running.Go(func() { r.scenario.run(ctx) })
	}
	gap := connectGap
	if n := len(sensors); n > 0 {
		gap = min(gap, startWithin/time.Duration(n))
	}
	for i, s := range sensors {
		running.Go(func() {
			if sleep(ctx, time.Duration(i)*gap) {
				errs[i] = s.Run(ctx)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (b *board) sensor(o *Options, id Identity) (*sensor.Sensor, error) {
	return sensor.New(sensor.Options{
		Board: b.Board, URL: id.URL, Pin: id.Pin, Key: id.Key, Dial: b.uplink.Dial,
		Sources: []sensor.Source{b.sim}, Wake: b.wake, Uptime: b.sim.Uptime,
		Interval: o.Interval, SpoolBytes: o.SpoolBytes, OwnSeries: true,
		Attributes: b.sim.Attributes, Log: o.SensorLog,
	})
}

// call wakes the board's daemon, as the kernel does on an event.
func (b *board) call() {
	select {
	case b.wake <- struct{}{}:
	default: // it is being called already
	}
}
