package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
	"bramble/alerting/pager"
	"bramble/collector/config"
	"bramble/dashboards"
)

// shownAhead is how far ahead the page of who is on call looks.
const shownAhead = 14 * 24 * time.Hour

// onCall returns the oncall.yml in force, empty for none.
func (a *app) onCall(v variant) ([]byte, error) {
	if a.config.OnCall == "" {
		return v.onCall, nil
	}
	b, err := os.ReadFile(a.config.OnCall)
	if err != nil {
		return nil, fmt.Errorf("read oncall file: %w", err)
	}
	return b, nil
}

// reloadRoutes takes over alertmanager.yml and oncall.yml: both, or alertmanager.yml alone where that fits the people and
// policies that are in force.
func (a *app) reloadRoutes() error {
	if a.config.Alertmanager == "" {
		return nil
	}
	routing, err := a.routing(variant{})
	if err != nil {
		return err
	}
	onCall, err := a.onCall(variant{})
	if err == nil {
		err = a.pager.ReloadWithOnCall(routing, onCall)
	}
	if err == nil {
		return nil
	}
	err = a.nameRoutes(err)
	if a.pager.Reload(routing) == nil {
		return fmt.Errorf("oncall.yml is not in force, alertmanager.yml is: %w", err)
	}
	return err
}

// pagingPart is who is paged, and which alerts page nobody.
type pagingPart struct {
	pager *pager.Pager
	off   func() alert.OffReport
	test  func(ctx context.Context, receiver, by string, scheduled time.Time) (alert.PageTest, error)
}

// Off lists the alerts that can page nobody now, and those of them that fire.
func (p *pagingPart) Off() alert.OffReport {
	r := p.off()
	r.Firing, r.FiringCount = p.pager.Suppressed()
	return r
}

// Tests lists test pages.
func (p *pagingPart) Tests(ctx context.Context) ([]alert.PageTest, error) {
	return p.pager.Tests().List(ctx)
}

// Test sends a test page.
func (p *pagingPart) Test(ctx context.Context, receiver, who string) (alert.PageTest, error) {
	return p.test(ctx, receiver, who, time.Time{})
}

// OnCall is who is on call.
func (p *pagingPart) OnCall() dashboards.OnCall {
	c, now := p.pager.OnCall(), time.Now()
	v := dashboards.OnCall{Now: now.UnixMilli(), People: []dashboards.OnCallPerson{}, Rotas: []dashboards.Rota{}, Policies: []dashboards.Policy{}}
	for _, one := range c.People {
		person := dashboards.OnCallPerson{Name: one.Name}
		for _, ch := range one.Channels {
			person.Channels = append(person.Channels, dashboards.OnCallChannel{Receiver: ch.Receiver, AfterSeconds: int64(ch.After.Seconds())})
		}
		v.People = append(v.People, person)
	}
	gaps := p.pager.Rotas().Gaps(now)
	for _, r := range c.Rotas {
		v.Rotas = append(v.Rotas, rotaView(r, gaps[r.Name], now))
	}
	for _, one := range c.Policies {
		policy := dashboards.Policy{Name: one.Name, Receivers: one.Receivers, Repeat: one.Repeat, Fallback: one.Fallback}
		for _, s := range one.Steps {
			people, _ := c.Who(s, now)
			policy.Steps = append(policy.Steps, dashboards.PolicyStep{Notify: s.Notify, Now: people, WaitSeconds: int64(s.Wait.Seconds())})
		}
		v.Policies = append(v.Policies, policy)
	}
	return v
}

func rotaView(r *oncall.Rota, gaps []oncall.Shift, now time.Time) dashboards.Rota {
	v := dashboards.Rota{Name: r.Name, Zone: r.Zone.String(), Shifts: shiftViews(r.Shifts(now, now.Add(shownAhead))), Gaps: shiftViews(gaps)}
	for _, o := range r.Overrides {
		if o.To.After(now) {
			o.Rota = r.Name
			v.Overrides = append(v.Overrides, o)
		}
	}
	return v
}

func shiftViews(shifts []oncall.Shift) []dashboards.Shift {
	out := make([]dashboards.Shift, len(shifts))
	for i, s := range shifts {
		out[i] = dashboards.Shift{
			From: s.From.UnixMilli(), To: s.To.UnixMilli(), Person: s.Person, Layer: s.Layer, Override: s.Override,
			Starts: s.From.Format("Mon 2 Jan 15:04"), Ends: s.To.Format("Mon 2 Jan 15:04"), Zone: s.From.Format("MST"),
		}
	}
	return out
}

// Override puts somebody on call for a while.
func (p *pagingPart) Override(ctx context.Context, o oncall.Override) (int64, error) {
	id, err := p.pager.Rotas().Override(ctx, o)
	if errors.Is(err, pager.ErrBadOverride) {
		return 0, fmt.Errorf("%w: %w", dashboards.ErrBadRequest, err)
	}
	return id, err
}

// EndOverride ends that.
func (p *pagingPart) EndOverride(ctx context.Context, id int64, who string) error {
	err := p.pager.Rotas().EndOverride(ctx, id, who)
	if errors.Is(err, pager.ErrNoOverride) {
		return fmt.Errorf("%w: %w", dashboards.ErrUnknownOverride, err)
	}
	return err
}

// Incident returns one with its events.
func (i *incidentPart) Incident(ctx context.Context, id string) (dashboards.Incident, []incident.Event, error) {
	in, err := i.pager.Incident(ctx, id)
	if err != nil {
		return dashboards.Incident{}, nil, incidentError(err)
	}
	events, err := i.pager.Timeline(ctx, id)
	if err != nil {
		return dashboards.Incident{}, nil, incidentError(err)
	}
	return incidentView(in), events, nil
}

// Snooze acknowledges one for a time.
func (i *incidentPart) Snooze(ctx context.Context, id, who, comment string, d time.Duration) error {
	return incidentError(i.pager.Snooze(ctx, id, who, comment, d))
}

// Close ends one with a comment.
func (i *incidentPart) Close(ctx context.Context, id, who, comment string) error {
	return incidentError(i.pager.CloseIncident(ctx, id, who, comment))
}

// incidentError maps alerting's errors to those that the pages know.
func incidentError(err error) error {
	switch {
	case errors.Is(err, incident.ErrNone):
		return dashboards.ErrUnknownIncident
	case errors.Is(err, escalation.ErrResolved):
		return fmt.Errorf("%w: %w", dashboards.ErrConflict, err)
	}
	return err
}

// nameRoutes says by its path which alertmanager.yml or oncall.yml is wrong.
func (a *app) nameRoutes(err error) error {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "alertmanager.yml: "); ok && a.config.Alertmanager != "" {
		return fmt.Errorf("%s: %s", a.config.Alertmanager, strings.TrimPrefix(rest, "yaml: "))
	}
	if strings.HasPrefix(text, "oncall.yml:") && a.config.OnCall != "" {
		return errors.New(config.OneLine(errors.New(strings.ReplaceAll(text, "oncall.yml:", a.config.OnCall+":"))))
	}
	return err
}

// routesDir is where relative paths of an alertmanager.yml start, as Alertmanager has it: beside the file.
func (a *app) routesDir() string {
	if a.config.Alertmanager == "" {
		return a.config.DataDir
	}
	return filepath.Dir(a.config.Alertmanager)
}
