package alerting

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
)

// What a page says beyond the annotations of its rule. All alerts of a page have the same, so that templates find them in
// .CommonAnnotations.
const (
	// PageSubject says what, where and since when.
	PageSubject = "page_subject"
	// PageNumber is the incident's number.
	PageNumber = "page_incident"
	// PageReason is the reason of the incident's leading alert, PageRunbook its runbook, PageDetail its description.
	PageReason  = "page_reason"
	PageRunbook = "page_runbook"
	PageDetail  = "page_detail"
	// PageBefore is how the last incident of this kind at this place ended.
	PageBefore = "page_before"
	// PageURL leads to the incident, PageBoardURL to its board.
	PageURL      = "page_url"
	PageBoardURL = "page_board_url"
	// PageAckURL is a signed link to acknowledge, PagePictureURL one to the picture.
	PageAckURL     = "page_ack_url"
	PagePictureURL = "page_picture_url"
)

// facts are what a page says of its incident.
type facts struct {
	incident Incident
	notes    map[string]string
	drew     time.Duration // for how long the integration drew the picture
}

// factsOf reads what the page for a receiver says. links is false for receivers that must not be able to act.
func (p *Pager) factsOf(ctx context.Context, l *letter, links bool) (*facts, error) {
	in, err := readIncident(ctx, p.often, l.incident) // without its pages: what a page says does not grow with those before it
	if err != nil {
		return nil, err
	}
	f := &facts{incident: in, notes: map[string]string{}}
	lead := in.lead()
	f.note(PageSubject, alert.OneLine(in.subject()))
	f.note(PageNumber, fmt.Sprint(in.Number))
	part, err := tookOver(ctx, p.often, in.ID)
	if err != nil {
		return nil, err
	}
	f.note(PageReason, strings.TrimSpace(lead.Annotations[alert.ReasonNote]+" "+part))
	f.note(PageRunbook, cmp.Or(lead.Annotations["runbook"], lead.Annotations["runbook_url"]))
	f.note(PageDetail, cmp.Or(lead.Annotations["description"], lead.Annotations["message"]))
	before, err := p.before(ctx, &in)
	if err != nil {
		return nil, err
	}
	f.note(PageBefore, before)
	f.note(PageURL, p.link("incidents?id="+url.QueryEscape(in.ID)))
	if boards := in.touched(); len(boards) == 1 {
		f.note(PageBoardURL, p.link("board/"+url.PathEscape(boards[0])))
	}
	if !links {
		return f, nil
	}
	at := time.UnixMilli(l.createdAt)
	if in.ResolvedAt == 0 {
		f.note(PageAckURL, p.link("ack/"+signLink(p.linkKey, Link{AckLink, in.ID, l.receiver, at})))
	}
	if p.pictures.drawable(&in) {
		f.note(PagePictureURL, p.link("picture/"+signLink(p.linkKey, Link{PictureLink, in.ID, l.receiver, at})))
	}
	return f, nil
}

func (f *facts) note(name, text string) {
	if text != "" {
		f.notes[name] = text
	}
}

// link is an absolute URL of the pages.
func (p *Pager) link(path string) string {
	return strings.TrimSuffix(p.externalURL.String(), "/") + "/" + path
}

// subject is the incident's title, with the place where the title does not say it.
func (in *Incident) subject() string {
	what, since, ok := strings.Cut(in.Title, " since ")
	var place []string
	for _, name := range []string{"rack", "switch"} {
		if v := in.common(name); len(in.Alerts) > 0 && v != "" && !strings.Contains(what, v+")") && !strings.Contains(what, name+" "+v) {
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

// before says how the last incident of the same rule at the same place ended, from what its people wrote.
func (p *Pager) before(ctx context.Context, in *Incident) (string, error) {
	lead := in.lead()
	if lead.Rule == "" {
		return "", nil
	}
	// Few incidents have a comment; the newest of them are enough.
	ended, err := queryIncidents(ctx, p.often, `WHERE resolved_at > 0 AND id <> ?
		AND (ack_comment <> '' OR id IN (SELECT incident FROM incident_more WHERE closing <> '')) ORDER BY resolved_at DESC LIMIT 200`, in.ID)
	if err != nil {
		return "", err
	}
	for _, old := range ended {
		if l := old.lead(); l.Rule != lead.Rule || l.Series != lead.Series {
			continue
		}
		if err := old.more(ctx, p.often); err != nil {
			return "", err
		}
		by, text := old.closing()
		if text == "" {
			continue
		}
		return fmt.Sprintf("#%d, resolved %s after %s: %q (%s)", old.Number, time.UnixMilli(old.ResolvedAt).UTC().Format("2 January 15:04 UTC"),
			lasted(old.ResolvedAt-old.StartedAt), text, by), nil
	}
	return "", nil
}

// closing is the last thing that somebody wrote about the incident.
func (in *Incident) closing() (by, text string) {
	if in.Closing != nil && in.Closing.Comment != "" {
		return in.Closing.By, in.Closing.Comment
	}
	if in.Ack == nil {
		return "", ""
	}
	return in.Ack.By, in.Ack.Comment
}

// lasted writes a length of time in milliseconds roughly.
func lasted(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 3*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
}

// enrich returns alerts with what the page says of the incident. The alerts given stay as they are.
func (f *facts) enrich(alerts []*amalert.Alert) []*amalert.Alert {
	out := make([]*amalert.Alert, len(alerts))
	for i, a := range alerts {
		with := *a
		with.Annotations = a.Annotations.Clone()
		if with.Annotations == nil {
			with.Annotations = model.LabelSet{}
		}
		for name, text := range f.notes {
			with.Annotations[model.LabelName(name)] = model.LabelValue(text)
		}
		out[i] = &with
	}
	return out
}

type factsKey struct{}

// enriched gives a page its facts, for templates in its alerts and for integrations of our own in the context. A page whose
// facts cannot be read, or that is about no incident, leaves as it was written.
func (p *Pager) enriched(ctx context.Context, l *letter, alerts []*amalert.Alert) (context.Context, []*amalert.Alert) {
	own := p.routing.Load().own[l.receiver]
	if l.incident == "" || l.receiver == alert.Watchdog || own != nil && own.Plain {
		return ctx, alerts
	}
	f, err := p.factsOf(ctx, l, own == nil || own.links())
	if err != nil {
		p.log.Error("read what a page says of its incident; it leaves without", "page", l.id, "err", err)
		return ctx, alerts
	}
	if l.reason == notify.ReasonUnknown && len(alerts) > 0 {
		// What the alerts' own life did not cause, such as word of an acknowledgement, has words of its own.
		f.note(PageSubject, alert.OneLine(string(alerts[0].Annotations["summary"])))
	}
	return context.WithValue(ctx, factsKey{}, f), f.enrich(alerts)
}

// factsIn returns what enriched put into the context, nil where there is nothing.
func factsIn(ctx context.Context) *facts {
	f, _ := ctx.Value(factsKey{}).(*facts)
	return f
}
