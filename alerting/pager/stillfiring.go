package pager

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

	amlabels "github.com/prometheus/alertmanager/pkg/labels"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/maintenance"
	"bramble/storage/statedb"
)

// leftRulePrefix names the alerts that represent those that still fired when a maintenance or a silence ended.
const leftRulePrefix = "left "

// Names of these alerts.
const (
	leftByMaintenance = "NotBackAfterMaintenance"
	leftBySilence     = "StillFiringAfterSilence"
)

// stillFiring holds the alerts that fire when a maintenance or a silence ends and were never paged: one alert represents all of them, until
// the last of its members is over.
type stillFiring struct {
	id      string
	alert   alert.Transition
	members map[string]int64 // FiredAt by Transition.Key
}

// stillFirings are those that are open. The inbox's lock guards them.
type stillFirings struct {
	open   map[string]*stillFiring
	member map[string]*stillFiring // by Transition.Key
}

func newStillFirings() stillFirings {
	return stillFirings{open: map[string]*stillFiring{}, member: map[string]*stillFiring{}}
}

// of returns the one that represents an alert, nil for none.
func (ls *stillFirings) of(t *alert.Transition) *stillFiring {
	if l := ls.member[t.Key()]; l != nil && l.members[t.Key()] == t.FiredAt {
		return l
	}
	return nil
}

func (ls *stillFirings) add(l *stillFiring) {
	ls.open[l.id] = l
	for key := range l.members {
		ls.member[key] = l
	}
}

// end takes an alert that is over out of the one that represents it.
func (ls *stillFirings) end(key string) {
	if l := ls.member[key]; l != nil {
		delete(l.members, key)
		delete(ls.member, key)
	}
}

// keep drops the members that do not fire any more, by FiredAt of those that do.
func (ls *stillFirings) keep(firing map[string]int64) {
	for key, l := range maps.Clone(ls.member) {
		if firing[key] != l.members[key] {
			ls.end(key)
		}
	}
}

// ended returns, and forgets, the alerts of those without members.
func (ls *stillFirings) ended(now time.Time) (out []alert.Transition) {
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
func (ls *stillFirings) firing() (out []alert.Transition) {
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

// stillFiring writes the alert for the members that still fire after an end. members must not be empty.
func (e ending) stillFiring(members []alert.Transition, now time.Time) *stillFiring {
	l := &stillFiring{id: e.id, members: map[string]int64{}}
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

func insertStillFiring(ctx context.Context, db database.Querier, l *stillFiring) error {
	alert, err := json.Marshal(l.alert)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	members, err := json.Marshal(l.members)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	if _, err = db.ExecContext(ctx, `INSERT OR REPLACE INTO alert_still_firing (id, transition, members) VALUES (?,?,?)`, l.id, string(alert), string(members)); err != nil {
		return fmt.Errorf("write what %s left: %w", l.id, err)
	}
	return nil
}

func readStillFiring(ctx context.Context, db database.Querier) ([]*stillFiring, error) {
	out, err := statedb.All(ctx, db, func(row *sql.Rows) (*stillFiring, error) {
		var (
			l            stillFiring
			one, members string
		)
		err := row.Scan(&l.id, &one, &members)
		if err == nil {
			l.alert, err = alert.DecodeTransition([]byte(one))
		}
		if err == nil {
			err = json.Unmarshal([]byte(members), &l.members)
		}
		return &l, err
	}, `SELECT id, transition, members FROM alert_still_firing ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read alerts after maintenances and silences: %w", err)
	}
	return out, nil
}

// pagesSomebody reports whether an alert of a board would page on its own.
func pagesSomebody(t *alert.Transition) bool {
	return !alert.PagesDomainsOnly(t) || t.Labels[alert.CustomerLabel] == ""
}

// sortMembers puts alerts in a stable order.
func sortMembers(ts []alert.Transition) {
	slices.SortFunc(ts, func(a, b alert.Transition) int { return cmp.Compare(a.Key(), b.Key()) })
}

// equalities are the labels that matchers ask for by name, but for those that an alert has of itself.
func equalities(ms amlabels.Matchers) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		if m.Type == amlabels.MatchEqual && m.Name != alert.NameLabel && m.Name != alert.BoardLabel && !maintenance.RuleLabels[m.Name] && m.Value != "" {
			out[m.Name] = m.Value
		}
	}
	return out
}

// bothZones is a time in UTC and, where that is another, in the local zone.
func bothZones(ms int64) string {
	at := time.UnixMilli(ms)
	text := at.UTC().Format("15:04:05 UTC")
	if _, offset := at.Local().Zone(); offset != 0 {
		text += " (" + at.Local().Format("15:04 MST") + ")"
	}
	return text
}
