package ingest

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// TestDropsAreCountedPerBoardAndReason sends, for each reason, a report or readings that are dropped for it.
func TestDropsAreCountedPerBoardAndReason(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.addBoard("pi-2", nil)
	now := time.Now().Add(-time.Minute)
	expect := func(board string, want map[string]uint64) {
		t.Helper()
		if err := c.Do(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
		if got := c.Dropped(board); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", board, got, want)
		}
	}
	send := func(session uint32, at time.Time, elapsed []int64, celsius ...int64) {
		t.Helper()
		r := &report.Report{Session: session, Anchor: at.UnixMilli(), Due: 10_000, Elapsed: elapsed}
		copy(r.Column(report.Series{Metric: report.SOCTemperature}), celsius)
		c.publish("pi-1", r)
		c.ack()
	}
	day := 24 * time.Hour.Milliseconds()
	send(1, now, []int64{0, 1000}, 50_000, 5_000_000)                                      // 5000 °C
	send(2, now.Add(-10*24*time.Hour), []int64{0, 1000, 10 * day}, 50_000, 50_000, 50_500) // 10 days old
	send(3, now, []int64{10, 1 * day}, 51_000, 51_000)                                     // tomorrow
	for i := range maxNewSeries + 3 {                                                      // invented devices, a few at a time
		if i%40 == 0 {
			r := &report.Report{Session: 100 + uint32(i), Anchor: now.UnixMilli() + int64(i) + 100, Due: 10_000, Elapsed: []int64{0}}
			for k := range 40 {
				r.Column(report.Series{Metric: report.NetworkReceive, Instance: fmt.Sprintf("x%d-%d", i, k)})[0] = 1
			}
			c.publish("pi-1", r)
			c.ack()
		}
	}
	want := map[string]uint64{implausible: 1, tooOld: 2, tooFarAhead: 1, overLimit: 6*40 - (maxSeries - 1)}
	expect("pi-1", want)
	if err := c.board.Publish(report.TelemetrySubject("pi-2"), []byte{0x11}); err != nil {
		t.Fatal(err)
	}
	if err := c.board.Publish(report.TelemetrySubject("nobody"), []byte{0x11}); err != nil {
		t.Fatal(err)
	}
	old := hot(9, now.Add(-30*24*time.Hour), 50)
	c.publish("pi-2", old)
	c.ack()
	expect("pi-2", map[string]uint64{undecodable: 1, tooOld: 1, outsideWindow: 1})
	if got := c.Rejected(); got[foreign] != 1 || got[undecodable] != 1 {
		t.Errorf("%v", got)
	}
	if c.Dropped("nobody") != nil {
		t.Error("a board that is not registered is listed")
	}
}

// TestNextSessionCountsTheLossesOfTheLast: a sensor is halted with ticks on board, its successor is cut off by a reboot, and
// a third follows.
func TestNextSessionCountsTheLossesOfTheLast(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	now := time.Now().Truncate(time.Millisecond).Add(-10 * time.Minute)
	send := func(session uint32, r *report.Report) {
		t.Helper()
		r.Session = session
		c.publish("pi-1", r)
		c.ack()
	}
	lost := func(want uint64, seconds float64) {
		t.Helper()
		if err := c.Do(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
		c.drops.mu.Lock()
		defer c.drops.mu.Unlock()
		if got := c.drops.board("pi-1"); got.ticks != want || got.unaccounted.Seconds() != seconds || c.drops.total.ticks != want {
			t.Errorf("%d ticks are missing and %v is unaccounted, want %d and %v s", got.ticks, got.unaccounted, want, seconds)
		}
	}
	send(1, hot(1, now, 50, 51, 52))
	send(1, hot(6, now.Add(5*time.Second), 50, 51)) // 4 and 5 wait on the board
	send(1, &report.Report{Goodbye: true, First: 12, Anchor: now.UnixMilli()})
	lost(0, 0)                                    // they may still come, from a process that takes over
	send(2, hot(1, now.Add(time.Minute), 50, 51)) // they do not: 4, 5 and 8 to 11
	send(1, hot(4, now.Add(3*time.Second), 50))   // late, and not counted again
	lost(6, 0)
	if got := c.Dropped("pi-1"); got[missingTicks] != 6 {
		t.Errorf("the board's list: %v", got)
	}
	// No goodbye: the board ran on for 29 s before it booted, as its successor's anchor shows.
	boot := hot(1, now.Add(2*time.Minute), 50)
	boot.Anchor = now.Add(90 * time.Second).UnixMilli()
	boot.Elapsed[0] = 30_000
	send(3, boot)
	lost(6, 29)
	// Numbers that a board's owner invents are bounded.
	send(3, &report.Report{Goodbye: true, First: 1 << 61, Anchor: now.UnixMilli()})
	send(4, hot(1, now.Add(3*time.Minute), 50))
	lost(6+maxMissing, 29)
}
