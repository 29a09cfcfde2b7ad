package alerting

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/picture"
)

// ErrNoIncident is returned for an incident that does not exist.
var ErrNoIncident = errors.New("no such incident")

// Incident is what one group of alerts went through, from the first page to the resolve. Times are Unix milliseconds,
// 0 where they have not come.
type Incident struct {
	ID string `json:"id"`
	// Number is what people call it; the first one is 1.
	Number   int64  `json:"number"`
	GroupKey string `json:"group_key"`
	Receiver string `json:"receiver"`
	Title    string `json:"title"`
	Severity string `json:"severity"`
	// StartedAt is when it began: the time of the oldest reading that fired, or a silent board's last report. OpenedAt is
	// when the first page was written.
	StartedAt  int64           `json:"started_at"`
	OpenedAt   int64           `json:"opened_at"`
	ChangedAt  int64           `json:"changed_at"`
	ResolvedAt int64           `json:"resolved_at,omitempty"`
	Alerts     []IncidentAlert `json:"alerts"`
	// Now says how the condition stands at the newest reading, "" where nobody knows and when it is resolved.
	Now   string `json:"now,omitempty"`
	Ack   *Ack   `json:"ack,omitempty"`
	Pages []Page `json:"pages"`
	// Closing is what a person said at the end, nil where nobody did.
	Closing *Closing `json:"closing,omitempty"`
	// Escalation is nil where the receiver stands for no policy.
	Escalation *Escalation `json:"escalation,omitempty"`
}

// Escalation is how far the paging of people has come.
type Escalation struct {
	// Policy is the policy's name, empty where the file does not have it any more.
	Policy string `json:"policy"`
	// State is running, acknowledged, snoozed, exhausted or over.
	State string `json:"state"`
	// NextAt and NextTo are the step that waits.
	NextAt int64  `json:"next_at,omitempty"`
	NextTo string `json:"next_to,omitempty"`
}

// Closing is the comment with which somebody closed an incident.
type Closing struct {
	By      string `json:"by"`
	At      int64  `json:"at"`
	Comment string `json:"comment"`
	// ByHand says that its alerts still fired.
	ByHand bool `json:"by_hand,omitempty"`
}

// IncidentAlert is one alert of an incident.
type IncidentAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    int64             `json:"starts_at"`
	EndsAt      int64             `json:"ends_at,omitempty"`
	// Rule and Series name the engine's alert; they are empty for an alert that came by the API.
	Rule   string `json:"rule,omitempty"`
	Series string `json:"series,omitempty"`
	// Boards are those that the alert of a domain stands for.
	Boards []string `json:"boards,omitempty"`
}

// Ack is an acknowledgement: who took the incident on, and what they said.
type Ack struct {
	By      string `json:"by"`
	At      int64  `json:"at"`
	Comment string `json:"comment,omitempty"`
	// Until is when it ends by itself, 0 for an acknowledgement that does not: a snooze.
	Until int64 `json:"until,omitempty"`
}

// Page is one message to one receiver, as it stands in the journal.
type Page struct {
	// ID is the same in every try, so that a provider can tell a retry from a new page.
	ID          string `json:"id"`
	Receiver    string `json:"receiver"`
	Integration string `json:"integration"`
	Reason      string `json:"reason"`
	CreatedAt   int64  `json:"created_at"`
	// State is waiting, bundled (it waits to leave with others), delivered, failed or stopped (an acknowledgement made it
	// unnecessary).
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	// Answer is what the provider said last.
	Answer string `json:"answer,omitempty"`
	LeftAt int64  `json:"left_at,omitempty"`
	// LatencyMs is the time from the reading that fired to the page's departure, 0 where the page has no new alert.
	LatencyMs int64 `json:"latency_ms,omitempty"`
	// Person is whom it was for, empty for a receiver that is nobody's channel; About is page, resolve or ack. Bundle is the
	// message with which it left together with others.
	Person string `json:"person,omitempty"`
	About  string `json:"about,omitempty"`
	Bundle string `json:"bundle,omitempty"`
}

// maxTitle is how much of an alert's text a title has, in characters: it becomes the subject of pages.
const maxTitle = 200

// Query selects incidents.
type Query struct {
	// Open selects those that are not resolved.
	Open bool
	// Before selects those opened before this time (Unix milliseconds), 0 for all; with Limit it pages.
	Before int64
	// Limit is the most to return; 0 means 100.
	Limit int
}

// incidentID is stable: the same group with the same oldest alert is the same incident.
func incidentID(groupKey string, startedAt int64) string {
	sum := sha256.Sum256([]byte(groupKey + "\x00" + strconv.FormatInt(startedAt, 10)))
	return hex.EncodeToString(sum[:8])
}

// take brings an incident's alerts up to date with those of a notification.
func (in *Incident) take(alerts []IncidentAlert, now int64) {
	byLabels := map[string]int{}
	for i, a := range in.Alerts {
		byLabels[alert.LabelText(a.Labels)] = i
	}
	for _, a := range alerts {
		if i, ok := byLabels[alert.LabelText(a.Labels)]; ok {
			in.Alerts[i] = a
			continue
		}
		in.Alerts = append(in.Alerts, a)
	}
	in.ChangedAt = now
	in.describe()
}

// describe derives title and severity.
func (in *Incident) describe() {
	names, boards := map[string]bool{}, map[string]bool{}
	in.Severity, in.StartedAt = "", 0
	domain := in.domain()
	for _, a := range in.Alerts {
		names[a.Labels[alert.NameLabel]] = true
		if b := a.Labels[alert.BoardLabel]; b != "" {
			boards[b] = true
		}
		if alert.SeverityRank(a.Labels["severity"]) > alert.SeverityRank(in.Severity) {
			in.Severity = a.Labels["severity"]
		}
		if began := a.began(); in.StartedAt == 0 || began < in.StartedAt {
			in.StartedAt = began
		}
	}
	what := in.what(names, boards)
	if domain != nil {
		what = domain.Annotations["summary"]
	}
	in.Title = alert.Short(maxTitle, alert.OneLine(what)) + " since " + time.UnixMilli(in.StartedAt).UTC().Format("15:04:05 UTC")
}

// began is when what the alert is about began.
func (a *IncidentAlert) began() int64 { return alert.Began(a.Annotations, a.StartsAt) }

// domain returns the alert of the largest failure among those of the incident, nil where each board stands alone.
func (in *Incident) domain() (largest *IncidentAlert) {
	for i := range in.Alerts {
		if a := &in.Alerts[i]; a.Labels[alert.DomainLabel] != "" && alert.IsDomainRule(a.Rule) && (largest == nil || len(a.Boards) > len(largest.Boards)) {
			largest = a
		}
	}
	return largest
}

// what says what fires where, and how often.
func (in *Incident) what(names, boards map[string]bool) string {
	if len(in.Alerts) == 1 {
		return alert.Text(in.Alerts[0].Labels, in.Alerts[0].Annotations)
	}
	if what := in.annotation("what"); what != "" && len(boards) > 1 {
		return fmt.Sprintf("%s%d boards %s", in.where(), len(boards), what)
	}
	text := alert.Names(names, 3)
	switch {
	case len(boards) == 0:
		if shared := alert.LabelWords(in.shared()); shared != "" {
			text += ": " + shared
		}
		return text + " (" + alertCount(len(in.Alerts)) + ")"
	case len(boards) == 1:
		text += " on " + alert.Names(boards, 1)
	default:
		text += fmt.Sprintf(" on %d boards (%s)", len(boards), alert.Names(boards, 3))
	}
	if rack := in.common("rack"); rack != "" {
		text += ", rack " + rack
	}
	return text
}

// where names the smallest place that all alerts share, such as "Rack r2, switch r2-a: ", or nothing.
func (in *Incident) where() string {
	rack, sw := in.common("rack"), in.common("switch")
	switch {
	case rack != "" && sw != "":
		return "Rack " + rack + ", switch " + sw + ": "
	case sw != "":
		return "Switch " + sw + ": "
	case rack != "":
		return "Rack " + rack + ": "
	}
	return ""
}

// annotation returns the value of an annotation that all alerts share.
func (in *Incident) annotation(name string) string {
	v := in.Alerts[0].Annotations[name]
	for _, a := range in.Alerts {
		if a.Annotations[name] != v {
			return ""
		}
	}
	return v
}

// common returns the value of a label that all alerts share.
func (in *Incident) common(label string) string {
	v := in.Alerts[0].Labels[label]
	for _, a := range in.Alerts {
		if a.Labels[label] != v {
			return ""
		}
	}
	return v
}

// shared returns the labels that all alerts have in common.
func (in *Incident) shared() map[string]string {
	out := maps.Clone(in.Alerts[0].Labels)
	maps.DeleteFunc(out, func(name, _ string) bool { return in.common(name) == "" })
	return out
}

const incidentColumns = `id, group_key, receiver, title, severity, started_at, opened_at, changed_at, resolved_at, alerts, acked_by, acked_at, ack_comment`

type scanner interface{ Scan(...any) error }

func scanIncident(row scanner) (*Incident, error) {
	var (
		in     Incident
		ack    Ack
		alerts string
	)
	err := row.Scan(&in.Number, &in.ID, &in.GroupKey, &in.Receiver, &in.Title, &in.Severity, &in.StartedAt, &in.OpenedAt, &in.ChangedAt, &in.ResolvedAt,
		&alerts, &ack.By, &ack.At, &ack.Comment)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(alerts), &in.Alerts); err != nil {
		return nil, fmt.Errorf("decode alerts of incident %s: %w", in.ID, err)
	}
	if ack.At != 0 {
		in.Ack = &ack
	}
	in.Pages = []Page{}
	return &in, nil
}

func queryIncidents(ctx context.Context, db database.Querier, where string, args ...any) ([]*Incident, error) {
	rows, err := db.QueryContext(ctx, `SELECT number, `+incidentColumns+` FROM incident `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	defer rows.Close()
	var out []*Incident
	for rows.Next() {
		in, err := scanIncident(rows)
		if err != nil {
			return nil, fmt.Errorf("read incident: %w", err)
		}
		out = append(out, in)
	}
	return out, rows.Err()
}

// saveIncident writes in, under the next number where it is new. An insert that turns into an update would use up a number.
func saveIncident(ctx context.Context, db database.Querier, in *Incident) error {
	alerts, err := json.Marshal(in.Alerts)
	if err != nil {
		return fmt.Errorf("encode alerts of incident %s: %w", in.ID, err)
	}
	ack := cmp.Or(in.Ack, &Ack{})
	row := []any{
		in.ID, in.GroupKey, in.Receiver, in.Title, in.Severity, in.StartedAt, in.OpenedAt, in.ChangedAt, in.ResolvedAt, string(alerts),
		ack.By, ack.At, ack.Comment,
	}
	updated, err := db.ExecContext(ctx, `UPDATE incident SET (`+incidentColumns+`) = (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13) WHERE id = ?1`, row...)
	var known int64
	if err == nil {
		known, err = updated.RowsAffected()
	}
	if err == nil && known == 0 {
		_, err = db.ExecContext(ctx, `INSERT INTO incident (`+incidentColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, row...)
	}
	if err != nil {
		return fmt.Errorf("write incident %s: %w", in.ID, err)
	}
	return nil
}

// millis is t in Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func incidentAlert(a *amalert.Alert) IncidentAlert {
	out := IncidentAlert{Labels: map[string]string{}, Annotations: map[string]string{}, StartsAt: millis(a.StartsAt)}
	for n, v := range a.Labels {
		out.Labels[string(n)] = string(v)
	}
	for n, v := range a.Annotations {
		out.Annotations[string(n)] = string(v)
	}
	if a.Resolved() {
		out.EndsAt = millis(a.EndsAt)
	}
	return out
}

// Incidents returns incidents with their pages, the newest first.
func (p *Pager) Incidents(ctx context.Context, q Query) ([]Incident, error) {
	where, args := `WHERE 1 = 1`, []any{}
	if q.Open {
		where += ` AND resolved_at = 0`
	}
	if q.Before != 0 {
		where, args = where+` AND opened_at < ?`, append(args, q.Before)
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	found, err := queryIncidents(ctx, p.db, where+` ORDER BY opened_at DESC, id LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	out := make([]Incident, 0, len(found))
	for _, in := range found {
		if err := p.fill(ctx, in); err != nil {
			return nil, err
		}
		out = append(out, *in)
	}
	return out, nil
}

// Incident returns one incident with its pages, or ErrNoIncident.
func (p *Pager) Incident(ctx context.Context, id string) (Incident, error) {
	in, err := readIncident(ctx, p.often, id)
	if err != nil {
		return Incident{}, err
	}
	return in, p.fill(ctx, &in)
}

// fill reads what belongs to an incident beside its row.
func (p *Pager) fill(ctx context.Context, in *Incident) (err error) {
	in.Now = p.now(in)
	if in.Pages, err = queryPages(ctx, p.often, in.ID); err != nil {
		return err
	}
	if err := in.loadDetails(ctx, p.often); err != nil {
		return err
	}
	return p.escalates(ctx, in)
}

// now says how the condition of an incident stands: its value, or since when it is over.
func (p *Pager) now(in *Incident) string {
	firing, over, since, value := 0, 0, int64(0), ""
	for _, a := range in.Alerts {
		if a.EndsAt != 0 || in.ResolvedAt != 0 {
			continue
		}
		firing++
		fp := alert.LabelSet(a.Labels).Fingerprint()
		if at := p.overSince(fp); at != 0 {
			over, since = over+1, max(since, at)
		}
		for _, t := range p.firingOf(fp) {
			if c := p.condition(t); c.At != 0 && c.Metric != alert.ThrottledMetric && c.Metric != alert.UpMetric { // bits have no value to show
				value = "now " + picture.Number(c.Metric, c.Value)
			}
		}
	}
	if firing != 1 {
		value = ""
	}
	switch {
	case over == 0:
		return value
	case over < firing:
		return fmt.Sprintf("condition over for %d of %d alerts", over, firing)
	}
	text := "condition over since " + time.UnixMilli(since).UTC().Format("15:04:05 UTC")
	if value != "" {
		text += ", " + value
	}
	return text
}

func readIncident(ctx context.Context, db database.Querier, id string) (Incident, error) {
	found, err := queryIncidents(ctx, db, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(found) == 0 {
		return Incident{}, fmt.Errorf("incident %q: %w", id, ErrNoIncident)
	}
	return *found[0], nil
}

func queryPages(ctx context.Context, db database.Querier, incident string) ([]Page, error) {
	rows, err := db.QueryContext(ctx, `SELECT p.id, p.receiver, p.integration, p.reason, p.created_at, p.reading_at, p.state, p.attempts, p.answer,
		p.left_at, coalesce(t.person, ''), coalesce(t.kind, ''), coalesce(t.bundle, '')
		FROM page p LEFT JOIN page_to t ON t.page = p.id WHERE p.incident = ? ORDER BY p.seq`, incident)
	if err != nil {
		return nil, fmt.Errorf("read pages of incident %s: %w", incident, err)
	}
	defer rows.Close()
	out := []Page{}
	for rows.Next() {
		var (
			pg        Page
			reason    int
			readingAt int64
		)
		err := rows.Scan(&pg.ID, &pg.Receiver, &pg.Integration, &reason, &pg.CreatedAt, &readingAt, &pg.State, &pg.Attempts, &pg.Answer, &pg.LeftAt,
			&pg.Person, &pg.About, &pg.Bundle)
		if err != nil {
			return nil, fmt.Errorf("read pages of incident %s: %w", incident, err)
		}
		pg.Reason = notify.NotifyReason(reason).String()
		if readingAt != 0 && pg.LeftAt != 0 {
			pg.LatencyMs = pg.LeftAt - readingAt
		}
		out = append(out, pg)
	}
	return out, rows.Err()
}

// RuleCount is what a rule led to in a time.
type RuleCount struct {
	Rule             string
	Incidents, Pages int
	// Boards are those that its incidents touched, in order.
	Boards []string
}

// CountPages counts incidents that began between two times, and the pages written for them, by the name of the alert.
// Recorded ones, which page nobody, count as incidents.
func (p *Pager) CountPages(ctx context.Context, from, to time.Time) ([]RuleCount, error) {
	found, err := queryIncidents(ctx, p.db, `WHERE opened_at >= ? AND opened_at < ?`, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	byRule := map[string]*RuleCount{}
	for _, in := range found {
		pages, err := queryPages(ctx, p.db, in.ID)
		if err != nil {
			return nil, err
		}
		name := in.Alerts[0].Labels[alert.NameLabel]
		c := byRule[name]
		if c == nil {
			c = &RuleCount{Rule: name}
			byRule[name] = c
		}
		c.Incidents++
		c.Pages += len(pages)
		for _, a := range in.Alerts {
			c.Boards = append(c.Boards, a.Boards...)
			if b := a.Labels[alert.BoardLabel]; b != "" {
				c.Boards = append(c.Boards, b)
			}
		}
	}
	out := make([]RuleCount, 0, len(byRule))
	for _, c := range byRule {
		slices.Sort(c.Boards)
		c.Boards = slices.Compact(c.Boards)
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b RuleCount) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Rule, b.Rule)) })
	return out, nil
}
