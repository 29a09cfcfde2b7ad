package receivers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/picture"
	"bramble/alerting/rules"
	"bramble/storage/series"
)

// pictureBudget is the longest that a page waits for its picture; then it leaves without.
const pictureBudget = 300 * time.Millisecond

// ErrNoPicture is for an incident that cannot be drawn: an alert that came by the API, a rule that is gone, no readings.
var ErrNoPicture = errors.New("there is nothing to draw")

// Pictures draws incidents: the half hour before a page of the series that fired, and the line that they crossed. All
// methods are safe for concurrent use; a nil Pictures draws nothing.
type Pictures struct {
	engine *rules.Engine
	store  rules.RangeQuerier
	shelf  *picture.Shelf
	// Budget is how long a mail waits for its picture; 300 ms where NewPictures made it.
	Budget time.Duration
}

// NewPictures draws the measurements of the engine's rules from the store's samples.
func NewPictures(engine *rules.Engine, store rules.RangeQuerier, log *slog.Logger) *Pictures {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	shelf := picture.NewShelf(func(incident string, err error) {
		if !errors.Is(err, ErrNoPicture) {
			log.Warn("incident not drawn", "incident", incident, "err", err)
		}
	})
	return &Pictures{engine: engine, store: store, shelf: shelf, Budget: pictureBudget}
}

// Draw returns an incident's picture as it is at a time, a PNG of 1200 by 600 pixels. Where it takes longer than ctx
// allows, drawing goes on for the next who asks.
func (p *Pictures) Draw(ctx context.Context, in *incident.Incident, at time.Time) ([]byte, error) {
	if p == nil {
		return nil, ErrNoPicture
	}
	b, err := p.shelf.Draw(ctx, in.ID, at, func() (*picture.Picture, error) {
		ctx, cancel := context.WithTimeout(context.Background(), TryTimeout) // not the caller's: others may wait for it too
		defer cancel()
		return p.read(ctx, in, at)
	})
	if err != nil && !errors.Is(err, ErrNoPicture) {
		err = fmt.Errorf("draw incident %s: %w", in.ID, err)
	}
	return b, err
}

// drawable reports whether there is anything to draw of an incident, without drawing it.
func (p *Pictures) drawable(in *incident.Incident) bool {
	if p == nil {
		return false
	}
	_, ok := p.engine.Comparison(in.Lead().Rule, nil)
	return ok
}

// Close waits for the pictures being drawn. Nobody calls Draw any more.
func (p *Pictures) Close() {
	if p != nil {
		p.shelf.Close()
	}
}

// newPicture writes the words of an incident's picture.
func newPicture(in *incident.Incident, at time.Time) *picture.Picture {
	began := time.UnixMilli(in.StartedAt).UTC()
	title, _, _ := strings.Cut(in.Title, " since ")
	s := &picture.Picture{Title: title, To: at.UTC(), From: at.UTC().Add(-picture.Span)}
	s.Subtitle = "since " + began.Format("15:04:05 UTC")
	s.Foot = fmt.Sprintf("#%d · since %s · Bramble", in.Number, began.Format("2 January 15:04:05 UTC"))
	switch {
	case in.ResolvedAt != 0 && in.ResolvedAt <= at.UnixMilli():
		s.Mark = picture.Resolved
		s.Subtitle += ", resolved " + time.UnixMilli(in.ResolvedAt).UTC().Format("15:04:05 UTC")
	case alert.SeverityRank(in.Severity) >= alert.SeverityRank("error"):
		s.Mark = picture.Critical
	}
	return s
}

// lineOf is a series under a name.
func lineOf(r series.Result, name string) picture.Line {
	return picture.Line{Name: name, At: r.At, Values: r.Values}
}

// graphOf shows series by their boards, with the last value of the main one under the title.
func graphOf(s *picture.Picture, metric string, found []series.Result, lowIsBad bool) *picture.Graph {
	lines := make([]picture.Line, len(found))
	for i, r := range found {
		lines[i] = lineOf(r, series.Get(r.Labels, alert.BoardLabel))
	}
	g := picture.NewGraph(metric, lines, lowIsBad)
	if g.Main() != "" {
		s.Subtitle += " · " + g.Main() + ": " + g.Last()
	}
	return g
}

// laneOf shows on how many of an incident's boards a bit is set.
func laneOf(bits series.Result, in *incident.Incident) *picture.Graph {
	return picture.NewLane(lineOf(bits, ""), max(1, len(in.Boards())), cmp.Or(in.Lead().Annotations["what"], "set"))
}

const (
	// mostNamed is how many boards a query names; more are asked for by their domain's labels.
	mostNamed = 200
)

// narrow selects the series of an incident: those of its boards, or of its domain where these are too many to name.
func narrow(in *incident.Incident) []metricsql.LabelFilter {
	boards := in.Boards()
	switch {
	case len(boards) == 0:
		return nil
	case len(boards) > mostNamed:
		var out []metricsql.LabelFilter
		d, _ := alert.DomainOf(&alert.Transition{Rule: in.Lead().Rule, Labels: in.Lead().Labels})
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

// read asks the store for the series of the incident's picture.
func (p *Pictures) read(ctx context.Context, in *incident.Incident, at time.Time) (*picture.Picture, error) {
	s := newPicture(in, at)
	lead := in.Lead()
	x, ok := p.engine.Comparison(lead.Rule, narrow(in))
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

// readThrottled reads the cause and the effect of a firmware bit: the temperature, and the clock that is lost.
func (p *Pictures) readThrottled(ctx context.Context, in *incident.Incident, s *picture.Picture, x rules.Comparison) ([]*picture.Graph, error) {
	heat, err := p.ask(ctx, s, selector(alert.TemperatureMetric, narrow(in)))
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
		worst = cmp.Or(in.Lead().Labels[alert.BoardLabel], append(in.Boards(), "")[0])
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
func (p *Pictures) readRows(ctx context.Context, in *incident.Incident, s *picture.Picture) ([]picture.Row, error) {
	lead := in.Lead()
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
func (p *Pictures) readOneRow(ctx context.Context, in *incident.Incident, s *picture.Picture) ([]picture.Row, error) {
	filters, name := narrow(in), in.Lead().Labels[alert.BoardLabel]
	if n := len(in.Boards()); n != 1 {
		name = fmt.Sprintf("%d boards", n)
	}
	found, err := p.ask(ctx, s, "sum("+reporting(filters)+")")
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return []picture.Row{{Line: lineOf(found[0], name), Failed: true, Of: max(1, int(slices.Max(found[0].Values)), len(in.Boards()))}}, nil
}
