package receivers

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"maps"
	"net/url"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

//go:embed page.tmpl
var pageTemplate []byte

// pageTemplates are Alertmanager's, with the words of ours in the place of its own, and the user's over both.
func pageTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil, func(text *texttemplate.Template, html *htmltemplate.Template) {
		own := map[string]any{"short": alert.Short, "alertTexts": alertTexts, "alertText": func(a template.Alert) string { return alert.Text(a.Labels, a.Annotations) }}
		text.Funcs(own)
		html.Funcs(own)
	})
	if err != nil {
		return nil, err
	}
	if err := t.Parse(bytes.NewReader(pageTemplate)); err != nil {
		return nil, fmt.Errorf("page.tmpl: %w", err) // a test sends with each
	}
	for _, g := range globs {
		if err := t.FromGlob(g); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// alertTexts is Text of each alert of a page. Where several would read the same, the labels in which they differ follow.
func alertTexts(alerts template.Alerts) []string {
	out, times := make([]string, len(alerts)), map[string]int{}
	for i, a := range alerts {
		out[i] = alert.Text(a.Labels, a.Annotations)
		times[out[i]]++
	}
	for i, a := range alerts {
		if times[out[i]] < 2 {
			continue
		}
		own := maps.Clone(map[string]string(a.Labels))
		maps.DeleteFunc(own, func(name, value string) bool {
			return !slices.ContainsFunc(alerts, func(o template.Alert) bool { return o.Labels[name] != value })
		})
		if board := own[alert.BoardLabel]; board != "" {
			out[i] += " (" + board + ")"
		} else if words := alert.LabelWords(own); words != "" {
			out[i] += " (" + words + ")"
		}
	}
	return out
}

// Annotations of a page beyond those of its rule. All alerts of a page have the same, so that templates find them in
// .CommonAnnotations.
const (
	// PageSubject names the failure, its place and its beginning.
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

// facts are a page's sentences on its incident.
type facts struct {
	incident incident.Incident
	notes    map[string]string
	drew     time.Duration // for how long the integration drew the picture
}

// factsOf reads the facts of the page for a receiver. links is false for receivers that must not be able to act.
func (p *Parts) factsOf(ctx context.Context, l *outbox.Message, links bool) (*facts, error) {
	in, err := incident.Get(ctx, p.DB, l.Incident) // without its pages: a page's text does not grow with those before it
	if err != nil {
		return nil, err
	}
	f := &facts{incident: in, notes: map[string]string{}}
	lead := in.Lead()
	f.note(PageSubject, alert.OneLine(in.Subject()))
	f.note(PageNumber, fmt.Sprint(in.Number))
	part, err := incident.MergedText(ctx, p.DB, in.ID)
	if err != nil {
		return nil, err
	}
	f.note(PageReason, strings.TrimSpace(lead.Annotations[alert.ReasonNote]+" "+part))
	f.note(PageRunbook, cmp.Or(lead.Annotations["runbook"], lead.Annotations["runbook_url"]))
	f.note(PageDetail, cmp.Or(lead.Annotations["description"], lead.Annotations["message"]))
	before, err := p.Before(ctx, &in)
	if err != nil {
		return nil, err
	}
	f.note(PageBefore, before)
	f.note(PageURL, p.Link("incidents?id="+url.QueryEscape(in.ID)))
	if boards := in.Boards(); len(boards) == 1 {
		f.note(PageBoardURL, p.Link("board/"+url.PathEscape(boards[0])))
	}
	if !links {
		return f, nil
	}
	at := time.UnixMilli(l.CreatedAt)
	if in.ResolvedAt == 0 {
		f.note(PageAckURL, p.Link("ack/"+p.Sign(Link{AckLink, in.ID, l.Receiver, at})))
	}
	if p.Pictures.drawable(&in) {
		f.note(PagePictureURL, p.Link("picture/"+p.Sign(Link{PictureLink, in.ID, l.Receiver, at})))
	}
	return f, nil
}

func (f *facts) note(name, text string) {
	if text != "" {
		f.notes[name] = text
	}
}

// Link is the absolute URL of a page.
func (p *Parts) Link(path string) string {
	return strings.TrimSuffix(p.ExternalURL.String(), "/") + "/" + path
}

// Before says how the last incident of the same rule at the same place ended, from its people's comments.
func (p *Parts) Before(ctx context.Context, in *incident.Incident) (string, error) {
	lead := in.Lead()
	if lead.Rule == "" {
		return "", nil
	}
	// Few incidents have a comment; the newest of them are enough.
	ended, err := incident.Find(ctx, p.DB, `WHERE resolved_at > 0 AND id <> ?
		AND (ack_comment <> '' OR id IN (SELECT incident FROM incident_detail WHERE closing <> '')) ORDER BY resolved_at DESC LIMIT 200`, in.ID)
	if err != nil {
		return "", err
	}
	for _, old := range ended {
		if l := old.Lead(); l.Rule != lead.Rule || l.Series != lead.Series {
			continue
		}
		if err := old.LoadDetails(ctx, p.DB); err != nil {
			return "", err
		}
		by, text := old.LastComment()
		if text == "" {
			continue
		}
		return fmt.Sprintf("#%d, resolved %s after %s: %q (%s)", old.Number, time.UnixMilli(old.ResolvedAt).UTC().Format("2 January 15:04 UTC"),
			lasted(old.ResolvedAt-old.StartedAt), text, by), nil
	}
	return "", nil
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

// enrich returns alerts with the page's facts on the incident. The alerts given stay as they are.
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
func (s *Set) enriched(ctx context.Context, l *outbox.Message, alerts []*amalert.Alert) (context.Context, []*amalert.Alert) {
	p, own := s.parts, s.own[l.Receiver]
	if l.Incident == "" || l.Kind() == alert.ToWatchdog || own != nil && own.Plain {
		return ctx, alerts
	}
	f, err := p.factsOf(ctx, l, own == nil || own.links())
	if err != nil {
		p.Log.Error("read what a page says of its incident; it leaves without", "page", l.ID, "err", err)
		return ctx, alerts
	}
	if l.Reason == notify.ReasonUnknown && len(alerts) > 0 {
		// A message that the alerts' own life did not cause, such as word of an acknowledgement, has words of its own.
		f.note(PageSubject, alert.OneLine(string(alerts[0].Annotations["summary"])))
	}
	return context.WithValue(ctx, factsKey{}, f), f.enrich(alerts)
}

// factsIn returns the facts that enriched put into the context, nil where there are none.
func factsIn(ctx context.Context) *facts {
	f, _ := ctx.Value(factsKey{}).(*facts)
	return f
}
