package ingest

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// constant is a report of so many ticks, a second apart, and columns, each of which has one value: some bytes a column.
func constant(first uint64, from time.Time, ticks, columns int) []byte {
	r := report.Report{Session: 77, Anchor: from.UnixMilli(), First: first, Due: 60_000}
	for i := range ticks {
		r.Elapsed = append(r.Elapsed, int64(i)*1000)
	}
	for k := range columns {
		values := r.Column(report.Series{Metric: report.NetworkReceive, Instance: fmt.Sprint("eth", k)})
		for i := range values {
			values[i] = int64(k)
		}
	}
	return r.Append(nil)
}

// amplified is the report that holds most in fewest bytes.
func amplified(first uint64, from time.Time) []byte {
	return constant(first, from, report.MaxTicks, 60)
}

func message(data []byte) *nats.Msg { return &nats.Msg{Data: data} }

func newQueue() *queue { return &queue{lanes: map[string]*lane{}} }

func TestMessagesCostTheirReadings(t *testing.T) {
	f := func(data []byte, want int) {
		t.Helper()
		if got := costOf(data); got != want {
			t.Errorf("%d bytes cost %d readings, want %d", len(data), got, want)
		}
	}
	f(amplified(1, time.Now()), 61_440)
	f(constant(1, time.Now(), 10, 30), 300)
	f(constant(1, time.Now(), 1, 4), messageCost)
	f(report.Hello{Session: 1, Nonce: 2}.Append(nil), messageCost)
	f(amplified(1, time.Now())[:40], messageCost) // its columns are cut off
	f(make([]byte, 4000), 1000)
	f(nil, messageCost)
}

// TestADaysSpoolComesInAtOnce has one report after the other in flight, as a sensor has.
func TestADaysSpoolComesInAtOnce(t *testing.T) {
	q, now := newQueue(), time.Now()
	const ticks = 108 // at 64 series; 80 reports are the day
	spool := constant(1, now, ticks, report.MaxColumns)
	for i := range 24 * 60 * 60 / 10 / ticks {
		if !q.put("away", message(spool), now) {
			t.Fatalf("report %d is refused", i)
		}
		if d, _ := q.wait(now, readingBurst); d > 0 {
			t.Fatalf("report %d waits for %v", i, d)
		}
		q.take()
	}
}

// TestAFloodWaitsForItsAllowance floods for ten minutes of simulated time, beside boards in their usual rhythm.
func TestAFloodWaitsForItsAllowance(t *testing.T) {
	q, began := newQueue(), time.Now()
	flood, usual := amplified(1, began), constant(1, began, 1, 30)
	taken, refused, honest := 0, 0, 0
	const step, steps = 100 * time.Millisecond, 6000
	for i := range steps {
		now := began.Add(time.Duration(i) * step)
		board := fmt.Sprint("usual-", i%100)
		if !q.put(board, message(usual), now) {
			t.Fatalf("%v: a report of %s is refused", now.Sub(began), board)
		}
		for range 5 { // 65 kB a second
			if !q.put("flood", message(flood), now) {
				refused++
			}
		}
		for first := true; ; first = false {
			if d, _ := q.wait(now, readingBurst); d > 0 || len(q.waiting) == 0 {
				break
			}
			from, m := q.take()
			if from == "flood" {
				taken += costOf(m.Data)
			} else if honest++; !first {
				t.Fatalf("%v: a report of %s waited for the flood", now.Sub(began), from)
			}
		}
		if q.bytes > laneMessages*len(flood) {
			t.Fatalf("%v: %d bytes wait", now.Sub(began), q.bytes)
		}
	}
	if limit := readingBurst + int(step*steps/time.Second)*readingRate + costOf(flood); taken > limit || taken < limit*9/10 {
		t.Errorf("%d readings of the flood are taken, the allowance is %d", taken, limit)
	}
	if honest != steps || refused == 0 {
		t.Errorf("%d of %d other reports came through, %d of the flood were refused", honest, steps, refused)
	}
}

// TestTheLeastUsedAllowanceIsNext has boards with a backlog take turns, by readings and not by messages.
func TestTheLeastUsedAllowanceIsNext(t *testing.T) {
	q, now := newQueue(), time.Now()
	large, small := constant(1, now, 100, 40), constant(1, now, 100, 10)
	for range 10 {
		q.put("large", message(large), now)
		q.put("small", message(small), now)
	}
	taken := map[string]int{}
	for range 10 {
		board, m := q.take()
		taken[board] += costOf(m.Data)
	}
	if d := taken["large"] - taken["small"]; d < -costOf(large) || d > costOf(large) {
		t.Errorf("taken: %v", taken)
	}
}

// TestAStoreThatLagsEndsTheBurst leaves each board its rate alone while the store does not keep up.
func TestAStoreThatLagsEndsTheBurst(t *testing.T) {
	q, now := newQueue(), time.Now()
	q.put("flood", message(amplified(1, now)), now)
	q.take()
	q.put("flood", message(amplified(1, now)), now)
	if d, _ := q.wait(now, readingBurst); d != 0 {
		t.Errorf("waits for %v while the store keeps up", d)
	}
	if d, _ := q.wait(now, crowdedBurst); d != paidIn(61_440-crowdedBurst) || q.ready(now, crowdedBurst) != 0 {
		t.Errorf("waits for %v while the store lags, %d ready", d, q.ready(now, crowdedBurst))
	}
	q.put("usual", message(constant(1, now, 1, 30)), now)
	if board, _ := q.take(); board != "usual" {
		t.Errorf("%s is next", board)
	}
}

// TestAForgottenBoardLeavesNothing forgets a board of which messages wait.
func TestAForgottenBoardLeavesNothing(t *testing.T) {
	q, now := newQueue(), time.Now()
	for i := range 3 {
		for range 4 {
			q.put(fmt.Sprint("b", i), message(amplified(1, now)), now)
		}
	}
	q.forget("b1")
	q.forget("b1")
	for len(q.waiting) > 0 {
		if board, _ := q.take(); board == "b1" {
			t.Error("a message of the forgotten board is left")
		}
	}
	if q.bytes != 0 || len(q.lanes) != 2 {
		t.Errorf("%d bytes, %d lanes", q.bytes, len(q.lanes))
	}
}
