package escalation

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

const (
	// throttleWindow and throttleMax are the limit of a person's reading: no more messages within any such time, under any
	// routes. The last of them is for collected pages.
	throttleWindow = time.Minute
	throttleMax    = 3
	// bundleDelay is how long a page that is too much waits for further ones before the message that counts and lists
	// them leaves; each that comes meanwhile begins the wait anew, bundleLongest in all. With the half second that a board
	// waits for its peers it keeps a lone third page within a minute below 2 s.
	bundleDelay   = time.Second
	bundleLongest = 3 * time.Second
	// bundleLines is how many of them a message lists; the rest is counted, and all are on the page of incidents.
	bundleLines = 25
)

// BundleAlert is the name of the alert that stands for several messages to one person.
const BundleAlert = "Bundle"

// throttle is one transaction's work on the messages to people: which leave at once, and which are collected.
type throttle struct{ *work }

// send gives a person a message, or puts it with those that are collected.
func (e throttle) send(l *outbox.Message, person, about string) error {
	if person == "" { // a receiver of its own
		return e.post(l, person, about)
	}
	sent, err := e.sentTo(person)
	if err != nil {
		return err
	}
	bundles, due, err := e.bundles(person, l.Receiver)
	if err != nil {
		return err
	}
	if len(sent) < throttleMax-1 && due == 0 && len(sent)+bundles < throttleMax {
		return e.post(l, person, about)
	}
	if err := e.write(l, person, about, "bundled", 0); err != nil {
		return err
	}
	at := leaveAt(sent, e.now, about)
	switch {
	case due == 0:
		return e.add(&escalationStep{kind: stepOfBundle, person: person, receiver: l.Receiver, due: at})
	case at < due:
		return e.exec("bring messages forward", `UPDATE escalation_step SET due_at = ? WHERE kind = 'bundle' AND state = 'pending' AND person = ? AND receiver = ?`,
			at, person, l.Receiver)
	case at > due && about == aboutFiring:
		return e.collectOn(person, l.Receiver, due, at)
	}
	return nil
}

// collectOn lets a collection that is due wait for more, until at or as long as its first message may wait.
func (e throttle) collectOn(person, receiver string, due, at int64) error {
	var first int64
	row := e.c.QueryRowContext(e.ctx, `SELECT coalesce(min(p.created_at), 0) FROM page p JOIN page_to t ON t.page = p.id
		WHERE p.state = 'bundled' AND t.bundle = '' AND t.person = ? AND p.receiver = ?`, person, receiver)
	if err := row.Scan(&first); err != nil {
		return fmt.Errorf("read messages collected for %s: %w", person, err)
	}
	at = min(at, first+bundleLongest.Milliseconds())
	if at <= due {
		return nil
	}
	return e.exec("collect on", `UPDATE escalation_step SET due_at = ? WHERE kind = 'bundle' AND state = 'pending' AND person = ? AND receiver = ?`,
		at, person, receiver)
}

// leaveAt is the time at which messages above the limit may leave, given the times of the last messages in order. Ends leave the last place to
// pages: they wait until the minute is over.
func leaveAt(sent []int64, now int64, about string) int64 {
	at, n := now+bundleDelay.Milliseconds(), len(sent)
	if about != aboutFiring && n > 0 {
		return max(at, sent[n-1]+throttleWindow.Milliseconds()+1)
	}
	if n >= throttleMax {
		return max(at, sent[n-throttleMax]+throttleWindow.Milliseconds()+1)
	}
	return at
}

// sentTo are the times of a person's messages within the window, in order.
func (e throttle) sentTo(person string) ([]int64, error) {
	out, err := statedb.All(e.ctx, e.c, statedb.Column[int64], `SELECT sent_at FROM page_to WHERE person = ? AND sent_at > ? AND sent_at <= ? ORDER BY sent_at`,
		person, e.now-throttleWindow.Milliseconds(), e.now)
	if err != nil {
		return nil, fmt.Errorf("read messages to %s: %w", person, err)
	}
	return out, nil
}

// bundles counts the collections for a person, and tells when the one for a receiver is due, 0 where there is none.
func (e throttle) bundles(person, receiver string) (n int, due int64, err error) {
	row := e.c.QueryRowContext(e.ctx, `SELECT count(*), coalesce(max(CASE WHEN receiver = ? THEN due_at END), 0)
		FROM escalation_step WHERE kind = 'bundle' AND state = 'pending' AND person = ?`, receiver, person)
	if err := row.Scan(&n, &due); err != nil {
		return 0, 0, fmt.Errorf("read messages collected for %s: %w", person, err)
	}
	return n, due, nil
}

// post writes a message that leaves at once.
func (e throttle) post(l *outbox.Message, person, about string) error {
	if err := e.write(l, person, about, "waiting", e.now); err != nil {
		return err
	}
	e.Messages = append(e.Messages, l)
	return nil
}

// write writes a message into the journal.
func (e throttle) write(l *outbox.Message, person, about, state string, sentAt int64) error {
	if l.ID == "" {
		var count int
		if err := e.c.QueryRowContext(e.ctx, `SELECT count(*) FROM page WHERE incident = ?`, l.Incident).Scan(&count); err != nil {
			return fmt.Errorf("count pages of incident %s: %w", l.Incident, err)
		}
		l.ID = l.Incident + "-" + strconv.Itoa(count+1)
	}
	if err := l.Insert(e.ctx, e.c, state); err != nil {
		return err
	}
	if l.Incident != "" {
		e.Changed[l.Incident] = true
	}
	return e.exec("write whom page "+l.ID+" is for", `INSERT INTO page_to (page, person, kind, sent_at) VALUES (?,?,?,?)`, l.ID, person, about, sentAt)
}

// collected is one message that was put off.
type collected struct {
	*outbox.Message
	about, title, severity string
	number                 int64
}

// flush sends the messages that were collected for a person, one message as itself, several as one.
func (e throttle) flush(s *escalationStep) error {
	sent, err := e.sentTo(s.person)
	if err != nil {
		return err
	}
	if len(sent) >= throttleMax {
		at := leaveAt(sent, e.now, aboutFiring)
		return e.exec("put messages off", `UPDATE escalation_step SET due_at = ?, delay = ? WHERE seq = ?`, at, at-e.now, s.seq)
	}
	if err := e.finish(s, "done"); err != nil {
		return err
	}
	list, err := e.collected(s.person, s.receiver)
	if err != nil || len(list) == 0 {
		return err
	}
	to := e.routes.Only(s.receiver)
	if to == nil || len(list) == 1 {
		return e.release(list) // one whose receiver is gone says so by itself
	}
	id := fmt.Sprintf("bundle-%d", s.seq)
	l, err := NewMessage("", s.receiver, to, id, notify.ReasonFirstNotification, bundle(list, e.now, e.engine.ExternalURL), e.now)
	if err != nil {
		return err
	}
	l.ID = id
	if err := e.post(l, s.person, aboutFiring); err != nil {
		return err
	}
	for _, m := range list {
		e.Changed[m.Incident] = true
		if err := e.exec("bundle page "+m.ID, `UPDATE page_to SET bundle = ? WHERE page = ?`, id, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// release sends collected messages as they are.
func (e throttle) release(list []collected) error {
	for _, m := range list {
		err := errors.Join(
			e.exec("release page "+m.ID, `UPDATE page SET state = 'waiting', next_at = ? WHERE id = ?`, e.now, m.ID),
			e.exec("release page "+m.ID, `UPDATE page_to SET sent_at = ? WHERE page = ?`, e.now, m.ID))
		if err != nil {
			return err
		}
		m.NextAt = e.now
		e.Messages = append(e.Messages, m.Message)
		e.Changed[m.Incident] = true
	}
	return nil
}

func (e throttle) collected(person, receiver string) ([]collected, error) {
	out, err := statedb.All(e.ctx, e.c, func(row *sql.Rows) (collected, error) {
		m := collected{Message: &outbox.Message{Receiver: receiver}}
		var (
			reason int
			text   string
		)
		err := row.Scan(&m.ID, &m.Incident, &m.Integration, &m.Index, &m.GroupKey, &reason, &text, &m.CreatedAt, &m.ReadingAt, &m.about, &m.title, &m.severity, &m.number)
		m.Reason, m.Payload = notify.NotifyReason(reason), []byte(text)
		return m, err
	}, `SELECT p.id, p.incident, p.integration, p.idx, p.group_key, p.reason, p.payload, p.created_at, p.reading_at, t.kind,
		i.title, i.severity, i.number FROM page p JOIN page_to t ON t.page = p.id JOIN incident i ON i.id = p.incident
		WHERE p.state = 'bundled' AND t.bundle = '' AND t.person = ? AND p.receiver = ? ORDER BY p.seq`, person, receiver)
	if err != nil {
		return nil, fmt.Errorf("read messages collected for %s: %w", person, err)
	}
	return out, nil
}

// bundle makes one alert of several messages: it counts and lists them.
func bundle(list []collected, now int64, external *url.URL) outbox.Body {
	counts := map[string]int{}
	severity := ""
	var lines []string
	for _, m := range list {
		counts[m.about]++
		if alert.SeverityRank(m.severity) > alert.SeverityRank(severity) {
			severity = m.severity
		}
		if len(lines) < bundleLines {
			lines = append(lines, fmt.Sprintf("#%d %s%s", m.number, bundleWords[m.about], m.title))
		}
	}
	if more := len(list) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: %s", more, external.JoinPath("incidents")))
	}
	a := &amalert.Alert{Alert: model.Alert{
		Labels: model.LabelSet{alert.NameLabel: BundleAlert, "severity": model.LabelValue(severity)}, StartsAt: time.UnixMilli(now),
		Annotations: model.LabelSet{
			"summary": model.LabelValue(bundleSummary(counts)), "description": model.LabelValue(strings.Join(lines, "\n")),
		},
		GeneratorURL: external.JoinPath("incidents").String(),
	}, UpdatedAt: time.UnixMilli(now)}
	if counts[aboutFiring] == 0 && counts[aboutAck] == 0 {
		a.EndsAt = time.UnixMilli(now)
	}
	return outbox.Body{GroupLabels: model.LabelSet{alert.NameLabel: BundleAlert}, Now: time.UnixMilli(now), Alerts: []*amalert.Alert{a}}
}

// bundleWords stand before a title in a list; a page needs none.
var bundleWords = map[string]string{aboutEnd: "resolved: ", aboutAck: "acknowledged: "}

func bundleSummary(counts map[string]int) string {
	var parts []string
	all := 0
	for _, k := range []struct{ about, word string }{{aboutFiring, "firing"}, {aboutEnd, "resolved"}, {aboutAck, "acknowledged"}} {
		if n := counts[k.about]; n > 0 {
			parts, all = append(parts, fmt.Sprintf("%d %s", n, k.word)), all+n
		}
	}
	return fmt.Sprintf("%d messages in one: %s", all, strings.Join(parts, ", "))
}

// stopEmptyBundles takes back a message whose collected pages are all stopped by now.
func (e throttle) stopEmptyBundles() error {
	return e.stop("stop messages", `UPDATE page SET state = 'stopped', answer = 'all that it lists was acknowledged before it was delivered'
		WHERE state = 'waiting' AND incident = '' AND id LIKE 'bundle-%' AND NOT EXISTS
		(SELECT 1 FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = page.id AND p.state = 'bundled') RETURNING id`)
}

// stop runs a statement that stops pages and returns their IDs.
func (e throttle) stop(what, query string, args ...any) error {
	ids, err := statedb.All(e.ctx, e.c, statedb.Column[string], query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, id := range ids {
		e.Stopped[id] = true
	}
	return nil
}

// settleBundle gives the pages that a message carried the state that the message came to.
func (e throttle) settleBundle(l *outbox.Message, state, answer string, leftAt int64) error {
	ids, err := statedb.All(e.ctx, e.c, statedb.Column[string], `SELECT DISTINCT p.incident FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = ?`, l.ID)
	if err != nil {
		return fmt.Errorf("read what message %s carries: %w", l.ID, err)
	}
	for _, id := range ids {
		e.Changed[id] = true
	}
	if state == "waiting" {
		return nil
	}
	return e.exec("write what message "+l.ID+" carried", `UPDATE page SET state = ?, attempts = ?, answer = ?, left_at = ?
		WHERE state = 'bundled' AND id IN (SELECT page FROM page_to WHERE bundle = ?)`, state, l.Attempts, answer, leftAt, l.ID)
}
