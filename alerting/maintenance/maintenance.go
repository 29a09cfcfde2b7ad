package maintenance

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/storage/statedb"
)

const (
	// DefaultGrace is how long boards have after a maintenance to report again: a board announces its next report at
	// most a minute ahead.
	DefaultGrace = time.Minute
	// maxGrace is enough for a rack that boots over one NFS server.
	maxGrace = time.Hour
	// maxLength and maxAhead bound plans made by mistake.
	maxLength = 31 * 24 * time.Hour
	maxAhead  = 366 * 24 * time.Hour
	// maxOpen bounds the maintenances that every alert is compared with.
	maxOpen = 500
	maxNote = 1000 // of a comment, in bytes
)

// ErrNone is returned for a maintenance that does not exist or is over.
var ErrNone = errors.New("no such maintenance")

// ErrBad is wrapped by every error about the request itself.
var ErrBad = errors.New("maintenance")

// States of a Maintenance.
const (
	Planned   = "planned"
	Running   = "running"
	Returning = "returning" // its time is over, and boards have until ReturnBy to report
	Over      = "over"
)

// Request asks for a maintenance.
type Request struct {
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

// Maintenance is a time in which nobody is paged for alerts that its matchers cover. Times are Unix milliseconds.
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

	// Parsed are the Matchers.
	Parsed amlabels.Matchers `json:"-"`
}

// Store keeps maintenances in the state database. All methods are safe for concurrent use. It closes none by itself: a
// running pager does.
type Store struct {
	// Fleet returns the boards and their places; never nil.
	Fleet   func() map[string]alert.Place
	commits *database.Writer

	mu   sync.Mutex
	open []*Maintenance // not closed, by number; replaced, never changed in place
}

// Open reads the maintenances of a database. fleet returns the boards; nil leaves open how many a maintenance covers.
// While a pager runs on the database, use its Store.
func Open(ctx context.Context, db *sql.DB, fleet func() map[string]alert.Place) (*Store, error) {
	InitMatchers()
	return OpenWith(ctx, database.NewWriter(db), fleet)
}

// OpenWith is Open for an owner of a database that has a Writer. The owner has called InitMatchers.
func OpenWith(ctx context.Context, commits *database.Writer, fleet func() map[string]alert.Place) (*Store, error) {
	if fleet == nil {
		fleet = func() map[string]alert.Place { return nil }
	}
	m := &Store{commits: commits, Fleet: fleet}
	if err := Prune(ctx, commits.DB, time.Now()); err != nil {
		return nil, err
	}
	var err error
	m.open, err = read(ctx, commits.DB, `WHERE closed_at = 0 ORDER BY number`)
	return m, err
}

// Start puts a maintenance on record. It holds when Start has returned, and across restarts. The error names the
// fault of the request; a *ConfirmError asks for the number of boards.
func (m *Store) Start(ctx context.Context, q Request) (Maintenance, error) {
	now := time.Now()
	one, err := q.check(now)
	if err != nil {
		return Maintenance{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	c := Cover(one.Parsed, m.Fleet(), nil)
	if err := c.mayStart(one.Parsed, q.Confirm); err != nil {
		return Maintenance{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	m.mu.Lock()
	full := len(m.open) >= maxOpen
	m.mu.Unlock()
	if full {
		return Maintenance{}, fmt.Errorf("%w: %d are planned or running already: end some first", ErrBad, maxOpen)
	}
	err = m.commits.Do(func(c *sql.Conn) (err error) {
		one.Number, err = insert(ctx, c, one)
		return err
	})
	if err != nil {
		return Maintenance{}, err
	}
	m.mu.Lock()
	m.open = append(slices.Clone(m.open), one)
	m.mu.Unlock()
	return one.shown(now, m.Fleet()), nil
}

// check turns a request into a maintenance without a number.
func (q Request) check(now time.Time) (*Maintenance, error) {
	from := q.From
	if from.IsZero() {
		from = now
	}
	grace := cmp.Or(q.Grace, DefaultGrace)
	switch {
	case len(q.Matchers) == 0:
		return nil, errors.New(`what is it for? Give a matcher such as rack="r7"`)
	case q.For < time.Second || q.For > maxLength:
		return nil, fmt.Errorf("%s is not between 1s and 31d", q.For)
	case grace < 0 || grace > maxGrace:
		return nil, fmt.Errorf("a grace of %s is not between 0 and 1h", grace)
	case from.Before(now.Add(-time.Minute)) || from.After(now.Add(maxAhead)):
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
	one.Matchers, one.Parsed, err = parseMatchers(q.Matchers)
	return one, err
}

// parseMatchers parses matchers and returns their canonical text. One of them must ask for something: matchers
// that only exclude would cover the rest of the world.
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
		return nil, nil, fmt.Errorf("matchers %s: they cover everything without such a label; add one that names something", ms)
	}
	return canonical, ms, nil
}

// End ends one before its time; boards have its grace from now on. One that has not begun is called off.
func (m *Store) End(ctx context.Context, number int64, by string) (Maintenance, error) {
	now := time.Now()
	m.mu.Lock()
	i := slices.IndexFunc(m.open, func(o *Maintenance) bool { return o.Number == number })
	if i < 0 || m.open[i].EndsAt <= now.UnixMilli() {
		m.mu.Unlock()
		return Maintenance{}, fmt.Errorf("maintenance %d: %w, or it is over", number, ErrNone)
	}
	one := *m.open[i]
	m.mu.Unlock()
	one.ReturnBy = now.UnixMilli() + one.ReturnBy - one.EndsAt
	one.EndsAt, one.EndedBy = now.UnixMilli(), by
	if one.StartsAt > one.EndsAt {
		one.ReturnBy, one.ClosedAt = one.EndsAt, one.EndsAt // nothing happened in it
	}
	if err := m.commits.Do(func(c *sql.Conn) error { return Update(ctx, c, &one) }); err != nil {
		return Maintenance{}, err
	}
	m.Replace(&one)
	return one.shown(now, m.Fleet()), nil
}

// Replace puts a new version of an open maintenance in force, one that is closed included.
func (m *Store) Replace(one *Maintenance) {
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
func (m *Store) List(ctx context.Context) ([]Maintenance, error) {
	found, err := read(ctx, m.commits.DB, `WHERE closed_at = 0 OR number IN
		(SELECT number FROM maintenance WHERE closed_at > 0 ORDER BY closed_at DESC LIMIT 50) ORDER BY number DESC`)
	if err != nil {
		return nil, err
	}
	now, fleet, out := time.Now(), m.Fleet(), make([]Maintenance, 0, len(found))
	for _, one := range found {
		out = append(out, one.shown(now, fleet))
	}
	return out, nil
}

// shown fills in the fields that depend on the time and the fleet.
func (m Maintenance) shown(now time.Time, fleet map[string]alert.Place) Maintenance {
	m.State = m.stateAt(now.UnixMilli())
	m.Boards = len(Cover(m.Parsed, fleet, nil).Boards)
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

// Current returns the maintenances that are not closed. They are not to be changed.
func (m *Store) Current() []*Maintenance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Holding returns the maintenance that keeps an alert from paging, the one with the number but aside; nil for none. One whose time is over holds until it
// is closed: alerts that still fire are notified at once then.
func (m *Store) Holding(labels model.LabelSet, now, but int64) *Maintenance {
	for _, o := range m.Current() {
		if o.Number != but && o.StartsAt <= now && o.Parsed.Matches(labels) {
			return o
		}
	}
	return nil
}

// Due is when a maintenance is to be closed. One whose time ended while no collector ran leaves its boards their grace
// from the start on.
func (m *Maintenance) Due(began time.Time) int64 {
	return max(m.EndsAt, began.UnixMilli()) + m.ReturnBy - m.EndsAt
}

// InitMatchers has Alertmanager's parser of matchers accept both of its syntaxes. Parsing without it logs a warning.
var InitMatchers = sync.OnceFunc(func() {
	compat.InitFromFlags(slog.New(slog.DiscardHandler), featurecontrol.NoopFlags{})
})

// Prune drops maintenances that were closed so long ago at a time that they do not matter any more.
func Prune(ctx context.Context, db database.Querier, now time.Time) error {
	if _, err := db.ExecContext(ctx, `DELETE FROM maintenance WHERE closed_at > 0 AND closed_at < ?`, now.Add(-database.Keep).UnixMilli()); err != nil {
		return fmt.Errorf("clean maintenance table: %w", err)
	}
	return nil
}

func read(ctx context.Context, db database.Querier, where string, args ...any) (out []*Maintenance, err error) {
	out, err = statedb.All(ctx, db, func(row *sql.Rows) (*Maintenance, error) {
		var (
			m                 Maintenance
			matchers, notBack string
		)
		err := row.Scan(&m.Number, &matchers, &m.StartsAt, &m.EndsAt, &m.ReturnBy, &m.Comment, &m.By, &m.CreatedAt, &m.EndedBy, &m.ClosedAt, &notBack)
		if err != nil {
			return nil, err
		}
		var texts []string
		if err := json.Unmarshal([]byte(matchers), &texts); err != nil {
			return nil, fmt.Errorf("decode matchers of maintenance %d: %w", m.Number, err)
		}
		if err := json.Unmarshal([]byte(notBack), &m.NotBack); err != nil {
			return nil, fmt.Errorf("decode boards of maintenance %d: %w", m.Number, err)
		}
		if m.Matchers, m.Parsed, err = parseMatchers(texts); err != nil {
			return nil, fmt.Errorf("matchers of maintenance %d: %w", m.Number, err)
		}
		return &m, nil
	}, `SELECT number, matchers, starts_at, ends_at, return_by, comment, created_by, created_at, ended_by, closed_at, not_back
		FROM maintenance `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read maintenances: %w", err)
	}
	return out, nil
}

func insert(ctx context.Context, db database.Querier, m *Maintenance) (int64, error) {
	matchers, err := json.Marshal(m.Matchers)
	if err != nil {
		return 0, fmt.Errorf("encode matchers: %w", err)
	}
	res, err := db.ExecContext(ctx, `INSERT INTO maintenance (matchers, starts_at, ends_at, return_by, comment, created_by, created_at) VALUES (?,?,?,?,?,?,?)`,
		string(matchers), m.StartsAt, m.EndsAt, m.ReturnBy, m.Comment, m.By, m.CreatedAt)
	if err != nil {
		return 0, fmt.Errorf("write maintenance: %w", err)
	}
	return res.LastInsertId()
}

// Update writes the fields of a maintenance that change.
func Update(ctx context.Context, db database.Querier, m *Maintenance) error {
	notBack, err := json.Marshal(append([]string{}, m.NotBack...))
	if err != nil {
		return fmt.Errorf("encode boards of maintenance %d: %w", m.Number, err)
	}
	_, err = db.ExecContext(ctx, `UPDATE maintenance SET ends_at = ?, return_by = ?, ended_by = ?, closed_at = ?, not_back = ? WHERE number = ?`,
		m.EndsAt, m.ReturnBy, m.EndedBy, m.ClosedAt, string(notBack), m.Number)
	if err != nil {
		return fmt.Errorf("write maintenance %d: %w", m.Number, err)
	}
	return nil
}
