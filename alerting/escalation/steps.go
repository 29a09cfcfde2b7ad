package escalation

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"

	"bramble/alerting/fault"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

const (
	// stepsAtOnce bounds the steps of one transaction; the rest follows in the next.
	stepsAtOnce = 2000
	// holdStep is when a step is looked at again whose alerts are all silenced or inhibited.
	holdStep = 15 * time.Second
	// overStep is the same where their conditions are over: it pages as soon as one holds again.
	overStep = 2 * time.Second
)

// stepper wakes the loop that takes due steps.
type stepper struct{ wake chan struct{} }

func newStepper() *stepper { return &stepper{make(chan struct{}, 1)} }

func (s *stepper) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run takes due steps until ctx ends, and looks once a second whether the wall clock was set.
func (g *Engine) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.steps.wake:
			next = 0
		case <-timer.C:
		}
		now := time.Now()
		err := fault.Err
		g.Faults.Run("follow the wall clock", func() { err = g.followClock(g.clock.jumped(now.UnixMilli(), now)) })
		if err != nil {
			g.Log.Error("move due steps with the clock", "err", err)
		} else if next <= g.clock.now() {
			next = g.runSteps(ctx)
		}
		timer.Reset(min(time.Second, time.Duration(max(0, next-g.clock.now()))*time.Millisecond))
	}
}

// runSteps takes the due steps and returns the time of the next look.
func (g *Engine) runSteps(ctx context.Context) (next int64) {
	retry := g.clock.now() + time.Second.Milliseconds()
	err := fault.Err
	g.Faults.Run("take due steps", func() {
		next, err = g.nextStep(ctx)
		if err == nil && next <= g.clock.now() {
			if err = g.doDue(ctx); err == nil {
				next, err = g.nextStep(ctx)
			}
		}
	})
	if err != nil {
		if ctx.Err() == nil {
			g.Log.Error("escalate: trying again", "err", err)
		}
		return retry
	}
	return next
}

// doDue takes the due steps, in one transaction.
func (g *Engine) doDue(ctx context.Context) error {
	muted, err := g.mutedIncidents(ctx)
	if err != nil {
		return err
	}
	return g.do(func(e *transaction) error {
		e.muted = muted
		return errors.Join(e.catchUp(), e.run(""))
	})
}

// Why a due step pages nobody.
const (
	heldSuppressed = "silenced, or another failure stands for it: pages nobody until that ends"
	heldOver       = "its condition is over: pages nobody until it holds again"
)

// mutedIncidents are those whose due step pages nobody, and why: something suppresses all of their alerts; or a snooze or
// the suppression has ended, and so have their conditions.
func (g *Engine) mutedIncidents(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	err := statedb.Each(ctx, g.DB, func(row *sql.Rows) error {
		var (
			id, text string
			released bool
			body     outbox.Body
		)
		if err := row.Scan(&id, &text, &released); err != nil {
			return err
		}
		if json.Unmarshal([]byte(text), &body) != nil {
			return nil // its step names the fault
		}
		if g.Faults.Ask("read whether incident "+id+" is suppressed", func() bool { return g.Suppressed(body.Firing()) }) {
			out[id] = heldSuppressed
		} else if released && !slices.ContainsFunc(body.Firing(), func(a *amalert.Alert) bool { return g.OverSince(a.Fingerprint()) == 0 }) {
			out[id] = heldOver
		}
		return nil
	}, `SELECT e.incident, e.payload, s.released FROM escalation e JOIN
		(SELECT incident, max(held OR kind = 'wake') AS released FROM escalation_step
		WHERE state = 'pending' AND kind IN ('step', 'channel', 'wake') AND due_at <= ? GROUP BY incident) s ON s.incident = e.incident`, g.clock.now())
	if err != nil {
		return nil, fmt.Errorf("read due incidents: %w", err)
	}
	return out, nil
}

// nextStep is when the next step is due; an hour from now where none is.
func (g *Engine) nextStep(ctx context.Context) (int64, error) {
	var at sql.NullInt64
	err := g.DB.QueryRowContext(ctx, `SELECT min(due_at) FROM escalation_step WHERE state = 'pending'`).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("read due steps: %w", err)
	}
	if !at.Valid {
		return g.clock.now() + time.Hour.Milliseconds(), nil
	}
	return at.Int64, nil
}

// followClock moves all that waits by as much as the wall clock was set, in one with the clock that it is held against.
func (g *Engine) followClock(jump int64) error {
	if jump == 0 {
		return nil
	}
	followed := false
	err := g.Commits.Do(func(c *sql.Conn) error {
		if !followed { // a batch that fails is run again
			followed = true
			g.clock.follow(jump)
		}
		ctx := context.Background()
		if _, err := c.ExecContext(ctx, `UPDATE escalation_step SET due_at = due_at + ? WHERE state = 'pending'`, jump); err != nil {
			return err
		}
		_, err := c.ExecContext(ctx, `UPDATE page_to SET sent_at = sent_at + ? WHERE sent_at > ?`, jump, g.clock.now()-jump-throttleWindow.Milliseconds())
		return err
	})
	if err != nil {
		if followed {
			g.clock.follow(-jump)
		}
		return err
	}
	g.Shift(jump)
	g.Log.Warn("the wall clock was set; what is due was moved with it", "by", time.Duration(jump)*time.Millisecond)
	g.steps.signal()
	return nil
}

// Load brings the steps of an earlier pager into the present: a wall clock that was set back meanwhile makes nothing
// later than it would have been at most.
func (g *Engine) Load(ctx context.Context) error {
	now := g.clock.now()
	if _, err := g.DB.ExecContext(ctx, `UPDATE escalation_step SET due_at = ? + delay WHERE state = 'pending' AND due_at > ? + delay`, now, now); err != nil {
		return fmt.Errorf("read due steps: %w", err)
	}
	// A waiting page may have left and been answered just before the end: should an acknowledgement stop it now, its receiver
	// must hear of the end all the same.
	if _, err := g.DB.ExecContext(ctx, `UPDATE page_to SET doubtful = 1 WHERE page IN (SELECT id FROM page WHERE state = 'waiting')`); err != nil {
		return fmt.Errorf("read waiting pages: %w", err)
	}
	return nil
}

// clockStep is the smallest difference between the two clocks that counts as a step of the wall clock. The kernel slews
// both alike, so that anything of a second is one.
const clockStep = time.Second

// stepClock is the time by which steps fall due: wall time that does not jump when the wall clock is set. A jump is taken
// over together with the due times of all that waits, so that nothing comes early, late or twice.
type stepClock struct {
	started time.Time // with its monotonic reading

	mu   sync.Mutex
	base int64 // wall time at started, as if the clock had always stood where it stands now; Unix nanoseconds
}

func newStepClock() *stepClock {
	now := time.Now()
	return &stepClock{started: now, base: now.UnixNano()}
}

// now is the time in Unix milliseconds.
func (c *stepClock) now() int64 { return c.at(time.Now()) }

func (c *stepClock) at(now time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (c.base + now.Sub(c.started).Nanoseconds()) / int64(time.Millisecond)
}

// jumped is by how much the wall clock was set since, in milliseconds; 0 where it was not.
func (c *stepClock) jumped(wall int64, now time.Time) int64 {
	if d := wall - c.at(now); d >= clockStep.Milliseconds() || d <= -clockStep.Milliseconds() {
		return d
	}
	return 0
}

// follow takes a jump over, once the waiting steps have been moved by as much.
func (c *stepClock) follow(jump int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base += jump * int64(time.Millisecond)
}

// Overdue finds a step of an escalation, the end of a snooze or a collected message that is past its time.
func (g *Engine) Overdue() error {
	var (
		incident, kind string
		due            int64
		now            = g.clock.now()
	)
	row := g.DB.QueryRow(`SELECT incident, kind, due_at FROM escalation_step WHERE state = 'pending' AND due_at < ? ORDER BY due_at LIMIT 1`, now-outbox.LateAfter.Milliseconds())
	switch err := row.Scan(&incident, &kind, &due); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read overdue steps: %w", err)
	}
	return fmt.Errorf("%s of incident %s is overdue by %s", kind, incident, time.Duration(now-due)*time.Millisecond)
}
