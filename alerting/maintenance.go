package alerting

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/matcher/compat"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
)

const (
	// DefaultGrace is how long boards have after a maintenance to report again: a board announces its next report at
	// most a minute ahead.
	DefaultGrace = time.Minute
	// longestGrace is enough for a rack that boots over one NFS server.
	longestGrace = time.Hour
	// longestMaintenance and furthestAhead bound what is planned by mistake.
	longestMaintenance = 31 * 24 * time.Hour
	furthestAhead      = 366 * 24 * time.Hour
	// maxOpenMaintenances bounds what every alert is compared with.
	maxOpenMaintenances = 500
	maxNote             = 1000 // of a comment, in bytes
)

// ErrNoMaintenance is returned for a maintenance that does not exist or is over.
var ErrNoMaintenance = errors.New("no such maintenance")

// ErrBadMaintenance is what every error about the request itself wraps.
var ErrBadMaintenance = errors.New("maintenance")

// States of a Maintenance.
const (
	Planned   = "planned"
	Running   = "running"
	Returning = "returning" // its time is over, and boards have until ReturnBy to report
	Over      = "over"
)

// MaintenanceRequest is what StartMaintenance is asked for.
type MaintenanceRequest struct {
	// Matchers are as in alertmanager.yml, such as `rack="r7"`; all of them must hold.
	Matchers []string
	// From is when it begins; the zero time is now.
	From  time.Time
	For   time.Duration
	Grace time.Duration // 0 means DefaultGrace
	// Confirm is the number of boards that it covers, where that needs to be confirmed.
	Confirm     int
	Comment, By string
}

// Maintenance is a time in which nobody is paged for what its matchers cover. Times are Unix milliseconds.
type Maintenance struct {
	Number    int64    `json:"number"`
	Matchers  []string `json:"matchers"`
	StartsAt  int64    `json:"startsAt"`
	EndsAt    int64    `json:"endsAt"`
	ReturnBy  int64    `json:"returnBy"`
	Comment   string   `json:"comment,omitempty"`
	By        string   `json:"by"`
	CreatedAt int64    `json:"createdAt"`
	EndedBy   string   `json:"endedBy,omitempty"` // who ended it before its time
	ClosedAt  int64    `json:"closedAt,omitempty"`
	State     string   `json:"state"`
	// Boards is how many boards it covers at present; NotBack are those that had not come back when it closed.
	Boards  int      `json:"boards"`
	NotBack []string `json:"notBack,omitempty"`

	matchers amlabels.Matchers
}

// Maintenances is the book of maintenances in the state database. All methods are safe for concurrent use. It closes
// none by itself: a running Pager does.
type Maintenances struct {
	commits *committer
	fleet   func() map[string]alert.Place

	mu   sync.Mutex
	open []*Maintenance // not closed, by number; replaced, never changed in place
}

// OpenMaintenances reads the book. fleet says which boards there are; nil leaves open how many a maintenance covers.
// While a Pager runs on the database, use its own: Pager.Maintenances.
func OpenMaintenances(ctx context.Context, db *sql.DB, fleet func() map[string]alert.Place) (*Maintenances, error) {
	initMatchers()
	return openMaintenances(ctx, &committer{db: db}, fleet)
}

func openMaintenances(ctx context.Context, commits *committer, fleet func() map[string]alert.Place) (*Maintenances, error) {
	if fleet == nil {
		fleet = func() map[string]alert.Place { return nil }
	}
	m := &Maintenances{commits: commits, fleet: fleet}
	if err := prepareMaintenances(ctx, commits.db); err != nil {
		return nil, err
	}
	var err error
	m.open, err = readMaintenances(ctx, commits.db, `WHERE closed_at = 0 ORDER BY number`)
	return m, err
}

// Start puts a maintenance on record. It holds when Start has returned, and across restarts. The error says what is
// wrong with the request; a *ConfirmError asks for the number of boards.
func (m *Maintenances) Start(ctx context.Context, q MaintenanceRequest) (Maintenance, error) {
	now := time.Now()
	one, err := q.check(now)
	if err != nil {
		return Maintenance{}, fmt.Errorf("%w: %w", ErrBadMaintenance, err)
	}
	c := cover(one.matchers, m.fleet(), nil)
	if err := c.mayStart(one.matchers, q.Confirm); err != nil {
		return Maintenance{}, fmt.Errorf("%w: %w", ErrBadMaintenance, err)
	}
	m.mu.Lock()
	full := len(m.open) >= maxOpenMaintenances
	m.mu.Unlock()
	if full {
		return Maintenance{}, fmt.Errorf("%w: %d are planned or running already: end some first", ErrBadMaintenance, maxOpenMaintenances)
	}
	err = m.commits.do(func(c *sql.Conn) (err error) {
		one.Number, err = insertMaintenance(ctx, c, one)
		return err
	})
	if err != nil {
		return Maintenance{}, err
	}
	m.mu.Lock()
	m.open = append(slices.Clone(m.open), one)
	m.mu.Unlock()
	return one.shown(now, m.fleet()), nil
}

// check turns a request into a maintenance without a number.
func (q MaintenanceRequest) check(now time.Time) (*Maintenance, error) {
	from := q.From
	if from.IsZero() {
		from = now
	}
	grace := cmp.Or(q.Grace, DefaultGrace)
	switch {
	case len(q.Matchers) == 0:
		return nil, errors.New(`what is it for? Give a matcher such as rack="r7"`)
	case q.For < time.Second || q.For > longestMaintenance:
		return nil, fmt.Errorf("%s is not between 1s and 31d", q.For)
	case grace < 0 || grace > longestGrace:
		return nil, fmt.Errorf("a grace of %s is not between 0 and 1h", grace)
	case from.Before(now.Add(-time.Minute)) || from.After(now.Add(furthestAhead)):
		return nil, fmt.Errorf("it begins at %s: want now or a time within a year", from.UTC().Format(time.RFC3339))
	case len(q.Comment) > maxNote:
		return nil, fmt.Errorf("the comment is longer than %d bytes", maxNote)
	case q.By == "":
		return nil, errors.New("who starts it is missing")
	}
	one := &Maintenance{
		StartsAt: from.UnixMilli(), EndsAt: from.Add(q.For).UnixMilli(), Comment: strings.TrimSpace(q.Comment), By: q.By, CreatedAt: now.UnixMilli(),
	}
	one.ReturnBy = one.EndsAt + grace.Milliseconds()
	var err error
	one.Matchers, one.matchers, err = parseMatchers(q.Matchers)
	return one, err
}

// parseMatchers parses matchers and returns their canonical text. One of them must ask for something: what only
// excludes would cover the rest of the world.
func parseMatchers(texts []string) (canonical []string, ms amlabels.Matchers, err error) {
	asks := false
	for _, text := range texts {
		one, err := compat.Matcher(text, "maintenance")
		if err != nil {
			return nil, nil, fmt.Errorf(`matcher %s: %w; write it like rack="r7"`, text, err)
		}
		asks = asks || !one.Matches("")
		ms, canonical = append(ms, one), append(canonical, one.String())
	}
	if !asks {
		return nil, nil, fmt.Errorf("matchers %s: they cover whatever has no such label; add one that names something", ms)
	}
	return canonical, ms, nil
}

// End ends one before its time; boards have its grace from now on. One that has not begun is called off.
func (m *Maintenances) End(ctx context.Context, number int64, by string) (Maintenance, error) {
	now := time.Now()
	m.mu.Lock()
	i := slices.IndexFunc(m.open, func(o *Maintenance) bool { return o.Number == number })
	if i < 0 || m.open[i].EndsAt <= now.UnixMilli() {
		m.mu.Unlock()
		return Maintenance{}, fmt.Errorf("maintenance %d: %w, or it is over", number, ErrNoMaintenance)
	}
	one := *m.open[i]
	m.mu.Unlock()
	one.ReturnBy = now.UnixMilli() + one.ReturnBy - one.EndsAt
	one.EndsAt, one.EndedBy = now.UnixMilli(), by
	if one.StartsAt > one.EndsAt {
		one.ReturnBy, one.ClosedAt = one.EndsAt, one.EndsAt // nothing happened in it
	}
	if err := m.commits.do(func(c *sql.Conn) error { return updateMaintenance(ctx, c, &one) }); err != nil {
		return Maintenance{}, err
	}
	m.replace(&one)
	return one.shown(now, m.fleet()), nil
}

// replace takes over a new version of an open one.
func (m *Maintenances) replace(one *Maintenance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := make([]*Maintenance, 0, len(m.open))
	for _, o := range m.open {
		if o.Number == one.Number {
			o = one
		}
		if o.ClosedAt == 0 {
			open = append(open, o)
		}
	}
	m.open = open
}

// List returns those that are open and the last 50 of those that are over, the newest first.
func (m *Maintenances) List(ctx context.Context) ([]Maintenance, error) {
	found, err := readMaintenances(ctx, m.commits.db, `WHERE closed_at = 0 OR number IN
		(SELECT number FROM maintenance WHERE closed_at > 0 ORDER BY closed_at DESC LIMIT 50) ORDER BY number DESC`)
	if err != nil {
		return nil, err
	}
	now, fleet, out := time.Now(), m.fleet(), make([]Maintenance, 0, len(found))
	for _, one := range found {
		out = append(out, one.shown(now, fleet))
	}
	return out, nil
}

// shown fills in what depends on the time and the fleet.
func (m Maintenance) shown(now time.Time, fleet map[string]alert.Place) Maintenance {
	m.State = m.stateAt(now.UnixMilli())
	m.Boards = len(cover(m.matchers, fleet, nil).boards)
	return m
}

func (m *Maintenance) stateAt(at int64) string {
	switch {
	case m.ClosedAt > 0:
		return Over
	case at < m.StartsAt:
		return Planned
	case at < m.EndsAt:
		return Running
	}
	return Returning
}

// snapshot returns those that are not closed.
func (m *Maintenances) snapshot() []*Maintenance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// holding returns the maintenance that keeps an alert from paging, nil for none. One whose time is over holds until it
// is closed: what it leaves is told at once.
func (m *Maintenances) holding(labels model.LabelSet, now int64, but int64) *Maintenance {
	for _, o := range m.snapshot() {
		if o.Number != but && o.StartsAt <= now && o.matchers.Matches(labels) {
			return o
		}
	}
	return nil
}
