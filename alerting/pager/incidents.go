package pager

import (
	"context"
	"fmt"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/picture"
	"bramble/alerting/receivers"
)

// now says how the condition of an incident stands: its value, or since when it is over.
func (s *suppressor) now(in *incident.Incident) string {
	firing, over, since, value := 0, 0, int64(0), ""
	for _, a := range in.Alerts {
		if a.EndsAt != 0 || in.ResolvedAt != 0 {
			continue
		}
		firing++
		fp := alert.LabelSet(a.Labels).Fingerprint()
		if at := s.overSince(fp); at != 0 {
			over, since = over+1, max(since, at)
		}
		for _, t := range s.inbox.firingOf(fp) {
			if c := s.condition(t); c.At != 0 && c.Metric != alert.ThrottledMetric && c.Metric != alert.UpMetric { // bits have no value to show
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

// ReadLink checks the signature and the age of a link of a kind: the last element of its URL's path. The error is ErrLink
// or ErrLinkExpired; with the latter the link is returned.
func (p *Pager) ReadLink(kind receivers.LinkKind, text string) (receivers.Link, error) {
	return p.parts.ReadLink(kind, text, time.Now())
}

// Picture draws the incident of a PictureLink as it was when the page was written.
func (p *Pager) Picture(ctx context.Context, l receivers.Link) ([]byte, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return nil, err
	}
	return p.parts.Pictures.Draw(ctx, &in, l.At)
}

// LinkedIncident is the incident that an AckLink shows.
type LinkedIncident struct {
	incident.Incident
	// Before is how the last incident of the same rule at the same place ended; empty where nobody wrote anything.
	Before string
	// Picture is a PictureLink, as it stands in a URL; empty where there is nothing to draw.
	Picture string
}

// Linked returns the incident that an AckLink shows, or ErrNone.
func (p *Pager) Linked(ctx context.Context, l receivers.Link) (LinkedIncident, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return LinkedIncident{}, err
	}
	out := LinkedIncident{Incident: in}
	if out.Before, err = p.parts.Before(ctx, &in); err != nil {
		return out, err
	}
	out.Picture = p.parts.PictureLink(&in, l)
	return out, nil
}

// Incidents returns incidents with their pages, the newest first.
func (p *Pager) Incidents(ctx context.Context, q incident.Query) ([]incident.Incident, error) {
	return p.escalation.Incidents(ctx, q)
}

// Incident returns one incident with its pages, or ErrNone.
func (p *Pager) Incident(ctx context.Context, id string) (incident.Incident, error) {
	return p.escalation.Incident(ctx, id)
}

// Timeline returns all past and coming events of an incident, in the order of time, or ErrNone.
func (p *Pager) Timeline(ctx context.Context, id string) ([]incident.Event, error) {
	return p.escalation.Timeline(ctx, id)
}

// CountPages is escalation.Engine.CountPages.
func (p *Pager) CountPages(ctx context.Context, from, to time.Time) ([]escalation.RuleCount, error) {
	return p.escalation.CountPages(ctx, from, to)
}

// Acknowledge is escalation.Engine.Acknowledge.
func (p *Pager) Acknowledge(ctx context.Context, id, who, comment string) error {
	return p.escalation.Acknowledge(ctx, id, who, comment)
}

// Snooze is escalation.Engine.Snooze.
func (p *Pager) Snooze(ctx context.Context, id, who, comment string, d time.Duration) error {
	return p.escalation.Snooze(ctx, id, who, comment, d)
}

// CloseIncident is escalation.Engine.Close.
func (p *Pager) CloseIncident(ctx context.Context, id, who, comment string) error {
	return p.escalation.Close(ctx, id, who, comment)
}
