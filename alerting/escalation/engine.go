// Package escalation keeps incidents and escalates them.
//
// It owns the life of an incident: a notification opens it, merges it, splits it or ends it, people acknowledge, snooze and close it, and
// its policy's steps page one person after the other until somebody has it. Each of these is one transaction, which writes the messages
// to be sent as well, so that a kill at any time loses and doubles nothing. A person gets three messages a minute at most, and the rest
// as one.
//
// It refuses to decide whether an alert fires or is suppressed, and sends nothing: the caller says the first, and puts the Effects of a
// committed transaction to use.
package escalation

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/database"
	"bramble/alerting/fault"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
	"bramble/alerting/outbox"
)

// Routes are the routes and receivers in force.
type Routes interface {
	// Of are the integrations of a receiver, Only the one of a receiver that has one, nil for any other.
	Of(receiver string) []notify.Integration
	Only(receiver string) *notify.Integration
	// Find returns an integration, nil where there is none such.
	Find(receiver, integration string, idx int) *notify.Integration
	// GroupKeys are the keys of the groups that the routes lead an alert to, as the dispatcher writes them.
	GroupKeys(labels map[string]string) []string
}

// Options configure an Engine. All are required.
type Options struct {
	DB      *sql.DB
	Often   *database.Prepared // of DB, for the queries of each page
	Commits *database.Writer
	Faults  *fault.Guard
	Log     *slog.Logger
	// ExternalURL is the start of the link to the page of incidents.
	ExternalURL *url.URL
	Routes      func() Routes
	// OnCall are people, rotas and policies as they are in force.
	OnCall func() *oncall.Config
	// Suppressed reports whether something keeps every one of these alerts from paging.
	Suppressed func(firing []*amalert.Alert) bool
	// OverSince is since when the condition of an alert is over, in Unix milliseconds; 0 where it holds or nobody knows.
	OverSince func(model.Fingerprint) int64
	// Fires reports whether an alert of an incident still fires.
	Fires func(*incident.Incident) bool
	// Now says in words how the condition of an incident stands.
	Now func(*incident.Incident) string
	// Besides are further receivers for a notification that says that receivers fail.
	Besides func(*Notification) []string
	// Committed uses the effects of a committed transaction.
	Committed func(*Effects)
	// Shift moves the messages that wait by as much as the wall clock was set, in milliseconds.
	Shift func(jump int64)
}

// Engine keeps incidents and escalates them. All methods are safe for concurrent use.
type Engine struct {
	Options
	clock *stepClock
	steps *stepper
}

// New returns an engine. Load reads the state of an earlier one, Run takes the steps that fall due.
func New(o Options) *Engine { return &Engine{Options: o, clock: newStepClock(), steps: newStepper()} }

// Effects are the consequences of a committed transaction.
type Effects struct {
	// Incident is the one that a notification was about, "" for none.
	Incident string
	// Entries are for the notification log.
	Entries  [][]byte
	Messages []*outbox.Message
	// Merged are the incidents that became part of others: their alerts are such as nobody was paged for.
	Merged []*incident.Incident
	// Stopped are the pages that are not to be sent, Changed the incidents that changed.
	Stopped, Changed map[string]bool
	// Exhausted counts escalations that found nobody, Gaps the times that a rota had nobody on call.
	Exhausted, Gaps int
}

// Settle uses the effects of a transaction; nil has none.
func (g *Engine) Settle(f *Effects) {
	if f == nil {
		return
	}
	g.Committed(f)
	g.steps.signal()
}

// Signal has the steps looked at anew: policies may have changed.
func (g *Engine) Signal() { g.steps.signal() }

// do runs a transaction and uses its effects.
func (g *Engine) do(run func(*transaction) error) error {
	var e *transaction
	err := g.Commits.Do(func(c *sql.Conn) error {
		e = g.transaction(c)
		return run(e)
	})
	if err == nil {
		g.Settle(&e.Effects)
	}
	return err
}

// work is the common part of one transaction's work.
type work struct {
	ctx    context.Context
	engine *Engine
	routes Routes
	oncall *oncall.Config
	c      *sql.Conn
	now    int64 // Unix milliseconds by the step clock
	Effects
}

// transaction is one transaction's work on escalations.
type transaction struct {
	*work
	throttle throttle
	// muted says of incidents with a due step why it pages nobody: something suppresses all of their alerts, or did, and
	// their conditions are over. It is found out before the transaction: silences are written under a lock of theirs, in a transaction.
	muted map[string]string
}

func (g *Engine) transaction(c *sql.Conn) *transaction {
	w := &work{
		ctx: context.Background(), engine: g, routes: g.Routes(), oncall: g.OnCall(), c: c, now: g.clock.now(),
		Effects: Effects{Stopped: map[string]bool{}, Changed: map[string]bool{}},
	}
	return &transaction{work: w, throttle: throttle{w}}
}

// event notes something for an incident's time line.
func (w *work) event(id, kind, who, format string, args ...any) error {
	if id == "" { // messages that were collected
		return nil
	}
	w.Changed[id] = true
	return incident.Record(w.ctx, w.c, id, w.now, kind, who, fmt.Sprintf(format, args...))
}

func (w *work) exec(what, query string, args ...any) error {
	if _, err := w.c.ExecContext(w.ctx, query, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// add writes a step; its delay is the time until it is due.
func (w *work) add(s *escalationStep) error {
	return w.exec("write step of incident "+s.incident, `INSERT INTO escalation_step (incident, kind, run, round, step, person, receiver, reason, delay, due_at)
		VALUES (?,?,?,?,?,?,?,?,?,?)`, s.incident, s.kind, s.run, s.round, s.step, s.person, s.receiver, int(s.reason), max(0, s.due-w.now), s.due)
}

func (w *work) finish(s *escalationStep, state string) error {
	return w.exec("write step", `UPDATE escalation_step SET state = ? WHERE seq = ?`, state, s.seq)
}
