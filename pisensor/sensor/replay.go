package sensor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bramble/pisensor/report"
)

// Row is one instant of a recording.
type Row struct {
	At       time.Duration // since the first row
	Readings []report.Reading
}

// Replay sends a recording through the spool and the codec, with all times
// fixed at the start. With speed 0 the last row lies at the start, and
// everything is sent as fast as the spool takes it; with speed 1 or more the
// first row lies at the start, and rows follow in speed times real time.
// Nothing is dropped: a full spool holds the recording back.
//
// It returns nil only when every reading has been acknowledged, however long
// the collector stays away, and an error when ctx ends before.
func Replay(ctx context.Context, o Options, rows []Row, speed float64) error {
	if len(rows) == 0 {
		return errors.New("recording without a row")
	}
	if err := o.complete(); err != nil {
		return err
	}
	p, err := newPlayer(&o, rows, speed)
	if err != nil {
		return err
	}
	s, err := build(o, p)
	if err != nil {
		return err
	}
	s.core.block, s.core.fixed, s.core.delivery.past = true, true, speed == 0
	delivered, err := s.run(ctx)
	if !delivered {
		err = errors.Join(err, fmt.Errorf("replay stopped with %d of %d rows unsent and %d readings unacknowledged",
			len(rows)-p.next, len(rows), s.core.spool.Readings()))
	}
	return err
}

// player feeds a recording.
type player struct {
	rows  []Row
	times []time.Duration // of each row, on the options' clock
	next  int
}

// crowding is how much later than its time a row may be placed because each
// needs a millisecond of its own.
const crowding = 10 * time.Millisecond

// newPlayer places the recording on the options' clock. A recording of the
// past may begin before the board did, so that clock is moved ahead by the
// recording's length; the anchor makes up for it.
func newPlayer(o *Options, rows []Row, speed float64) (*player, error) {
	p := &player{rows: rows, times: make([]time.Duration, len(rows))}
	start := o.Uptime()
	switch {
	case speed == 0:
		speed = 1
		ahead, real := rows[len(rows)-1].At, o.Uptime
		o.Uptime = func() time.Duration { return real() + ahead }
	case speed >= 1:
	default:
		return nil, fmt.Errorf("speed %v: use 1 or more: played slower than it was taken, a recording would fall behind its own times", speed)
	}
	start = start.Truncate(time.Millisecond)
	for i, row := range rows {
		want := start + time.Duration(float64(row.At)/speed).Truncate(time.Millisecond)
		p.times[i] = want
		if i > 0 {
			p.times[i] = max(want, p.times[i-1]+time.Millisecond)
		}
		if p.times[i]-want > crowding {
			return nil, fmt.Errorf("speed %v crowds row %d and those before it into less than a millisecond each: use less", speed, i+1)
		}
	}
	return p, nil
}

func (p *player) due(time.Duration) (time.Duration, bool) {
	if p.next == len(p.rows) {
		return never, false
	}
	return p.times[p.next], true
}

func (p *player) take(_ time.Duration, t *report.Tick) time.Duration {
	t.Readings = append(t.Readings, p.rows[p.next].Readings...)
	p.next++
	return p.times[p.next-1]
}
