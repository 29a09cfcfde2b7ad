package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"bramble/alerting/alert"
	"bramble/collector/journal"
	"bramble/collector/presence"
	"bramble/pisensor/report"
	"bramble/storage"
)

// checkpoint is the state that a segment of the journal begins with.
type checkpoint struct {
	Boards map[string]boardState `json:"boards"`
	Rules  json.RawMessage       `json:"rules"`
}

// boardState is the part of the loop's state of a board that must outlive a restart.
type boardState struct {
	Sessions sessions           `json:"sessions,omitempty"`
	Seen     int64              `json:"seen"`
	Info     []report.Attribute `json:"info,omitempty"`
	Boot     boot               `json:"boot,omitzero"`
	State    presence.State     `json:"state,omitempty"`
	Last     int64              `json:"last,omitempty"` // time of arrival of its last report
	Address  netip.Addr         `json:"address,omitzero"`
	Expected *Expectation       `json:"expected,omitempty"`
}

// checkpoint begins a new segment of the journal and has the older ones
// removed once the store has their readings on disk.
func (in *Ingest) checkpoint() error {
	if in.cutting || in.holds.Load() > 0 || in.sinceCut == 0 || in.journal.Rotatable() != nil {
		return nil
	}
	record, err := in.appendCheckpoint([]byte{recordCheckpoint})
	if err != nil {
		return err
	}
	in.cutting, in.sinceCut, in.older = true, 0, in.held.Load()
	return in.journal.Rotate(record, in.onDisk("follow a checkpoint", "", func(end journal.Position) {
		in.feeder.offer(nil, end)
		in.feeder.when(journal.Position{Segment: end.Segment}, func() { in.truncate(end.Segment) })
	}))
}

// truncate frees the journal before a segment, once the store has its readings
// and the pager its transitions on disk.
func (in *Ingest) truncate(before uint64) {
	err := in.faults.try("truncate the journal", "", func() error {
		if err := errors.Join(in.Store.Barrier(), in.Settle()); err != nil {
			return err
		}
		return in.journal.Remove(before)
	})
	if err != nil {
		in.Log.Error("journal: not truncated", "err", err)
	}
	in.cut <- err == nil
}

func (in *Ingest) appendCheckpoint(dst []byte) ([]byte, error) {
	rules, err := in.Engine.Checkpoint()
	if err != nil {
		return nil, fmt.Errorf("checkpoint rules: %w", err)
	}
	c := checkpoint{Boards: make(map[string]boardState, len(in.boards)), Rules: rules}
	for name, b := range in.boards {
		state, last := in.presence.fleet.State(name)
		in.presence.locate(b)
		c.Boards[name] = boardState{
			Sessions: b.sessions, Seen: b.seen, Info: b.info, Boot: b.boot, State: state, Last: unixMilli(last), Address: b.address, Expected: b.expected,
		}
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return append(dst, encoded...), nil
}

// replayer brings the store and the rules to where they were when the collector ended. It is done when the start is.
type replayer struct {
	in     *Ingest
	late   error         // why the store has not all that was replayed
	rows   []storage.Row // that are not in the store yet
	stored int           // rows given to the store so far
}

// run opens the journal and brings the store and the rules to where they
// were. Everything in it is idempotent.
func (p *replayer) run() (*journal.Journal, error) {
	started, records := time.Now(), 0
	var transitions []alert.Transition
	j, err := journal.Open(p.in.Dir, journal.Options{MaxBytes: p.in.MaxJournal, Log: p.in.Log, Registerer: p.in.Registerer}, func(record []byte) error {
		records++
		var err error
		p.in.faults.guard("replay a record", "", func() { err = p.record(record, &transitions) })
		return err
	})
	if err != nil {
		return nil, err
	}
	p.store()
	p.rows = nil
	for _, b := range p.in.boards {
		p.in.presence.setStatus(b, func(s *Status) {
			_, s.LastReport = p.in.presence.fleet.State(b.name)
			s.Info = attributes(b.info)
		})
	}
	p.in.deliverEach(transitions) // a page that the crash overtook leaves now; the pager knows those that left
	if records > 0 {
		p.in.sinceCut = records
		p.in.Log.Info("journal replayed", "records", records, "took", time.Since(started).Round(time.Millisecond))
	}
	return j, nil
}

// record adds the transitions that the record holds to ts.
func (p *replayer) record(record []byte, ts *[]alert.Transition) error {
	if len(record) == 0 {
		return errRecord
	}
	switch body := record[1:]; record[0] {
	case recordReport, recordLimited:
		return p.report(body, record[0] == recordLimited, ts)
	case recordOwn:
		return p.own(body, ts)
	case recordCheckpoint:
		return p.restore(body)
	default:
		return fmt.Errorf("%w: kind %d", errRecord, record[0])
	}
}

func (p *replayer) report(body []byte, limited bool, ts *[]alert.Transition) error {
	record, err := decodeReportRecord(body, limited)
	if err != nil {
		return err
	}
	*ts = append(*ts, record.transitions...)
	for _, t := range record.transitions {
		p.in.Engine.Apply(t)
	}
	known, ok := p.in.Registry.Board(record.board)
	if !ok {
		return nil // the board has been removed since
	}
	r := &p.in.tick.report
	if err := r.Decode(record.report); err != nil {
		return err
	}
	b := p.in.board(record.board)
	p.in.presence.refresh(b, known)
	if _, last := p.in.presence.fleet.State(b.name); record.received > last.UnixMilli() {
		p.in.presence.fleet.Heard(b.name, time.UnixMilli(record.received), time.Duration(r.Due)*time.Millisecond, r.Goodbye)
	}
	old, end := window(r, record.received, maxBehind)
	rows := rowPool.Get().(*[]storage.Row)
	*rows = (*rows)[:0]
	p.in.tick.refused = append(p.in.tick.refused[:0], record.refused...)
	for k := range r.Columns {
		if !slices.Contains(record.refused, k) {
			b.admit(r.Columns[k].Series, record.received)
		}
	}
	for i := old; i < end; i++ {
		at := r.At(i)
		p.in.resolve(b, r, at, i == old)
		*rows = p.in.place(r, i, at, *rows, at > b.seen)
		if at > b.seen {
			b.seen, b.boot.Anchor = at, r.Anchor
			p.in.Engine.Seen(b.name, at, p.in.tick.readings...)
		}
	}
	b.sessions.take(r.Session, r.First, uint64(end))
	b.learn(r.Info)
	p.in.held.Add(int64(len(*rows)))
	p.add(*rows)
	rowPool.Put(rows)
	return nil
}

func (p *replayer) own(body []byte, ts *[]alert.Transition) error {
	var own ownRecord
	if err := json.Unmarshal(body, &own); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	*ts = append(*ts, own.Transitions...)
	for _, t := range own.Transitions {
		p.in.Engine.Apply(t)
	}
	for _, o := range own.Boards {
		p.up(o, own.At)
	}
	if known, ok := p.in.Registry.Board(own.Stopped); ok {
		b := p.in.board(own.Stopped)
		p.in.presence.refresh(b, known)
		p.in.presence.fleet.Restore(b.name, presence.Stopped, time.UnixMilli(own.At))
	}
	if e := own.Expected; e != nil {
		p.in.board(e.Board).expected = e
	}
	return nil
}

func (p *replayer) up(o ownBoard, at int64) {
	known, ok := p.in.Registry.Board(o.Name)
	if !ok {
		return // the board has been removed since
	}
	b := p.in.board(o.Name)
	p.in.presence.refresh(b, known)
	p.in.Engine.Seen(upOrigin(b.name), at)
	state, last := presence.Silent, time.Time{}
	if o.Up {
		state, last = presence.Up, time.UnixMilli(at)
	}
	if _, known := p.in.presence.fleet.State(b.name); known.After(last) {
		last = known
	}
	p.in.presence.fleet.Restore(b.name, state, last)
	p.add([]storage.Row{p.in.presence.upRow(b, at)})
}

// maxReplayed rows are stored before the start goes on, about a second's work.
const maxReplayed = 2_000_000

var errMany = errors.New("the journal holds too much for the start to wait for")

// add stores replayed rows. From the first that a full store refuses, and
// where a store was full for long, the start does not wait for it: the journal
// is read again while the collector runs.
func (p *replayer) add(rows []storage.Row) {
	if p.late != nil {
		return
	}
	p.rows = append(p.rows, rows...)
	if len(p.rows) >= maxBatch {
		p.store()
	}
}

func (p *replayer) store() {
	if p.late != nil || len(p.rows) == 0 {
		return
	}
	if p.stored += len(p.rows); p.stored > maxReplayed {
		p.late = errMany
	} else {
		p.late = p.in.Store.Add(p.rows)
	}
	p.rows = p.rows[:0]
}

func (p *replayer) restore(body []byte) error {
	var c checkpoint
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	if err := p.in.Engine.Restore(c.Rules); err != nil {
		return fmt.Errorf("restore rules: %w", err)
	}
	for name, s := range c.Boards {
		b := p.in.board(name)
		b.sessions, b.seen, b.boot, b.address, b.expected = s.Sessions, s.Seen, s.Boot, s.Address, s.Expected
		b.learn(s.Info)
		p.in.presence.fleet.Restore(name, s.State, moment(s.Last))
	}
	return nil
}

// unixMilli is t in Unix ms, 0 for the zero time; moment is its inverse.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
