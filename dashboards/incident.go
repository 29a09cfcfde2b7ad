package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"bramble/alerting/incident"
	"bramble/dashboards/live"
)

// incidentAnswer is the answer of /api/incidents/{id}.
type incidentAnswer struct {
	Incident
	Events []incident.Event `json:"events"`
}

// incidentPages show incidents and act on them.
type incidentPages struct {
	access *access
	pages  *renderer
	of     Incidents
	hub    *live.Hub
	log    *slog.Logger
}

func (p *incidentPages) oneIncident(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if p.of == nil {
		p.incidentFault(w, r, id, ErrUnknownIncident)
		return
	}
	in, events, err := p.of.Incident(r.Context(), id)
	if err != nil {
		p.incidentFault(w, r, id, err)
		return
	}
	reply(w, incidentAnswer{in, events})
}

// incidentFault answers an error of Incidents.
func (p *incidentPages) incidentFault(w http.ResponseWriter, r *http.Request, id string, err error) {
	switch {
	case errors.Is(err, ErrUnknownIncident):
		fail(w, http.StatusNotFound, "no incident "+id)
	case errors.Is(err, ErrConflict):
		fail(w, http.StatusConflict, strings.TrimPrefix(err.Error(), ErrConflict.Error()+": "))
	default:
		p.access.fault(w, r, err)
	}
}

// maxSnooze bounds a snooze: a longer quiet is a silence.
const maxSnooze = 7 * 24 * time.Hour

// incidentAct is the body of a snooze or of closing an incident.
type incidentAct struct {
	For     string `json:"for"`
	Comment string `json:"comment"`
}

func decodeSnooze(b []byte) (time.Duration, string, error) {
	a, err := decodeAct(b, `{"for":"1h","comment":"parts are on the way"}`)
	if err != nil {
		return 0, "", err
	}
	d, err := time.ParseDuration(a.For)
	if err != nil || d < time.Second || d > maxSnooze {
		return 0, "", fmt.Errorf("for: %q: want a duration such as 1h, from 1s to 168h", a.For)
	}
	return d, a.Comment, nil
}

func decodeAct(b []byte, form string) (a incidentAct, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return a, fmt.Errorf("decode: %w; write it like %s", err, form)
	}
	if len(a.Comment) > maxComment {
		return a, errors.New("comment is longer than 1000 bytes")
	}
	return a, nil
}

func (p *incidentPages) snooze(w http.ResponseWriter, r *http.Request) {
	p.act(w, r, func(b []byte) error {
		d, comment, err := decodeSnooze(b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		if p.of == nil {
			return ErrUnknownIncident
		}
		return p.of.Snooze(r.Context(), r.PathValue("id"), userOf(r).Name, comment, d)
	})
}

// closeIncident ends an incident with a comment, and adds one to an incident that is over.
func (p *incidentPages) closeIncident(w http.ResponseWriter, r *http.Request) {
	p.act(w, r, func(b []byte) error {
		a, err := decodeAct(b, `{"comment":"the fan was dead"}`)
		if err == nil && a.For != "" {
			err = errors.New("for: belongs to a snooze")
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		if p.of == nil {
			return ErrUnknownIncident
		}
		return p.of.Close(r.Context(), r.PathValue("id"), userOf(r).Name, a.Comment)
	})
}

// act does something to an incident and tells the browsers.
func (p *incidentPages) act(w http.ResponseWriter, r *http.Request, do func(body []byte) error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		fail(w, http.StatusBadRequest, "read request: "+err.Error())
		return
	}
	id := r.PathValue("id")
	switch err := do(b); {
	case errors.Is(err, ErrBadRequest):
		fail(w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), ErrBadRequest.Error()+": "))
	case err != nil:
		p.incidentFault(w, r, id, err)
	default:
		p.hub.Alerts()
		reply(w, map[string]any{"id": id, "by": userOf(r).Name, "at": time.Now().UnixMilli()})
	}
}

func (p *incidentPages) listIncidents(w http.ResponseWriter, r *http.Request) {
	list, err := p.incidents(r.Context())
	if err != nil {
		p.access.fault(w, r, err)
		return
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "incidents": list})
}

func (p *incidentPages) acknowledge(w http.ResponseWriter, r *http.Request) {
	comment, err := parseComment(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if p.of == nil {
		fail(w, http.StatusNotFound, "this collector keeps no incidents")
		return
	}
	id, who := r.PathValue("id"), userOf(r).Name
	err = p.of.Acknowledge(r.Context(), id, who, comment)
	switch {
	case err != nil:
		p.incidentFault(w, r, id, err)
	default:
		p.hub.Alerts()
		reply(w, map[string]any{"id": id, "acknowledgedBy": who, "at": time.Now().UnixMilli()})
	}
}

func (p *incidentPages) incidents(ctx context.Context) ([]Incident, error) {
	if p.of == nil {
		return []Incident{}, nil
	}
	list, err := p.of.Incidents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	if list == nil {
		list = []Incident{}
	}
	return list, nil
}

func (p *incidentPages) incidentMessage(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := p.incidents(ctx)
	if err != nil {
		p.log.Error("incident change not sent to browsers", "error", err)
		return nil, err
	}
	return json.Marshal(map[string]any{"type": "incidents", "incidents": list})
}

func (p *incidentPages) incidentsPage(w http.ResponseWriter, r *http.Request) {
	p.pages.renderFor(w, r, http.StatusOK, "incidents.html", view{Title: "Incidents", Script: "incidents/incidents", Nav: "incidents"})
}
