package picture

import (
	"slices"
	"strconv"
	"strings"
)

// Where the rows of a picture of silence stand, in CSS pixels.
const (
	rowsLeft, rowsRight = 130.0, 520.0
	rowsSpace           = 184.0 // of all rows
	rowsHeight          = 110.0 // of one at most
	rowGap              = 14.0
)

// Row is how many boards of one place reported, over time. Its line has at least one point.
type Row struct {
	Line
	Of     int  // boards in all
	Failed bool // it is drawn in red
}

// Around keeps the failed row and its two nearest neighbours by name, as many as fit; none where none failed.
func Around(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Name, b.Name) })
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Failed })
	if i < 0 {
		return nil
	}
	from := max(0, min(i-1, len(rows)-3))
	return rows[from:min(len(rows), from+3)]
}

// drawRows draws, for each place, how many of its boards reported.
func (p *Picture) drawRows(c *canvas) {
	height := min(rowsHeight, (rowsSpace-rowGap*float64(len(p.Rows)-1))/float64(len(p.Rows)))
	top := plotTop + 4
	for i := range p.Rows {
		p.drawRow(c, &p.Rows[i], top, top+height)
		top += height + rowGap
	}
	end := top - rowGap + 18
	tick := style{size: 12, in: ink2}
	c.text(rowsLeft, end, tick, p.From.Format("15:04"))
	middle := "boards reporting"
	c.text((rowsLeft+rowsRight-c.width(tick, middle))/2, end, tick, middle)
	c.text(rowsRight, end, style{size: 12, bold: true, in: ink, right: true}, p.To.Format("15:04:05 UTC"))
}

func (p *Picture) drawRow(c *canvas, r *Row, top, end float64) {
	name, edge, bed := style{size: 13, in: ink2}, ink2, band
	if r.Failed {
		name, edge, bed = style{size: 13, in: critical, bold: true}, critical, criticalBed
	}
	c.text(20, (top+end)/2+4, name, c.fitted(name, r.Name, rowsLeft-30))
	c.line([]point{{rowsLeft, end}, {rowsRight, end}}, 1, strongLine)
	f := &rowFrame{p, r, top, end}
	for _, points := range f.stretches() {
		area := append([]point{{points[0].x, end}}, points...)
		c.fill(bed, append(area, point{points[len(points)-1].x, end})...)
		c.line(points, 2, edge)
	}
	last := r.Values[len(r.Values)-1]
	figure := style{size: 15, bold: true, in: edge}
	if !r.Failed {
		figure.in = ink
	}
	y := min(max(f.y(last)+10, top+12), end)
	x := c.text(rowsRight+10, y, figure, strconv.Itoa(int(last)))
	c.text(x+5, y, style{size: 12, in: ink2}, "of "+strconv.Itoa(r.Of))
}

// rowFrame maps a count of boards to the picture.
type rowFrame struct {
	p        *Picture
	r        *Row
	top, end float64
}

func (f *rowFrame) y(v float64) float64 { return f.end - (f.end-f.top)*v/max(1, float64(f.r.Of)) }

func (f *rowFrame) stretches() (out [][]point) {
	from, to := f.p.From.UnixMilli(), f.p.To.UnixMilli()
	var now []point
	for i, at := range f.r.At {
		if i > 0 && at-f.r.At[i-1] > staleAfter {
			out, now = append(out, now), nil
		}
		p := point{rowsLeft + (rowsRight-rowsLeft)*float64(at-from)/float64(to-from), f.y(f.r.Values[i])}
		if len(now) > 0 {
			now = append(now, point{p.x, now[len(now)-1].y})
		}
		now = append(now, p)
	}
	if len(now) > 0 {
		out = append(out, now)
	}
	return out
}
