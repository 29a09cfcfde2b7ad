package ingest

import (
	"encoding/json"
	"fmt"
	"time"

	"bramble/alerting"
	"bramble/collector/journal"
	"bramble/pisensor/report"
	"bramble/storage"
)

// checkpoint is the state that a segment of the journal begins with.
type checkpoint struct {
	Boards map[string]boardState `json:"boards"`
	Rules  json.RawMessage       `json:"rules"`
}

// boardState is what must outlive a restart of what the loop knows of a board.
type boardState struct {
	Sessions sessions           `json:"sessions,omitempty"`
	Seen     int64              `json:"seen"`
	Info     []report.Attribute `json:"info,omitempty"`
	State    presenceState      `json:"state,omitempty"`
}

// checkpoint begins a new segment of the journal and has the older ones
// removed once the store has their readings on disk.
func (in *Ingest) checkpoint() error {
	if in.cutting || in.holds.Load() > 0 || in.sinceCut == 0 {
		return nil
	}
	record, err := in.appendCheckpoint([]byte{recordCheckpoint})
	if err != nil {
		return err
	}
	in.cutting, in.sinceCut = true, 0
	return in.journal.Rotate(record, func(segment uint64) { in.feed <- fed{cut: segment} })
}

func (in *Ingest) appendCheckpoint(dst []byte) ([]byte, error) {
	rules, err := in.Engine.Checkpoint()
	if err != nil {
		return nil, fmt.Errorf("checkpoint rules: %w", err)
	}
	c := checkpoint{Boards: make(map[string]boardState, len(in.boards)), Rules: rules}
	for name, b := range in.boards {
		c.Boards[name] = boardState{Sessions: b.sessions, Seen: b.seen, Info: b.info, State: b.state}
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return append(dst, encoded...), nil
}

// replay opens the journal and brings the store and the rules to where they
// were. Everything in it is idempotent.
func (in *Ingest) replay() (*journal.Journal, error) {
	started, records := time.Now(), 0
	var transitions []alerting.Transition
	j, err := journal.Open(in.Dir, journal.Options{Log: in.Log, Registerer: in.Registerer}, func(record []byte) error {
		records++
		ts, err := in.replayRecord(record)
		transitions = append(transitions, ts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	in.Deliver(transitions) // a page that the crash overtook leaves now; the pager knows those that left
	if records > 0 {
		in.sinceCut = records
		in.Log.Info("journal replayed", "records", records, "took", time.Since(started).Round(time.Millisecond))
	}
	return j, nil
}

// replayRecord returns the transitions that the record holds.
func (in *Ingest) replayRecord(record []byte) ([]alerting.Transition, error) {
	if len(record) == 0 {
		return nil, errRecord
	}
	switch body := record[1:]; record[0] {
	case recordReport:
		return in.replayReport(body)
	case recordOwn:
		return in.replayOwn(body)
	case recordCheckpoint:
		return nil, in.restore(body)
	default:
		return nil, fmt.Errorf("%w: kind %d", errRecord, record[0])
	}
}

func (in *Ingest) replayReport(body []byte) ([]alerting.Transition, error) {
	record, err := decodeReportRecord(body)
	if err != nil {
		return nil, err
	}
	for _, t := range record.transitions {
		in.Engine.Apply(t)
	}
	known, ok := in.Registry.Board(record.board)
	if !ok {
		return record.transitions, nil // the board has been removed since
	}
	r := &in.tick.report
	if err := r.Decode(record.report); err != nil {
		return nil, err
	}
	b := in.board(record.board)
	b.refresh(known)
	old, end := window(r, record.received)
	rows := rowPool.Get().(*[]storage.Row)
	*rows = (*rows)[:0]
	for i := old; i < end; i++ {
		at := r.At(i)
		in.resolve(b, r, at, record.received, i == old)
		*rows = in.place(r, i, at, *rows, at > b.seen)
		if at > b.seen {
			b.seen = at
			in.Engine.Seen(b.name, at, in.tick.readings...)
		}
	}
	b.sessions.take(r.Session, r.First, uint64(end))
	b.learn(r.Info)
	in.store(*rows)
	rowPool.Put(rows)
	return record.transitions, nil
}

func (in *Ingest) replayOwn(body []byte) ([]alerting.Transition, error) {
	var own ownRecord
	if err := json.Unmarshal(body, &own); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	for _, t := range own.Transitions {
		in.Engine.Apply(t)
	}
	known, ok := in.Registry.Board(own.Board)
	if !ok {
		return own.Transitions, nil
	}
	b := in.board(own.Board)
	b.refresh(known)
	in.Engine.Seen(upOrigin(b.name), own.At)
	b.state = stateOf(own.Up)
	in.store([]storage.Row{in.upRow(b, own.At)})
	return own.Transitions, nil
}

func (in *Ingest) restore(body []byte) error {
	var c checkpoint
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	if err := in.Engine.Restore(c.Rules); err != nil {
		return fmt.Errorf("restore rules: %w", err)
	}
	for name, s := range c.Boards {
		b := in.board(name)
		b.sessions, b.seen, b.info, b.state = s.Sessions, s.Seen, s.Info, s.State
	}
	return nil
}
