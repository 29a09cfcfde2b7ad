package ingest

import (
	"math"
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/presence"
	"bramble/collector/registry"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	presenceEvery = time.Second
	// decideEvery is how often the rules see pi_board_up while it does not change: alerts with keep_firing_for resolve by
	// it.
	decideEvery = 10 * time.Second
	// upEvery is how often pi_board_up, pi_info and the boots' series are stored while nothing changes.
	upEvery = time.Minute
)

// upSent is the last pi_board_up and boots of a board that store, rules and pages have.
type upSent struct {
	stored   time.Time // when it was last stored
	decided  time.Time // when the rules last saw it
	upOutput *output
	upFrom   int64

	bootOutputs []output // of pi_boot_time_seconds and pi_boots_total
	bootFrom    int64
	bootStored  boot
	bootShown   boot
	bootShownAt int64 // Unix ms
}

// Status is a board's state on the pages, beside its readings.
type Status struct {
	LastReport time.Time
	State      string // "", "up", "silent" or "stopped"
	Info       map[string]string
}

// presenceLoop decides which boards report, and brings it to the journal, the rules, the pages and the store: pi_board_up, pi_info
// and the series of boots. It belongs to the loop but for its probes and the pages' statuses.
type presenceLoop struct {
	in      *Ingest
	fleet   *presence.Fleet
	domains map[string]string // in words, by ID

	probes  sync.WaitGroup
	answers chan answer

	statusMu sync.Mutex
	status   map[string]Status
}

func newPresenceLoop(in *Ingest) *presenceLoop {
	return &presenceLoop{in: in, fleet: presence.New(), domains: map[string]string{}, answers: make(chan answer), status: map[string]Status{}}
}

// Status returns the status of every board that has reported.
func (in *Ingest) Status() map[string]Status {
	p := in.presence
	p.statusMu.Lock()
	defer p.statusMu.Unlock()
	all := make(map[string]Status, len(p.status))
	for name, s := range p.status {
		all[name] = s
	}
	return all
}

func (p *presenceLoop) setStatus(b *board, change func(*Status)) {
	state, _ := p.fleet.State(b.name)
	p.statusMu.Lock()
	defer p.statusMu.Unlock()
	s := p.status[b.name]
	s.State = string(state)
	change(&s)
	p.status[b.name] = s
}

// learn remembers a board's description.
func (b *board) learn(info []report.Attribute) {
	if len(info) > 0 {
		b.info = slices.Clone(info)
		b.boot.learn(info)
	}
}

// refresh takes over a board's entry of the registry, where it has changed.
func (p *presenceLoop) refresh(b *board, known *registry.Board) {
	if b.registry == known {
		return
	}
	b.refresh(known)
	p.place(b)
}

// place says which domains a board shares with others.
func (p *presenceLoop) place(b *board) {
	if b.registry == nil {
		return
	}
	var ids []string
	for _, d := range alert.DomainsOf(registry.Map(b.registry.Versions[len(b.registry.Versions)-1].Labels)) {
		ids = append(ids, d.ID())
		p.domains[d.ID()] = d.String()
	}
	p.fleet.Place(b.name, ids)
}

// heard notes a sign of life.
func (p *presenceLoop) heard(b *board, r *report.Report, now time.Time) error {
	b.learn(r.Info)
	if s, _ := p.fleet.State(b.name); s == presence.Silent && r.Goodbye { // it came back to say so: its silence is over
		back := *r
		back.Goodbye = false
		if err := p.heard(b, &back, now); err != nil {
			return err
		}
	}
	changed := p.fleet.Heard(b.name, now, time.Duration(r.Due)*time.Millisecond, r.Goodbye)
	p.setStatus(b, func(s *Status) {
		s.LastReport = now
		if len(r.Info) > 0 || s.Info == nil {
			s.Info = attributes(b.info)
		}
	})
	if !changed {
		return nil
	}
	if r.Goodbye { // intended: neither up nor silent
		return p.stopped(b, now)
	}
	return p.changed(now, nil, b)
}

func attributes(info []report.Attribute) map[string]string {
	m := make(map[string]string, len(info))
	for _, a := range info {
		m[a.Key.String()] = a.Value
	}
	return m
}

// check finds the boards whose report is overdue, and those that are
// silent.
func (p *presenceLoop) check(now time.Time) error {
	for _, b := range p.in.boards {
		if err := p.in.guard("look a board up", b.name, func() error { return p.lookUp(b) }); err != nil {
			return err
		}
	}
	var err error
	if !p.in.faults.guard("look for silent boards", "", func() { err = p.look(now) }) {
		err = p.in.guard("look for silent boards again", "", func() error { p.in.rebuildFleet(); return p.in.repair("") })
	}
	if err != nil {
		return err
	}
	for _, b := range p.in.boards {
		if err := p.in.guard("say whether a board reports", b.name, func() error { return p.say(b, now) }); err != nil {
			return err
		}
	}
	return nil
}

// lookUp takes over a board's present entry of the registry.
func (p *presenceLoop) lookUp(b *board) error {
	known, ok := p.in.Registry.Board(b.name)
	if !ok || known.Retired {
		return p.forget(b)
	}
	p.refresh(b, known)
	return nil
}

func (p *presenceLoop) look(now time.Time) error {
	look := p.fleet.Look(now, presence.Queue{Seen: p.in.seenMessages, Waiting: uint64(len(p.in.messages) + p.in.queue.ready(now, p.in.burst()))})
	p.probe(look.Probe)
	return p.silence(look.Silent, now)
}

func (p *presenceLoop) say(b *board, now time.Time) error {
	if err := p.decide(b, now); err != nil {
		return err
	}
	p.store(b, now)
	return nil
}

// silence journals and shows the boards that are silent from now on, with the reasons.
func (p *presenceLoop) silence(verdicts []presence.Verdict, now time.Time) error {
	if len(verdicts) == 0 {
		return nil
	}
	notes, boards := make([]map[string]string, len(verdicts)), make([]*board, len(verdicts))
	for i, v := range verdicts {
		boards[i] = p.in.boards[v.Board]
		notes[i] = p.reasons(boards[i], v, now)
	}
	return p.changed(now, notes, boards...)
}

// forget drops the state and ends the alerts of a board that is no longer watched.
func (p *presenceLoop) forget(b *board) error {
	delete(p.in.boards, b.name)
	p.in.queue.forget(b.name)
	p.in.drops.forget(b.name)
	p.fleet.Forget(b.name)
	p.statusMu.Lock()
	delete(p.status, b.name)
	p.statusMu.Unlock()
	p.in.Forgotten(b.name)
	return p.in.Commit(p.in.Engine.Forget(b.name))
}

// changed decides, journals and shows that boards came or fell silent, in one record: boards that changed together are on
// disk together. notes, where there are some, go with the boards' alerts.
func (p *presenceLoop) changed(now time.Time, notes []map[string]string, boards ...*board) error {
	at := now.UnixMilli()
	own := ownRecord{At: at}
	p.in.shown.Add(1)
	rows := rowPool.Get().(*[]storage.Row)
	*rows = (*rows)[:0]
	for i, b := range boards {
		p.setStatus(b, func(*Status) {})
		*rows = append(*rows, p.rows(b, at)...)
		up := p.upRow(b, at)
		p.in.Engine.Annotate(b.upOutput.rule, noteOf(notes, i))
		own.Transitions = append(own.Transitions, p.in.Engine.Observe(upOrigin(b.name), at, []rules.Reading{{Series: b.upOutput.rule, Value: up.Value}})...)
		p.in.Live(b.name, at, []live.Value{{Series: upSeries, Value: up.Value}})
		own.Boards = append(own.Boards, ownBoard{Name: b.name, Up: up.Value != 0})
		b.stored, b.decided = now, now
	}
	record, err := appendOwnRecord(nil, own)
	if err != nil {
		return err
	}
	p.in.sinceCut++
	p.in.recorded++
	return p.in.commit(record, own.Transitions, rows, nil)
}

func noteOf(notes []map[string]string, i int) map[string]string {
	if notes == nil {
		return nil
	}
	return notes[i]
}

// upSeries is the series that the collector writes of each board.
const upSeries = "pi_board_up"

// upOrigin keeps the collector's own readings of a board apart from the board's:
// each has a clock of its own.
func upOrigin(board string) string { return "collector/" + board }

// upRow returns pi_board_up as it stands.
func (p *presenceLoop) upRow(b *board, at int64) storage.Row {
	v := version(b.registry, at)
	if b.upOutput == nil || b.upFrom != v.From {
		o := newOutput(p.in.Engine, b.name, upSeries, nil, v, -1)
		b.upOutput, b.upFrom = &o, v.From
	}
	value := 0.0
	if p.isUp(b) {
		value = 1
	}
	return storage.Row{Series: b.upOutput.row, At: at, Value: value}
}

func (p *presenceLoop) isUp(b *board) bool {
	s, _ := p.fleet.State(b.name)
	return s == presence.Up
}

// speaksOf reports whether a board has a pi_board_up now.
func (p *presenceLoop) speaksOf(b *board) bool {
	s, _ := p.fleet.State(b.name)
	return s == presence.Up || s == presence.Silent
}

// stopped journals and shows that a board's sensor has ended properly. Its goodbye is no reading, so that no report's record
// holds it; without one of its own a restart would take the board for one that reports, and then for a silent one.
func (p *presenceLoop) stopped(b *board, now time.Time) error {
	p.showStopped(b, now)
	record, err := appendOwnRecord(nil, ownRecord{At: now.UnixMilli(), Stopped: b.name})
	if err != nil {
		return err
	}
	p.in.sinceCut++
	return p.in.commit(record, nil, nil, nil)
}

// showStopped shows on the pages that a board's sensor has ended properly: later than its return from silence, where that
// was in the same instant.
func (p *presenceLoop) showStopped(b *board, now time.Time) {
	b.decided = now
	p.in.Live(b.name, now.UnixMilli()+1, []live.Value{{Series: upSeries, Value: math.NaN()}})
}

// decide shows the rules an unchanged pi_board_up.
func (p *presenceLoop) decide(b *board, now time.Time) error {
	if s, _ := p.fleet.State(b.name); s == presence.Stopped && b.decided.IsZero() { // the pages have forgotten it with the start
		p.showStopped(b, now)
	}
	if !p.speaksOf(b) || now.Sub(b.decided) < decideEvery && !p.bootNews(b) {
		return nil
	}
	row := p.upRow(b, now.UnixMilli())
	if b.decided.IsZero() { // after a start neither the pages nor the rules know the earlier value
		p.in.Engine.Annotate(b.upOutput.rule, p.remembered(b, now))
		p.in.Live(b.name, row.At, []live.Value{{Series: upSeries, Value: row.Value}})
	}
	b.decided = now
	p.showBoot(b)
	readings := append(p.bootReadings(b, row.At), rules.Reading{Series: b.upOutput.rule, Value: row.Value})
	return p.in.Commit(p.in.Engine.Observe(upOrigin(b.name), row.At, readings))
}

// store stores pi_board_up, pi_info and the boots' series at their slow
// pace, and the latter at once when they change. They are not journalled: the
// next ones say the same.
func (p *presenceLoop) store(b *board, now time.Time) {
	switch {
	case !p.speaksOf(b):
	case p.bootNews(b):
		b.bootStored = b.boot
		p.in.feeder.offerUnjournalled(p.bootRows(b, now.UnixMilli()))
	case now.Sub(b.stored) >= upEvery:
		b.stored = now
		at := now.Truncate(time.Second).UnixMilli()
		p.in.feeder.offerUnjournalled(append(p.rows(b, at), p.bootRows(b, at)...))
	}
}

// rows returns pi_board_up as it stands and, of a board that reports,
// pi_info.
func (p *presenceLoop) rows(b *board, at int64) []storage.Row {
	rows := []storage.Row{p.upRow(b, at)}
	if p.isUp(b) && len(b.info) > 0 {
		rows = append(rows, storage.Row{Series: infoSeries(b, at), At: at, Value: 1})
	}
	return rows
}

// infoSeries names pi_info: the board's description, and the registry's labels where the names differ. The boot id is no
// label: it changes with each boot, and each would begin a series that the store's index keeps for years. pi_boots_total
// counts reboots.
func infoSeries(b *board, at int64) storage.Series {
	labels := []storage.Label{{Name: "__name__", Value: "pi_info"}, {Name: "board", Value: b.name}}
	own := attributes(b.info)
	for _, k := range []report.AttributeKey{report.AttributeModel, report.AttributeRevision, report.AttributeKernel,
		report.AttributeFirmware, report.AttributeOS, report.AttributeSensor} {
		if v := own[k.String()]; v != "" {
			labels = append(labels, storage.Label{Name: k.String(), Value: v})
		}
	}
	for _, l := range registryLabels(version(b.registry, at)) {
		if _, taken := own[l.Name]; !taken {
			labels = append(labels, l)
		}
	}
	return storage.SeriesOf(labels)
}
