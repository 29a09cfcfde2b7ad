package pager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/oncall"
	"bramble/storage/statedb"
)

// Rotas are people, rotas and policies as they are in force, and the overrides that people set. All methods are safe for concurrent use.
type Rotas struct {
	db      *sql.DB
	commits *database.Writer
	log     *slog.Logger
	// broken is 1 while an older oncall.yml is in force than the one that was given.
	broken  prometheus.Gauge
	routing func() *routing
	current atomic.Pointer[oncall.Config] // with overrides
}

// InForce is the oncall.yml in force, with the overrides that were set since. It is never nil, and not to be changed.
func (s *Rotas) InForce() *oncall.Config {
	if c := s.current.Load(); c != nil {
		return c
	}
	return &oncall.Config{}
}

// errOnCall marks all faults of an oncall.yml.
var errOnCall = errors.New("oncall.yml")

// onCallError has a line for each fault, with file and line in front.
type onCallError string

// Error implements error.
func (e onCallError) Error() string { return string(e) }

// Is makes it an errOnCall.
func (e onCallError) Is(target error) bool { return target == errOnCall }

// parseOnCall reads an oncall.yml for a routing. Errors name it with their lines; nil stands for no file.
func (r *routing) parseOnCall(text []byte) (*oncall.Config, error) {
	c, err := oncall.Parse(text)
	if err == nil {
		err = c.Check(func(receiver string) (int, bool) {
			list, ok := r.set.Integrations[receiver]
			return len(list), ok && alert.KindOf(receiver) != alert.ToNobody
		})
	}
	if err != nil {
		return nil, onCallError("oncall.yml:" + strings.ReplaceAll(err.Error(), "\n", "\noncall.yml:"))
	}
	return c, nil
}

// parse gives a routing its oncall.yml. At the start, one that is broken gives way to the last that was in force: a
// collector that pages by yesterday's rota is better than none.
func (s *Rotas) parse(ctx context.Context, r *routing, text []byte, starting bool) error {
	c, err := r.parseOnCall(text)
	if err != nil && starting {
		if last, ok := s.lastGood(ctx); ok {
			if old, lastErr := r.parseOnCall(last); lastErr == nil {
				s.log.Error("oncall.yml is not in force: the last good one is", "err", err)
				s.broken.Set(1)
				r.oncall, r.oncallText = old, last
				return nil
			}
		}
	}
	if err != nil {
		return err
	}
	r.oncall, r.oncallText = c, text
	return nil
}

func (s *Rotas) lastGood(ctx context.Context) (text []byte, ok bool) {
	err := s.db.QueryRowContext(ctx, `SELECT text FROM oncall_file WHERE one = 1`).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		s.log.Error("read the last good oncall.yml", "err", err)
	}
	return text, err == nil
}

// keep remembers an oncall.yml that is in force.
func (s *Rotas) keep(text []byte) error {
	return s.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO oncall_file (one, text) VALUES (1, ?)`, append([]byte{}, text...))
		return err
	})
}

// gapsAhead is how far ahead gaps of rotas are looked for, gapMetric how far the metric counts them.
const (
	gapsAhead = 30 * 24 * time.Hour
	gapMetric = 7 * 24 * time.Hour
)

// ErrNoOverride is returned for an override that does not exist or is over.
var ErrNoOverride = errors.New("no such override")

// Gaps are the times within the next 30 days at which nobody is on call, by rota.
func (s *Rotas) Gaps(now time.Time) map[string][]oncall.Shift {
	out := map[string][]oncall.Shift{}
	for _, r := range s.InForce().Rotas {
		if gaps := r.Gaps(now, now.Add(gapsAhead)); len(gaps) > 0 {
			out[r.Name] = gaps
		}
	}
	return out
}

// Off is the source for rotas that have nobody on call now.
func (s *Rotas) Off(now time.Time) (out []alert.Off) {
	for _, r := range s.InForce().Rotas {
		gaps := r.Gaps(now, now.Add(gapsAhead))
		if len(gaps) == 0 || gaps[0].From.After(now) {
			continue
		}
		o := alert.Off{Kind: alert.OffRota, What: "whatever escalates to rota " + r.Name, Why: "nobody is on call: the next step of the policy pages"}
		if end := gaps[0].To; end.Before(now.Add(gapsAhead)) {
			o.Until = end.UnixMilli()
		}
		out = append(out, o)
	}
	return out
}

// ready returns a routing's rotas with their overrides, and keeps their file as the last good one.
func (s *Rotas) ready(r *routing) (*oncall.Config, error) {
	overrides, err := s.overrides(context.Background())
	if err != nil {
		return nil, err
	}
	if len(r.oncallText) > 0 {
		if err := s.keep(r.oncallText); err != nil {
			return nil, fmt.Errorf("keep oncall.yml: %w", err)
		}
	}
	return r.oncall.WithOverrides(overrides), nil
}

// warnOfGaps says where nobody is on call.
func (s *Rotas) warnOfGaps() {
	for rota, gaps := range s.Gaps(time.Now()) {
		s.log.Warn("nobody is on call in some of the next 30 days", "rota", rota, "gaps", len(gaps),
			"first_from", gaps[0].From.Format(time.RFC3339), "first_to", gaps[0].To.Format(time.RFC3339))
	}
}

// overrides reads those that are not over.
func (s *Rotas) overrides(ctx context.Context) ([]oncall.Override, error) {
	out, err := statedb.All(ctx, s.db, func(row *sql.Rows) (o oncall.Override, err error) {
		var from, to int64
		err = row.Scan(&o.ID, &o.Rota, &o.Person, &from, &to, &o.By)
		o.From, o.To = time.UnixMilli(from), time.UnixMilli(to)
		return o, err
	}, `SELECT id, rota, person, from_at, to_at, set_by FROM oncall_override WHERE ended = 0 AND to_at > ? ORDER BY id`, time.Now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read overrides: %w", err)
	}
	return out, nil
}

// Override puts a person on call in a rota for a while, and returns its number. It wins over the file and over earlier ones.
func (s *Rotas) Override(ctx context.Context, o oncall.Override) (id int64, err error) {
	if err := s.checkOverride(o); err != nil {
		return 0, err
	}
	err = s.commits.Do(func(c *sql.Conn) error {
		res, err := c.ExecContext(context.WithoutCancel(ctx), `INSERT INTO oncall_override (rota, person, from_at, to_at, set_by) VALUES (?,?,?,?,?)`,
			o.Rota, o.Person, o.From.UnixMilli(), o.To.UnixMilli(), o.By)
		if err != nil {
			return fmt.Errorf("write override: %w", err)
		}
		id, err = res.LastInsertId()
		return err
	})
	if err != nil {
		return 0, err
	}
	s.log.Info("override set", "rota", o.Rota, "person", o.Person, "from", o.From, "to", o.To, "by", o.By)
	return id, s.refresh()
}

// ErrBadOverride is wrapped by every error about a faulty override.
var ErrBadOverride = errors.New("bad override")

func (s *Rotas) checkOverride(o oncall.Override) error {
	c := s.InForce()
	switch {
	case c.Rota(o.Rota) == nil:
		var known []string
		for _, r := range c.Rotas {
			known = append(known, r.Name)
		}
		return fmt.Errorf("%w: rota %q is not in oncall.yml: known are %s", ErrBadOverride, o.Rota, strings.Join(known, ", "))
	case c.Person(o.Person) == nil:
		return fmt.Errorf("%w: person %q is not in oncall.yml", ErrBadOverride, o.Person)
	case !o.To.After(o.From):
		return fmt.Errorf("%w: it ends at %s, before it begins", ErrBadOverride, o.To.Format(time.RFC3339))
	case !o.To.After(time.Now()):
		return fmt.Errorf("%w: it ended at %s", ErrBadOverride, o.To.Format(time.RFC3339))
	}
	return nil
}

// EndOverride ends one that was set by Override; those of the file end there. It is ErrNoOverride where there is none.
func (s *Rotas) EndOverride(ctx context.Context, id int64, who string) error {
	err := s.commits.Do(func(c *sql.Conn) error {
		res, err := c.ExecContext(context.WithoutCancel(ctx), `UPDATE oncall_override SET ended = 1 WHERE id = ? AND ended = 0`, id)
		if err != nil {
			return fmt.Errorf("end override: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("override %d: %w", id, ErrNoOverride))
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.log.Info("override ended", "id", id, "by", who)
	return s.refresh()
}

func (s *Rotas) refresh() error {
	overrides, err := s.overrides(context.Background())
	if err != nil {
		return err
	}
	s.current.Store(s.routing().oncall.WithOverrides(overrides))
	return nil
}

// rotaGaps tells how long nobody will be on call, for each rota.
type rotaGaps struct {
	rotas *Rotas
	desc  *prometheus.Desc
}

func newRotaGaps(s *Rotas) *rotaGaps {
	return &rotaGaps{s, prometheus.NewDesc("bramble_oncall_gap_seconds", "Time within the next 7 days at which nobody is on call.", []string{"rota"}, nil)}
}

// Describe implements prometheus.Collector.
func (g *rotaGaps) Describe(out chan<- *prometheus.Desc) { out <- g.desc }

// Collect implements prometheus.Collector.
func (g *rotaGaps) Collect(out chan<- prometheus.Metric) {
	now := time.Now()
	for _, r := range g.rotas.InForce().Rotas {
		var d time.Duration
		for _, s := range r.Gaps(now, now.Add(gapMetric)) {
			d += s.To.Sub(s.From)
		}
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, d.Seconds(), r.Name)
	}
}
