package picture

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxLines is how many lines are drawn by themselves; more are a band from the lowest to the highest.
const maxLines = 48

// Line is one series over time: Values in the base unit of its metric, at the times At in Unix milliseconds, ascending.
// Both have the same length. No value is NaN: where none was read there is no point.
type Line struct {
	Name   string
	At     []int64
	Values []float64
}

// Graph is lines over time with the limits that they are held against. NewGraph, NewLane and NewClocks make one.
type Graph struct {
	unit      string
	factor    float64 // from the metric's base unit
	low, high float64 // the range that the axis shows at least
	main      []trace
	others    []trace // grey
	above     []trace // the requested clock, under which the lost one hangs
	floor     *trace  // with others[0] as its roof, where lines are too many to draw
	limits    []limit
	lane      string // the name of the bit that main counts, where the graph is a lane
}

type limit struct {
	at   float64
	text string
}

// trace is one line as it is drawn.
type trace struct {
	Line
	in    color.Color
	width float64
	step  bool
}

func (t *trace) last() float64 {
	if len(t.Values) == 0 {
		return math.NaN()
	}
	return t.Values[len(t.Values)-1]
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

func newGraph(metric string) *Graph {
	g := &Graph{}
	g.unit, g.factor = unitOf(metric)
	switch g.unit {
	case "°C": // one scale everywhere: two degrees must not look like a fire
		g.low, g.high = 40, 90
	case "MHz":
		g.high = 600e6
	}
	return g
}

// NewGraph shows lines in the unit of a metric, "" for none. There is at least one, and none is without points. The main
// line is the worst: the highest at the end, or the lowest where low is bad.
func NewGraph(metric string, lines []Line, lowIsBad bool) *Graph {
	g := newGraph(metric)
	var traces []trace
	worst := 0
	for i, l := range lines {
		traces = append(traces, trace{Line: l, in: otherBoards, width: 1})
		a, b := traces[i].last(), traces[worst].last()
		if newer := l.At[len(l.At)-1] - lines[worst].At[len(lines[worst].At)-1]; newer > staleAfter || (newer >= -staleAfter && (a > b) != lowIsBad && a != b) {
			worst = i
		}
	}
	main := traces[worst]
	main.in, main.width = ink, 2
	g.main = []trace{main}
	traces = slices.Delete(traces, worst, worst+1)
	if len(traces) >= maxLines {
		roof, floor := span(traces)
		g.others, g.floor = []trace{roof}, &floor
		return g
	}
	g.others = traces
	return g
}

// NewLane shows on how many boards a bit is set, over time; name is the bit's name and is not empty.
func NewLane(set Line, boards int, name string) *Graph {
	g := &Graph{factor: 1, high: float64(boards), main: []trace{{Line: set, in: critical, step: true}}, lane: name}
	if boards > 1 {
		g.lane = fmt.Sprintf("%.0f of %d %s", g.main[0].last(), boards, name)
	}
	return g
}

// NewClocks shows a board's measured clock and the requested one above it, in hertz; metric has their unit.
func NewClocks(metric string, measuredClock, requestedClock []Line) *Graph {
	g := newGraph(metric)
	for _, l := range measuredClock {
		g.main = append(g.main, trace{Line: l, in: measured, width: 2, step: true})
	}
	for _, l := range requestedClock {
		g.above = append(g.above, trace{Line: l, in: requested, width: 1.5, step: true})
	}
	return g
}

// Limit draws a dashed line at a value; without a text the value stands beside it.
func (g *Graph) Limit(at float64, text string) {
	if text == "" {
		text = g.number(at)
	}
	g.limits = append(g.limits, limit{at, text})
}

// Main is the name of the main line, "" where there is not exactly one or it has none.
func (g *Graph) Main() string {
	if len(g.main) != 1 {
		return ""
	}
	return g.main[0].Name
}

// Last is the last value of the main line with its unit; the graph has one.
func (g *Graph) Last() string { return g.number(g.main[0].last()) }

// Number writes a value of a metric with its unit.
func Number(metric string, v float64) string { return newGraph(metric).number(v) }

// number writes a value with its unit.
func (g *Graph) number(v float64) string {
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

// span is the highest and the lowest of many lines, at each time that one has.
func span(lines []trace) (roof, floor trace) {
	high, low := map[int64]float64{}, map[int64]float64{}
	for _, l := range lines {
		for i, at := range l.At {
			if v, ok := high[at]; !ok || l.Values[i] > v {
				high[at] = l.Values[i]
			}
			if v, ok := low[at]; !ok || l.Values[i] < v {
				low[at] = l.Values[i]
			}
		}
	}
	for at := range high {
		roof.At = append(roof.At, at)
	}
	slices.Sort(roof.At)
	floor.At = roof.At
	for _, at := range roof.At {
		roof.Values, floor.Values = append(roof.Values, high[at]), append(floor.Values, low[at])
	}
	roof.Name = fmt.Sprintf("%d others, lowest to highest", len(lines))
	return roof, floor
}

const (
	// farthest is how far from zero a value may be and still widen the axis; values beyond are drawn at the axis' end. It is
	// far beyond all measured values, and its square is finite.
	farthest = 1e30
	// minSpread is the minimum length of an axis, as a part of its values: floating point has some 16 digits.
	minSpread = 1e-9
)

// axis returns the minimum and the maximum of the graph's axis: it covers all lines and limits.
func (g *Graph) axis() (low, high float64) {
	if g.lane != "" {
		return g.low, g.high
	}
	all := slices.Concat(g.main, g.others, g.above)
	if g.floor != nil {
		all = append(all, *g.floor)
	}
	low, high = math.Inf(1), math.Inf(-1)
	for _, t := range all {
		for _, v := range t.Values {
			if math.Abs(v) <= farthest {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	for _, l := range g.limits {
		if math.Abs(l.at) <= farthest {
			low, high = min(low, l.at), max(high, l.at)
		}
	}
	if low > high { // there is no such value
		low, high = 0, 0
	}
	if g.high > g.low {
		low, high = min(low, g.low), max(high, g.high)
	}
	if low >= 0 && g.unit != "°C" {
		low = 0
	}
	if largest := max(math.Abs(low), math.Abs(high)); high-low <= max(1/farthest, largest*minSpread) {
		high = low + max(1, largest*1000*minSpread)
	}
	return low, high + (high-low)*0.06
}
