package escalation

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

const (
	// JournalName is the integration under which receivers stand in the notification log.
	JournalName = "journal"
	// Retention is how long the notification log remembers at least; Alertmanager's --data.retention.
	Retention = 120 * time.Hour
	// keepBeats is how long the watchdog's beats stay in the journal.
	keepBeats = 24 * time.Hour
)

// Notification is one call of a receiver for a group, taken apart.
type Notification struct {
	Receiver, GroupKey string
	Integrations       []notify.Integration // the receiver's, when the call was routed
	Reason             notify.NotifyReason
	Firing, Resolved   []uint64 // hashes, for the notification log
	Repeat             time.Duration
	Now                time.Time
	Body               outbox.Body
	Alerts             []incident.Alert
	Paged              []bool // by alert: it stands as firing in an open incident

	splitFrom []splitIncident
}

// firingCount is how many of its alerts fire.
func (n *Notification) firingCount() (count int) {
	for _, a := range n.Alerts {
		if a.EndsAt == 0 {
			count++
		}
	}
	return count
}

// Record writes a notification: its incident, pages, escalation, the entry of the notification log, and the alerts that are handed
// over, in one transaction. The caller gives the effects to Settle.
func (g *Engine) Record(n *Notification) (*Effects, error) {
	var e *transaction
	err := g.Commits.Do(func(c *sql.Conn) error {
		e = g.transaction(c)
		return grouping{e}.record(n)
	})
	if err != nil {
		return nil, err
	}
	return &e.Effects, nil
}

// grouping is one transaction's work on the incidents of a notification.
type grouping struct{ tx *transaction }

func (e grouping) record(n *Notification) error {
	entry, err := recordNotified(e.tx.ctx, e.tx.c, n)
	if err != nil {
		return err
	}
	e.tx.Entries = append(e.tx.Entries, entry)
	if alert.KindOf(n.Receiver) == alert.ToWatchdog {
		return e.recordBeat(n)
	}
	in, ch, err := e.open(n)
	if err != nil || in == nil {
		return err
	}
	elsewhere, err := e.elsewhere(in, n)
	if err != nil {
		return err
	}
	ch.handed, ch.partly = in.Receiver != n.Receiver, n.firingCount() == 0 && len(elsewhere) > 0
	fresh := in.ID == ""
	if !fresh && n.forgotten(ch) {
		n.Reason = notify.ReasonRepeatIntervalElapsed
	}
	in.Receiver = n.Receiver
	in.Take(n.Alerts, n.Now.UnixMilli())
	if fresh {
		in.ID = incident.NewID(in.GroupKey, in.StartedAt)
	}
	if n.firingCount() == 0 && !ch.partly {
		in.ResolvedAt = n.Now.UnixMilli()
	}
	e.tx.Incident = in.ID
	for _, step := range []func() error{
		func() error { return incident.Save(e.tx.ctx, e.tx.c, in) },
		func() error { return recordHandled(e.tx.ctx, e.tx.c, n) },
		func() error { return recordChange(e.tx.ctx, e.tx.c, n, in, ch) },
		func() error { return e.noteOrigins(in, n, fresh) },
		func() error { return e.recordPages(n, in, ch) },
		func() error { return e.tellEarlier(n, in) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return e.tx.notified(n, in, ch, elsewhere)
}

// open returns the incident that a notification is about: the open one of its group, the last one where the same begins again, or a new
// one without an ID. It is nil where there is nothing to open, or where somebody closed it with all that fires.
func (e grouping) open(n *Notification) (in *incident.Incident, ch change, err error) {
	if in, ch.moved, err = e.incidentOf(n); err != nil {
		return nil, ch, err
	}
	last, refired, err := lastOf(e.tx.ctx, e.tx.c, n, in == nil)
	if err != nil {
		return nil, ch, err
	}
	firing := n.firingCount()
	if in == nil && last == nil && firing > 0 && n.Reason == notify.ReasonFirstNotification {
		if closed, err := e.closedElsewhere(n); err != nil || closed {
			return nil, ch, errors.Join(err, recordHandled(e.tx.ctx, e.tx.c, n))
		}
	}
	switch ch.refired = refired; {
	case refired:
		in = last
		in.Reopen(n.Now.UnixMilli())
		if err := e.standAlone(in); err != nil {
			return nil, ch, err
		}
	case in == nil && (firing == 0 || last != nil):
		return nil, ch, recordHandled(e.tx.ctx, e.tx.c, n)
	case in == nil:
		in = &incident.Incident{GroupKey: n.GroupKey, OpenedAt: n.Now.UnixMilli(), Receiver: n.Receiver, Ack: n.splitAck()}
	}
	ch.before = firingIn(in)
	if in.ID == "" {
		for _, from := range n.splitFrom {
			maps.Copy(ch.before, from.had)
		}
	}
	return in, ch, nil
}

// tellEarlier tells the end of an incident to those who heard of it as another, or by another receiver.
func (e grouping) tellEarlier(n *Notification, in *incident.Incident) error {
	if in.ResolvedAt == 0 {
		return nil
	}
	return errors.Join(e.notifyEarlierReceivers(in, n), e.tx.notifyMerged(in))
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
func (n *Notification) forgotten(ch change) bool {
	return n.Reason == notify.ReasonFirstNotification && n.firingCount() > 0 && n.newestReading(ch.before) == 0 && !ch.refired && !ch.moved && !ch.handed
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

func (e grouping) recordPages(n *Notification, in *incident.Incident, ch change) error {
	ctx, c := e.tx.ctx, e.tx.c
	if in.Ack != nil && n.Reason == notify.ReasonRepeatIntervalElapsed || ch.partly || ch.moved && !ch.handed && n.newestReading(ch.before) == 0 {
		return nil
	}
	var count int
	row := c.QueryRowContext(ctx, `SELECT count(*) FROM page WHERE incident = ?`, in.ID)
	if err := row.Scan(&count); err != nil {
		return fmt.Errorf("count pages of incident %s: %w", in.ID, err)
	}
	for _, to := range e.targets(n) {
		l, err := pageFor(n, in, to, ch.before)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		if l.Reason == notify.ReasonRepeatIntervalElapsed {
			if waits, err := pageWaits(ctx, c, l); err != nil {
				return err
			} else if waits {
				continue
			}
		}
		count++
		l.ID = in.ID + "-" + strconv.Itoa(count)
		if err := l.Insert(ctx, c, "waiting"); err != nil {
			return err
		}
		e.tx.Messages = append(e.tx.Messages, l)
	}
	return nil
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
func (e grouping) targets(n *Notification) (out []target) {
	for i := range n.Integrations {
		out = append(out, target{n.Receiver, &n.Integrations[i]})
	}
	for _, name := range e.tx.engine.Besides(n) {
		for i := range e.tx.routes.Of(name) {
			out = append(out, target{name, &e.tx.routes.Of(name)[i]})
		}
	}
	return out
}

// pageFor is the page of a notification for one integration, nil where it wants none.
func pageFor(n *Notification, in *incident.Incident, to target, before map[string]bool) (*outbox.Message, error) {
	body := n.Body
	if !to.SendResolved() {
		body.Alerts = body.Firing()
		if len(body.Alerts) == 0 || n.Reason == notify.ReasonNewResolvedAlerts {
			return nil, nil
		}
	}
	l, err := NewMessage(in.ID, to.receiver, to.Integration, in.GroupKey, n.Reason, body, n.Now.UnixMilli())
	if err != nil {
		return nil, err
	}
	l.ReadingAt = n.newestReading(before)
	return l, nil
}

// newestReading is the time of the newest reading that made an alert fire which did not fire before; 0 for none.
func (n *Notification) newestReading(before map[string]bool) (at int64) {
	for _, a := range n.Alerts {
		if a.EndsAt == 0 && !before[alert.LabelText(a.Labels)] {
			at = max(at, a.StartsAt)
		}
	}
	return at
}

// recordNotified writes the notification log's entry, so that a restart knows the alerts that were handed over.
func recordNotified(ctx context.Context, c *sql.Conn, n *Notification) ([]byte, error) {
	expires := n.Now.Add(max(Retention, 2*n.Repeat))
	entry := &nflogpb.MeshEntry{
		Entry: &nflogpb.Entry{
			Receiver: &nflogpb.Receiver{GroupName: n.Receiver, Integration: JournalName}, GroupKey: []byte(n.GroupKey),
			Timestamp: timestamppb.New(n.Now), FiringAlerts: n.Firing, ResolvedAlerts: n.Resolved,
		},
		ExpiresAt: timestamppb.New(expires),
	}
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, entry); err != nil {
		return nil, fmt.Errorf("encode notification: %w", err)
	}
	_, err := c.ExecContext(ctx, `INSERT OR REPLACE INTO alert_notified (receiver, group_key, entry, expires_at) VALUES (?,?,?,?)`,
		n.Receiver, n.GroupKey, b.Bytes(), expires.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("write notification: %w", err)
	}
	return b.Bytes(), nil
}

// recordHandled notes the alerts whose resolve is handed over: a replay of their transitions is old news.
func recordHandled(ctx context.Context, c *sql.Conn, n *Notification) error {
	for _, a := range n.Alerts {
		if a.EndsAt == 0 || a.Rule == "" {
			continue
		}
		_, err := c.ExecContext(ctx, `INSERT OR REPLACE INTO alert_handled (rule, series, fired_at, at) VALUES (?,?,?,?)`,
			a.Rule, a.Series, a.StartsAt, n.Now.UnixMilli())
		if err != nil {
			return fmt.Errorf("write handled alert: %w", err)
		}
	}
	return nil
}

// recordBeat writes a beat into the journal of pages. It makes no incident, and takes the place of beats that still wait:
// nobody is helped by a queue of them.
func (e grouping) recordBeat(n *Notification) error {
	if n.firingCount() == 0 {
		return nil
	}
	l, err := pageFor(n, &incident.Incident{ID: alert.Watchdog, GroupKey: n.GroupKey}, target{alert.Watchdog, &n.Integrations[0]}, nil)
	if err != nil || l == nil {
		return err
	}
	l.ID, l.ReadingAt = "watchdog-"+strconv.FormatInt(n.Now.UnixNano(), 36), 0
	err = e.tx.exec("drop old beats", `DELETE FROM page WHERE incident = ? AND (created_at < ? OR state = 'waiting')`, alert.Watchdog, n.Now.Add(-keepBeats).UnixMilli())
	if err != nil {
		return err
	}
	e.tx.Messages = append(e.tx.Messages, l)
	return l.Insert(e.tx.ctx, e.tx.c, "waiting")
}
