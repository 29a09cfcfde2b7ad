package alerting

import (
	"context"
	"database/sql"
	"time"

	"bramble/alerting/alert"
)

// retell writes into open incidents what a domain's alert says by now: the boards that joined it, or who is left. It
// pages nobody.
func (p *Pager) retell(ts []alert.Transition) error {
	if len(ts) == 0 {
		return nil
	}
	var told []string
	err := p.commits.Do(func(c *sql.Conn) error {
		ctx := context.Background()
		told = told[:0]
		open, err := queryIncidents(ctx, c, `WHERE resolved_at = 0`)
		if err != nil {
			return err
		}
		for _, in := range open {
			if !in.retell(ts) {
				continue
			}
			in.ChangedAt = time.Now().UnixMilli()
			in.describe()
			if err := saveIncident(ctx, c, in); err != nil {
				return err
			}
			told = append(told, in.ID)
		}
		return nil
	})
	for _, id := range told {
		p.changed(id)
	}
	return err
}

// retell reports whether one of the transitions is of an alert of the incident.
func (in *Incident) retell(ts []alert.Transition) (any bool) {
	for _, t := range ts {
		for i := range in.Alerts {
			if a := &in.Alerts[i]; a.Rule == t.Rule && a.Series == t.Series && a.EndsAt == 0 {
				a.Annotations, a.Boards, any = t.Annotations, t.Boards, true
			}
		}
	}
	return any
}
