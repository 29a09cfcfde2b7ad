package alerting

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
)

// formerOf is an incident whose alerts another one has.
type formerOf struct {
	*Incident
	folded bool
	at     int64 // its messages up to then are followed up; 0 where that was done
}

func formersOf(ctx context.Context, db database.Querier, incident string) (out []formerOf, err error) {
	rows, err := db.QueryContext(ctx, `SELECT former, folded, at FROM incident_former WHERE incident = ?`, incident)
	if err != nil {
		return nil, fmt.Errorf("read what incident %s took over: %w", incident, err)
	}
	defer rows.Close()
	at := map[string]formerOf{}
	for rows.Next() {
		var (
			id string
			f  formerOf
		)
		if err := rows.Scan(&id, &f.folded, &f.at); err != nil {
			return nil, fmt.Errorf("read what incident %s took over: %w", incident, err)
		}
		at[id] = f
	}
	if err := rows.Err(); err != nil || len(at) == 0 {
		return nil, err
	}
	all, err := queryIncidents(ctx, db, `WHERE id IN (SELECT former FROM incident_former WHERE incident = ?) ORDER BY number`, incident)
	if err != nil {
		return nil, err
	}
	for _, in := range all {
		out = append(out, formerOf{in, at[in.ID].folded, at[in.ID].at})
	}
	return out, nil
}

// tellFormers tells the end to whoever was paged for alerts of an incident while they were another's. A person hears of it
// once; a receiver of a route knows a folded incident by its own key, which is ended. They hear of it once, also where the
// incident opens and ends again.
func (e *escalating) tellFormers(in *Incident) error {
	formers, err := formersOf(e.ctx, e.c, in.ID)
	if err != nil || len(formers) == 0 {
		return err
	}
	heard := map[string]bool{}
	mine, err := e.channels(in.ID)
	if err != nil {
		return err
	}
	for _, c := range mine {
		heard[c.person] = true
	}
	for _, f := range formers {
		told, err := e.told(f.ID, f.at)
		if err != nil {
			return err
		}
		for _, t := range told {
			if t.person != "" && heard[t.person] {
				continue
			}
			if err := e.tellFormerEnd(in, f, t); err != nil {
				return err
			}
		}
		for _, t := range told {
			heard[t.person] = true
		}
	}
	return e.exec("note that formers of incident "+in.ID+" heard of its end", `UPDATE incident_former SET at = 0 WHERE incident = ?`, in.ID)
}

func (e *escalating) tellFormerEnd(in *Incident, f formerOf, t toldOf) error {
	to := e.routing.integration(t.receiver, t.integration, t.idx)
	byRoute := f.folded && t.person == ""
	if to == nil || !to.SendResolved() || byRoute && e.pager.anyFires(f.Incident) { // what is left pages by its own key
		return nil
	}
	var body payload
	if err := json.Unmarshal([]byte(t.payload), &body); err != nil {
		return fmt.Errorf("decode alerts of incident %s: %w", f.ID, err)
	}
	key := in.GroupKey
	if byRoute {
		key, body.Alerts = f.GroupKey, endedAlerts(body.firing(), e.now)
	} else {
		body.Alerts = in.endedAlerts(e.now)
	}
	l, err := newLetter(in.ID, t.receiver, to, key, notify.ReasonAllAlertsResolved, body, e.now)
	if err != nil {
		return err
	}
	return e.send(l, t.person, aboutEnd)
}

// endedAlerts are an incident's alerts as Alertmanager sees them when they are over.
func (in *Incident) endedAlerts(now int64) (out []*amalert.Alert) {
	for _, a := range in.Alerts {
		out = append(out, &amalert.Alert{Alert: model.Alert{
			Labels: alert.LabelSet(a.Labels), Annotations: alert.LabelSet(a.Annotations), StartsAt: time.UnixMilli(a.StartsAt),
			EndsAt: time.UnixMilli(cmp.Or(a.EndsAt, now)),
		}})
	}
	return out
}
