package dashboards

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// IncidentEvent is one thing that happened to an incident, or, of the kind next, that is to come. At is in Unix
// milliseconds. Page is set for the kind page.
type IncidentEvent struct {
	At   int64  `json:"at"`
	Kind string `json:"kind"`
	Who  string `json:"who,omitempty"`
	Text string `json:"text"`
	Page *Page  `json:"page,omitempty"`
}

// incidentAnswer is the answer of /api/incidents/{id}.
type incidentAnswer struct {
	Incident
	Events []IncidentEvent `json:"events"`
}

func (s *Server) oneIncident(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	read := s.opts.Incident
	if read == nil {
		read = s.listed
	}
	in, events, err := read(r.Context(), id)
	if err != nil {
		s.incidentFault(w, r, id, err)
		return
	}
	reply(w, incidentAnswer{in, events})
}

// listed finds an incident in the list; its pages are all that is known to have happened.
func (s *Server) listed(ctx context.Context, id string) (Incident, []IncidentEvent, error) {
	list, err := s.incidents(ctx)
	i := slices.IndexFunc(list, func(in Incident) bool { return in.ID == id })
	if err != nil || i < 0 {
		return Incident{}, nil, cmp.Or(err, ErrUnknownIncident)
	}
	events := []IncidentEvent{}
	for _, p := range list[i].Pages {
		events = append(events, IncidentEvent{At: p.At, Kind: "page", Who: p.Person, Text: p.Channel + ": " + p.Result, Page: &p})
	}
	return list[i], events, nil
}

// incidentFault answers what went wrong with an incident.
func (s *Server) incidentFault(w http.ResponseWriter, r *http.Request, id string, err error) {
	switch {
	case errors.Is(err, ErrUnknownIncident):
		fail(w, http.StatusNotFound, "no incident "+id)
	case errors.Is(err, ErrConflict):
		fail(w, http.StatusConflict, strings.TrimPrefix(err.Error(), ErrConflict.Error()+": "))
	default:
		s.fault(w, r, err)
	}
}

// maxSnooze bounds a snooze: what shall be quiet for longer is a silence.
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

func (s *Server) snooze(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(b []byte) error {
		d, comment, err := decodeSnooze(b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		if s.opts.Snooze == nil {
			return ErrUnknownIncident
		}
		return s.opts.Snooze(r.Context(), r.PathValue("id"), userOf(r).Name, comment, d)
	})
}

// closeIncident ends an incident with a comment, and adds one to an incident that is over.
func (s *Server) closeIncident(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(b []byte) error {
		a, err := decodeAct(b, `{"comment":"the fan was dead"}`)
		if err == nil && a.For != "" {
			err = errors.New("for: belongs to a snooze")
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		if s.opts.Close == nil {
			return ErrUnknownIncident
		}
		return s.opts.Close(r.Context(), r.PathValue("id"), userOf(r).Name, a.Comment)
	})
}

// act does something to an incident and tells the browsers.
func (s *Server) act(w http.ResponseWriter, r *http.Request, do func(body []byte) error) {
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
		s.incidentFault(w, r, id, err)
	default:
		s.hub.Alerts()
		reply(w, map[string]any{"id": id, "by": userOf(r).Name, "at": time.Now().UnixMilli()})
	}
}
