// Package picture draws the picture of a page: the last half hour of some series, with the line that they crossed.
//
// It owns how a picture looks, and the shelf of recent pictures. It gets values with their names, limits and times,
// and returns a PNG. It queries no store, and knows nothing of incidents, rules or pages.
package picture

import "time"

const (
	// Span is the length of the time axis.
	Span = 30 * time.Minute
	// Step is the time between two points of a graph, that of readings at the default rate. Where the next point comes
	// later than two steps, the line has a gap.
	Step = 10 * time.Second
)

// staleAfter is how long a value counts, in milliseconds: Prometheus' lookback of 5 min.
const staleAfter = int64(5 * time.Minute / time.Millisecond)

// Mark is the glyph before the title.
type Mark int

// The zero Mark is Warning.
const (
	Warning  Mark = iota // a diamond
	Critical             // a triangle
	Resolved             // a tick
)

// Picture holds the content of a picture. Texts that are too long are cut with an ellipsis.
type Picture struct {
	Mark                  Mark
	Title, Subtitle, Foot string
	// From and To are the ends of the time axis, which is labelled in UTC; From is before To.
	From, To time.Time
	// Graphs stand one below the other. Where there are Rows, these are drawn instead.
	Graphs []*Graph
	Rows   []Row
}

// PNG draws the picture: 1200 by 600 pixels, about 30 kB. It is safe to call at the same time for several pictures.
func (p *Picture) PNG() ([]byte, error) {
	c, err := newCanvas()
	if err != nil {
		return nil, err
	}
	p.draw(c)
	return c.png()
}

func (p *Picture) draw(c *canvas) {
	p.head(c)
	if len(p.Rows) > 0 {
		p.drawRows(c)
		return
	}
	top := plotTop
	for i, height := range p.heights() {
		f := newFrame(p.Graphs[i], p, top, top+height)
		if p.Graphs[i].lane != "" {
			f.drawLane(c)
		} else {
			f.draw(c)
		}
		top += height + graphGap
	}
	p.timeAxis(c)
}

// head draws the title with its mark, and the foot.
func (p *Picture) head(c *canvas) {
	switch p.Mark {
	case Resolved:
		c.line([]point{{21, 21}, {25, 26}, {33, 15}}, 2.5, done)
	case Critical:
		c.fill(critical, point{27, 14}, point{34, 27}, point{20, 27})
	default:
		c.fill(warning, point{27, 14}, point{34, 21}, point{27, 28}, point{20, 21})
	}
	title := style{size: 17, bold: true, in: ink}
	c.text(42, 27, title, c.fitted(title, p.Title, Width-42-16))
	sub := style{size: 13, in: ink2}
	c.text(42, 46, sub, c.fitted(sub, p.Subtitle, Width-42-16))
	foot := style{size: 11, in: ink2}
	c.text(20, 291, foot, c.fitted(foot, p.Foot, Width-36))
}

// heights divides the space between the graphs: lanes get their fixed height, the first graph most of the rest.
func (p *Picture) heights() []float64 {
	space, graphs := plotBottom-plotTop-graphGap*float64(len(p.Graphs)-1), 0
	for _, g := range p.Graphs {
		if g.lane != "" {
			space -= laneHeight
		} else {
			graphs++
		}
	}
	out := make([]float64, len(p.Graphs))
	first := true
	for i, g := range p.Graphs {
		switch {
		case g.lane != "":
			out[i] = laneHeight
		case graphs == 1:
			out[i] = space
		case first:
			out[i], first = space*0.58, false
		default:
			out[i] = space * 0.42
		}
	}
	return out
}

func (p *Picture) timeAxis(c *canvas) {
	f := frame{p: p}
	c.line([]point{{plotLeft, plotBottom}, {plotRight, plotBottom}}, 1, strongLine)
	tick := style{size: 12, in: ink2}
	for at := p.From.Truncate(5 * time.Minute).Add(5 * time.Minute); at.Before(p.To); at = at.Add(5 * time.Minute) {
		x, text := f.x(at.UnixMilli()), at.Format("15:04")
		half := c.width(tick, text) / 2
		if x+half > plotRight+8 || x-half < plotLeft-12 {
			continue
		}
		c.line([]point{{x, plotBottom}, {x, plotBottom + 4}}, 1, strongLine)
		c.text(x-half, plotBottom+17, tick, text)
	}
	c.text(labelLeft, plotBottom+17, style{size: 12, bold: true, in: ink}, p.To.Format("15:04:05 UTC"))
}
