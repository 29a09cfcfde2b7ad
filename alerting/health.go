package alerting

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

// brokenAfter is how long a receiver may fail before it counts as broken: several tries.
const brokenAfter = time.Minute

// laneHealth is how the last page to an integration fared.
type laneHealth struct {
	failing time.Time // since when, zero where it is well
	failed  bool      // a page was given up, or refused several times
	answer  string
}

// health remembers it for every integration. It is safe for concurrent use.
type health struct {
	mu    sync.Mutex
	lanes map[string]laneHealth
}

func newHealth() *health { return &health{lanes: map[string]laneHealth{}} }

func (h *health) of(lane string) laneHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes[lane]
}

// note takes the outcome of a try: a state of Page, whether the provider refuses the page time and again, and its answer.
func (h *health) note(lane, state string, refused bool, answer string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if state == "delivered" {
		delete(h.lanes, lane)
		return
	}
	was := h.lanes[lane]
	if was.failing.IsZero() {
		was.failing = now
	}
	was.answer, was.failed = answer[:min(len(answer), maxAnswer)], was.failed || refused || state == "failed"
	h.lanes[lane] = was
}

// load takes over how the last pages of an earlier pager fared.
func (h *health) load(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT receiver, integration, idx, state, answer, created_at FROM page
		WHERE seq IN (SELECT max(seq) FROM page WHERE attempts > 0 AND state != 'stopped' GROUP BY receiver, integration, idx)`)
	if err != nil {
		return fmt.Errorf("read the last pages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			receiver, integration, state, answer string
			idx                                  int
			at                                   int64
		)
		if err := rows.Scan(&receiver, &integration, &idx, &state, &answer, &at); err != nil {
			return fmt.Errorf("read the last pages: %w", err)
		}
		h.note(laneName(receiver, integration, idx), state, false, answer, time.UnixMilli(at))
	}
	return rows.Err()
}
