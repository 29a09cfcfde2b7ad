package picture

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/vg"
)

// Where things stand in a picture, in CSS pixels.
const (
	plotLeft, plotRight = 50.0, 484.0
	plotTop, plotBottom = 60.0, 254.0
	labelLeft           = plotRight + 12
	// labelGap is the minimum distance between the baselines of two labels.
	labelGap = 15.0
	// graphGap is the space between two graphs.
	graphGap = 14.0
)

// laneHeight is that of a lane, in CSS pixels.
const laneHeight = 12.0

// frame maps a graph's values to the picture.
type frame struct {
	g         *Graph
	p         *Picture
	top, end  float64 // in the picture
	low, high float64 // of the axis
}

func newFrame(g *Graph, p *Picture, top, end float64) *frame {
	low, high := g.axis()
	return &frame{g, p, top, end, low, high}
}

func (f *frame) x(at int64) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(at-f.p.From.UnixMilli())/float64(f.p.To.UnixMilli()-f.p.From.UnixMilli())
}

// y is where a value is drawn; one beyond the axis, such as infinity, is drawn at its end.
func (f *frame) y(v float64) float64 {
	v = min(max(v, f.low), f.high)
	return f.end - (f.end-f.top)*(v-f.low)/(f.high-f.low)
}

// stretches returns the points of a trace, apart where readings are missing: a gap is never joined.
func (f *frame) stretches(t *trace) (out [][]point) {
	var now []point
	for i, at := range t.At {
		if i > 0 && at-t.At[i-1] > 2*Step.Milliseconds() {
			out, now = append(out, now), nil
		}
		p := point{f.x(at), f.y(t.Values[i])}
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

// between fills the area between two traces with points at the same times.
func (f *frame) between(c *canvas, a, b *trace, in color.Color) {
	if len(a.At) == 0 || len(a.At) != len(b.At) {
		return
	}
	over, under := f.stretches(a), f.stretches(b)
	for i := range min(len(over), len(under)) {
		slices.Reverse(under[i])
		c.fill(in, append(over[i], under[i]...)...)
	}
}

// drawLane fills as much of the lane's height as boards have the bit.
func (f *frame) drawLane(c *canvas) {
	c.rect(plotLeft, f.top, plotRight, f.end, band)
	for _, points := range f.stretches(&f.g.main[0]) {
		area := append([]point{{points[0].x, f.end}}, points...)
		c.fill(critical, append(area, point{points[len(points)-1].x, f.end})...)
	}
	s := style{size: 12, in: critical, bold: true}
	c.text(labelLeft, f.end-1, s, c.fitted(s, f.g.lane, Width-labelLeft-4))
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
		if t := &g.main[i]; len(t.At) > 0 && len(g.above) == 0 {
			end := point{f.x(t.At[len(t.At)-1]), f.y(t.last())}
			c.dot(end, 4.5, ink)
			c.dot(end, 3.2, critical)
		}
	}
	f.labels(c)
}

// valueAxis draws the grid and its numbers in the graph's unit.
func (f *frame) valueAxis(c *canvas) {
	tick := style{size: 12, in: ink2, right: true}
	low, high := f.low*f.g.factor, f.high*f.g.factor
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

// niceStep is the smallest of 1, 2 and 5 times a power of ten that is not below minimum.
func niceStep(minimum float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(minimum)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= minimum {
			return m * power
		}
	}
	return 10 * power
}

// label stands at the right edge beside the line that it names.
type label struct {
	y    float64
	text string
	in   color.Color
	bold bool
}

func (f *frame) labels(c *canvas) {
	var all []label
	for _, l := range f.g.limits {
		all = append(all, label{f.y(l.at), l.text, critical, false})
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
			text = f.g.others[0].Name
		}
		all = append(all, label{f.end - 2, text, ink2, false})
	}
	slices.SortStableFunc(all, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	f.place(all)
	for _, l := range all {
		s := style{size: 12, in: l.in, bold: l.bold}
		c.text(labelLeft, l.y+4, s, c.fitted(s, l.text, Width-labelLeft-4))
	}
}

// place pushes labels apart, first down and then back up from the end of the graph.
func (f *frame) place(all []label) {
	for i := 1; i < len(all); i++ {
		all[i].y = max(all[i].y, all[i-1].y+labelGap)
	}
	for i := len(all) - 1; i >= 0; i-- {
		lowest := f.end
		if i+1 < len(all) {
			lowest = all[i+1].y - labelGap
		}
		all[i].y = min(all[i].y, lowest)
	}
}
