package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"bramble/alerting"
	"bramble/alerting/incident"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// links lets the pages open incidents to whoever holds a signed link of the pager's.
func (s site) links() *dashboards.Links {
	return &dashboards.Links{Open: s.openLink, Acknowledge: s.followLink, Picture: s.linkedPicture}
}

func (s site) openLink(ctx context.Context, text string) (dashboards.Linked, error) {
	link, err := s.app.pager.ReadLink(alerting.AckLink, text)
	if err != nil {
		return dashboards.Linked{}, linkError(err)
	}
	in, err := s.app.pager.Linked(ctx, link)
	if err != nil {
		return dashboards.Linked{}, linkError(err)
	}
	shown := dashboards.Linked{Incident: incidentView(in.Incident), Receiver: link.Receiver, Before: in.Before, Expires: link.Expires()}
	if in.Picture != "" {
		shown.Picture = "/picture/" + in.Picture
	}
	return shown, nil
}

func (s site) followLink(ctx context.Context, text, name, comment string, from netip.Addr) error {
	link, err := s.app.pager.ReadLink(alerting.AckLink, text)
	if err != nil {
		return linkError(err)
	}
	in, err := s.app.pager.Incident(ctx, link.Incident)
	if err != nil {
		return linkError(err)
	}
	if in.ResolvedAt != 0 {
		return dashboards.ErrResolved
	}
	who := cmp.Or(name, s.app.pager.OnCall().PersonOf(link.Receiver), link.Receiver)
	if err := s.app.pager.Acknowledge(ctx, link.Incident, who, comment); err != nil {
		return linkError(err)
	}
	return s.app.registry.Note(registry.WithActor(ctx, who), "acknowledge incident", link.Incident, "by the link sent to "+link.Receiver+", from "+from.String())
}

func (s site) linkedPicture(ctx context.Context, text string) ([]byte, error) {
	link, err := s.app.pager.ReadLink(alerting.PictureLink, text)
	if err != nil {
		return nil, linkError(err)
	}
	b, err := s.app.pager.Picture(ctx, link)
	return b, linkError(err)
}

// linkError names errors of the pager's as the pages know them.
func linkError(err error) error {
	for of, is := range map[error]error{
		alerting.ErrLink: dashboards.ErrLink, alerting.ErrLinkExpired: dashboards.ErrLinkExpired,
		incident.ErrNone: dashboards.ErrUnknownIncident, alerting.ErrNoPicture: dashboards.ErrUnknownIncident,
	} {
		if errors.Is(err, of) {
			return is
		}
	}
	return err
}
