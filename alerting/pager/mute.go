package pager

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api/v2/models"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
)

// mutes are the maintenances and ended silences, beside Alertmanager's own, for which alerts page nobody for a while.
type mutes struct {
	maintenances *maintenance.Store

	mu sync.Mutex
	// silences are those that were in force when they were last looked at. One that is over holds until the page for the alerts it left
	// is written.
	silences map[string]watchedSilence
	began    time.Time // when Run began, zero before
}

// watchedSilence is a silence with its matchers, of which one set must match.
type watchedSilence struct {
	*silencepb.Silence
	sets []amlabels.Matchers
}

func (w watchedSilence) matches(labels model.LabelSet) bool {
	return slices.ContainsFunc(w.sets, func(ms amlabels.Matchers) bool { return ms.Matches(labels) })
}

var matchTypes = map[silencepb.Matcher_Type]amlabels.MatchType{
	silencepb.Matcher_EQUAL: amlabels.MatchEqual, silencepb.Matcher_NOT_EQUAL: amlabels.MatchNotEqual,
	silencepb.Matcher_REGEXP: amlabels.MatchRegexp, silencepb.Matcher_NOT_REGEXP: amlabels.MatchNotRegexp,
}

func watchSilence(s *silencepb.Silence) (watchedSilence, error) {
	w := watchedSilence{Silence: s}
	sets := s.MatcherSets
	if len(sets) == 0 {
		sets = []*silencepb.MatcherSet{{Matchers: s.Matchers}}
	}
	for _, set := range sets {
		var ms amlabels.Matchers
		for _, m := range set.Matchers {
			one, err := amlabels.NewMatcher(matchTypes[m.Type], m.Name, m.Pattern)
			if err != nil {
				return w, fmt.Errorf("silence %s: %w", s.Id, err)
			}
			ms = append(ms, one)
		}
		w.sets = append(w.sets, ms)
	}
	return w, nil
}

// holdsSilence reports whether a silence that is in force, or over and not told yet, keeps an alert from paging.
func (m *mutes) holdsSilence(labels model.LabelSet) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.silences {
		if w.matches(labels) {
			return true
		}
	}
	return false
}

// holds reports whether a maintenance, or a silence whose end is not told yet, keeps an alert of the engine's from
// paging.
func (m *mutes) holds(labels model.LabelSet, now time.Time) bool {
	return m.maintenances.Holding(labels, now.UnixMilli(), 0) != nil || m.holdsSilence(labels)
}

// muteStage takes alerts that a maintenance holds out of a notification. Ended ones pass: the end of an alert that was paged before
// is notified.
type muteStage struct{ pager *Pager }

// Exec implements notify.Stage.
func (s muteStage) Exec(ctx context.Context, _ *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
	now := time.Now()
	kept := make([]*amalert.Alert, 0, len(alerts))
	for _, a := range alerts {
		if a.ResolvedAt(now) || !s.pager.faults.ask("find the maintenance of an alert", func() bool { return s.pager.holds(a, now) }) {
			kept = append(kept, a)
		}
	}
	return ctx, kept, nil
}

// holds reports whether an alert is not to be paged now. Silences are Alertmanager's own business for alerts that came
// by its API.
func (p *Pager) holds(a *amalert.Alert, now time.Time) bool {
	if p.mutes.maintenances.Holding(a.Labels, now.UnixMilli(), 0) != nil {
		return true
	}
	rule, _, _ := p.originOf(a.Fingerprint())
	return rule != "" && p.mutes.holdsSilence(a.Labels)
}

// Maintenances are the maintenances that this pager keeps to.
func (p *Pager) Maintenances() *maintenance.Store { return p.mutes.maintenances }

// loadMutes reads the state of an earlier pager. Silences are loaded before.
func (p *Pager) loadMutes(ctx context.Context, fleet func() map[string]alert.Place) error {
	all, err := maintenance.OpenWith(ctx, p.commits, fleet)
	if err != nil {
		return err
	}
	p.mutes = &mutes{maintenances: all, silences: map[string]watchedSilence{}}
	left, err := readStillFiring(ctx, p.db)
	if err != nil {
		return err
	}
	for _, l := range left {
		p.inbox.left.add(l)
		p.Deliver([]alert.Transition{l.alert})
	}
	return p.loadWatched(ctx)
}

// loadWatched finds the silences that were in force when the earlier pager ended.
func (p *Pager) loadWatched(ctx context.Context) error {
	rows, err := p.db.QueryContext(ctx, `SELECT id FROM alert_silence_watched`)
	if err != nil {
		return fmt.Errorf("read watched silences: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("read watched silences: %w", err)
		}
		s, err := p.silences.QueryOne(ctx, silence.QIDs(id))
		if err != nil {
			continue // forgotten since: it ended days ago
		}
		w, err := watchSilence(s)
		if err != nil {
			return err
		}
		p.mutes.silences[id] = w
	}
	return rows.Err()
}

// followMutes notifies of alerts that still fire after maintenances and silences. The feed calls it once a second, after it
// has taken in the deliveries.
func (p *Pager) followMutes(now time.Time) {
	p.inbox.feedMu.Lock()
	defer p.inbox.feedMu.Unlock()
	p.mutes.mu.Lock()
	if p.mutes.began.IsZero() {
		p.mutes.began = now
	}
	began := p.mutes.began
	p.mutes.mu.Unlock()
	for _, m := range p.mutes.maintenances.Current() {
		if due := m.Due(began); due <= now.UnixMilli() {
			if err := p.closeMaintenance(m, now); err != nil {
				p.log.Error("close a maintenance; what it holds stays held", "number", m.Number, "err", err)
			}
		}
	}
	if err := p.followSilences(now, began); err != nil {
		p.log.Error("follow silences", "err", err)
	}
}

// closeMaintenance ends one for good: the alerts that still fire are on record in the transaction that closes it. The caller holds
// inbox.feedMu.
func (p *Pager) closeMaintenance(m *maintenance.Maintenance, now time.Time) error {
	members := p.findStillFiring(m.Parsed.Matches, func(labels model.LabelSet) bool {
		return p.mutes.maintenances.Holding(labels, now.UnixMilli(), m.Number) != nil || p.mutes.holdsSilence(labels)
	})
	closed := *m
	closed.ClosedAt = now.UnixMilli()
	e := ending{
		id: fmt.Sprintf("maintenance %d", m.Number), name: leftByMaintenance, label: "maintenance", over: m.EndsAt,
		summary: fmt.Sprintf("did not come back after maintenance %d", m.Number), labels: equalities(m.Parsed),
		about: fmt.Sprintf("Maintenance %d (%s%s), begun by %s, ended at %s; boards had until %s.", m.Number, strings.Join(m.Matchers, ", "),
			quoted(m.Comment), m.By, bothZones(m.EndsAt), time.UnixMilli(now.UnixMilli()).UTC().Format("15:04:05 UTC")),
		boards: len(maintenance.Cover(m.Parsed, p.mutes.maintenances.Fleet(), nil).Boards),
	}
	var l *stillFiring
	if len(members) > 0 {
		l = e.stillFiring(members, now)
		closed.NotBack = l.alert.Boards
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		if l != nil {
			if err := insertStillFiring(context.Background(), c, l); err != nil {
				return err
			}
		}
		return maintenance.Update(context.Background(), c, &closed)
	})
	if err != nil {
		return err
	}
	p.notifyStillFiring(l)
	p.mutes.maintenances.Replace(&closed)
	p.log.Info("maintenance is over", "number", m.Number, "not_back", len(closed.NotBack))
	return nil
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

func quoted(comment string) string {
	if comment == "" {
		return ""
	}
	return ", “" + comment + "”"
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

// findStillFiring returns the alerts of boards whose condition holds, that were never paged, and that nothing else stands for.
func (p *Pager) findStillFiring(matches, stillHeld func(model.LabelSet) bool) (out []alert.Transition) {
	p.inbox.mu.Lock()
	for fp, l := range p.inbox.live {
		if len(l.firing) == 0 || p.inbox.notified[fp] || !alert.IsBoardAlert(&l.last) || p.inbox.inhibiting(l.last) != nil {
			continue
		}
		if labels := alert.LabelSet(l.last.Labels); matches(labels) && !stillHeld(labels) {
			l.suppressed = true
			out = append(out, l.last)
		}
	}
	p.inbox.mu.Unlock()
	out = slices.DeleteFunc(out, func(t alert.Transition) bool {
		return p.condition(t).Over != 0 || p.silencer.Mutes(context.Background(), alert.LabelSet(t.Labels))
	})
	sortMembers(out)
	return out
}

// notifyStillFiring puts the alert into Alertmanager's store, before the alerts that it represents are released.
func (p *Pager) notifyStillFiring(l *stillFiring) {
	if l == nil {
		return
	}
	var firing []*amalert.Alert
	p.inbox.mu.Lock()
	p.inbox.left.add(l)
	p.inbox.accept(l.alert, &firing)
	p.inbox.mu.Unlock()
	p.put(firing)
}

// followSilences keeps the list of silences in force, on disk as well, and notifies of alerts that still fire after one.
// The caller holds inbox.feedMu.
func (p *Pager) followSilences(now, began time.Time) error {
	active, _, err := p.silences.Query(context.Background(), silence.QState(silence.SilenceStateActive))
	if err != nil {
		return err
	}
	p.mutes.mu.Lock()
	known := maps.Clone(p.mutes.silences)
	p.mutes.mu.Unlock()
	current, fresh := map[string]bool{}, []string{}
	for _, s := range active {
		current[s.Id] = true
		w, err := watchSilence(s)
		if err != nil {
			return err
		}
		if _, ok := known[s.Id]; !ok {
			fresh = append(fresh, s.Id)
		}
		p.mutes.mu.Lock()
		p.mutes.silences[s.Id] = w
		p.mutes.mu.Unlock()
	}
	if len(fresh) > 0 {
		if err := p.noteSilences(fresh); err != nil {
			return err
		}
	}
	for id, w := range known {
		if current[id] || now.Before(silenceDue(p.endOf(w), began)) {
			continue
		}
		if err := p.closeSilence(w, now); err != nil {
			return err
		}
	}
	return nil
}

// endOf is when a silence ended: it may have been expired before its time.
func (p *Pager) endOf(w watchedSilence) time.Time {
	if s, err := p.silences.QueryOne(context.Background(), silence.QIDs(w.Id)); err == nil {
		return s.EndsAt.AsTime()
	}
	return w.EndsAt.AsTime()
}

// silenceDue is when the end of a silence is told: at once, but where it ended while no collector ran, the boards get
// a minute from the start on.
func silenceDue(end, began time.Time) time.Time {
	if end.Before(began) {
		return began.Add(maintenance.DefaultGrace)
	}
	return end
}

func (p *Pager) noteSilences(ids []string) error {
	return p.commits.Do(func(c *sql.Conn) error {
		for _, id := range ids {
			if _, err := c.ExecContext(context.Background(), `INSERT OR IGNORE INTO alert_silence_watched (id) VALUES (?)`, id); err != nil {
				return fmt.Errorf("note silence %s: %w", id, err)
			}
		}
		return nil
	})
}

// closeSilence notifies of alerts that still fire after a silence. A single alert pages by itself, as it would without the
// silence.
func (p *Pager) closeSilence(w watchedSilence, now time.Time) error {
	members := p.findStillFiring(w.matches, func(labels model.LabelSet) bool {
		return p.mutes.maintenances.Holding(labels, now.UnixMilli(), 0) != nil
	})
	paging := 0
	for i := range members {
		if pagesSomebody(&members[i]) {
			paging++
		}
	}
	var l *stillFiring
	if paging > 1 {
		var texts []string
		for _, ms := range w.sets {
			texts = append(texts, ms.String())
		}
		over := p.endOf(w).UnixMilli()
		l = ending{
			id: "silence " + w.Id, name: leftBySilence, label: "silence", over: over,
			summary: "are still not well after a silence", labels: map[string]string{},
			about: fmt.Sprintf("The silence of %s (%s%s) ended at %s.", w.CreatedBy, strings.Join(texts, " or "), quoted(w.Comment), bothZones(over)),
		}.stillFiring(members, now)
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		if l != nil {
			if err := insertStillFiring(context.Background(), c, l); err != nil {
				return err
			}
		}
		_, err := c.ExecContext(context.Background(), `DELETE FROM alert_silence_watched WHERE id = ?`, w.Id)
		return err
	})
	if err != nil {
		return fmt.Errorf("tell what silence %s left: %w", w.Id, err)
	}
	p.notifyStillFiring(l)
	p.mutes.mu.Lock()
	delete(p.mutes.silences, w.Id)
	p.mutes.mu.Unlock()
	return nil
}

// recordSilence writes a silence that was set or expired. Alertmanager calls it where it would tell its peers, before
// it answers the client: a confirmed silence survives a crash.
func (p *Pager) recordSilence(b []byte) {
	var s silencepb.MeshSilence
	if err := protodelim.UnmarshalFrom(bufio.NewReader(bytes.NewReader(b)), &s); err != nil {
		p.log.Error("decode a silence", "err", err)
		return
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_silence (id, entry, expires_at) VALUES (?,?,?)`,
			s.Silence.Id, b, s.ExpiresAt.AsTime().UnixMilli())
		return err
	})
	if err != nil {
		p.log.Error("write a silence: it holds until the next restart only", "id", s.Silence.Id, "err", err)
	}
}

func (p *Pager) loadSilences(ctx context.Context) error {
	return p.loadEntries(ctx, `SELECT entry FROM alert_silence`, "silences", p.silences.Merge)
}

func (p *Pager) loadNotified(ctx context.Context) error {
	return p.loadEntries(ctx, `SELECT entry FROM alert_notified`, "notifications", p.notified.Merge)
}

func (p *Pager) loadEntries(ctx context.Context, query, what string, merge func([]byte) error) error {
	rows, err := p.db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if err := merge(b); err != nil {
			return fmt.Errorf("decode %s: %w", what, err)
		}
	}
	return rows.Err()
}

// maxSilence bounds the body of a silence, in bytes.
const maxSilence = 1 << 20

// guardSilences refuses a silence that covers much of the fleet and does not say so. All else passes untouched, bodies
// that Alertmanager will refuse included.
func (p *Pager) guardSilences(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || strings.TrimSuffix(r.URL.Path, "/") != "/api/v2/silences" {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSilence))
		if err != nil {
			refuseSilence(w, "read silence: "+err.Error())
			return
		}
		if err := p.mayBeSilenced(body); err != nil {
			refuseSilence(w, err.Error())
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// refuseSilence answers as Alertmanager does: its clients show the text.
func refuseSilence(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(why) // the client has gone
}

func (p *Pager) mayBeSilenced(body []byte) error {
	comment, ms := decodeSilence(body)
	if len(ms) == 0 {
		return nil
	}
	c := p.coverOf(ms)
	number := 0
	if m := confirmation.FindStringSubmatch(comment); m != nil {
		number, _ = strconv.Atoi(m[1]) // at most seven digits
	}
	var much *maintenance.ConfirmError
	if err := c.Confirm(number); errors.As(err, &much) {
		return fmt.Errorf("this silence covers %d of %d boards, more than 5 %% of the fleet, and nobody is paged for them: "+
			"to confirm that, write \"confirm %d\" into its comment. For work on a rack, `collector maintenance start` tells afterwards what did not come back",
			much.Boards, much.Of, much.Boards)
	}
	return nil
}

// coverOf is the cover of a silence that holds where one of the sets matches.
func (p *Pager) coverOf(sets ...amlabels.Matchers) maintenance.Coverage {
	var names []string
	if p.boardAlerts != nil {
		names = p.boardAlerts()
	}
	fleet := p.mutes.maintenances.Fleet()
	all := maintenance.Coverage{Of: len(fleet)}
	for _, ms := range sets {
		all.Boards = append(all.Boards, maintenance.Cover(ms, fleet, names).Boards...)
	}
	slices.Sort(all.Boards)
	all.Boards = slices.Compact(all.Boards)
	return all
}

// decodeSilence reads the fields of a silence that matter here. Fields that it cannot read are left to Alertmanager, which refuses them.
func decodeSilence(body []byte) (comment string, ms amlabels.Matchers) {
	var s models.PostableSilence
	if err := json.Unmarshal(body, &s); err != nil {
		return "", nil
	}
	if s.Comment != nil {
		comment = *s.Comment
	}
	return comment, readMatchers(s.Matchers)
}

func readMatchers(list models.Matchers) (ms amlabels.Matchers) {
	for _, m := range list {
		if m == nil || m.Name == nil || m.Value == nil {
			return nil
		}
		equal, regex := m.IsEqual == nil || *m.IsEqual, m.IsRegex != nil && *m.IsRegex
		kind := map[[2]bool]amlabels.MatchType{
			{true, false}: amlabels.MatchEqual, {false, false}: amlabels.MatchNotEqual, {true, true}: amlabels.MatchRegexp, {false, true}: amlabels.MatchNotRegexp,
		}[[2]bool{equal, regex}]
		one, err := amlabels.NewMatcher(kind, *m.Name, *m.Value)
		if err != nil {
			return nil
		}
		ms = append(ms, one)
	}
	return ms
}

// confirmation stands in the comment of a silence that covers more than 5 % of the fleet. amtool has no other field
// for it, and a number cannot be confirmed without having been read.
var confirmation = regexp.MustCompile(`(?i)\bconfirm (\d{1,7})\b`)
