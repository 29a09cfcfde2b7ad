package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"
	"time"
)

// end is when the pictures of these tests end.
var end = time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC)

// line is a series with a value every Step of the span; where value has none, neither has the line.
func line(name string, value func(minute float64) (float64, bool)) Line {
	l := Line{Name: name}
	for at := end.Add(-Span); !at.After(end); at = at.Add(Step) {
		if v, ok := value(at.Sub(end.Add(-Span)).Minutes()); ok {
			l.At, l.Values = append(l.At, at.UnixMilli()), append(l.Values, v)
		}
	}
	return l
}

// level is a line of one value.
func level(name string, v float64) Line {
	return line(name, func(float64) (float64, bool) { return v, true })
}

// drawn is the picture before it is encoded, which takes most of the time.
func drawn(t testing.TB, p *Picture) image.Image {
	t.Helper()
	p.From, p.To = end.Add(-Span), end
	c, err := newCanvas()
	if err != nil {
		t.Fatal(err)
	}
	p.draw(c)
	return c.c.Image()
}

func TestPNG(t *testing.T) {
	g := NewGraph("a_celsius", []Line{level("r1-a-03", 70), level("r1-a-04", 60)}, false)
	g.Limit(80, "")
	p := &Picture{Title: "r1-a-03: SoC hot", Graphs: []*Graph{g}}
	want := drawn(t, p)
	b, err := p.PNG()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 60_000 {
		t.Errorf("%d bytes, want at most 60 kB", len(b))
	}
	got, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if size := got.Bounds().Size(); size != (image.Point{2 * Width, 2 * Height}) {
		t.Errorf("size %v, want 1200x600", size)
	}
	for _, c := range []color.Color{critical, ink, otherBoards, gridLine} { // edges of lines and letters may become one of these
		if n, least := inPlot(got, c), inPlot(want, c); least == 0 || n < least {
			t.Errorf("%d pixels of %v, %d were drawn", n, c, least)
		}
	}
}

// inked counts the pixels of a colour within a rectangle in CSS pixels.
func inked(img image.Image, in color.Color, x0, y0, x1, y1 float64) (n int) {
	r, g, b, _ := in.RGBA()
	for y := int(2 * y0); y < int(2*y1); y++ {
		for x := int(2 * x0); x < int(2*x1); x++ {
			if pr, pg, pb, _ := img.At(x, y).RGBA(); pr == r && pg == g && pb == b {
				n++
			}
		}
	}
	return n
}

func inPlot(img image.Image, in color.Color) int {
	return inked(img, in, plotLeft, plotTop, plotRight, plotBottom)
}

func TestMarks(t *testing.T) {
	for mark, want := range map[Mark]color.Color{Warning: warning, Critical: critical, Resolved: done} {
		img := drawn(t, &Picture{Mark: mark, Title: "r1-a-03", Rows: []Row{{Line: level("r1-a", 16), Of: 16}}})
		for _, c := range []color.Color{warning, critical, done} {
			if n := inked(img, c, 18, 12, 36, 30); (n > 0) != (c == want) {
				t.Errorf("mark %d: %d pixels of %v", mark, n, c)
			}
		}
	}
}

func TestALimitIsALineInRed(t *testing.T) {
	g := NewGraph("a_celsius", []Line{level("r1-a-03", 70)}, false)
	bare := inPlot(drawn(t, &Picture{Graphs: []*Graph{g}}), critical)
	g.Limit(80, "")
	img := drawn(t, &Picture{Graphs: []*Graph{g}})
	if with := inPlot(img, critical); with < bare+500 {
		t.Errorf("%d red pixels with a limit, %d without", with, bare)
	}
	if inked(img, critical, labelLeft, plotTop, Width, plotBottom) == 0 {
		t.Error("nothing says what the limit is")
	}
}

// TestAGapIsNotJoined compares a line with one from which ten minutes are missing.
func TestAGapIsNotJoined(t *testing.T) {
	whole := line("", func(float64) (float64, bool) { return 70, true })
	broken := line("", func(m float64) (float64, bool) { return 70, m < 10 || m >= 20 })
	x := func(minute float64) float64 { return plotLeft + (plotRight-plotLeft)*minute/30 }
	f := func(l Line) int {
		img := drawn(t, &Picture{Graphs: []*Graph{NewGraph("a_celsius", []Line{l}, false)}})
		return inked(img, ink, x(11), plotTop, x(19), plotBottom)
	}
	if got := f(whole); got == 0 {
		t.Error("the line is not drawn")
	}
	if got := f(broken); got != 0 {
		t.Errorf("%d pixels where nothing was read", got)
	}
}

func TestTheWorstLineIsTheMainOne(t *testing.T) {
	early := line("early", func(m float64) (float64, bool) { return 99, m < 20 })
	f := func(want string, lowIsBad bool, lines ...Line) {
		t.Helper()
		if got := NewGraph("a_celsius", lines, lowIsBad).Main(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("hot", false, level("cold", 40), level("hot", 90), level("mild", 60))
	f("cold", true, level("hot", 90), level("cold", 40), level("mild", 60))
	f("mild", false, early, level("mild", 60)) // a series that ended is not the worst
	f("first", false, level("first", 60), level("second", 60))
}

// TestManyLinesAreABand draws grey lines up to a number, then the area between them.
func TestManyLinesAreABand(t *testing.T) {
	f := func(n int) (grey, area int) {
		var lines []Line
		for i := range n {
			lines = append(lines, level(fmt.Sprint("b", i), 50+float64(i)*30/float64(n)))
		}
		img := drawn(t, &Picture{Graphs: []*Graph{NewGraph("a_celsius", lines, false)}})
		return inPlot(img, otherBoards), inPlot(img, band)
	}
	if grey, area := f(maxLines); grey < 10_000 || area > 10_000 {
		t.Errorf("%d lines: %d pixels of lines, %d of a band", maxLines, grey, area)
	}
	if grey, area := f(maxLines + 1); grey > 100 || area < 100_000 {
		t.Errorf("%d lines: %d pixels of lines, %d of a band", maxLines+1, grey, area)
	}
}

// TestLostClock wants the area between the requested clock and the measured one filled.
func TestLostClock(t *testing.T) {
	f := func(clock float64) int {
		g := NewClocks("a_hertz", []Line{level("", clock)}, []Line{level("", 1200e6)})
		return inPlot(drawn(t, &Picture{Graphs: []*Graph{g}}), criticalBed)
	}
	if lost, none := f(600e6), f(1200e6); lost < 10_000 || none != 0 {
		t.Errorf("%d pixels for a lost clock, %d for one that is not", lost, none)
	}
}

// TestALaneIsAsFullAsItsBoardsAreMany compares the red of half the boards with that of all.
func TestALaneIsAsFullAsItsBoardsAreMany(t *testing.T) {
	f := func(set float64) int {
		g := []*Graph{NewGraph("a_celsius", []Line{level("", 50)}, false), NewLane(level("", set), 8, "throttled")}
		return inPlot(drawn(t, &Picture{Graphs: g}), critical)
	}
	half, all := f(4), f(8)
	if ratio := float64(all) / float64(half); ratio < 1.8 || ratio > 2.2 {
		t.Errorf("%d red pixels for half, %d for all", half, all)
	}
}

func TestRows(t *testing.T) {
	dead := line("Switch r7-b", func(m float64) (float64, bool) {
		if m > 27 {
			return 0, true
		}
		return 16, true
	})
	rows := Around([]Row{
		{Line: level("Switch r7-d", 16), Of: 16}, {Line: level("Switch r7-c", 16), Of: 16}, {Line: dead, Of: 16, Failed: true}, {Line: level("Switch r7-a", 16), Of: 16},
	})
	if len(rows) != 3 || rows[0].Name != "Switch r7-a" || rows[1].Name != "Switch r7-b" || rows[2].Name != "Switch r7-c" {
		t.Errorf("around the failed row: %+v", rows)
	}
	img := drawn(t, &Picture{Rows: rows})
	if inked(img, critical, rowsLeft, plotTop, rowsRight, plotBottom) < 200 || inked(img, band, rowsLeft, plotTop, rowsRight, plotBottom) < 200 {
		t.Error("what failed is not drawn in red, or its neighbours are not in grey")
	}
	if got := Around([]Row{{Line: level("Switch r7-a", 16), Of: 16}}); got != nil {
		t.Errorf("around nothing that failed: %+v", got)
	}
}

func TestNumbers(t *testing.T) {
	f := func(metric string, v float64, want string) {
		t.Helper()
		if got := newGraph(metric).number(v); got != want {
			t.Errorf("%s %v: got %q, want %q", metric, v, got, want)
		}
	}
	f("pi_soc_temperature_celsius", 80.44, "80.4 °C")
	f("pi_cpu_clock_hertz", 657e6, "657 MHz")
	f("pi_core_voltage_volts", 0.8563, "0.856 V")
	f("disk_used_ratio", 0.5, "50 %")
	f("requests", 1234.6, "1235")
	f("requests", math.NaN(), "no value")
}

// TestOddValues draws extreme values that a store may hold: each has an axis, and is drawn below
// the title.
func TestOddValues(t *testing.T) {
	for _, v := range []float64{0, -5, math.Inf(1), math.Inf(-1), 1e300, -1e300, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		for _, beside := range []float64{v, -v, 60} {
			g := NewGraph("a", []Line{level("b", v), level("c", beside)}, false)
			g.Limit(v, "")
			if low, high := g.axis(); !(low < high) || math.IsInf(high-low, 0) {
				t.Errorf("%v beside %v: axis from %v to %v", v, beside, low, high)
			}
			if beside == v {
				continue
			}
			img := drawn(t, &Picture{Graphs: []*Graph{g, NewLane(level("", v), 8, "set")}})
			if inked(img, critical, 0, 0, Width, plotTop-10) > 0 {
				t.Errorf("%v beside %v: drawn over the title", v, beside)
			}
		}
	}
}
