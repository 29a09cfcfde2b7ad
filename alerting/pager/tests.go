package pager

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/rules"
	"bramble/storage/statedb"
)

const (
	testAlert       = "TestPage"
	testFailedAlert = "TestPageFailed"
	// testWithin is how long a test page may take; a page that took longer was not delivered in time.
	testWithin = 2 * time.Minute
	// testTries is how many tries a test page may take: a page that is not taken by then has failed as a test, though it is tried on.
	testTries = 5
	// maxOthers is how many other receivers hear of a test page that failed.
	maxOthers = 3
)

// withTests returns a configuration whose first routes lead a test page to the receiver that it is for, and the alert of
// one that failed to others that send something themselves.
func withTests(user *config.Config, sends func(receiver string) bool) (*config.Config, error) {
	wait, interval, repeat := model.Duration(0), model.Duration(5*time.Second), model.Duration(365*24*time.Hour)
	route := func(one, of, to string) (*config.Route, error) {
		var ms amcommoncfg.Matchers
		for _, m := range [][2]string{{alert.NameLabel, one}, {rules.TestReceiver, of}} {
			one, err := amlabels.NewMatcher(amlabels.MatchEqual, m[0], m[1])
			if err != nil {
				return nil, err
			}
			ms = append(ms, one)
		}
		return &config.Route{
			Receiver: to, Matchers: ms, GroupBy: []model.LabelName{alert.NameLabel, rules.TestReceiver, rules.TestID}, GroupByStr: []string{alert.NameLabel, rules.TestReceiver, rules.TestID},
			GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
		}, nil
	}
	var own []*config.Route
	for _, rcv := range user.Receivers {
		r, err := route(testAlert, rcv.Name, rcv.Name)
		if err != nil {
			return nil, err
		}
		own = append(own, r)
		var others []*config.Route
		for _, other := range user.Receivers {
			if other.Name == rcv.Name || !sends(other.Name) || len(others) == maxOthers {
				continue
			}
			if r, err = route(testFailedAlert, rcv.Name, other.Name); err != nil {
				return nil, err
			}
			r.Continue = true
			others = append(others, r)
		}
		if len(others) > 0 {
			others[len(others)-1].Continue = false
		}
		own = append(own, others...)
	}
	root := *user.Route
	root.Routes = slices.Concat(own, user.Route.Routes)
	c := *user
	c.Route = &root
	return &c, nil
}

// PageTests are the test pages that people and the schedule ask for. All methods are safe for concurrent use.
type PageTests struct {
	db      *sql.DB
	commits *database.Writer
	log     *slog.Logger
	routing func() *routing
}

// Start puts a test page on record, for a receiver or for the one that the first route leads to. The caller gives the
// engine its reading, Engine.Test, and delivers the transitions. scheduled is when it was due, zero for one on demand.
func (p *PageTests) Start(ctx context.Context, receiver, by string, scheduled time.Time) (alert.PageTest, error) {
	receiver, err := p.routing().testable(receiver)
	if err != nil {
		return alert.PageTest{}, err
	}
	now, due := time.Now(), int64(0)
	if !scheduled.IsZero() {
		due = scheduled.UnixMilli()
	}
	t := alert.PageTest{Receiver: receiver, At: now.UnixMilli(), By: by, ScheduledFor: due, State: "waiting"}
	err = p.commits.Do(func(c *sql.Conn) error {
		if err := c.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM page`).Scan(&t.AfterPage); err != nil {
			return fmt.Errorf("write test page: %w", err)
		}
		res, err := c.ExecContext(ctx, `INSERT INTO test_page (receiver, at, asked_by, scheduled_for, after_page, state) VALUES (?,?,?,?,?,'waiting')`,
			t.Receiver, t.At, t.By, t.ScheduledFor, t.AfterPage)
		if err != nil {
			return fmt.Errorf("write test page: %w", err)
		}
		t.Number, err = res.LastInsertId()
		return err
	})
	return t, err
}

// testable returns the receiver of that name, for an empty one that of the first route: one that sends something, or that
// represents a policy and so the person on call.
func (r *routing) testable(receiver string) (string, error) {
	names := r.receivers()
	for _, rcv := range r.set.Config.Receivers {
		if r.oncall.PolicyOf(rcv.Name) != nil {
			names = append(names, rcv.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch first := r.set.Config.Route.Receiver; {
	case len(names) == 0:
		return "", fmt.Errorf("%w: no receiver sends anything: the collector needs an alertmanager.yml with one", alert.ErrBadTest)
	case receiver == "" && slices.Contains(names, first):
		return first, nil
	case receiver == "":
		return names[0], nil
	case !slices.Contains(names, receiver):
		return "", fmt.Errorf("%w: no receiver %q sends anything; there are %s", alert.ErrBadTest, receiver, alert.Enumerate(names))
	}
	return receiver, nil
}

// Decide looks at the test pages that wait and returns those that are decided now. Their alerts are to be ended.
func (p *PageTests) Decide(ctx context.Context, now time.Time) (decided []alert.PageTest, err error) {
	waiting, err := p.read(ctx, `WHERE state = 'waiting' ORDER BY number`)
	if err != nil {
		return nil, err
	}
	for _, t := range waiting {
		if err := p.decide(ctx, &t, now); err != nil {
			return decided, err
		}
		if t.State == "waiting" {
			continue
		}
		err := p.commits.Do(func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, `UPDATE test_page SET state = ?, decided_at = ?, latency = ?, answer = ? WHERE number = ?`,
				t.State, t.DecidedAt, t.LatencyMs, t.Answer, t.Number)
			return err
		})
		if err != nil {
			return decided, fmt.Errorf("write test page %d: %w", t.Number, err)
		}
		p.log.Info("test page", "number", t.Number, "receiver", t.Receiver, "state", t.State, "ms", t.LatencyMs, "answer", t.Answer)
		decided = append(decided, t)
	}
	return decided, nil
}

// decide looks at the pages that a test made.
func (p *PageTests) decide(ctx context.Context, t *alert.PageTest, now time.Time) error {
	pages, delivered, failed := 0, 0, []string{}
	err := statedb.Each(ctx, p.db, func(row *sql.Rows) error {
		var (
			integration, state, answer string
			attempts                   int
			left                       int64
		)
		if err := row.Scan(&integration, &state, &attempts, &answer, &left); err != nil {
			return err
		}
		pages++
		if state == "delivered" {
			delivered++
			t.LatencyMs = max(t.LatencyMs, left-t.At)
			return nil
		}
		failed = append(failed, integration+": "+answer)
		if state == "failed" || attempts >= testTries {
			t.State = "failed"
		}
		return nil
	}, `SELECT integration, state, attempts, answer, left_at FROM page WHERE seq > ? AND instr(group_key, ?) > 0 ORDER BY seq`,
		t.AfterPage, fmt.Sprintf("%s=%q", rules.TestID, strconv.FormatInt(t.Number, 10)))
	if err != nil {
		return fmt.Errorf("read pages of test %d: %w", t.Number, err)
	}
	late := now.UnixMilli()-t.At > testWithin.Milliseconds()
	switch {
	case pages > 0 && delivered == pages:
		t.State, t.Answer = "delivered", "accepted"
	case pages == 0 && late:
		t.State, t.Answer = "failed", "no page was written within "+testWithin.String()
	case late || t.State == "failed":
		t.State, t.Answer = "failed", strings.Join(failed, "; ")
	}
	if t.State != "waiting" {
		t.DecidedAt = now.UnixMilli()
	}
	return nil
}

// List returns the last test pages, the newest first.
func (p *PageTests) List(ctx context.Context) ([]alert.PageTest, error) {
	return p.read(ctx, `ORDER BY number DESC LIMIT 50`)
}

// LastScheduled is when the last test page that was sent on a schedule was due; the zero time for never.
func (p *PageTests) LastScheduled(ctx context.Context) (time.Time, error) {
	var at int64
	if err := p.db.QueryRowContext(ctx, `SELECT coalesce(max(scheduled_for), 0) FROM test_page`).Scan(&at); err != nil || at == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(at), nil
}

// Failed says of every receiver of the configuration that was tested whether its last test page failed.
func (p *PageTests) Failed(ctx context.Context) (map[string]bool, error) {
	last, err := p.read(ctx, `WHERE number IN (SELECT max(number) FROM test_page WHERE state != 'waiting' GROUP BY receiver)`)
	if err != nil {
		return nil, err
	}
	out, r := map[string]bool{}, p.routing()
	for _, t := range last {
		out[t.Receiver] = t.State == "failed" && len(r.set.Integrations[t.Receiver]) > 0
	}
	return out, nil
}

func (p *PageTests) read(ctx context.Context, where string) ([]alert.PageTest, error) {
	out := []alert.PageTest{}
	err := statedb.Each(ctx, p.db, func(row *sql.Rows) error {
		var t alert.PageTest
		err := row.Scan(&t.Number, &t.Receiver, &t.At, &t.By, &t.ScheduledFor, &t.AfterPage, &t.State, &t.DecidedAt, &t.LatencyMs, &t.Answer)
		out = append(out, t)
		return err
	}, `SELECT number, receiver, at, asked_by, scheduled_for, after_page, state, decided_at, latency, answer FROM test_page `+where)
	if err != nil {
		return nil, fmt.Errorf("read test pages: %w", err)
	}
	return out, nil
}
