package broker

import (
	"container/list"
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// doorShare of the places is for strangers alone, so that a board whose old
	// connection still stands, and an enrolment, get as far as the gate.
	doorShare, maxDoor = 16, 1024
	// placesEvery is how often the places are counted anew: the store opens
	// further files over the years.
	placesEvery = 2 * time.Second
	// calmTime without a refusal ends the log's report of them.
	calmTime = time.Minute
)

// places bounds the connections of boards and strangers by the descriptors that
// there are. A stranger may have any place that is free, and gives it up, the
// one first that has come first, when another connection needs it; a board keeps
// its place. The front's mutex guards it.
type places struct {
	limit     int        // 0 before the first count
	taken     int        // connections from their being accepted to their end
	boards    int        // those of them that are boards'
	strangers *list.List // of *client, the oldest first
	refused   bool       // since the last count
	refusing  bool       // the log says so
	calm      int        // counts since the last refusal
}

// door is how many places boards leave to strangers.
func (p *places) door() int { return min(max(1, p.limit/doorShare), maxDoor) }

// take takes a place for a connection that was accepted. The oldest
// stranger leaves where there is no other, and reports false when none can.
func (f *front) take() bool {
	for range 2 {
		f.mu.Lock()
		if f.places.taken < f.places.limit {
			f.places.taken++
			f.mu.Unlock()
			return true
		}
		f.places.refused = true
		f.count.refused.WithLabelValues("stranger").Inc()
		oldest := f.places.strangers.Front()
		f.mu.Unlock()
		if oldest == nil {
			return false
		}
		oldest.Value.(*client).Close()
	}
	return false
}

// settle gives a stranger's place to the board that it turned out to be. cut
// says that an older connection of the board ends for it. It reports false where
// boards have all places that they may have. The caller holds mu.
func (f *front) settle(c *client, cut bool) bool {
	if c.board {
		return true
	}
	if !cut && f.places.boards >= f.places.limit-f.places.door() {
		f.places.refused = true
		f.count.refused.WithLabelValues("board").Inc()
		return false
	}
	f.places.strangers.Remove(c.place)
	c.board = true
	f.places.boards++
	return true
}

// watchPlaces counts the places until ctx ends.
func (f *front) watchPlaces(ctx context.Context, enough func(connected int) int) {
	tick := time.NewTicker(placesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.reportPlaces(enough)
		}
	}
}

// reportPlaces counts anew, and says when connections begin to be refused, and when there has been
// space for a while.
func (f *front) reportPlaces(enough func(connected int) int) {
	defer f.panics.caught("count the places")
	p, began, ended := f.countPlaces(enough)
	switch {
	case began:
		f.log.log.Error("connections are refused: the limit of open files is reached; raise it with LimitNOFILE= in the service file, or ulimit -n",
			"enough_for_boards", p.limit-p.door(), "boards_connected", p.boards)
	case ended:
		f.log.log.Info("connections are no longer refused", "enough_for_boards", p.limit-p.door(), "boards_connected", p.boards)
	}
}

// countPlaces counts anew. It returns whether refusals have begun or ended.
func (f *front) countPlaces(enough func(connected int) int) (now places, began, ended bool) {
	f.mu.Lock()
	taken := f.places.taken
	f.mu.Unlock()
	limit := min(enough(taken), maxClients)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.places
	p.limit = limit
	p.calm++
	if p.refused {
		p.calm = 0
	}
	began = p.refused && !p.refusing
	ended = p.refusing && p.calm >= int(calmTime/placesEvery)
	p.refusing, p.refused = (p.refusing || began) && !ended, false
	return *p, began, ended
}

// collectors are the series about places.
func (f *front) collectors() []prometheus.Collector {
	gauge := func(name, help string, value func(*places) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			return float64(value(&f.places))
		})
	}
	return []prometheus.Collector{
		gauge("bramble_broker_places", "Connections of boards for which the limit of open files is enough.", func(p *places) int { return p.limit }),
		gauge("bramble_broker_boards_connected", "Connections of boards that have logged in.", func(p *places) int { return p.boards }),
	}
}
