package alerting

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot/vg"

	"bramble/storage"
)

// Where things stand in a picture, in CSS pixels.
const (
	plotLeft, plotRight = 50.0, 484.0
	plotTop, plotBottom = 60.0, 254.0
	labelLeft           = plotRight + 12
	// labelGap is the least distance between the baselines of two labels.
	labelGap = 15.0
	// graphGap is the space between two graphs.
	graphGap = 14.0
)

// shown is what a picture shows.
type shown struct {
	title, subtitle, foot string
	severity              string
	resolved              bool
	from, to              time.Time
	graphs                []*graph
	rows                  []row
}

func newShown(in *Incident, at time.Time) *shown {
	began := time.UnixMilli(in.StartedAt).UTC()
	title, _, _ := strings.Cut(in.Title, " since ")
	s := &shown{title: title, severity: in.Severity, resolved: in.ResolvedAt != 0 && in.ResolvedAt <= at.UnixMilli(), to: at.UTC(), from: at.UTC().Add(-pictureSpan)}
	s.subtitle = "since " + began.Format("15:04:05 UTC")
	s.foot = fmt.Sprintf("#%d · since %s · Bramble", in.Number, began.Format("2 January 15:04:05 UTC"))
	if s.resolved {
		s.subtitle += ", resolved " + time.UnixMilli(in.ResolvedAt).UTC().Format("15:04:05 UTC")
	}
	return s
}

// note says the last value of a graph's main line under the title.
func (s *shown) note(g *graph) {
	if len(g.main) == 1 && g.main[0].name != "" {
		s.subtitle += " · " + g.main[0].name + ": " + g.number(g.main[0].last())
	}
}

// graph is lines over time. Boards beside the main line are grey.
type graph struct {
	unit      string
	factor    float64 // from the metric's base unit
	low, high float64
	main      []trace
	others    []trace
	above     []trace // the requested clock, under which the lost one hangs
	floor     *trace  // with others[0] as its roof, where boards are too many to draw
	limits    []limitLine
	lane      string // what main counts, where the graph is a lane of a bit
}

// laneHeight is that of a lane, in CSS pixels.
const laneHeight = 12.0

// newLane shows on how many of an incident's boards a bit is set, over time.
func newLane(bits storage.Result, in *Incident) *graph {
	boards := max(1, len(in.touched()))
	g := &graph{factor: 1, high: float64(boards), main: []trace{{at: bits.At, v: bits.Values, in: critical, step: true}}}
	g.lane = cmp.Or(in.lead().Annotations["what"], "set")
	if boards > 1 {
		g.lane = fmt.Sprintf("%.0f of %d %s", g.main[0].last(), boards, g.lane)
	}
	return g
}

// drawLane fills as much of the lane's height as boards have the bit.
func (f *frame) drawLane(c *canvas) {
	c.rect(plotLeft, f.top, plotRight, f.end, band)
	for _, points := range f.stretches(&f.g.main[0]) {
		area := append([]point{{points[0].x, f.end}}, points...)
		c.fill(critical, append(area, point{points[len(points)-1].x, f.end})...)
	}
	s := style{size: 12, in: critical, bold: true}
	c.text(labelLeft, f.end-1, s, c.fitted(s, f.g.lane, pictureWidth-labelLeft-4))
}

type limitLine struct {
	at    float64
	label string
}

// unitOf is how a metric's values are written, by the ending that its name has for its base unit.
func unitOf(metric string) (unit string, factor float64) {
	for _, u := range []struct {
		ending, unit string
		factor       float64
	}{
		{"_celsius", "°C", 1}, {"_hertz", "MHz", 1e-6}, {"_volts", "V", 1}, {"_rpm", "rpm", 1}, {"_bytes", "MB", 1e-6},
		{"_seconds", "s", 1}, {"_seconds_total", "s", 1}, {"_ratio", "%", 100},
	} {
		if strings.HasSuffix(metric, u.ending) {
			return u.unit, u.factor
		}
	}
	return "", 1
}

func newGraph(metric string) *graph {
	g := &graph{}
	g.unit, g.factor = unitOf(metric)
	switch g.unit {
	case "°C": // one scale everywhere: two degrees must not look like a fire
		g.low, g.high = 40, 90
	case "MHz":
		g.high = 600e6
	}
	return g
}

// number writes a value with its unit.
func (g *graph) number(v float64) string {
	v *= g.factor
	digits := 1
	switch {
	case math.IsNaN(v):
		return "no value"
	case v == math.Trunc(v) || math.Abs(v) >= 1000:
		digits = 0
	case math.Abs(v) < 1:
		digits = 3
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', digits, 64) + " " + g.unit)
}

// addLines takes the series of an answer and returns the board of the main line, which is the worst: the highest at the
// end, or the lowest where low is bad.
func (g *graph) addLines(found []storage.Result, lowIsBad bool) string {
	var lines []trace
	worst := 0
	for i, r := range found {
		lines = append(lines, trace{at: r.At, v: r.Values, in: otherBoards, width: 1, name: labelValue(r.Labels, boardLabel)})
		a, b := lines[i].last(), lines[worst].last()
		if newer := r.At[len(r.At)-1] - lines[worst].at[len(lines[worst].at)-1]; newer > staleAfter || (newer >= -staleAfter && (a > b) != lowIsBad && a != b) {
			worst = i
		}
	}
	main := lines[worst]
	main.in, main.width = ink, 2
	g.main = []trace{main}
	lines = slices.Delete(lines, worst, worst+1)
	if len(lines) >= mostLines {
		roof, floor := span2(lines)
		g.others, g.floor = []trace{roof}, &floor
		return main.name
	}
	g.others = lines
	return main.name
}

// span2 is the highest and the lowest of many lines, at each time that one has.
func span2(lines []trace) (roof, floor trace) {
	high, low := map[int64]float64{}, map[int64]float64{}
	for _, l := range lines {
		for i, at := range l.at {
			if v, ok := high[at]; !ok || l.v[i] > v {
				high[at] = l.v[i]
			}
			if v, ok := low[at]; !ok || l.v[i] < v {
				low[at] = l.v[i]
			}
		}
	}
	for at := range high {
		roof.at = append(roof.at, at)
	}
	slices.Sort(roof.at)
	floor.at = roof.at
	for _, at := range roof.at {
		roof.v, floor.v = append(roof.v, high[at]), append(floor.v, low[at])
	}
	roof.name = fmt.Sprintf("%d others, lowest to highest", len(lines))
	return roof, floor
}

// fit widens the axis to all that is drawn.
func (g *graph) fit() {
	all := slices.Concat(g.main, g.others, g.above)
	if g.floor != nil {
		all = append(all, *g.floor)
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, t := range all {
		for _, v := range t.v {
			if !math.IsInf(v, 0) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	for _, l := range g.limits {
		low, high = min(low, l.at), max(high, l.at)
	}
	if g.high > g.low {
		low, high = min(low, g.low), max(high, g.high)
	}
	if low >= 0 && g.unit != "°C" {
		low = 0
	}
	if high <= low {
		high = low + 1
	}
	g.low, g.high = low, high+(high-low)*0.06
}

// frame maps a graph's values to the picture.
type frame struct {
	g        *graph
	s        *shown
	top, end float64
}

func (f *frame) x(at int64) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(at-f.s.from.UnixMilli())/float64(f.s.to.UnixMilli()-f.s.from.UnixMilli())
}

func (f *frame) y(v float64) float64 {
	return f.end - (f.end-f.top)*(v-f.g.low)/(f.g.high-f.g.low)
}

// stretches returns the points of a trace, apart where readings are missing: a gap is never joined.
func (f *frame) stretches(t *trace) (out [][]point) {
	var now []point
	for i, at := range t.at {
		if i > 0 && at-t.at[i-1] > 2*pictureStep.Milliseconds() {
			out, now = append(out, now), nil
		}
		p := point{f.x(at), f.y(t.v[i])}
		if t.step && len(now) > 0 {
			now = append(now, point{p.x, now[len(now)-1].y})
		}
		now = append(now, p)
	}
	return append(out, now)
}

func (f *frame) stroke(c *canvas, t *trace) {
	for _, points := range f.stretches(t) {
		c.line(points, t.width, t.in)
	}
}

// between fills what lies between two traces with points at the same times.
func (f *frame) between(c *canvas, a, b *trace, in color.Color) {
	if len(a.at) == 0 || len(a.at) != len(b.at) {
		return
	}
	over, under := f.stretches(a), f.stretches(b)
	for i := range min(len(over), len(under)) {
		slices.Reverse(under[i])
		c.fill(in, append(over[i], under[i]...)...)
	}
}

func (s *shown) draw(c *canvas) {
	s.head(c)
	if len(s.rows) > 0 {
		s.drawRows(c)
		return
	}
	top := plotTop
	for i, height := range s.heights() {
		f := &frame{s.graphs[i], s, top, top + height}
		if s.graphs[i].lane != "" {
			f.drawLane(c)
		} else {
			f.draw(c)
		}
		top += height + graphGap
	}
	s.timeAxis(c)
}

// heights shares the room between the graphs: lanes have what they need, the first graph most of the rest.
func (s *shown) heights() []float64 {
	room, graphs := plotBottom-plotTop-graphGap*float64(len(s.graphs)-1), 0
	for _, g := range s.graphs {
		if g.lane != "" {
			room -= laneHeight
		} else {
			graphs++
		}
	}
	out := make([]float64, len(s.graphs))
	first := true
	for i, g := range s.graphs {
		switch {
		case g.lane != "":
			out[i] = laneHeight
		case graphs == 1:
			out[i] = room
		case first:
			out[i], first = room*0.58, false
		default:
			out[i] = room * 0.42
		}
	}
	return out
}

// head draws the title with the glyph of the severity, and the foot.
func (s *shown) head(c *canvas) {
	switch {
	case s.resolved:
		c.line([]point{{21, 21}, {25, 26}, {33, 15}}, 2.5, done)
	case severityRank(s.severity) >= severityRank("error"):
		c.fill(critical, point{27, 14}, point{34, 27}, point{20, 27})
	default:
		c.fill(warning, point{27, 14}, point{34, 21}, point{27, 28}, point{20, 21})
	}
	title := style{size: 17, bold: true, in: ink}
	c.text(42, 27, title, c.fitted(title, s.title, pictureWidth-42-16))
	sub := style{size: 13, in: ink2}
	c.text(42, 46, sub, c.fitted(sub, s.subtitle, pictureWidth-42-16))
	foot := style{size: 11, in: ink2}
	c.text(20, 291, foot, c.fitted(foot, s.foot, pictureWidth-36))
}

func (f *frame) draw(c *canvas) {
	g := f.g
	f.valueAxis(c)
	if g.floor != nil {
		f.between(c, &g.others[0], g.floor, band)
	} else {
		for i := range g.others {
			f.stroke(c, &g.others[i])
		}
	}
	if len(g.above) == 1 && len(g.main) == 1 {
		f.between(c, &g.above[0], &g.main[0], criticalBed)
	}
	for i := range g.above {
		f.stroke(c, &g.above[i])
	}
	for _, l := range g.limits {
		c.line([]point{{plotLeft, f.y(l.at)}, {plotRight, f.y(l.at)}}, 1.2, critical, vg.Length(5), vg.Length(3))
	}
	for i := range g.main {
		f.stroke(c, &g.main[i])
		if t := &g.main[i]; len(t.at) > 0 && len(g.above) == 0 {
			end := point{f.x(t.at[len(t.at)-1]), f.y(t.last())}
			c.dot(end, 4.5, ink)
			c.dot(end, 3.2, critical)
		}
	}
	f.labels(c)
}

// valueAxis draws the grid and its numbers in the graph's unit.
func (f *frame) valueAxis(c *canvas) {
	tick := style{size: 12, in: ink2, right: true}
	low, high := f.g.low*f.g.factor, f.g.high*f.g.factor
	step := niceStep((high - low) * 24 / (f.end - f.top))
	for i := math.Ceil(low / step); i*step <= high; i++ {
		y := f.y(i * step / f.g.factor)
		c.line([]point{{plotLeft, y}, {plotRight, y}}, 1, gridLine)
		if y > f.top+8 { // the unit stands there
			c.text(plotLeft-8, y+4, tick, strconv.FormatFloat(i*step, 'g', 6, 64))
		}
	}
	c.text(plotLeft-8, f.top+4, tick, f.g.unit)
}

// niceStep is the least of 1, 2 and 5 times a power of ten that is not below least.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= least {
			return m * power
		}
	}
	return 10 * power
}

// label stands at the right edge beside what it names.
type label struct {
	y    float64
	text string
	in   color.Color
	bold bool
}

func (f *frame) labels(c *canvas) {
	var all []label
	for _, l := range f.g.limits {
		all = append(all, label{f.y(l.at), l.label, critical, false})
	}
	for i := range f.g.main {
		t := &f.g.main[i]
		text, in := f.g.number(t.last()), color.Color(ink)
		if len(f.g.above) > 0 {
			text, in = strings.TrimSuffix(text, " "+f.g.unit)+" measured", measured
		}
		all = append(all, label{f.y(t.last()), text, in, true})
	}
	for i := range f.g.above {
		t := &f.g.above[i]
		all = append(all, label{f.y(t.last()), strings.TrimSuffix(f.g.number(t.last()), " "+f.g.unit) + " requested", ink2, false})
		if len(f.g.main) == 1 && t.last()-f.g.main[0].last() > 1e6 {
			lost := t.last() - f.g.main[0].last()
			all = append(all, label{f.y(t.last() - lost/2), strings.TrimSuffix(f.g.number(lost), " "+f.g.unit) + " lost", critical, true})
		}
	}
	if n := len(f.g.others); n > 0 {
		text := fmt.Sprintf("%d others, grey", n)
		if f.g.floor != nil {
			text = f.g.others[0].name
		}
		all = append(all, label{f.end - 2, text, ink2, false})
	}
	slices.SortStableFunc(all, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	f.place(all)
	for _, l := range all {
		s := style{size: 12, in: l.in, bold: l.bold}
		c.text(labelLeft, l.y+4, s, c.fitted(s, l.text, pictureWidth-labelLeft-4))
	}
}

// place pushes labels apart, first down and then back up from the end of the graph.
func (f *frame) place(all []label) {
	for i := 1; i < len(all); i++ {
		all[i].y = max(all[i].y, all[i-1].y+labelGap)
	}
	for i := len(all) - 1; i >= 0; i-- {
		most := f.end
		if i+1 < len(all) {
			most = all[i+1].y - labelGap
		}
		all[i].y = min(all[i].y, most)
	}
}

func (s *shown) timeAxis(c *canvas) {
	f := frame{s: s}
	c.line([]point{{plotLeft, plotBottom}, {plotRight, plotBottom}}, 1, strongLine)
	tick := style{size: 12, in: ink2}
	for at := s.from.Truncate(5 * time.Minute).Add(5 * time.Minute); at.Before(s.to); at = at.Add(5 * time.Minute) {
		x, text := f.x(at.UnixMilli()), at.Format("15:04")
		half := c.width(tick, text) / 2
		if x+half > plotRight+8 || x-half < plotLeft-12 {
			continue
		}
		c.line([]point{{x, plotBottom}, {x, plotBottom + 4}}, 1, strongLine)
		c.text(x-half, plotBottom+17, tick, text)
	}
	c.text(labelLeft, plotBottom+17, style{size: 12, bold: true, in: ink}, s.to.Format("15:04:05 UTC"))
}
