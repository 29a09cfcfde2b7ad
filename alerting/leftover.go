package alerting

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/database"
)

// leftRulePrefix names the alerts that stand for what a maintenance or a silence left behind.
const leftRulePrefix = "left "

// Names of these alerts.
const (
	leftByMaintenance = "NotBackAfterMaintenance"
	leftBySilence     = "StillFiringAfterSilence"
)

// leftover is what fires when a maintenance or a silence ends and was never paged: one alert stands for all of it, until
// the last of its members is over.
type leftover struct {
	id      string
	alert   alert.Transition
	members map[string]int64 // FiredAt by Transition.Key
}

// leftovers are the leftovers that are open. The inbox's lock guards them.
type leftovers struct {
	open   map[string]*leftover
	member map[string]*leftover // by Transition.Key
}

func newLeftovers() leftovers {
	return leftovers{open: map[string]*leftover{}, member: map[string]*leftover{}}
}

// of returns the leftover that stands for an alert, nil for none.
func (ls *leftovers) of(t *alert.Transition) *leftover {
	if l := ls.member[t.Key()]; l != nil && l.members[t.Key()] == t.FiredAt {
		return l
	}
	return nil
}

func (ls *leftovers) add(l *leftover) {
	ls.open[l.id] = l
	for key := range l.members {
		ls.member[key] = l
	}
}

// leave takes an alert that is over out of its leftover.
func (ls *leftovers) leave(key string) {
	if l := ls.member[key]; l != nil {
		delete(l.members, key)
		delete(ls.member, key)
	}
}

// keep drops the members that do not fire any more, by FiredAt of those that do.
func (ls *leftovers) keep(firing map[string]int64) {
	for key, l := range maps.Clone(ls.member) {
		if firing[key] != l.members[key] {
			ls.leave(key)
		}
	}
}

// ended returns, and forgets, the alerts of leftovers without members.
func (ls *leftovers) ended(now time.Time) (out []alert.Transition) {
	for _, id := range slices.Sorted(maps.Keys(ls.open)) {
		l := ls.open[id]
		if len(l.members) > 0 {
			continue
		}
		delete(ls.open, id)
		t := l.alert
		t.From, t.State, t.At, t.Received = alert.Firing, alert.Inactive, max(now.UnixMilli(), t.At+1), now.UnixMilli()
		out = append(out, t)
	}
	return out
}

// firing returns the alerts of all that is open.
func (ls *leftovers) firing() (out []alert.Transition) {
	for _, id := range slices.Sorted(maps.Keys(ls.open)) {
		out = append(out, ls.open[id].alert)
	}
	return out
}

// ending is a maintenance or a silence that is over.
type ending struct {
	id, name string // "maintenance 4", and the alert's name
	over     int64
	summary  string // completes "3 boards "
	about    string // one sentence
	label    string // the label that holds which one it was
	labels   map[string]string
	boards   int // that it covered, 0 where that is not known
}

// leave writes the alert of what an ending left. members must not be empty.
func (e ending) leave(members []alert.Transition, now time.Time) *leftover {
	l := &leftover{id: e.id, members: map[string]int64{}}
	boards := map[string][]string{}
	severity, labels := "", sharedPlace(members)
	for _, t := range members {
		l.members[t.Key()] = t.FiredAt
		boards[t.Labels[alert.BoardLabel]] = append(boards[t.Labels[alert.BoardLabel]], t.Labels[alert.NameLabel])
		if s := t.Labels["severity"]; alert.SeverityRank(s) > alert.SeverityRank(severity) {
			severity = s
		}
	}
	maps.Copy(labels, e.labels)
	maps.Copy(labels, map[string]string{alert.NameLabel: e.name, e.label: strings.TrimPrefix(e.id, e.label+" ")})
	if severity != "" {
		labels["severity"] = severity
	}
	names := slices.Sorted(maps.Keys(boards))
	count := fmt.Sprintf("%d of %d boards", len(names), e.boards)
	switch {
	case len(names) == 1:
		labels[alert.BoardLabel] = names[0]
		count = names[0]
	case e.boards < len(names):
		count = fmt.Sprintf("%d boards", len(names))
	}
	var what []string
	for _, b := range names {
		slices.Sort(boards[b])
		what = append(what, b+" ("+strings.Join(slices.Compact(boards[b]), ", ")+")")
	}
	shown := what[:min(len(what), 50)]
	list := alert.Enumerate(shown)
	if more := len(what) - len(shown); more > 0 {
		list = fmt.Sprintf("%s and %d more", strings.Join(shown, ", "), more)
	}
	at := now.UnixMilli()
	l.alert = alert.Transition{
		Rule: leftRulePrefix + e.id, Series: labelKeyOf(labels), Labels: labels, From: alert.Inactive, State: alert.Firing, At: at, Since: e.over, FiredAt: at,
		Received: at, Value: alert.Value(len(names)), Boards: names,
		Annotations: map[string]string{
			"what": strings.TrimPrefix(e.summary, " "), "summary": placeText(labels) + count + " " + e.summary,
			alert.ReasonNote: e.about + " What still fires: " + list + ".",
			"description":    "Nobody was paged for these boards while it lasted; this page stands for all of them, and ends when the last of them is well.",
			"runbook":        "Ask who worked there first. Then look at what these boards share: a port, a cable, a power supply, the image they boot.",
		},
	}
	return l
}

// labelKeyOf is the canonical form of labels.
func labelKeyOf(labels map[string]string) string { return strings.Trim(alert.LabelText(labels), "{}") }

// sharedPlace are the labels of domains that all members have in common.
func sharedPlace(members []alert.Transition) map[string]string {
	out := map[string]string{}
	for _, k := range alert.DomainKinds {
		v := members[0].Labels[k.Name]
		if v != "" && !slices.ContainsFunc(members, func(t alert.Transition) bool { return t.Labels[k.Name] != v }) {
			out[k.Name] = v
		}
	}
	return out
}

// placeText names the smallest shared place: "Rack r7: ".
func placeText(labels map[string]string) string {
	for _, k := range alert.DomainKinds {
		if v := labels[k.Name]; v != "" && labels[alert.BoardLabel] == "" {
			return alert.Upper(k.Text) + " " + v + ": "
		}
	}
	return ""
}

func insertLeftover(ctx context.Context, db database.Querier, l *leftover) error {
	alert, err := json.Marshal(l.alert)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	members, err := json.Marshal(l.members)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	if _, err = db.ExecContext(ctx, `INSERT OR REPLACE INTO alert_left (id, transition, members) VALUES (?,?,?)`, l.id, string(alert), string(members)); err != nil {
		return fmt.Errorf("write what %s left: %w", l.id, err)
	}
	return nil
}

func readLeftovers(ctx context.Context, db database.Querier) (out []*leftover, err error) {
	rows, err := db.QueryContext(ctx, `SELECT id, transition, members FROM alert_left ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read leftovers: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			l            leftover
			one, members string
		)
		if err := rows.Scan(&l.id, &one, &members); err != nil {
			return nil, fmt.Errorf("read leftover: %w", err)
		}
		if l.alert, err = alert.DecodeTransition([]byte(one)); err == nil {
			err = json.Unmarshal([]byte(members), &l.members)
		}
		if err != nil {
			return nil, fmt.Errorf("decode what %s left: %w", l.id, err)
		}
		out = append(out, &l)
	}
	return out, rows.Err()
}

// forgetLeftovers drops the rows of leftovers that are over. Where that fails, a restart finds them without members.
func (p *Pager) forgetLeftovers(ended []alert.Transition) {
	if len(ended) == 0 {
		return
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		for _, t := range ended {
			if _, err := c.ExecContext(context.Background(), `DELETE FROM alert_left WHERE id = ?`, strings.TrimPrefix(t.Rule, leftRulePrefix)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.log.Error("forget what a maintenance or a silence left", "err", err)
	}
}

// pagesSomebody reports whether an alert of a board would page on its own.
func pagesSomebody(t *alert.Transition) bool {
	return !alert.PagesDomainsOnly(t) || t.Labels[alert.CustomerLabel] == ""
}

// sortMembers puts alerts in a stable order.
func sortMembers(ts []alert.Transition) {
	slices.SortFunc(ts, func(a, b alert.Transition) int { return cmp.Compare(a.Key(), b.Key()) })
}
