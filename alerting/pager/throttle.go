package pager

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/outbox"
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

// send gives a person a message, or puts it with those that are collected.
func (e *transaction) send(l *outbox.Message, person, about string) error {
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
func (e *transaction) collectOn(person, receiver string, due, at int64) error {
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
func (e *transaction) sentTo(person string) (out []int64, err error) {
	rows, err := e.c.QueryContext(e.ctx, `SELECT sent_at FROM page_to WHERE person = ? AND sent_at > ? AND sent_at <= ? ORDER BY sent_at`,
		person, e.now-throttleWindow.Milliseconds(), e.now)
	if err != nil {
		return nil, fmt.Errorf("read messages to %s: %w", person, err)
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		if err := rows.Scan(&at); err != nil {
			return nil, fmt.Errorf("read messages to %s: %w", person, err)
		}
		out = append(out, at)
	}
	return out, rows.Err()
}

// bundles counts the collections for a person, and tells when the one for a receiver is due, 0 where there is none.
func (e *transaction) bundles(person, receiver string) (n int, due int64, err error) {
	row := e.c.QueryRowContext(e.ctx, `SELECT count(*), coalesce(max(CASE WHEN receiver = ? THEN due_at END), 0)
		FROM escalation_step WHERE kind = 'bundle' AND state = 'pending' AND person = ?`, receiver, person)
	if err := row.Scan(&n, &due); err != nil {
		return 0, 0, fmt.Errorf("read messages collected for %s: %w", person, err)
	}
	return n, due, nil
}

// post writes a message that leaves at once.
func (e *transaction) post(l *outbox.Message, person, about string) error {
	if err := e.write(l, person, about, "waiting", e.now); err != nil {
		return err
	}
	e.messages = append(e.messages, l)
	return nil
}

// write writes a message into the journal.
func (e *transaction) write(l *outbox.Message, person, about, state string, sentAt int64) error {
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
		e.changed[l.Incident] = true
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
func (e *transaction) flush(s *escalationStep) error {
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
	to := e.routing.set.Only(s.receiver)
	if to == nil || len(list) == 1 {
		return e.release(list) // one whose receiver is gone says so by itself
	}
	id := fmt.Sprintf("bundle-%d", s.seq)
	l, err := newMessage("", s.receiver, to, id, notify.ReasonFirstNotification, e.pager.bundle(list, e.now), e.now)
	if err != nil {
		return err
	}
	l.ID = id
	if err := e.post(l, s.person, aboutFiring); err != nil {
		return err
	}
	for _, m := range list {
		e.changed[m.Incident] = true
		if err := e.exec("bundle page "+m.ID, `UPDATE page_to SET bundle = ? WHERE page = ?`, id, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// release sends collected messages as they are.
func (e *transaction) release(list []collected) error {
	for _, m := range list {
		err := errors.Join(
			e.exec("release page "+m.ID, `UPDATE page SET state = 'waiting', next_at = ? WHERE id = ?`, e.now, m.ID),
			e.exec("release page "+m.ID, `UPDATE page_to SET sent_at = ? WHERE page = ?`, e.now, m.ID))
		if err != nil {
			return err
		}
		m.NextAt = e.now
		e.messages = append(e.messages, m.Message)
		e.changed[m.Incident] = true
	}
	return nil
}

func (e *transaction) collected(person, receiver string) (out []collected, err error) {
	rows, err := e.c.QueryContext(e.ctx, `SELECT p.id, p.incident, p.integration, p.idx, p.group_key, p.reason, p.payload, p.created_at, p.reading_at, t.kind,
		i.title, i.severity, i.number FROM page p JOIN page_to t ON t.page = p.id JOIN incident i ON i.id = p.incident
		WHERE p.state = 'bundled' AND t.bundle = '' AND t.person = ? AND p.receiver = ? ORDER BY p.seq`, person, receiver)
	if err != nil {
		return nil, fmt.Errorf("read messages collected for %s: %w", person, err)
	}
	defer rows.Close()
	for rows.Next() {
		m := collected{Message: &outbox.Message{Receiver: receiver}}
		var (
			reason int
			text   string
		)
		err := rows.Scan(&m.ID, &m.Incident, &m.Integration, &m.Index, &m.GroupKey, &reason, &text, &m.CreatedAt, &m.ReadingAt, &m.about, &m.title, &m.severity, &m.number)
		if err != nil {
			return nil, fmt.Errorf("read messages collected for %s: %w", person, err)
		}
		m.Reason, m.Payload = notify.NotifyReason(reason), []byte(text)
		out = append(out, m)
	}
	return out, rows.Err()
}

// bundle makes one alert of several messages: it counts and lists them.
func (p *Pager) bundle(list []collected, now int64) outbox.Body {
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
		lines = append(lines, fmt.Sprintf("and %d more: %s", more, p.externalURL.JoinPath("incidents")))
	}
	a := &amalert.Alert{Alert: model.Alert{
		Labels: model.LabelSet{alert.NameLabel: BundleAlert, "severity": model.LabelValue(severity)}, StartsAt: time.UnixMilli(now),
		Annotations: model.LabelSet{
			"summary": model.LabelValue(bundleSummary(counts)), "description": model.LabelValue(strings.Join(lines, "\n")),
		},
		GeneratorURL: p.externalURL.JoinPath("incidents").String(),
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
func (e *transaction) stopEmptyBundles() error {
	rows, err := e.c.QueryContext(e.ctx, `UPDATE page SET state = 'stopped', answer = 'all that it lists was acknowledged before it was delivered'
		WHERE state = 'waiting' AND incident = '' AND id LIKE 'bundle-%' AND NOT EXISTS
		(SELECT 1 FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = page.id AND p.state = 'bundled') RETURNING id`)
	if err != nil {
		return fmt.Errorf("stop messages: %w", err)
	}
	return e.collectStopped(rows)
}

// settleBundle gives the pages that a message carried the state that the message came to.
func (e *transaction) settleBundle(l *outbox.Message, state, answer string, leftAt int64) error {
	rows, err := e.c.QueryContext(e.ctx, `SELECT DISTINCT p.incident FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = ?`, l.ID)
	if err != nil {
		return fmt.Errorf("read what message %s carries: %w", l.ID, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("read what message %s carries: %w", l.ID, err)
		}
		e.changed[id] = true
	}
	if err := rows.Err(); err != nil || state == "waiting" {
		return err
	}
	return e.exec("write what message "+l.ID+" carried", `UPDATE page SET state = ?, attempts = ?, answer = ?, left_at = ?
		WHERE state = 'bundled' AND id IN (SELECT page FROM page_to WHERE bundle = ?)`, state, l.Attempts, answer, leftAt, l.ID)
}
