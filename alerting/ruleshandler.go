package alerting

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

type ruleGroupJSON struct {
	Name           string     `json:"name"`
	File           string     `json:"file"`
	Rules          []ruleJSON `json:"rules"`
	Interval       float64    `json:"interval"`
	Limit          int        `json:"limit"`
	EvaluationTime float64    `json:"evaluationTime"`
	LastEvaluation time.Time  `json:"lastEvaluation"`
}

type ruleJSON struct {
	State          string            `json:"state,omitempty"`
	Name           string            `json:"name"`
	Query          string            `json:"query"`
	Duration       float64           `json:"duration"`
	KeepFiringFor  float64           `json:"keepFiringFor"`
	Labels         map[string]string `json:"labels"`
	Annotations    map[string]string `json:"annotations"`
	Alerts         []alertJSON       `json:"alerts"`
	Health         string            `json:"health"`
	LastError      string            `json:"lastError,omitempty"`
	EvaluationTime float64           `json:"evaluationTime"`
	LastEvaluation time.Time         `json:"lastEvaluation"`
	Type           string            `json:"type"`
}

type alertJSON struct {
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	State           string            `json:"state"`
	ActiveAt        time.Time         `json:"activeAt"`
	KeepFiringSince *time.Time        `json:"keepFiringSince,omitempty"`
	Value           string            `json:"value"`
}

// RulesHandler serves /api/v1/rules and /api/v1/alerts as Prometheus does. Rules that are decided on arrival have no
// evaluation time.
func RulesHandler(e *Engine) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/rules", func(w http.ResponseWriter, r *http.Request) {
		writeData(w, map[string]any{"groups": e.groupsJSON(r.FormValue("type"))})
	})
	mux.HandleFunc("GET /api/v1/alerts", func(w http.ResponseWriter, _ *http.Request) {
		writeData(w, map[string]any{"alerts": alertsJSON(e.now(ofOperator(e.states(isActive))))})
	})
	return mux
}

func isActive(s State) bool { return s != Inactive }

func writeData(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) // the client went away
}

// groupsJSON lists the groups with rules of a kind, "alert" or "record"; "" means both.
func (e *Engine) groupsJSON(kind string) []ruleGroupJSON {
	e.mu.Lock()
	defer e.mu.Unlock()
	byRule := map[string][]Transition{}
	for _, t := range e.nowLocked(e.statesLocked(isActive)) {
		byRule[baseRule(t.Rule)] = append(byRule[baseRule(t.Rule)], t)
	}
	out := []ruleGroupJSON{}
	for _, g := range e.rules.Groups {
		group := ruleGroupJSON{Name: g.Name, File: g.File, Interval: g.Interval.Seconds(), Limit: g.Limit, Rules: []ruleJSON{}}
		if ev := e.evaluated[g.key()]; ev != nil {
			group.LastEvaluation, group.EvaluationTime = time.UnixMilli(ev.at).UTC(), ev.took.Seconds()
		}
		for _, r := range g.Rules {
			if kind == "alert" && r.Record != "" || kind == "record" && r.Record == "" {
				continue
			}
			group.Rules = append(group.Rules, r.json(byRule[r.ID], e.health[r.ID]))
		}
		out = append(out, group)
	}
	return out
}

func (r *Rule) json(active []Transition, h ruleHealth) ruleJSON {
	out := ruleJSON{
		Name: r.Name, Query: r.Expr, Duration: r.For.Seconds(), KeepFiringFor: r.KeepFiringFor.Seconds(), Labels: notNil(r.Labels),
		Annotations: notNil(r.Annotations), Alerts: alertsJSON(active), Health: "ok", EvaluationTime: h.took.Seconds(),
		LastEvaluation: h.at.UTC(), Type: "alerting", State: Inactive.String(),
	}
	if r.Record != "" {
		out.Type, out.State = "recording", ""
	}
	if len(active) > 0 {
		out.State = Pending.String()
	}
	if slices.ContainsFunc(active, func(t Transition) bool { return t.State.Active() }) {
		out.State = Firing.String()
	}
	if h.err != nil {
		out.Health, out.LastError = "err", h.err.Error()
	}
	return out
}

func alertsJSON(ts []Transition) []alertJSON {
	out := []alertJSON{}
	for _, t := range ts {
		a := alertJSON{
			Labels: notNil(t.Labels), Annotations: notNil(t.Annotations), State: t.State.String(), ActiveAt: time.UnixMilli(t.Since).UTC(),
			Value: strconv.FormatFloat(float64(t.Value), 'e', -1, 64),
		}
		if t.State == Cooling {
			since := time.UnixMilli(t.At).UTC()
			a.State, a.KeepFiringSince = Firing.String(), &since
		}
		out = append(out, a)
	}
	return out
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
