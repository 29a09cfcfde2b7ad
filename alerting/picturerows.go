package alerting

import (
	"strconv"
)

// Where the rows of a picture of silence stand, in CSS pixels.
const (
	rowsLeft, rowsRight = 130.0, 520.0
	rowsRoom            = 184.0 // of all rows
	rowsHeight          = 110.0 // of one at most
	rowGap              = 14.0
)

// drawRows draws, for each place, how many of its boards reported.
func (s *shown) drawRows(c *canvas) {
	height := min(rowsHeight, (rowsRoom-rowGap*float64(len(s.rows)-1))/float64(len(s.rows)))
	top := plotTop + 4
	for i := range s.rows {
		s.drawRow(c, &s.rows[i], top, top+height)
		top += height + rowGap
	}
	end := top - rowGap + 18
	tick := style{size: 12, in: ink2}
	c.text(rowsLeft, end, tick, s.from.Format("15:04"))
	middle := "boards reporting"
	c.text((rowsLeft+rowsRight-c.width(tick, middle))/2, end, tick, middle)
	c.text(rowsRight, end, style{size: 12, bold: true, in: ink, right: true}, s.to.Format("15:04:05 UTC"))
}

func (s *shown) drawRow(c *canvas, r *row, top, end float64) {
	name, edge, bed := style{size: 13, in: ink2}, ink2, band
	if r.failed {
		name, edge, bed = style{size: 13, in: critical, bold: true}, critical, criticalBed
	}
	c.text(20, (top+end)/2+4, name, c.fitted(name, r.name, rowsLeft-30))
	c.line([]point{{rowsLeft, end}, {rowsRight, end}}, 1, strongLine)
	f := &rowFrame{s, r, top, end}
	for _, points := range f.stretches() {
		area := append([]point{{points[0].x, end}}, points...)
		c.fill(bed, append(area, point{points[len(points)-1].x, end})...)
		c.line(points, 2, edge)
	}
	last := r.trace.last()
	figure := style{size: 15, bold: true, in: edge}
	if !r.failed {
		figure.in = ink
	}
	y := min(max(f.y(last)+10, top+12), end)
	x := c.text(rowsRight+10, y, figure, strconv.Itoa(int(last)))
	c.text(x+5, y, style{size: 12, in: ink2}, "of "+strconv.Itoa(int(r.total)))
}

// rowFrame maps a count of boards to the picture.
type rowFrame struct {
	s        *shown
	r        *row
	top, end float64
}

func (f *rowFrame) y(v float64) float64 { return f.end - (f.end-f.top)*v/max(1, f.r.total) }

func (f *rowFrame) stretches() (out [][]point) {
	from, to := f.s.from.UnixMilli(), f.s.to.UnixMilli()
	var now []point
	for i, at := range f.r.trace.at {
		if i > 0 && at-f.r.trace.at[i-1] > staleAfter {
			out, now = append(out, now), nil
		}
		p := point{rowsLeft + (rowsRight-rowsLeft)*float64(at-from)/float64(to-from), f.y(f.r.trace.v[i])}
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
