package ingest

import (
	"math"
	"slices"
	"time"

	"bramble/alerting"
	"bramble/dashboards"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	presenceEvery = time.Second
	// minSilence is the shortest time without a report that counts as silence.
	minSilence = 30 * time.Second
	// defaultDue stands in where a report does not say when the next one comes.
	defaultDue = 20 * time.Second
	// grace is how long nobody is called silent after the collector itself was away.
	grace = time.Minute
	// pause is a gap between two looks after which the collector itself was away.
	pause = 5 * time.Second
	// decideEvery is how often the rules see pi_board_up while it does not
	// change: what keeps firing for a time resolves by it.
	decideEvery = 10 * time.Second
	// upEvery is how often pi_board_up and pi_info are stored while nothing changes.
	upEvery = time.Minute
)

// presenceState says whether a board reports.
type presenceState string

const (
	unheard presenceState = ""        // has not reported yet
	up      presenceState = "up"      // reports arrive
	silent  presenceState = "silent"  // a report is overdue
	stopped presenceState = "stopped" // its sensor said goodbye
)

func stateOf(isUp bool) presenceState {
	if isUp {
		return up
	}
	return silent
}

// presence is what the loop knows of a board's reports.
type presence struct {
	state    presenceState
	deadline time.Time // for the next report; zero while none is expected
	stored   time.Time // when pi_board_up was last stored
	decided  time.Time // when the rules last saw it
	upOutput *output
	upFrom   int64
}

// Status is what the pages show of a board beside its readings.
type Status struct {
	LastReport time.Time
	State      string // "", "up", "silent" or "stopped"
	Info       map[string]string
}

// Status returns the status of every board that has been heard of.
func (in *Ingest) Status() map[string]Status {
	in.statusMu.Lock()
	defer in.statusMu.Unlock()
	all := make(map[string]Status, len(in.status))
	for name, s := range in.status {
		all[name] = s
	}
	return all
}

func (in *Ingest) setStatus(b *board, change func(*Status)) {
	in.statusMu.Lock()
	defer in.statusMu.Unlock()
	s := in.status[b.name]
	s.State = string(b.state)
	change(&s)
	in.status[b.name] = s
}

// learn remembers what a board says of itself.
func (b *board) learn(info []report.Attribute) {
	if len(info) > 0 {
		b.info = slices.Clone(info)
	}
}

// heard notes a sign of life.
func (in *Ingest) heard(b *board, r *report.Report, now time.Time) error {
	b.learn(r.Info)
	due := time.Duration(r.Due) * time.Millisecond
	if due == 0 {
		due = defaultDue
	}
	b.deadline = now.Add(max(3*min(due, time.Minute), minSilence))
	was := b.state
	b.state = up
	if r.Goodbye {
		b.state, b.deadline = stopped, time.Time{}
	}
	in.setStatus(b, func(s *Status) {
		s.LastReport = now
		if len(r.Info) > 0 || s.Info == nil {
			s.Info = attributes(b.info)
		}
	})
	if b.state == was {
		return nil
	}
	return in.changed(b, now)
}

func attributes(info []report.Attribute) map[string]string {
	m := make(map[string]string, len(info))
	for _, a := range info {
		m[a.Key.String()] = a.Value
	}
	return m
}

// checkPresence finds the boards whose report is overdue.
func (in *Ingest) checkPresence(now time.Time) error {
	if in.lookedAt.IsZero() || now.Sub(in.lookedAt) > pause {
		in.expectAll(now.Add(grace))
	}
	in.lookedAt = now
	for _, b := range in.boards {
		known, ok := in.Registry.Board(b.name)
		if !ok || known.Retired {
			if err := in.forget(b); err != nil {
				return err
			}
			continue
		}
		b.refresh(known)
		if !b.deadline.IsZero() && now.After(b.deadline) && b.state != silent {
			b.state = silent
			if err := in.changed(b, now); err != nil {
				return err
			}
		}
		if err := in.decidePresence(b, now); err != nil {
			return err
		}
		in.storePresence(b, now)
	}
	return nil
}

// forget ends what is known and firing of a board that is no longer watched.
func (in *Ingest) forget(b *board) error {
	delete(in.boards, b.name)
	in.statusMu.Lock()
	delete(in.status, b.name)
	in.statusMu.Unlock()
	in.Forgotten(b.name)
	return in.Commit(in.Engine.Forget(b.name))
}

// expectAll gives every board that has reported, and has not said goodbye,
// until a time.
func (in *Ingest) expectAll(until time.Time) {
	for _, b := range in.boards {
		if (b.state == up || b.state == silent) && b.deadline.Before(until) {
			b.deadline = until
		}
		in.setStatus(b, func(s *Status) { s.Info = attributes(b.info) })
	}
}

// changed decides, journals and shows that a board came, fell silent or said goodbye.
func (in *Ingest) changed(b *board, now time.Time) error {
	in.setStatus(b, func(*Status) {})
	at := now.UnixMilli()
	if b.state == stopped { // intended: neither up nor silent
		in.Live(b.name, at, []dashboards.Value{{Series: upSeries, Value: math.NaN()}})
		return nil
	}
	rows := in.presenceRows(b, at)
	row := rows[0]
	ts := in.Engine.Observe(upOrigin(b.name), at, []alerting.Reading{{Series: b.upOutput.rule, Value: row.Value}})
	in.Live(b.name, at, []dashboards.Value{{Series: upSeries, Value: row.Value}})
	record, err := appendOwnRecord(nil, ownRecord{Board: b.name, At: at, Up: b.state == up, Transitions: ts})
	if err != nil {
		return err
	}
	b.stored, b.decided = now, now
	in.sinceCut++
	return in.journal.Append(record, func() {
		if len(ts) > 0 {
			in.Deliver(ts)
		}
		in.feed <- fed{rows: &rows}
	})
}

// upSeries is the series that the collector writes of each board.
const upSeries = "pi_board_up"

// upOrigin keeps the collector's own readings of a board apart from the board's:
// each has a clock of its own.
func upOrigin(board string) string { return "collector/" + board }

// upRow returns pi_board_up as it stands.
func (in *Ingest) upRow(b *board, at int64) storage.Row {
	v := version(b.registry, at)
	if b.upOutput == nil || b.upFrom != v.From {
		o := newOutput(in.Engine, b.name, upSeries, nil, v, -1)
		b.upOutput, b.upFrom = &o, v.From
	}
	value := 0.0
	if b.state == up {
		value = 1
	}
	return storage.Row{Series: b.upOutput.row, At: at, Value: value}
}

// decidePresence shows the rules what has not changed.
func (in *Ingest) decidePresence(b *board, now time.Time) error {
	if b.state != up && b.state != silent || now.Sub(b.decided) < decideEvery {
		return nil
	}
	b.decided = now
	row := in.upRow(b, now.UnixMilli())
	return in.Commit(in.Engine.Observe(upOrigin(b.name), row.At, []alerting.Reading{{Series: b.upOutput.rule, Value: row.Value}}))
}

// storePresence stores pi_board_up and pi_info at their slow pace. They are
// not journalled: the next ones say the same.
func (in *Ingest) storePresence(b *board, now time.Time) {
	if b.state != up && b.state != silent || now.Sub(b.stored) < upEvery {
		return
	}
	b.stored = now
	at := now.Truncate(time.Second).UnixMilli()
	rows := in.presenceRows(b, at)
	select {
	case in.feed <- fed{rows: &rows}:
	default: // the store is behind: the next minute will do
	}
}

// presenceRows returns pi_board_up as it stands and, of a board that reports,
// pi_info.
func (in *Ingest) presenceRows(b *board, at int64) []storage.Row {
	rows := []storage.Row{in.upRow(b, at)}
	if b.state == up && len(b.info) > 0 {
		rows = append(rows, storage.Row{Series: infoSeries(b, at), At: at, Value: 1})
	}
	return rows
}

// infoSeries names pi_info: the board's own words on itself, and the
// registry's labels where the names differ. Of what a board says, the boot id
// is no label: it is another after each boot, and each would begin a series
// that the store's index keeps for years. pi_boot_time_seconds tells reboots.
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
