package ingest

import (
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/alerting"
	"bramble/dashboards"
	"bramble/pisensor/report"
	"bramble/storage"
)

// telemetry is what the collector subscribes.
const telemetry = report.AllTelemetry

// The window of times that are accepted, around the collector's clock. A
// sensor's clock agrees with the collector's within 250 ms, so 10 s ahead is
// generous; behind is what rollups wait for. Nothing is ever clamped.
const (
	maxAhead  = 10 * time.Second
	maxBehind = 8 * 24 * time.Hour
)

// decision is the loop's working memory, used again for each report.
type decision struct {
	report   report.Report
	columns  []*column // of the report's columns, nil where refused
	from     int64     // the labels' version that columns were resolved for
	readings []alerting.Reading
	values   []dashboards.Value
	record   []byte
}

// rowPool lends the slices that travel from the loop to the store.
var rowPool = sync.Pool{New: func() any { return new([]storage.Row) }}

// message handles what a board has published.
func (in *Ingest) message(m *nats.Msg) error {
	name, ok := report.BoardOf(m.Subject)
	if !ok {
		in.metrics.reject(foreign)
		return nil
	}
	known, ok := in.Registry.Board(name)
	if !ok || known.Retired {
		in.metrics.reject(foreign)
		return nil
	}
	b := in.board(name)
	in.refresh(b, known)
	switch {
	case len(m.Data) > report.MaxSize:
		in.metrics.reject(oversized)
		return nil
	case !report.IsReport(m.Data):
		return in.hello(b, m.Data)
	}
	r := &in.tick.report
	if err := r.Decode(m.Data); err != nil {
		in.metrics.reject(undecodable)
		in.Log.Debug("report rejected", "board", name, "err", err)
		return nil
	}
	return in.take(b, r, m.Data, time.Now())
}

// board returns the loop's record of a board.
func (in *Ingest) board(name string) *board {
	b := in.boards[name]
	if b == nil {
		b = &board{name: name}
		in.boards[name] = b
	}
	return b
}

// hello answers with the collector's time.
func (in *Ingest) hello(b *board, data []byte) error {
	h, err := report.DecodeHello(data)
	if err != nil {
		in.metrics.reject(undecodable)
		return nil
	}
	in.publish(report.AckSubject(b.name), (&report.Ack{
		Session: h.Session, Nonce: h.Nonce, Time: time.Now().UnixMilli(),
	}).Append(nil))
	in.sendLines(b.name)
	return nil
}

// take decides a report, journals it, and has it acknowledged, delivered and
// stored once it is on disk. An error means that the journal has ended.
func (in *Ingest) take(b *board, r *report.Report, raw []byte, now time.Time) error {
	received := now.UnixMilli()
	in.metrics.reports.Inc()
	in.metrics.unknown.Add(float64(r.Unknown))
	in.metrics.implausible.Add(float64(r.Implausible))
	if err := in.heard(b, r, now); err != nil {
		return err
	}
	old, end := window(r, received)
	in.metrics.tooOld.Add(float64(old))
	in.metrics.tooNew.Add(float64(r.Ticks() - end))
	ack := acknowledgement{board: b.name, session: r.Session, ticks: report.Range{First: r.First, Count: uint64(end)}}
	switch {
	case r.Ticks() == 0:
		return nil
	case old == end: // what is too old will not get younger: acknowledged, that it may rest
		in.metrics.reject(outsideWindow)
		return in.journal.After(func() { in.acknowledge(ack) })
	case b.sessions.has(r.Session, r.First, uint64(end)):
		in.metrics.reject(replayed)
		return in.journal.After(func() { in.acknowledge(ack) })
	}
	rows, transitions := in.decide(b, r, old, end, received)
	b.sessions.take(r.Session, r.First, uint64(end))
	// What was taken before is in the journal before this report: one ack covers both.
	ack.ticks = b.sessions.around(r.Session, r.First)
	if r.AckLater {
		ack.ticks = report.Range{}
	}
	return in.write(b, raw, received, rows, transitions, ack)
}

// window returns the range of ticks whose times the collector accepts. Times
// ascend, so what is too old comes first and what is too far ahead last.
func window(r *report.Report, received int64) (old, end int) {
	n := r.Ticks()
	for old < n && r.At(old) < received-maxBehind.Milliseconds() {
		old++
	}
	end = n
	for end > old && r.At(end-1) > received+maxAhead.Milliseconds() {
		end--
	}
	return old, end
}

// decide places ticks [from, to): every reading becomes a row, and those later
// than all before go to the rules and the live pages.
func (in *Ingest) decide(b *board, r *report.Report, from, to int, received int64) (*[]storage.Row, []alerting.Transition) {
	rows := rowPool.Get().(*[]storage.Row)
	*rows = (*rows)[:0]
	var transitions []alerting.Transition
	for i := from; i < to; i++ {
		at := r.At(i)
		in.resolve(b, r, at, received, i == from)
		fresh := at > b.seen
		*rows = in.place(r, i, at, *rows, fresh)
		if fresh {
			b.seen = at
			transitions = append(transitions, in.Engine.Observe(b.name, at, in.tick.readings)...)
			in.Live(b.name, at, in.tick.values)
		}
	}
	in.metrics.readings.Add(float64(len(*rows)))
	return rows, transitions
}

// resolve finds the outputs of the report's columns under the labels that are
// in force at a time.
func (in *Ingest) resolve(b *board, r *report.Report, at, received int64, first bool) {
	v := version(b.registry, at)
	t := &in.tick
	if !first && t.from == v.From {
		return
	}
	t.from = v.From
	t.columns = slices.Grow(t.columns[:0], len(r.Columns))[:len(r.Columns)]
	for i := range r.Columns {
		if !b.admit(r.Columns[i].Series, received) {
			t.columns[i] = nil
			in.metrics.seriesLimit.Inc()
			continue
		}
		t.columns[i] = b.column(in.Engine, r.Columns[i].Series, v)
	}
}

// place appends the rows of tick i. Of a fresh tick it also gathers what the
// rules and the live pages see.
func (in *Ingest) place(r *report.Report, i int, at int64, rows []storage.Row, fresh bool) []storage.Row {
	t := &in.tick
	t.readings, t.values = t.readings[:0], t.values[:0]
	for k := range r.Columns {
		wire := r.Columns[k].Values[i]
		c := t.columns[k]
		if wire == report.Missing || c == nil {
			continue
		}
		for o := range c.outputs {
			out := &c.outputs[o]
			v := out.value(c.definition, wire)
			rows = append(rows, storage.Row{Series: out.row, At: at, Value: v})
			if fresh {
				t.readings = append(t.readings, alerting.Reading{Series: out.rule, Value: v})
				t.values = append(t.values, dashboards.Value{Series: out.live, Value: v})
			}
		}
	}
	return rows
}

// write journals a decided report.
func (in *Ingest) write(b *board, raw []byte, received int64, rows *[]storage.Row, ts []alerting.Transition, ack acknowledgement) error {
	record := reportRecord{board: b.name, received: received, transitions: ts, report: raw}
	var err error
	if in.tick.record, err = record.append(in.tick.record[:0]); err != nil {
		return err
	}
	in.sinceCut++
	return in.journal.Append(in.tick.record, func() {
		in.acknowledge(ack)
		if len(ts) > 0 {
			in.Deliver(ts)
		}
		in.feed <- fed{rows: rows}
	})
}

// acknowledgement is an ack that waits for the journal.
type acknowledgement struct {
	board   string
	session uint32
	ticks   report.Range
}

func (in *Ingest) acknowledge(a acknowledgement) {
	if a.ticks.Count == 0 {
		return
	}
	ack := report.Ack{Session: a.session, Time: time.Now().UnixMilli(), Ranges: []report.Range{a.ticks}}
	in.publish(report.AckSubject(a.board), ack.Append(nil))
}

// publish sends to a board. A failure is the connection's: the sensor asks again.
func (in *Ingest) publish(subject string, data []byte) {
	if err := in.Conn.Publish(subject, data); err != nil {
		in.metrics.publishErrors.Inc()
	}
}
