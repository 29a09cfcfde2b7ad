package alerting

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	amalert "github.com/prometheus/alertmanager/alert"

	"bramble/alerting/alert"
)

// partedFrom is an incident that goes on without alerts that the routes lead to another receiver, and what had fired in it.
type partedFrom struct {
	*Incident
	had map[string]bool
}

// leave takes the notification's alerts out of an incident of another receiver that has more. The others go on there, and
// its pages say no more of those that left.
func (e *escalating) leave(in *Incident, n *notification) error {
	if err := in.more(e.ctx, e.c); err != nil {
		return err
	}
	n.parted = append(n.parted, partedFrom{in, firingIn(in)})
	now, left := e.now, map[string]bool{}
	for _, a := range n.alerts {
		for i := range in.Alerts {
			if b := &in.Alerts[i]; b.EndsAt == 0 && alert.LabelText(b.Labels) == alert.LabelText(a.Labels) {
				b.EndsAt = now
				left[alert.LabelText(a.Labels)] = true
			}
		}
	}
	in.ChangedAt = now
	gone := func(hash uint64) bool { return slices.Contains(n.firing, hash) } // news, should the routes lead them back
	return errors.Join(saveIncident(e.ctx, e.c, in), e.withoutAlerts(in.ID, left), e.forgetGroups(in, gone),
		e.event(in.ID, "moved", "", "the routes changed: %s of %d now with receiver %s", alertCount(len(left)), len(in.Alerts), n.receiver))
}

// withoutAlerts takes alerts out of what an incident's further pages say.
func (e *escalating) withoutAlerts(incident string, left map[string]bool) error {
	esc, err := e.load(incident)
	if err != nil || esc == nil {
		return err
	}
	var body payload
	if err := json.Unmarshal(esc.payload, &body); err != nil {
		return fmt.Errorf("decode alerts of incident %s: %w", incident, err)
	}
	body.Alerts = slices.DeleteFunc(body.Alerts, func(a *amalert.Alert) bool { return left[alert.LabelText(incidentAlert(a).Labels)] })
	if esc.payload, err = json.Marshal(body); err != nil {
		return fmt.Errorf("encode alerts of incident %s: %w", incident, err)
	}
	return e.save(esc)
}

// partedAck returns the acknowledgement that holds for alerts which came from other incidents to a new one, nil where
// one of them was not acknowledged there: somebody has them on hand already, wherever the routes lead now.
func (n *notification) partedAck() *Ack {
	known := map[string]bool{}
	for _, p := range n.parted {
		if p.Ack == nil {
			return nil
		}
		maps.Copy(known, p.had)
	}
	if len(n.parted) == 0 || n.newestReading(known) != 0 {
		return nil
	}
	ack := *n.parted[0].Ack
	return &ack
}

// keepAck brings the escalation of a new incident to rest before it begins.
func (e *escalating) keepAck(in *Incident) error {
	state := escalationAcknowledged
	if in.Ack.Until != 0 {
		state = escalationSnoozed
		err := e.exec("write snooze", `INSERT OR REPLACE INTO incident_more (incident, snoozed_until) VALUES (?,?)`, in.ID, in.Ack.Until)
		if err != nil {
			return err
		}
	}
	return errors.Join(
		e.event(in.ID, "acknowledged", in.Ack.By, "before the routes changed"),
		e.save(&escalation{incident: in.ID, receiver: in.Receiver, state: state, payload: []byte(`{}`)}),
		e.acknowledged(in, *in.Ack, state, nil))
}
