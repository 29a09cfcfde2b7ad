package ingest

import (
	"container/heap"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// A board's allowance, in readings: a few bytes can hold tens of thousands of them, so the door's allowance of bytes does
// not bound the work that a board can cause.
const (
	// readingRate is how many readings a second a board may claim: more than a hundred times as many as all its series at
	// 1 Hz, and some two percent of a core.
	readingRate = 10_000
	// readingBurst is a full day's spool at the default rate with all series: it comes in at once.
	readingBurst = report.MaxColumns * 24 * 60 * 60 / 10
	// crowdedBurst takes its place while the store does not keep up, so that one board's past holds up nobody's present.
	crowdedBurst = readingRate
	// messageCost is the minimum cost of a message, byteCost how many bytes count as a reading.
	messageCost, byteCost = 50, 4
)

// Bounds of waiting messages. A sensor has some thirty reports under way at most, one of them large.
const (
	laneMessages = 64
	laneCost     = 10 * readingRate // so that a board that floods is late by seconds, and not silent
	queueBytes   = 64 << 20         // beyond it a board has one message here
	// crowdedRetry is how often the loop looks whether the store has caught up.
	crowdedRetry = 20 * time.Millisecond
)

// queue holds the messages that wait for the loop, each board's in its own lane. The next one is that of the board which
// has used its allowance least, so that a board in its usual rhythm never waits for one that floods. It is not safe for
// concurrent use.
type queue struct {
	lanes   map[string]*lane
	waiting lanes // those with messages
	bytes   int   // of all messages
}

// lane is the way of one board's messages to the loop, in their order.
type lane struct {
	board    string
	messages []waitingMessage
	cost     int // of messages
	// paid is when the allowance has paid for all that the board has sent so far. The further it lies ahead, the more of
	// the burst is used up.
	paid  time.Time
	index int // in queue.waiting
}

type waitingMessage struct {
	*nats.Msg
	cost int // in readings
}

// costOf returns a message's cost, in readings.
func costOf(data []byte) int {
	return max(messageCost, len(data)/byteCost, report.Cells(data))
}

// put queues a board's message. It reports false where too much of that board waits already.
func (q *queue) put(board string, m *nats.Msg, now time.Time) bool {
	cost := costOf(m.Data) // looks at the board's bytes, before anything is changed
	l := q.lanes[board]
	if l == nil {
		l = &lane{board: board}
		q.lanes[board] = l
	}
	n := len(l.messages)
	if n >= laneMessages || l.cost >= laneCost || n > 0 && q.bytes >= queueBytes {
		return false
	}
	l.messages = append(l.messages, waitingMessage{m, cost})
	l.cost += cost
	q.bytes += len(m.Data)
	if n == 0 {
		if l.paid.Before(now) {
			l.paid = now
		}
		heap.Push(&q.waiting, l)
	}
	return true
}

// wait returns how long until a message may be taken, where each board may have used so many readings of its burst. It
// reports false where none waits.
func (q *queue) wait(now time.Time, burst int) (time.Duration, bool) {
	if len(q.waiting) == 0 {
		return 0, false
	}
	return max(0, q.waiting[0].paid.Sub(now)-paidIn(burst)), true
}

// take removes the next message, of which there must be one, with the name of its board.
func (q *queue) take() (board string, m *nats.Msg) {
	l := q.waiting[0]
	next := l.messages[0]
	l.messages[0] = waitingMessage{}
	l.messages = l.messages[1:]
	l.cost -= next.cost
	l.paid = l.paid.Add(paidIn(next.cost))
	q.bytes -= len(next.Data)
	if len(l.messages) == 0 {
		l.messages = nil
		heap.Pop(&q.waiting)
	} else {
		heap.Fix(&q.waiting, 0)
	}
	return l.board, next.Msg
}

// ready counts the messages that wait for the loop alone, and not for their board's allowance.
func (q *queue) ready(now time.Time, burst int) (n int) {
	for _, l := range q.waiting {
		if l.paid.Sub(now) <= paidIn(burst) {
			n += len(l.messages)
		}
	}
	return n
}

// forget drops a board's waiting messages, and its account.
func (q *queue) forget(board string) {
	l := q.lanes[board]
	if l == nil {
		return
	}
	if len(l.messages) > 0 {
		heap.Remove(&q.waiting, l.index)
	}
	for _, m := range l.messages {
		q.bytes -= len(m.Data)
	}
	delete(q.lanes, board)
}

// paidIn is how long the allowance takes to pay for so many readings.
func paidIn(readings int) time.Duration {
	return time.Duration(readings) * time.Second / readingRate
}

// lanes is a heap (container/heap) of lanes, the one that has used its allowance least first.
type lanes []*lane

func (h lanes) Len() int           { return len(h) }
func (h lanes) Less(i, j int) bool { return h[i].paid.Before(h[j].paid) }
func (h lanes) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }

func (h *lanes) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *lanes) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
