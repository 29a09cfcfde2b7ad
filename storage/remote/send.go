package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// lookEvery is how often the remote's processes are asked who they are.
	lookEvery = 5 * time.Second
	// postTime ends a request that hangs.
	postTime = 30 * time.Second
	// minPause and maxPause are the waits after the first failure and after many, give or take a quarter.
	minPause = 250 * time.Millisecond
	maxPause = 15 * time.Second
	// maxAnswer bounds the part that is read of an answer that refuses.
	maxAnswer = 512
)

// state is the sender's knowledge that others ask for.
type state struct {
	mu    sync.Mutex
	err   error // why nothing arrives
	at    place // all before it was taken
	facts facts
}

func (s *state) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *state) sent() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *state) learnt() facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts
}

// report notes how the last try went, and logs when that changes.
func (r *Store) report(err error) {
	r.state.mu.Lock()
	was := r.state.err
	r.state.err = err
	r.state.mu.Unlock()
	switch {
	case err != nil && was == nil:
		r.log.Error("the remote store takes no rows; the queue on this disk keeps them", "url", r.options.Write, "err", err)
	case err == nil && was != nil:
		r.log.Info("the remote store takes rows again", "url", r.options.Write)
	}
}

// sender brings the queue to the remote. It belongs to one goroutine.
type sender struct {
	*Store
	at        place          // of the next request
	lastTaken time.Time      // when the remote took the last one
	taken     []takenSegment // all of whose requests the remote took, oldest first
	who       string         // the processes that took them; "" before the first look
	failed    bool           // a request has failed since the last look
}

type takenSegment struct {
	number uint64
	at     time.Time
}

// send works until ctx ends.
func (r *Store) send(ctx context.Context) {
	s := &sender{Store: r, at: r.queue.start()}
	pause, looked := minPause, time.Time{}
	for ctx.Err() == nil {
		sent, err := s.step(ctx, &looked)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				r.metrics.failures.Add(1)
				r.report(err)
			}
			s.failed, looked = true, time.Time{}
			if errors.Is(err, errYoung) { // it is there, and will be old enough soon
				pause = minPause
			}
			pauseFor(ctx, nil, pause*3/4+rand.N(pause/2))
			pause = min(2*pause, maxPause)
		case !sent:
			r.report(nil)
			pauseFor(ctx, r.queue.wake, lookEvery-time.Since(looked))
		default:
			r.report(nil)
			pause = minPause
		}
	}
}

// step looks at the remote's holdings, where it is time to, and sends one request. A panic, as over an answer of the remote, is an
// error like any other: a request that was not seen to be taken is sent again.
func (s *sender) step(ctx context.Context, looked *time.Time) (sent bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			sent, err = false, fmt.Errorf("a fault in the collector, please report it: %v\n%s", p, debug.Stack())
		}
	}()
	if time.Since(*looked) >= lookEvery {
		*looked = time.Now()
		if err := s.look(ctx); err != nil {
			return false, err
		}
	}
	return s.next(ctx)
}

func pauseFor(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

// next sends one request, if there is one.
func (s *sender) next(ctx context.Context) (sent bool, err error) {
	body, rows, next, ok, err := s.queue.read(s.at)
	if err != nil {
		return false, err
	}
	if ok {
		if err := s.post(ctx, body); err != nil {
			return false, err
		}
		s.metrics.sent.Add(uint64(rows))
	}
	for n := s.at.segment; n < next.segment; n++ { // the place has left these
		s.taken = append(s.taken, takenSegment{n, s.lastTaken})
	}
	if ok {
		s.lastTaken = time.Now()
	}
	s.move(next)
	return ok, nil
}

func (s *sender) move(to place) {
	s.at = to
	s.state.mu.Lock()
	s.state.at = to
	s.state.mu.Unlock()
}

// post returns nil once the remote has answered that it took the request.
func (r *Store) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.options.Write+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "zstd")
	req.Header.Set("X-VictoriaMetrics-Remote-Write-Version", "1")
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("send rows: %w", err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // for a person: a part of it will do
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("send rows to %s: %s: %q", req.URL.Redacted(), resp.Status, answer)
	}
	return nil
}

// look asks the remote's processes who they are. Where they are others than those that took rows, all that the queue
// holds is sent again; where they are the same, what they have had for long enough is forgotten.
func (s *sender) look(ctx context.Context) error {
	now := time.Now()
	facts, err := s.Store.look(ctx)
	if err != nil {
		return err
	}
	s.tell(facts)
	restarted := s.who != "" && (facts.who != s.who || facts.blind && s.failed)
	s.who, s.failed = facts.who, false
	if restarted {
		s.log.Warn("the remote store was restarted or did not answer: rows that it may have lost are sent again", "url", s.options.Write)
		s.metrics.resends.Add(1)
		s.taken = nil
		s.move(s.queue.start())
		return nil
	}
	if err := s.forget(now.Add(-max(s.options.Keep, keepFactor*facts.flush))); err != nil {
		return err
	}
	return s.queue.cutOld()
}

// forget removes the segments that were taken before a time.
func (s *sender) forget(before time.Time) error {
	for len(s.taken) > 0 && s.taken[0].at.Before(before) {
		if err := s.queue.remove(s.taken[0].number); err != nil {
			return err
		}
		s.taken = s.taken[1:]
	}
	return nil
}

// tell logs facts that an operator has to know, when they are first seen.
func (s *sender) tell(facts facts) {
	s.state.mu.Lock()
	known := s.state.facts
	s.state.facts = facts
	s.state.mu.Unlock()
	if known.who != "" && known.blind == facts.blind && known.dedup == facts.dedup {
		return
	}
	if facts.blind {
		s.log.Warn("a restart of the remote store cannot be seen: rows that it holds in memory when it is killed may be lost; name what holds the rows, such as a cluster's vmstorage, in `store: {nodes: [URL, …]}`", "why", facts.why)
	}
	switch facts.dedup {
	case dedupOff:
		s.log.Warn("the remote store does not deduplicate: rows that are sent twice count twice; start it with -dedup.minScrapeInterval=1ms", "url", s.options.Write)
	case dedupCoarse:
		s.log.Warn("the remote store keeps one row in more than a millisecond; start it with -dedup.minScrapeInterval=1ms", "url", s.options.Write)
	case dedupUnknown:
		s.log.Warn("whether the remote store deduplicates cannot be seen: start it with -dedup.minScrapeInterval=1ms", "url", s.options.Write)
	}
}

var errYoung = errors.New("the remote store has just been started")
