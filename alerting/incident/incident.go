package incident

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bramble/alerting/alert"
)

// ErrNone is returned for an incident that does not exist.
var ErrNone = errors.New("no such incident")

// Incident is the history of one group of alerts, from the first page to the resolve. Times are Unix milliseconds,
// 0 where they have not come.
type Incident struct {
	ID string `json:"id"`
	// Number is its name among people; the first one is 1.
	Number   int64  `json:"number"`
	GroupKey string `json:"group_key"`
	Receiver string `json:"receiver"`
	Title    string `json:"title"`
	Severity string `json:"severity"`
	// StartedAt is when it began: the time of the oldest reading that fired, or a silent board's last report. OpenedAt is
	// when the first page was written.
	StartedAt  int64   `json:"started_at"`
	OpenedAt   int64   `json:"opened_at"`
	ChangedAt  int64   `json:"changed_at"`
	ResolvedAt int64   `json:"resolved_at,omitempty"`
	Alerts     []Alert `json:"alerts"`
	// Now says how the condition stands at the newest reading, "" where nobody knows and when it is resolved.
	Now   string `json:"now,omitempty"`
	Ack   *Ack   `json:"ack,omitempty"`
	Pages []Page `json:"pages"`
	// Closing is the comment at the end, nil where nobody wrote one.
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
	// NextAt and NextTo are the pending step.
	NextAt int64  `json:"next_at,omitempty"`
	NextTo string `json:"next_to,omitempty"`
}

// Closing is the comment with which a person closed an incident.
type Closing struct {
	By      string `json:"by"`
	At      int64  `json:"at"`
	Comment string `json:"comment"`
	// ByHand says that its alerts still fired.
	ByHand bool `json:"by_hand,omitempty"`
}

// Alert is one alert of an incident.
type Alert struct {
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

// Ack is an acknowledgement: the person who took the incident on, and a comment.
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
	ID          string `json:"-"`
	Receiver    string `json:"to,omitempty"`
	Integration string `json:"channel"`
	Reason      string `json:"-"`
	// At is when it left, or was written where it did not, in Unix milliseconds like CreatedAt and LeftAt.
	At        int64 `json:"at"`
	CreatedAt int64 `json:"-"`
	LeftAt    int64 `json:"-"`
	// State is waiting, bundled (it waits to leave with others), delivered, failed or stopped (an acknowledgement made it
	// unnecessary).
	State    string `json:"result"`
	Attempts int    `json:"attempt,omitempty"`
	// Error is the provider's last answer where it did not take the page.
	Error string `json:"error,omitempty"`
	// LatencyMs is the time from the reading that fired to the page's departure, 0 where the page has no new alert.
	LatencyMs int64 `json:"latencyMs,omitempty"`
	// Person is whom it was for, empty for a receiver that is nobody's channel; About is page, resolve or ack. Bundle is the
	// message with which it left together with others.
	Person string `json:"person,omitempty"`
	About  string `json:"about,omitempty"`
	Bundle string `json:"bundle,omitempty"`
}

// MaxTitle is how much of an alert's text a title has, in characters: it becomes the subject of pages.
const MaxTitle = 200

// Query selects incidents.
type Query struct {
	// Open selects those that are not resolved.
	Open bool
	// Before selects those opened before this time (Unix milliseconds), 0 for all; with Limit it pages.
	Before int64
	// Limit is the most to return; 0 means 100.
	Limit int
}

// NewID is stable: the same group with the same oldest alert is the same incident.
func NewID(groupKey string, startedAt int64) string {
	sum := sha256.Sum256([]byte(groupKey + "\x00" + strconv.FormatInt(startedAt, 10)))
	return hex.EncodeToString(sum[:8])
}

// Take brings an incident's alerts up to date with those of a notification.
func (in *Incident) Take(alerts []Alert, now int64) {
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
	in.Describe()
}

// Describe derives title and severity.
func (in *Incident) Describe() {
	names, boards := map[string]bool{}, map[string]bool{}
	in.Severity, in.StartedAt = "", 0
	domain := in.domain()
	for _, a := range in.Alerts {
		names[alert.Name(a.Labels)] = true
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
	subject := in.subject(names, boards)
	if domain != nil {
		subject = domain.Annotations["summary"]
	}
	in.Title = alert.Short(MaxTitle, alert.OneLine(subject)) + " since " + time.UnixMilli(in.StartedAt).UTC().Format("15:04:05 UTC")
}

// began is when the cause of the alert began.
func (a *Alert) began() int64 { return alert.Began(a.Annotations, a.StartsAt) }

// domain returns the alert of the largest failure among those of the incident, nil where each board stands alone.
func (in *Incident) domain() (largest *Alert) {
	for i := range in.Alerts {
		if a := &in.Alerts[i]; a.Labels[alert.DomainLabel] != "" && alert.IsDomainRule(a.Rule) && (largest == nil || len(a.Boards) > len(largest.Boards)) {
			largest = a
		}
	}
	return largest
}

// subject names the alerts and boards of an incident, and counts them.
func (in *Incident) subject(names, boards map[string]bool) string {
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
		return text + " (" + CountText(len(in.Alerts)) + ")"
	case len(boards) == 1:
		text += " on " + alert.Names(boards, 1)
	default:
		text += fmt.Sprintf(" on %d boards (%s)", len(boards), alert.Names(boards, 3))
	}
	if rack := in.Common("rack"); rack != "" {
		text += ", rack " + rack
	}
	return text
}

// where names the smallest place that all alerts share, such as "Rack r2, switch r2-a: ", or nothing.
func (in *Incident) where() string {
	rack, sw := in.Common("rack"), in.Common("switch")
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

// Common returns the value of a label that all alerts share.
func (in *Incident) Common(label string) string {
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
	maps.DeleteFunc(out, func(name, _ string) bool { return in.Common(name) == "" })
	return out
}

// represents reports whether an alert of a domain is about the failure that another alert is a part of: one of a board,
// or of a smaller domain.
func (a *Alert) represents(b *Alert) bool {
	t := alert.Transition{Rule: a.Rule, Labels: a.Labels}
	d, ok := alert.DomainOf(&t)
	if !ok || a.EndsAt != 0 || b.Rule == "" || alert.BaseRule(a.Rule) != alert.BaseRule(b.Rule) || !d.Holds(b.Labels) {
		return false
	}
	t = alert.Transition{Rule: b.Rule, Labels: b.Labels}
	smaller, ok := alert.DomainOf(&t)
	return !ok || smaller.Rank() < d.Rank()
}

// PartOf reports whether alerts stand for all that fires of an incident.
func (in *Incident) PartOf(alerts []Alert) bool {
	fires := 0
	for i := range in.Alerts {
		b := &in.Alerts[i]
		if b.EndsAt != 0 {
			continue
		}
		fires++
		if !slices.ContainsFunc(alerts, func(a Alert) bool { return a.represents(b) }) {
			return false
		}
	}
	return fires > 0
}

// Update reports whether one of the transitions is of an alert of the incident.
func (in *Incident) Update(ts []alert.Transition) (any bool) {
	for _, t := range ts {
		for i := range in.Alerts {
			if a := &in.Alerts[i]; a.Rule == t.Rule && a.Series == t.Series && a.EndsAt == 0 {
				a.Annotations, a.Boards, any = t.Annotations, t.Boards, true
			}
		}
	}
	return any
}

// Subject is the incident's title, with the place where the title does not say it.
func (in *Incident) Subject() string {
	what, since, ok := strings.Cut(in.Title, " since ")
	var place []string
	for _, name := range []string{"rack", "switch"} {
		if v := in.Common(name); len(in.Alerts) > 0 && v != "" && !strings.Contains(what, v+")") && !strings.Contains(what, name+" "+v) {
			place = append(place, name+" "+v)
		}
	}
	if len(place) > 0 && in.domain() == nil {
		what += " (" + strings.Join(place, ", ") + ")"
	}
	if ok {
		what += " since " + since
	}
	return what
}

// LastComment is the newest comment on the incident, and its author.
func (in *Incident) LastComment() (by, text string) {
	if in.Closing != nil && in.Closing.Comment != "" {
		return in.Closing.By, in.Closing.Comment
	}
	if in.Ack == nil {
		return "", ""
	}
	return in.Ack.By, in.Ack.Comment
}

// Boards returns the boards of an incident's alerts, in order.
func (in *Incident) Boards() []string {
	var out []string
	for _, a := range in.Alerts {
		if b := a.Labels[alert.BoardLabel]; b != "" {
			out = append(out, b)
		}
		out = append(out, a.Boards...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Lead is the alert that the incident is about: that of the largest domain, else the first that still fires.
func (in *Incident) Lead() *Alert {
	if d := in.domain(); d != nil {
		return d
	}
	for i := range in.Alerts {
		if in.Alerts[i].EndsAt == 0 {
			return &in.Alerts[i]
		}
	}
	if len(in.Alerts) == 0 {
		return &Alert{}
	}
	return &in.Alerts[0]
}

// Event is one thing that happened to an incident. At is in Unix milliseconds.
type Event struct {
	At int64 `json:"at"`
	// Kind is opened, alerts, ended, refired, moved, step, channel, gap, held, repeat, exhausted, page, timing, acknowledged, snoozed,
	// awake, resolved or closed; next is a step to come.
	Kind string `json:"kind"`
	// Who did it, or to whom it happened; empty for the collector itself.
	Who  string `json:"who,omitempty"`
	Text string `json:"text"`
	// Page is the page that the event is about, for those of the kind page.
	Page *Page `json:"page,omitempty"`
}

// CountText counts alerts in words: "3 alerts".
func CountText(n int) string {
	if n == 1 {
		return "1 alert"
	}
	return fmt.Sprintf("%d alerts", n)
}

// Text is the state of a page in words.
func (pg *Page) Text() string {
	to := pg.Integration + " to " + pg.Receiver
	switch {
	case pg.State == "bundled":
		return to + ": waits to leave with others, three messages a minute are the most"
	case pg.Bundle != "":
		return to + ": " + pg.State + " with others in one message"
	}
	return to + ": " + pg.State
}

const (
	// RefireWithin is how soon after its end an incident that fires again is the same one.
	RefireWithin = 5 * time.Minute
	// ackKept is how long its acknowledgement then still counts: its author is awake.
	ackKept = 30 * time.Minute
)

// Holds reports whether all of the alerts that fire were part of the incident when it was closed.
func (in *Incident) Holds(alerts []Alert) bool {
	had := map[string]int64{}
	for _, a := range in.Alerts {
		if a.EndsAt == 0 {
			had[alert.LabelText(a.Labels)] = a.StartsAt
		}
	}
	for _, a := range alerts {
		if at, ok := had[alert.LabelText(a.Labels)]; a.EndsAt == 0 && (!ok || at != a.StartsAt) {
			return false
		}
	}
	return true
}

// Reopen makes an incident the present one again, at a time in Unix milliseconds. A fresh acknowledgement stays, and a snooze until its end.
func (in *Incident) Reopen(now int64) {
	in.ResolvedAt = 0
	if a := in.Ack; a != nil && (a.Until == 0 && now-a.At > ackKept.Milliseconds() || a.Until != 0 && now >= a.Until) {
		in.Ack = nil
	}
	for i := range in.Alerts {
		if in.Alerts[i].EndsAt == 0 { // it was closed by hand
			in.Alerts[i].EndsAt = now
		}
	}
}

// FollowedBy returns the acknowledgement that stands once next was given after a, which may be nil. A snooze of an
// acknowledged incident sets only its end: name, time and note of the acknowledgement stay, as they do when the same person
// acknowledges once more without a note. The time line has both.
func (a *Ack) FollowedBy(next Ack) *Ack {
	again := a != nil && next.By == a.By && next.Comment == ""
	if a == nil || next.Until == 0 && !again {
		return &next
	}
	stands := *a
	stands.Until = next.Until
	if stands.Comment == "" && next.By == a.By {
		stands.Comment = next.Comment
	}
	return &stands
}
