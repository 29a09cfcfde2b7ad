package dashboards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/oncall"
)

// ErrUnknownOverride is returned for an override that does not exist.
var ErrUnknownOverride = errors.New("no such override")

// OnCall is who is on call, and who is paged when. Times are Unix milliseconds.
type OnCall struct {
	Now      int64          `json:"now"`
	People   []OnCallPerson `json:"people"`
	Rotas    []Rota         `json:"rotas"`
	Policies []Policy       `json:"policies"`
}

// OnCallPerson is somebody who can be paged, with the receivers in their order.
type OnCallPerson struct {
	Name     string          `json:"name"`
	Channels []OnCallChannel `json:"channels"`
}

// OnCallChannel is one receiver of a person.
type OnCallChannel struct {
	Receiver     string `json:"receiver"`
	AfterSeconds int64  `json:"afterSeconds"`
}

// Rota is who has which shift from now on; a shift without a person is a gap.
type Rota struct {
	Name      string            `json:"name"`
	Zone      string            `json:"zone"`
	Shifts    []Shift           `json:"shifts"` // of the next 14 days
	Gaps      []Shift           `json:"gaps"`   // of the next 30 days
	Overrides []oncall.Override `json:"overrides,omitempty"`
}

// Shift is a time for which one person is on call. Starts and Ends are written in the rota's zone, Zone is its name then.
type Shift struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Person   string `json:"person,omitempty"`
	Layer    string `json:"layer,omitempty"`
	Override bool   `json:"override,omitempty"`
	Starts   string `json:"starts"`
	Ends     string `json:"ends"`
	Zone     string `json:"zoneName"`
}

// Policy says who is paged one after the other. Now are those whom a step would page now.
type Policy struct {
	Name      string       `json:"name"`
	Receivers []string     `json:"receivers"`
	Steps     []PolicyStep `json:"steps"`
	Repeat    int          `json:"repeat"`
	Fallback  string       `json:"fallback,omitempty"`
}

// PolicyStep is one step of a policy.
type PolicyStep struct {
	Notify      []string `json:"notify"`
	Now         []string `json:"now"`
	WaitSeconds int64    `json:"waitSeconds"`
}

// onCallPages show who is paged and which alerts page nobody, and who watches the collector.
type onCallPages struct {
	access       *access
	pages        *renderer
	of           Paging
	maintenances Maintenances
	heartbeats   Heartbeats
}

func (p *onCallPages) onCallPage(w http.ResponseWriter, r *http.Request) {
	p.pages.renderFor(w, r, http.StatusOK, "oncall.html", view{Title: "On call", Script: "oncall/oncall", Nav: "oncall"})
}

func (p *onCallPages) onCall(w http.ResponseWriter, _ *http.Request) {
	v := OnCall{Now: time.Now().UnixMilli(), People: []OnCallPerson{}, Rotas: []Rota{}, Policies: []Policy{}}
	if p.of != nil {
		v = p.of.OnCall()
	}
	reply(w, v)
}

// overrideBody is the body of POST /api/oncall/overrides. Times are RFC 3339, with their zone.
type overrideBody struct {
	Rota   string `json:"rota"`
	Person string `json:"person"`
	From   string `json:"from"` // empty: now
	To     string `json:"to"`
}

const overrideForm = `{"rota":"first","person":"ada","from":"2026-03-01T09:00:00+01:00","to":"2026-03-01T18:00:00+01:00"}`

func decodeOverride(b []byte, now time.Time) (oncall.Override, error) {
	var o overrideBody
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return oncall.Override{}, fmt.Errorf("decode override: %w; write it like %s", err, overrideForm)
	}
	out := oncall.Override{Rota: o.Rota, Person: o.Person, From: now}
	if o.From != "" {
		from, err := time.Parse(time.RFC3339, o.From)
		if err != nil {
			return oncall.Override{}, fmt.Errorf("from: %q: want a time such as 2026-03-01T09:00:00+01:00", o.From)
		}
		out.From = from
	}
	to, err := time.Parse(time.RFC3339, o.To)
	if err != nil {
		return oncall.Override{}, fmt.Errorf("to: %q: want a time such as 2026-03-01T18:00:00+01:00", o.To)
	}
	out.To = to
	return out, nil
}

func (p *onCallPages) override(w http.ResponseWriter, r *http.Request) {
	if p.of == nil {
		fail(w, http.StatusNotFound, "this collector has no rotas")
		return
	}
	o, ok := take(w, r, "override", func(b []byte) (oncall.Override, error) { return decodeOverride(b, time.Now()) })
	if !ok {
		return
	}
	o.By = userOf(r).Name
	id, err := p.of.Override(r.Context(), o)
	switch {
	case errors.Is(err, ErrBadRequest):
		fail(w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), ErrBadRequest.Error()+": "))
	case err != nil:
		p.access.fault(w, r, err)
	default:
		o.ID = id
		reply(w, o)
	}
}

func (p *onCallPages) endOverride(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err == nil && p.of != nil {
		err = p.of.EndOverride(r.Context(), id, userOf(r).Name)
	} else {
		err = ErrUnknownOverride
	}
	switch {
	case errors.Is(err, ErrUnknownOverride):
		fail(w, http.StatusNotFound, "no override "+r.PathValue("id")+" is in force; those of oncall.yml end there")
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, map[string]any{"id": id, "ended": true})
	}
}

func (p *onCallPages) offPage(w http.ResponseWriter, r *http.Request) {
	p.pages.renderFor(w, r, http.StatusOK, "off.html", view{Title: "Alerts that are off", Script: "oncall/off", Nav: "off"})
}

func (p *onCallPages) listOff(w http.ResponseWriter, _ *http.Request) {
	report := alert.OffReport{Now: time.Now().UnixMilli(), Items: []alert.Off{}}
	if p.of != nil {
		report = p.of.Off()
	}
	reply(w, report)
}
