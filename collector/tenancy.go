package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/rules"
	"bramble/dashboards"
	"bramble/storage"
)

// own is what customers see.
func (a *app) own() *dashboards.Own {
	seen := &ownAlerts{app: a}
	return &dashboards.Own{Tenancy: a.tenancy, History: a.ownHistory, Alerts: seen.of, Settings: a.ownSettings(), Counts: a.customerCounts}
}

// tenancy says whose a board in service is at a time and since when without a break.
func (a *app) tenancy(board string, at int64) (customer string, since int64) {
	b, ok := a.registry.Board(board)
	if !ok || b.Retired {
		return "", 0
	}
	return b.Tenancy(at)
}

// ownHistory answers a customer from series that carry the customer's label: it was in force when they were read.
func (a *app) ownHistory(ctx context.Context, customer string, q dashboards.HistoryQuery) ([]dashboards.Span, error) {
	of := storage.HistoryQuery{
		Metric: q.Metric, Match: []storage.Label{{Name: "board", Value: q.Board}, {Name: "customer", Value: customer}},
		By: q.By, Start: q.Start, End: q.End, Step: q.Step,
	}
	var spans []storage.Span
	var err error
	if q.Step < storage.Bucket {
		spans, err = storage.QueryReadings(ctx, a.store, differences, of)
	} else {
		spans, err = a.spans(ctx, of)
	}
	if errors.Is(err, storage.ErrHistoryQuery) {
		return nil, fmt.Errorf("%w: %w", dashboards.ErrBadHistory, err)
	}
	return spanViews(spans), err
}

const (
	// ownAlertsAge is how old the list of alerts may be that customers see: it is made once for all of them.
	ownAlertsAge = 5 * time.Second
	// ownAlertsBack is how far back it goes, and ownAlertsRead how many incidents it looks at.
	ownAlertsBack = 7 * 24 * time.Hour
	ownAlertsRead = 1000
)

// shownRules are the rules whose alerts customers see: those that every operator begins with. What an operator adds may be
// about a customer rather than for one.
var shownRules = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for r := range rules.Default().All() {
		all[r.Name] = true
	}
	return all
})

// ownAlerts are the alerts of single boards. What befell a switch or a rack is in it as what each board did itself.
type ownAlerts struct {
	app *app

	mu   sync.Mutex
	made time.Time
	all  []dashboards.OwnAlert
}

// of lists the alerts of the boards that are a customer's now, since they are.
func (o *ownAlerts) of(ctx context.Context, customer string) ([]dashboards.OwnAlert, error) {
	all, err := o.list(ctx)
	if err != nil {
		return nil, err
	}
	out, err := o.app.ownThresholdAlerts(ctx, customer, time.Now())
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	for _, alert := range all {
		if c, since := o.app.tenancy(alert.Board, now); c == customer && alert.Since >= since {
			out = append(out, alert)
		}
	}
	newestFirst(out)
	return out, nil
}

func newestFirst(all []dashboards.OwnAlert) {
	slices.SortStableFunc(all, func(a, b dashboards.OwnAlert) int {
		return cmp.Or(cmp.Compare(b.Since, a.Since), cmp.Compare(a.Board, b.Board), cmp.Compare(a.Name, b.Name))
	})
}

func (o *ownAlerts) list(ctx context.Context) ([]dashboards.OwnAlert, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.made) < ownAlertsAge {
		return o.all, nil
	}
	var all []dashboards.OwnAlert
	for _, t := range o.app.engine.Firing() {
		all = append(all, dashboards.OwnAlert{Board: t.Labels["board"], Name: t.Labels["alertname"], Severity: t.Labels["severity"], Since: t.FiredAt})
		if !shownToCustomers(t.Rule, t.Labels) {
			all = all[:len(all)-1]
		}
	}
	ended, err := o.ended(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, ended...)
	o.all, o.made = all, time.Now()
	return all, nil
}

// ended are the alerts of single boards that are over. The alert of a switch or a rack is none: its times are not the board's.
func (o *ownAlerts) ended(ctx context.Context) (out []dashboards.OwnAlert, err error) {
	from := time.Now().Add(-ownAlertsBack).UnixMilli()
	found, err := o.app.pager.Incidents(ctx, incident.Query{Limit: ownAlertsRead})
	for _, in := range found {
		for _, alert := range in.Alerts {
			if alert.EndsAt == 0 || alert.StartsAt < from || !shownToCustomers(alert.Rule, alert.Labels) {
				continue
			}
			out = append(out, dashboards.OwnAlert{
				Board: alert.Labels["board"], Name: alert.Labels["alertname"], Severity: alert.Labels["severity"], Since: alert.StartsAt, Until: alert.EndsAt,
			})
		}
	}
	return out, err
}

// shownToCustomers picks alerts of single boards by rules that are not tried out.
func shownToCustomers(rule string, labels map[string]string) bool {
	return rule != "" && labels["board"] != "" && labels["domain"] == "" && shownRules()[labels["alertname"]] && !alert.InShadow(labels)
}
