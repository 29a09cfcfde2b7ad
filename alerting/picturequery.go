package alerting

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/alert"
	"bramble/alerting/picture"
	"bramble/alerting/rules"
	"bramble/storage/series"
)

const (
	// mostNamed is how many boards a query names; more are asked for by their domain's labels.
	mostNamed = 200
)

// touched returns the boards of an incident's alerts, in order.
func (in *Incident) touched() []string {
	var out []string
	for _, a := range in.Alerts {
		if b := a.Labels[alert.BoardLabel]; b != "" {
			out = append(out, b)
		}
		out = append(out, a.Boards...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lead is the alert that says what the incident is about: that of the largest domain, else the first that still fires.
func (in *Incident) lead() *IncidentAlert {
	if d := in.domain(); d != nil {
		return d
	}
	for i := range in.Alerts {
		if in.Alerts[i].EndsAt == 0 {
			return &in.Alerts[i]
		}
	}
	if len(in.Alerts) == 0 {
		return &IncidentAlert{}
	}
	return &in.Alerts[0]
}

// narrow selects the series of an incident: those of its boards, or of its domain where these are too many to name.
func (in *Incident) narrow() []metricsql.LabelFilter {
	boards := in.touched()
	switch {
	case len(boards) == 0:
		return nil
	case len(boards) > mostNamed:
		var out []metricsql.LabelFilter
		d, _ := alert.DomainOf(&alert.Transition{Rule: in.lead().Rule, Labels: in.lead().Labels})
		for _, l := range d.Labels() {
			if l.Name != alert.DomainLabel {
				out = append(out, metricsql.LabelFilter{Label: l.Name, Value: l.Value})
			}
		}
		return out
	}
	quoted := make([]string, len(boards))
	for i, b := range boards {
		quoted[i] = regexp.QuoteMeta(b)
	}
	return []metricsql.LabelFilter{{Label: alert.BoardLabel, Value: strings.Join(quoted, "|"), IsRegexp: true}}
}

// selector writes a metric with filters.
func selector(metric string, filters []metricsql.LabelFilter) string {
	all := append([]metricsql.LabelFilter{{Label: series.NameLabel, Value: metric}}, filters...)
	return string((&metricsql.MetricExpr{LabelFilterss: [][]metricsql.LabelFilter{all}}).AppendString(nil))
}

// read asks the store for what a picture of the incident shows.
func (p *Pictures) read(ctx context.Context, in *Incident, at time.Time) (*picture.Picture, error) {
	s := newPicture(in, at)
	lead := in.lead()
	x, ok := p.engine.Comparison(lead.Rule, in.narrow())
	if !ok {
		return nil, ErrNoPicture
	}
	var err error
	switch x.Metric {
	case alert.UpMetric:
		s.Rows, err = p.readRows(ctx, in, s)
	case alert.ThrottledMetric, alert.SupplyMetric:
		s.Graphs, err = p.readThrottled(ctx, in, s, x)
	default:
		s.Graphs, err = p.readGraph(ctx, s, x)
	}
	if err != nil {
		return nil, err
	}
	if len(s.Rows) == 0 && len(s.Graphs) == 0 {
		return nil, ErrNoPicture
	}
	return s, nil
}

func (p *Pictures) ask(ctx context.Context, s *picture.Picture, expr string) ([]series.Result, error) {
	return p.store.QueryRange(ctx, expr, s.From, s.To, picture.Step)
}

func (p *Pictures) readGraph(ctx context.Context, s *picture.Picture, x rules.Comparison) ([]*picture.Graph, error) {
	found, err := p.ask(ctx, s, x.Expr)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	g := graphOf(s, x.Unit, found, x.LowIsBad())
	if x.HasLimit() {
		g.Limit(x.Limit, "")
	}
	return []*picture.Graph{g}, nil
}

// readThrottled shows what a bit of the firmware follows from and leads to: the temperature, and the clock that is lost.
func (p *Pictures) readThrottled(ctx context.Context, in *Incident, s *picture.Picture, x rules.Comparison) ([]*picture.Graph, error) {
	heat, err := p.ask(ctx, s, selector(alert.TemperatureMetric, in.narrow()))
	if err != nil {
		return nil, err
	}
	var out []*picture.Graph
	worst := ""
	if len(heat) > 0 {
		g := graphOf(s, alert.TemperatureMetric, heat, false)
		worst = g.Main()
		if strings.Contains(x.Expr, `reason="throttled"`) {
			g.Limit(80, "80 ARM throttled")
			g.Limit(85, "85 ARM and GPU")
		}
		if strings.Contains(x.Expr, `reason="soft_temperature_limit"`) {
			g.Limit(60, "60 soft limit")
		}
		out = append(out, g)
	}
	bits, err := p.ask(ctx, s, "sum(("+x.Expr+") > bool 0)")
	if err != nil {
		return nil, err
	}
	if len(bits) > 0 {
		out = append(out, laneOf(bits[0], in))
	}
	if worst == "" {
		worst = cmp.Or(in.lead().Labels[alert.BoardLabel], append(in.touched(), "")[0])
	}
	clocks, err := p.ask(ctx, s, selector(alert.ClockMetric, []metricsql.LabelFilter{{Label: alert.BoardLabel, Value: worst}, {Label: "source", Value: "requested|measured", IsRegexp: true}}))
	if err != nil || len(clocks) == 0 {
		return out, err
	}
	var measured, requested []picture.Line
	for _, r := range clocks {
		if series.Get(r.Labels, "source") == "requested" {
			requested = append(requested, lineOf(r, ""))
			continue
		}
		measured = append(measured, lineOf(r, ""))
	}
	return append(out, picture.NewClocks(alert.ClockMetric, measured, requested)), nil
}

// reporting is whether boards report. They are told of once a minute, so that a query which looks at each instant by itself
// would miss some.
func reporting(filters []metricsql.LabelFilter) string {
	return "last_over_time(" + selector(alert.UpMetric, filters) + "[5m])"
}

// readRows counts the boards that report: those of the domain, and beside them those of its neighbours.
func (p *Pictures) readRows(ctx context.Context, in *Incident, s *picture.Picture) ([]picture.Row, error) {
	lead := in.lead()
	d, isDomain := alert.DomainOf(&alert.Transition{Rule: lead.Rule, Labels: lead.Labels})
	if !isDomain || d.IsFleet() {
		return p.readOneRow(ctx, in, s)
	}
	kind := d.Kind()
	var scope []metricsql.LabelFilter
	for _, w := range kind.Within {
		scope = append(scope, metricsql.LabelFilter{Label: w, Value: d.Value(w)})
	}
	up := reporting(append(scope, metricsql.LabelFilter{Label: kind.Name, IsNegative: true}))
	found, err := p.ask(ctx, s, fmt.Sprintf("sum(%s) by (%s)", up, kind.Name))
	if err != nil {
		return nil, err
	}
	totals, err := p.ask(ctx, s, fmt.Sprintf("count(%s) by (%s)", up, kind.Name))
	if err != nil {
		return nil, err
	}
	var rows []picture.Row
	for _, r := range found {
		name := series.Get(r.Labels, kind.Name)
		one := picture.Row{Line: lineOf(r, kind.Text+" "+name), Failed: name == d.Value(kind.Name)}
		for _, t := range totals {
			if series.Get(t.Labels, kind.Name) == name {
				one.Of = int(slices.Max(t.Values))
			}
		}
		rows = append(rows, one)
	}
	return picture.Around(rows), nil
}

// readOneRow is the row of boards that stand alone, or of all there are.
func (p *Pictures) readOneRow(ctx context.Context, in *Incident, s *picture.Picture) ([]picture.Row, error) {
	narrow, name := in.narrow(), in.lead().Labels[alert.BoardLabel]
	if n := len(in.touched()); n != 1 {
		name = fmt.Sprintf("%d boards", n)
	}
	found, err := p.ask(ctx, s, "sum("+reporting(narrow)+")")
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return []picture.Row{{Line: lineOf(found[0], name), Failed: true, Of: max(1, int(slices.Max(found[0].Values)), len(in.touched()))}}, nil
}
