package pager

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

// journalName is the integration under which receivers stand in the notification log.
const journalName = "journal"

// recorder stands in for all integrations of one receiver: it writes their messages into the database, in one
// transaction with the incident and the notification log, and returns.
type recorder struct {
	pager        *Pager
	receiver     string
	integrations []notify.Integration
}

// SendResolved implements notify.ResolvedSender: incidents end, whether the receiver sends resolves or not.
func (j *recorder) SendResolved() bool { return true }

// notification is one call of Notify, taken apart.
type notification struct {
	receiver, groupKey string
	reason             notify.NotifyReason
	firing, resolved   []uint64
	repeat             time.Duration
	now                time.Time
	payload            outbox.Body
	alerts             []incident.Alert
	firingCount        int
	paged              []bool // by alert: it stands as firing in an open incident
	splitFrom          []splitIncident
}

// Notify implements notify.Notifier. Where the database cannot be written, or a fault is met, the page leaves at once,
// unrecorded: a page without a record is better than none.
func (j *recorder) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	if !j.pager.enter() {
		return false, errClosed
	}
	defer j.pager.leave()
	p := j.pager
	var (
		n        *notification
		id       string
		messages []*outbox.Message
		entry    []byte
		e        *transaction
		err      = errFault
	)
	p.faults.guard("record a page", func() {
		n = p.takeApart(ctx, j.receiver, alerts)
		err = p.commits.Do(func(c *sql.Conn) (err error) {
			e = p.transaction(c)
			id, messages, entry, err = j.record(context.WithoutCancel(ctx), e, n)
			return err
		})
	})
	if err != nil {
		group, _ := notify.GroupKey(ctx)
		p.log.Error("page not journalled; sending it unrecorded", "receiver", j.receiver, "group", group, "err", err)
		return j.sendUnrecorded(ctx, alerts)
	}
	// It is on disk. Each step stands alone, so that a fault in one keeps no message from leaving.
	p.faults.guard("note a notification", func() {
		if err := p.notified.Merge(entry); err != nil {
			p.log.Error("note a notification", "receiver", j.receiver, "err", err)
		}
		p.handedOver(n)
	})
	if n.receiver == alert.Watchdog {
		p.outbox.Cancel(func(l *outbox.Message) bool { return l.Receiver == alert.Watchdog })
	}
	p.outbox.Add(messages)
	p.after(e)
	if id != "" {
		p.changed(id)
	}
	return false, nil
}

func (p *Pager) takeApart(ctx context.Context, receiver string, alerts []*amalert.Alert) *notification {
	n := &notification{receiver: receiver}
	n.groupKey, _ = notify.GroupKey(ctx)
	n.reason, _ = notify.NotificationReason(ctx)
	n.firing, _ = notify.FiringAlerts(ctx)
	n.resolved, _ = notify.ResolvedAlerts(ctx)
	n.repeat, _ = notify.RepeatInterval(ctx)
	n.now = time.Now()
	n.payload = outbox.Body{Now: n.now, RepeatInterval: n.repeat, Alerts: alerts, Way: p.wayOf(alerts)}
	n.payload.GroupLabels, _ = notify.GroupLabels(ctx)
	n.payload.RouteLabels, _ = notify.RouteLabels(ctx)
	for _, a := range alerts {
		in := incidentAlert(a)
		in.Rule, in.Series, in.Boards = p.originOf(a.Fingerprint())
		n.alerts, n.paged = append(n.alerts, in), append(n.paged, p.paged(a.Fingerprint()))
		if in.EndsAt == 0 {
			n.firingCount++
		}
	}
	return n
}

// record writes incident, pages, the escalation, notification log and handled alerts.
func (j *recorder) record(ctx context.Context, e *transaction, n *notification) (id string, messages []*outbox.Message, entry []byte, err error) {
	c := e.c
	if entry, err = recordNotified(ctx, c, n); err != nil {
		return "", nil, nil, err
	}
	if n.receiver == alert.Watchdog {
		messages, err = j.recordBeat(ctx, c, n)
		return "", messages, entry, err
	}
	in, moved, err := e.incidentOf(n)
	if err != nil {
		return "", nil, nil, err
	}
	last, refired, err := lastOf(ctx, c, n, in == nil)
	if err != nil {
		return "", nil, nil, err
	}
	if in == nil && last == nil && n.firingCount > 0 && n.reason == notify.ReasonFirstNotification {
		if closed, err := e.closedElsewhere(n); err != nil || closed {
			return "", nil, entry, errors.Join(err, recordHandled(ctx, c, n))
		}
	}
	if in == nil && (n.firingCount == 0 || last != nil && !refired) {
		return "", nil, entry, recordHandled(ctx, c, n) // nothing to open, or closed by hand with all that fires
	}
	if refired {
		in = last
		in.Reopen(n.now.UnixMilli())
		if err := e.standAlone(in); err != nil {
			return "", nil, nil, err
		}
	} else if in == nil {
		in = &incident.Incident{GroupKey: n.groupKey, OpenedAt: n.now.UnixMilli(), Receiver: n.receiver, Ack: n.splitAck()}
	}
	before := firingIn(in)
	if in.ID == "" {
		for _, p := range n.splitFrom {
			maps.Copy(before, p.had)
		}
	}
	elsewhere, err := e.elsewhere(in, n)
	if err != nil {
		return "", nil, nil, err
	}
	ch := change{before: before, refired: refired, moved: moved, handed: in.Receiver != n.receiver, partly: n.firingCount == 0 && len(elsewhere) > 0}
	fresh := in.ID == ""
	if !fresh && n.forgotten(ch) {
		n.reason = notify.ReasonRepeatIntervalElapsed
	}
	in.Receiver = n.receiver
	in.Take(n.alerts, n.now.UnixMilli())
	if fresh {
		in.ID = incident.NewID(in.GroupKey, in.StartedAt)
	}
	if n.firingCount == 0 && !ch.partly {
		in.ResolvedAt = n.now.UnixMilli()
	}
	if err = incident.Save(ctx, c, in); err != nil {
		return "", nil, nil, err
	}
	if err = recordHandled(ctx, c, n); err != nil {
		return "", nil, nil, err
	}
	if err = recordChange(ctx, c, n, in, before, refired); err != nil {
		return "", nil, nil, err
	}
	if err = e.noteOrigins(in, n, fresh); err != nil {
		return "", nil, nil, err
	}
	if messages, err = j.recordPages(ctx, c, n, in, ch); err != nil {
		return "", nil, nil, err
	}
	if in.ResolvedAt != 0 {
		if err := errors.Join(e.notifyEarlierReceivers(in, n), e.notifyMerged(in)); err != nil {
			return "", nil, nil, err
		}
	}
	return in.ID, messages, entry, e.notified(n, in, ch, elsewhere)
}

// change is the effect of a notification on its incident.
type change struct {
	before  map[string]bool // the alerts that fired before it, by labels
	refired bool
	moved   bool // the routes lead its alerts to another group than before
	handed  bool // it has another receiver than before
	partly  bool // this group is over, and another of the incident is not
}

// forgotten reports whether a first notification tells an open incident nothing new: the notification log forgets within days,
// and a collector that was away for longer hears of its alerts as if nobody had been told.
func (n *notification) forgotten(ch change) bool {
	return n.reason == notify.ReasonFirstNotification && n.firingCount > 0 && n.newestReading(ch.before) == 0 && !ch.refired && !ch.moved && !ch.handed
}

// firingIn returns the alerts of an incident that fire, by labels.
func firingIn(in *incident.Incident) map[string]bool {
	out := map[string]bool{}
	for _, a := range in.Alerts {
		if a.EndsAt == 0 {
			out[alert.LabelText(a.Labels)] = true
		}
	}
	return out
}

func (j *recorder) recordPages(ctx context.Context, c *sql.Conn, n *notification, in *incident.Incident, ch change) ([]*outbox.Message, error) {
	if in.Ack != nil && n.reason == notify.ReasonRepeatIntervalElapsed || ch.partly || ch.moved && !ch.handed && n.newestReading(ch.before) == 0 {
		return nil, nil
	}
	var count int
	row := c.QueryRowContext(ctx, `SELECT count(*) FROM page WHERE incident = ?`, in.ID)
	if err := row.Scan(&count); err != nil {
		return nil, fmt.Errorf("count pages of incident %s: %w", in.ID, err)
	}
	var out []*outbox.Message
	for _, to := range j.targets(n) {
		l, err := j.message(n, in, to, ch.before)
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue
		}
		if l.Reason == notify.ReasonRepeatIntervalElapsed {
			if waits, err := pageWaits(ctx, c, l); err != nil {
				return nil, err
			} else if waits {
				continue
			}
		}
		count++
		l.ID = in.ID + "-" + strconv.Itoa(count)
		if err := l.Insert(ctx, c, "waiting"); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// pageWaits reports whether a page of the same incident to the same integration is still being tried: it says the same as a repeat.
func pageWaits(ctx context.Context, c *sql.Conn, l *outbox.Message) (waits bool, err error) {
	row := c.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM page WHERE incident = ? AND receiver = ? AND integration = ? AND idx = ? AND state = 'waiting')`,
		l.Incident, l.Receiver, l.Integration, l.Index)
	if err := row.Scan(&waits); err != nil {
		return false, fmt.Errorf("read waiting pages of incident %s: %w", l.Incident, err)
	}
	return waits, nil
}

// target is an integration of a receiver.
type target struct {
	receiver string
	*notify.Integration
}

// targets are the integrations that a notification goes to: the receiver's own, and where it says that the receiver itself fails,
// those of others too.
func (j *recorder) targets(n *notification) (out []target) {
	for i := range j.integrations {
		out = append(out, target{j.receiver, &j.integrations[i]})
	}
	r := j.pager.routing.Load()
	for _, name := range j.pager.besides(n, r) {
		for i := range r.set.Integrations[name] {
			out = append(out, target{name, &r.set.Integrations[name][i]})
		}
	}
	return out
}

// message is the page for one integration, nil where it wants none.
func (j *recorder) message(n *notification, in *incident.Incident, to target, before map[string]bool) (*outbox.Message, error) {
	body := n.payload
	if !to.SendResolved() {
		body.Alerts = nil
		for i, a := range n.payload.Alerts {
			if n.alerts[i].EndsAt == 0 {
				body.Alerts = append(body.Alerts, a)
			}
		}
		if len(body.Alerts) == 0 || n.reason == notify.ReasonNewResolvedAlerts {
			return nil, nil
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode page of incident %s: %w", in.ID, err)
	}
	return &outbox.Message{
		Incident: in.ID, Receiver: to.receiver, Integration: to.Name(), Index: to.Index(), GroupKey: in.GroupKey, Reason: n.reason,
		Payload: text, CreatedAt: n.now.UnixMilli(), NextAt: n.now.UnixMilli(), ReadingAt: n.newestReading(before),
	}, nil
}

// newestReading is the time of the newest reading that made an alert fire which did not fire before; 0 for none.
func (n *notification) newestReading(before map[string]bool) (at int64) {
	for _, a := range n.alerts {
		if a.EndsAt == 0 && !before[alert.LabelText(a.Labels)] {
			at = max(at, a.StartsAt)
		}
	}
	return at
}

// recordNotified writes the notification log's entry, so that a restart knows the alerts that were handed over.
func recordNotified(ctx context.Context, c *sql.Conn, n *notification) ([]byte, error) {
	expires := n.now.Add(max(notifiedRetention, 2*n.repeat))
	entry := &nflogpb.MeshEntry{
		Entry: &nflogpb.Entry{
			Receiver: &nflogpb.Receiver{GroupName: n.receiver, Integration: journalName}, GroupKey: []byte(n.groupKey),
			Timestamp: timestamppb.New(n.now), FiringAlerts: n.firing, ResolvedAlerts: n.resolved,
		},
		ExpiresAt: timestamppb.New(expires),
	}
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, entry); err != nil {
		return nil, fmt.Errorf("encode notification: %w", err)
	}
	_, err := c.ExecContext(ctx, `INSERT OR REPLACE INTO alert_notified (receiver, group_key, entry, expires_at) VALUES (?,?,?,?)`,
		n.receiver, n.groupKey, b.Bytes(), expires.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("write notification: %w", err)
	}
	return b.Bytes(), nil
}

// recordHandled notes the alerts whose resolve is handed over: a replay of their transitions is old news.
func recordHandled(ctx context.Context, c *sql.Conn, n *notification) error {
	for _, a := range n.alerts {
		if a.EndsAt == 0 || a.Rule == "" {
			continue
		}
		_, err := c.ExecContext(ctx, `INSERT OR REPLACE INTO alert_handled (rule, series, fired_at, at) VALUES (?,?,?,?)`,
			a.Rule, a.Series, a.StartsAt, n.now.UnixMilli())
		if err != nil {
			return fmt.Errorf("write handled alert: %w", err)
		}
	}
	return nil
}

// sendUnrecorded sends at once a page that could not be written down, for a policy to those whom its first step pages.
func (j *recorder) sendUnrecorded(ctx context.Context, alerts []*amalert.Alert) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, receivers.TryTimeout)
	defer cancel()
	for i := range j.integrations {
		if retry, err := receivers.Notify(ctx, &j.integrations[i], alerts); err != nil {
			return retry, err
		}
	}
	retry, err := true, errFault // Alertmanager tries again
	j.pager.faults.guard("page without a record", func() { retry, err = j.pager.pageUnrecorded(ctx, j.receiver, alerts) })
	return retry, err
}

// pageUnrecorded gives alerts to the people of a policy's first step, each by the first channel that takes them. An error
// says that somebody was not reached; the notification is then tried again.
func (p *Pager) pageUnrecorded(ctx context.Context, receiver string, alerts []*amalert.Alert) (bool, error) {
	c := p.onCall()
	policy := c.PolicyOf(receiver)
	if policy == nil {
		return true, nil
	}
	people, _ := c.Who(policy.Steps[0], time.Now())
	var errs []error
	for _, name := range people {
		var err error
		for _, ch := range c.Person(name).Channels {
			if to := p.routing.Load().set.Only(ch.Receiver); to != nil {
				if _, err = receivers.Notify(ctx, to, alerts); err == nil {
					break
				}
			}
		}
		errs = append(errs, err)
	}
	return true, errors.Join(errs...)
}
