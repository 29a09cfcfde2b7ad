package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"bramble/alerting/maintenance"
)

// Maintenances keeps announced work. Its methods must be safe for concurrent use.
type Maintenances interface {
	List(ctx context.Context) ([]maintenance.Maintenance, error)
	Start(ctx context.Context, q maintenance.Request) (maintenance.Maintenance, error)
	End(ctx context.Context, number int64, who string) (maintenance.Maintenance, error)
}

// maintenanceBody is the body of POST /api/oncall/maintenance.
type maintenanceBody struct {
	Matchers []string `json:"matchers"`
	From     string   `json:"from"` // RFC 3339; empty: now
	For      string   `json:"for"`  // such as 2h or 1d
	Grace    string   `json:"grace"`
	Comment  string   `json:"comment"`
	Confirm  int      `json:"confirm"`
}

// decodeMaintenance reads a request; who asks is not in it.
func decodeMaintenance(b []byte) (q maintenance.Request, err error) {
	var body maintenanceBody
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return q, fmt.Errorf(`decode maintenance: %w; write it like {"matchers":["rack=\"r7\""],"for":"2h","comment":"new PSU"}`, err)
	}
	q = maintenance.Request{Matchers: body.Matchers, Comment: body.Comment, Confirm: body.Confirm}
	if q.For, err = span(body.For); err != nil || q.For == 0 {
		return q, fmt.Errorf("for: %q: want a duration such as 30m or 2h", body.For)
	}
	if q.Grace, err = span(body.Grace); err != nil {
		return q, fmt.Errorf("grace: %q: want a duration such as 5m", body.Grace)
	}
	if body.From != "" {
		if q.From, err = time.Parse(time.RFC3339, body.From); err != nil {
			return q, fmt.Errorf("from: %q: want a time such as 2026-11-24T22:00:00Z", body.From)
		}
	}
	return q, nil
}

// span reads a duration as Prometheus writes it; empty is 0.
func span(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := model.ParseDuration(s)
	return time.Duration(d), err
}

func (p *onCallPages) listMaintenances(w http.ResponseWriter, r *http.Request) {
	list := []maintenance.Maintenance{}
	if p.maintenances != nil {
		var err error
		if list, err = p.maintenances.List(r.Context()); err != nil {
			p.access.fault(w, r, err)
			return
		}
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "zone": time.Now().Format("MST"), "maintenances": list})
}

func (p *onCallPages) startMaintenance(w http.ResponseWriter, r *http.Request) {
	if p.maintenances == nil {
		fail(w, http.StatusNotFound, "this collector pages nobody: there is nothing to keep still")
		return
	}
	q, ok := take(w, r, "maintenance", decodeMaintenance)
	if !ok {
		return
	}
	q.By = userOf(r).Name
	m, err := p.maintenances.Start(r.Context(), q)
	var much *maintenance.ConfirmError
	switch {
	case errors.As(err, &much):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "error", "error": err.Error(), "boards": much.Boards, "of": much.Of}) // the client has gone
	case errors.Is(err, maintenance.ErrBad):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, m)
	}
}

func (p *onCallPages) endMaintenance(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseInt(r.PathValue("number"), 10, 64)
	if err != nil || p.maintenances == nil {
		fail(w, http.StatusNotFound, "no maintenance "+r.PathValue("number"))
		return
	}
	m, err := p.maintenances.End(r.Context(), number, userOf(r).Name)
	switch {
	case errors.Is(err, maintenance.ErrNone):
		fail(w, http.StatusNotFound, err.Error())
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, m)
	}
}
