package ingest

import (
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

// telemetry is the subject that the collector subscribes to.
const telemetry = report.AllTelemetry

// The window of times that are accepted, around the collector's clock. A sensor's clock agrees with the collector's
// within 250 ms, so 10 s ahead is generous; rollups wait for as long as maxBehind. Nothing is ever clamped.
const (
	maxAhead  = 10 * time.Second
	maxBehind = 8 * 24 * time.Hour
)

// Late is how far behind its arrival a reading may be; older ones are refused and counted.
const Late = maxBehind

// decision is the loop's working memory, used again for each report.
type decision struct {
	report   report.Report
	columns  []*column // of the report's columns, nil where refused
	refused  []int     // the columns that are
	from     int64     // the labels' version that columns were resolved for
	readings []rules.Reading
	values   []live.Value
	record   []byte
	// transitions are those of the ticks decided so far.
	transitions []alert.Transition
}

// rowPool lends the slices that travel from the loop to the store.
var rowPool = sync.Pool{New: func() any { return new([]storage.Row) }}

// gather moves arrived messages into the queue.
func (in *Ingest) gather() {
	for range len(in.messages) {
		in.enqueue(<-in.messages)
	}
}

// enqueue has a message wait for its board's turn. A panic costs the message: the queue has not been touched by then.
func (in *Ingest) enqueue(m *nats.Msg) {
	in.faults.guard("queue a message", "", func() { in.line(m) })
}

func (in *Ingest) line(m *nats.Msg) {
	name, ok := report.BoardOf(m.Subject)
	if ok {
		_, ok = in.active(name)
	}
	switch {
	case !ok:
		in.drops.report("", foreign)
	case !in.queue.put(name, m, time.Now()):
		in.drops.report(name, overAllowance)
	}
}

// active returns a board that may report.
func (in *Ingest) active(name string) (*registry.Board, bool) {
	known, ok := in.Registry.Board(name)
	return known, ok && !known.Retired
}

// burst is how many readings beyond its rate a board may have taken at present.
func (in *Ingest) burst() int {
	if rows, behind := in.feeder.lag(); behind || rows > maxWaiting/2 {
		return crowdedBurst
	}
	return readingBurst
}

// untilTurn returns how long it is until a message may be taken, as far as is known now: 0 = there is one.
func (in *Ingest) untilTurn() time.Duration {
	burst := in.burst()
	d, waiting := in.queue.wait(time.Now(), burst)
	switch {
	case !waiting:
		return time.Hour // a new message ends the wait
	case burst == crowdedBurst:
		return min(d, crowdedRetry)
	}
	return d
}

// serve handles a message. A panic costs this message alone, which is neither
// acknowledged nor journalled: the other boards are served by the same loop.
func (in *Ingest) serve(name string, m *nats.Msg) error {
	return in.guard("take a message", name, func() error { return in.message(name, m) })
}

// message handles a board's message.
func (in *Ingest) message(name string, m *nats.Msg) error {
	in.seenMessages++
	known, ok := in.active(name)
	if !ok { // it left the registry while the message waited
		in.drops.report("", foreign)
		return nil
	}
	b := in.board(name)
	in.presence.refresh(b, known)
	switch {
	case len(m.Data) > report.MaxSize:
		in.drops.report(name, oversized)
		return nil
	case !report.IsReport(m.Data):
		return in.hello(b, m.Data)
	}
	r := &in.tick.report
	if err := r.Decode(m.Data); err != nil {
		in.drops.report(name, undecodable)
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
		in.drops.report(b.name, undecodable)
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
	if err := in.presence.heard(b, r, now); err != nil {
		return err
	}
	old, end := window(r, received, in.behind)
	if in.journal.Ready() != nil || in.tooMany() != nil {
		return in.postpone(b, r, old, end, received)
	}
	in.countDropped(b.name, r, old, end)
	ticks, unaccounted := b.sessions.follow(r, b.seen)
	in.drops.lost(b.name, ticks, unaccounted)
	ack := acknowledgement{board: b.name, session: r.Session}
	if end > 0 {
		ack.ranges = []report.Range{{First: r.First, Count: uint64(end)}}
	}
	switch {
	case r.Ticks() == 0:
		return in.answerGoodbye(b, r)
	case old == end: // all ticks are too old: acknowledged, so that they are not sent again
		in.drops.report(b.name, outsideWindow)
		return in.ackAfter(ack)
	case b.sessions.has(r.Session, r.First, uint64(end)):
		in.drops.report(b.name, replayed)
		return in.ackAfter(ack)
	}
	in.shown.Add(1)
	rows, transitions := in.decide(b, r, old, end, received)
	in.metrics.readings.Add(float64(len(*rows)))
	in.countRefused(b.name, r, old, end)
	b.sessions.take(r.Session, r.First, uint64(end))
	// Ticks taken before are in the journal before this report: one ack covers both.
	ack.ranges[0] = b.sessions.around(r.Session, r.First)
	if r.AckLater {
		ack.ranges = nil
	}
	return in.write(b, raw, received, rows, transitions, ack)
}

// answerGoodbye acknowledges all ticks that were taken of the session of a sensor that stops: it waits for those of
// reports for which it has not asked yet.
func (in *Ingest) answerGoodbye(b *board, r *report.Report) error {
	s := b.sessions.of(r.Session)
	if s == nil || !r.Goodbye || r.AckLater {
		return nil
	}
	ack := acknowledgement{board: b.name, session: r.Session, ranges: slices.Clone(s.Taken)}
	return in.ackAfter(ack)
}

// postpone decides a report that the journal has no space for: its transitions are journalled in the reserve, and
// page. The report itself is neither acknowledged nor stored. When the sensor sends it again its readings are not
// later than those that the rules have seen, so that they page nobody twice.
func (in *Ingest) postpone(b *board, r *report.Report, old, end int, received int64) error {
	in.metrics.postponed.Inc()
	rows, transitions := in.decide(b, r, old, end, received)
	rowPool.Put(rows)
	return in.Commit(transitions)
}

// window returns the range of ticks whose times the collector accepts, as much as behind before the report was
// received. Times ascend, so ticks that are too old come first and those too far ahead last.
func window(r *report.Report, received int64, behind time.Duration) (old, end int) {
	n := r.Ticks()
	for old < n && r.At(old) < received-behind.Milliseconds() {
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
func (in *Ingest) decide(b *board, r *report.Report, from, to int, received int64) (*[]storage.Row, []alert.Transition) {
	rows := rowPool.Get().(*[]storage.Row)
	*rows = (*rows)[:0]
	t := &in.tick
	t.transitions = nil
	in.admit(b, r, received)
	for i := from; i < to; i++ {
		at := r.At(i)
		in.resolve(b, r, at, i == from)
		fresh := at > b.seen
		*rows = in.place(r, i, at, *rows, fresh)
		if fresh {
			b.seen, b.boot.Anchor = at, r.Anchor
			decided := len(t.transitions)
			t.transitions = append(t.transitions, in.Engine.Observe(b.name, at, t.readings)...)
			for i := range t.transitions[decided:] {
				t.transitions[decided+i].Arrived = received
			}
			in.Live(b.name, at, t.values)
		}
	}
	return rows, t.transitions
}

// admit finds the columns that are over the board's limit of series.
func (in *Ingest) admit(b *board, r *report.Report, received int64) {
	t := &in.tick
	t.refused = t.refused[:0]
	for k := range r.Columns {
		if !b.admit(r.Columns[k].Series, received) {
			t.refused = append(t.refused, k)
		}
	}
}

// resolve finds the outputs of the report's columns under the labels that are
// in force at a time. Refused ones have none.
func (in *Ingest) resolve(b *board, r *report.Report, at int64, first bool) {
	v := version(b.registry, at)
	t := &in.tick
	if !first && t.from == v.From {
		return
	}
	t.from = v.From
	t.columns = slices.Grow(t.columns[:0], len(r.Columns))[:len(r.Columns)]
	for i := range r.Columns {
		t.columns[i] = nil
		if !slices.Contains(t.refused, i) {
			t.columns[i] = b.column(in.Engine, r.Columns[i].Series, v)
		}
	}
}

// place appends the rows of tick i. Of a fresh tick it also gathers the readings for the rules and the live pages.
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
				t.readings = append(t.readings, rules.Reading{Series: out.rule, Value: v})
				t.values = append(t.values, live.Value{Series: out.live, Value: v})
			}
		}
	}
	return rows
}

// write journals a decided report.
func (in *Ingest) write(b *board, raw []byte, received int64, rows *[]storage.Row, ts []alert.Transition, ack acknowledgement) error {
	record := reportRecord{board: b.name, received: received, transitions: ts, refused: in.tick.refused, report: raw}
	var err error
	if in.tick.record, err = record.append(in.tick.record[:0]); err != nil {
		return err
	}
	in.sinceCut++
	in.held.Add(int64(len(*rows)))
	in.recorded++
	return in.commit(in.tick.record, ts, rows, func() { in.acknowledge(ack) })
}

// acknowledgement is an ack that waits for the journal.
type acknowledgement struct {
	board   string
	session uint32
	ranges  []report.Range // none = it is not to be sent
}

// ackAfter acknowledges once all before it is on disk.
func (in *Ingest) ackAfter(a acknowledgement) error {
	return in.journal.After(in.onDisk("acknowledge", a.board, func(journal.Position) { in.acknowledge(a) }))
}

func (in *Ingest) acknowledge(a acknowledgement) {
	if len(a.ranges) == 0 {
		return
	}
	ack := report.Ack{Session: a.session, Time: time.Now().UnixMilli(), Ranges: a.ranges}
	in.publish(report.AckSubject(a.board), ack.Append(nil))
}

// publish sends to a board. A failure is the connection's: the sensor asks again.
func (in *Ingest) publish(subject string, data []byte) {
	if err := in.Conn.Publish(subject, data); err != nil {
		in.metrics.publishErrors.Inc()
	}
}
