package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/alert"
	"bramble/storage/series"
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

// Handler serves /api/v1/rules, /api/v1/alerts and /api/v1/format_query as Prometheus does, with all their
// parameters. Rules that are decided on arrival have no evaluation time.
func Handler(e *Engine) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/rules", func(w http.ResponseWriter, r *http.Request) {
		q, err := parseRulesQuery(r.URL.Query())
		if err != nil {
			badData(w, err)
			return
		}
		page, err := q.page(e.groupsJSON(q))
		if err != nil {
			badData(w, err)
			return
		}
		writeData(w, page)
	})
	mux.HandleFunc("GET /api/v1/alerts", func(w http.ResponseWriter, _ *http.Request) {
		writeData(w, map[string]any{"alerts": alertsJSON(e.now(ofOperator(e.states(isActive))))})
	})
	mux.HandleFunc("/api/v1/format_query", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxQueryForm)
		text, err := metricsql.Prettify(r.FormValue("query"))
		if err != nil {
			badData(w, fmt.Errorf("query %q: %w", r.FormValue("query"), err))
			return
		}
		writeData(w, text)
	})
	return mux
}

// maxQueryForm bounds the body of a POSTed query, in bytes.
const maxQueryForm = 1 << 20

func isActive(s alert.State) bool { return s != alert.Inactive }

func writeData(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) // the client went away
}

// badData refuses a parameter as the Prometheus API does.
func badData(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "bad_data", "error": err.Error()})
}

// rulesQuery is the parameters of /api/v1/rules. A list that is empty selects everything.
type rulesQuery struct {
	kind                 string // "alert", "record" or "" for both
	rules, groups, files []string
	match                []*leaf // label selectors; a rule passes one of them
	withoutAlerts        bool
	limit                int    // groups of a page, 0 = all on one page
	token                string // of the page's first group, "" = from the first one on
}

func parseRulesQuery(v url.Values) (q rulesQuery, err error) {
	q = rulesQuery{kind: strings.ToLower(v.Get("type")), rules: v["rule_name[]"], groups: v["rule_group[]"], files: v["file[]"], token: v.Get("group_next_token")}
	if !slices.Contains([]string{"", "alert", "record"}, q.kind) {
		return q, fmt.Errorf("type %q: use alert or record", v.Get("type"))
	}
	if s := v.Get("exclude_alerts"); s != "" {
		if q.withoutAlerts, err = strconv.ParseBool(s); err != nil {
			return q, fmt.Errorf("exclude_alerts %q: use true or false", s)
		}
	}
	if s := v.Get("group_limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 {
			return q, fmt.Errorf("group_limit %q: use a number above zero", s)
		}
	}
	if q.token != "" && q.limit == 0 {
		return q, fmt.Errorf("group_next_token %q: give group_limit, too", q.token)
	}
	for _, s := range v["match[]"] {
		l, err := parseSelector(s)
		if err != nil {
			return q, err
		}
		q.match = append(q.match, l)
	}
	return q, nil
}

// parseSelector reads a label selector such as {severity="critical"}.
func parseSelector(s string) (*leaf, error) {
	e, err := metricsql.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("match[] %q: %w", s, err)
	}
	m, ok := e.(*metricsql.MetricExpr)
	if !ok || len(m.LabelFilterss) != 1 {
		return nil, fmt.Errorf("match[] %q: use one selector, such as {severity=\"critical\"}", s)
	}
	l := &leaf{}
	for _, f := range m.LabelFilterss[0] {
		if f.Label == series.NameLabel || !l.addFilter(f) { // the labels of a rule have no metric's name
			return nil, fmt.Errorf("match[] %q: select by labels of rules, such as {severity=\"critical\"}", s)
		}
	}
	return l, nil
}

// takes reports whether the query asks for a rule.
func (q rulesQuery) takes(r *Rule) bool {
	if q.kind == "alert" && r.Record != "" || q.kind == "record" && r.Record == "" || !among(q.rules, r.Name) {
		return false
	}
	labels := make([]series.Label, 0, len(r.Labels))
	for name, value := range r.Labels {
		labels = append(labels, series.Label{Name: name, Value: value})
	}
	return len(q.match) == 0 || slices.ContainsFunc(q.match, func(l *leaf) bool { return l.matches(labels) })
}

// among reports whether a list that is not empty has a name.
func among(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

// rulesPage is the answer of /api/v1/rules.
type rulesPage struct {
	Groups []ruleGroupJSON `json:"groups"`
	Next   string          `json:"groupNextToken,omitempty"`
}

// page cuts the groups that the query asks for: from the one that the token names on, as many as the limit says.
func (q rulesQuery) page(groups []ruleGroupJSON) (rulesPage, error) {
	if q.token != "" {
		i := slices.IndexFunc(groups, func(g ruleGroupJSON) bool { return g.token() == q.token })
		if i < 0 {
			return rulesPage{}, fmt.Errorf("group_next_token %q: no such group: the rules have changed, begin again without it", q.token)
		}
		groups = groups[i:]
	}
	if q.limit == 0 || len(groups) <= q.limit {
		return rulesPage{Groups: groups}, nil
	}
	return rulesPage{Groups: groups[:q.limit], Next: groups[q.limit].token()}, nil
}

// token names a group in the page that begins with it.
func (g *ruleGroupJSON) token() string {
	sum := sha256.Sum256([]byte(g.File + "\x00" + g.Name))
	return hex.EncodeToString(sum[:8])
}

// groupsJSON lists the groups that have rules for which a query asks.
func (e *Engine) groupsJSON(q rulesQuery) []ruleGroupJSON {
	e.mu.Lock()
	defer e.mu.Unlock()
	byRule := map[string][]alert.Transition{}
	for _, t := range e.nowLocked(e.statesLocked(isActive)) {
		byRule[alert.BaseRule(t.Rule)] = append(byRule[alert.BaseRule(t.Rule)], t)
	}
	out := []ruleGroupJSON{}
	for _, g := range e.rules.Groups {
		if !among(q.groups, g.Name) || !among(q.files, g.File) {
			continue
		}
		group := ruleGroupJSON{Name: g.Name, File: g.File, Interval: g.Interval.Seconds(), Limit: g.Limit, Rules: []ruleJSON{}}
		if ev := e.evaluated[g.key()]; ev != nil {
			group.LastEvaluation, group.EvaluationTime = time.UnixMilli(ev.at).UTC(), ev.took.Seconds()
		}
		for _, r := range g.Rules {
			if !q.takes(r) {
				continue
			}
			rule := r.json(byRule[r.ID], e.health[r.ID])
			if q.withoutAlerts {
				rule.Alerts = []alertJSON{}
			}
			group.Rules = append(group.Rules, rule)
		}
		if len(group.Rules) > 0 {
			out = append(out, group)
		}
	}
	return out
}

func (r *Rule) json(active []alert.Transition, h ruleHealth) ruleJSON {
	out := ruleJSON{
		Name: r.Name, Query: r.Expr, Duration: r.For.Seconds(), KeepFiringFor: r.KeepFiringFor.Seconds(), Labels: notNil(r.Labels),
		Annotations: notNil(r.Annotations), Alerts: alertsJSON(active), Health: "ok", EvaluationTime: h.took.Seconds(),
		LastEvaluation: h.at.UTC(), Type: "alerting", State: alert.Inactive.String(),
	}
	if r.Record != "" {
		out.Type, out.State = "recording", ""
	}
	if len(active) > 0 {
		out.State = alert.Pending.String()
	}
	if slices.ContainsFunc(active, func(t alert.Transition) bool { return t.State.Active() }) {
		out.State = alert.Firing.String()
	}
	if h.err != nil {
		out.Health, out.LastError = "err", h.err.Error()
	}
	return out
}

func alertsJSON(ts []alert.Transition) []alertJSON {
	out := []alertJSON{}
	for _, t := range ts {
		a := alertJSON{
			Labels: notNil(t.Labels), Annotations: notNil(t.Annotations), State: t.State.String(), ActiveAt: time.UnixMilli(t.Since).UTC(),
			Value: strconv.FormatFloat(float64(t.Value), 'e', -1, 64),
		}
		if t.State == alert.Cooling {
			since := time.UnixMilli(t.At).UTC()
			a.State, a.KeepFiringSince = alert.Firing.String(), &since
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
