package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"bramble/alerting/incident"
	"bramble/alerting/pager"
	"bramble/alerting/receivers"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// linkPart opens incidents to the holder of a signed link of the pager's.
type linkPart struct {
	pager    *pager.Pager
	registry *registry.Registry
}

// Open returns the incident of a link.
func (l *linkPart) Open(ctx context.Context, text string) (dashboards.Linked, error) {
	link, err := l.pager.ReadLink(receivers.AckLink, text)
	if err != nil {
		return dashboards.Linked{}, linkError(err)
	}
	in, err := l.pager.Linked(ctx, link)
	if err != nil {
		return dashboards.Linked{}, linkError(err)
	}
	shown := dashboards.Linked{Incident: incidentView(in.Incident), Receiver: link.Receiver, Before: in.Before, Expires: link.Expires()}
	if in.Picture != "" {
		shown.Picture = "/picture/" + in.Picture
	}
	return shown, nil
}

// Acknowledge records that somebody has the incident of a link.
func (l *linkPart) Acknowledge(ctx context.Context, text, name, comment string, from netip.Addr) error {
	link, err := l.pager.ReadLink(receivers.AckLink, text)
	if err != nil {
		return linkError(err)
	}
	in, err := l.pager.Incident(ctx, link.Incident)
	if err != nil {
		return linkError(err)
	}
	if in.ResolvedAt != 0 {
		return dashboards.ErrResolved
	}
	who := cmp.Or(name, l.pager.OnCall().PersonOf(link.Receiver), link.Receiver)
	if err := l.pager.Acknowledge(ctx, link.Incident, who, comment); err != nil {
		return linkError(err)
	}
	return l.registry.Note(registry.WithActor(ctx, who), "acknowledge incident", link.Incident, "by the link sent to "+link.Receiver+", from "+from.String())
}

// Picture returns that of a link.
func (l *linkPart) Picture(ctx context.Context, text string) ([]byte, error) {
	link, err := l.pager.ReadLink(receivers.PictureLink, text)
	if err != nil {
		return nil, linkError(err)
	}
	b, err := l.pager.Picture(ctx, link)
	return b, linkError(err)
}

// linkError names errors of the pager's as the pages know them.
func linkError(err error) error {
	for of, is := range map[error]error{
		receivers.ErrLink: dashboards.ErrLink, receivers.ErrLinkExpired: dashboards.ErrLinkExpired,
		incident.ErrNone: dashboards.ErrUnknownIncident, receivers.ErrNoPicture: dashboards.ErrUnknownIncident,
	} {
		if errors.Is(err, of) {
			return is
		}
	}
	return err
}
