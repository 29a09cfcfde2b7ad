package spool

import (
	"math/bits"

	"bramble/pisensor/report"
)

// Run finds the first ticks from number from up to, but not with, number to
// that wait and whose era has its anchor: consecutive, of one era, at most most.
func (s *Spool) Run(from, to uint64, limit int) (first uint64, count int) {
	var anchor int64
	for k := range s.live {
		b := &s.live[k]
		if b.end() <= from || count == 0 && b.anchor.Load() == unanchored {
			continue
		}
		if count > 0 && (b.anchor.Load() != anchor || b.first != first+uint64(count)) {
			return first, count
		}
		for n := max(from, b.first); n < b.end(); n++ {
			i := int(n - b.first)
			switch {
			case n >= to || count == limit:
				return first, count
			case !b.isAcked(i):
				if count == 0 {
					first, anchor = n, b.anchor.Load()
				}
				count++
			case count > 0:
				return first, count
			}
		}
	}
	return first, count
}

// Waits reports whether any tick of the range is neither acknowledged nor dropped.
func (s *Spool) Waits(first uint64, count int) bool {
	end := first + uint64(count)
	for k := range s.live {
		b := &s.live[k]
		for n := max(first, b.first); n < min(end, b.end()); n++ {
			if !b.isAcked(int(n - b.first)) {
				return true
			}
		}
	}
	return false
}

// Fill lays count ticks from first, as Run found them, into an empty report:
// session, numbers, anchor, times and columns.
func (s *Spool) Fill(r *report.Report, first uint64, count int) {
	end := first + uint64(count)
	r.Session, r.First = s.head.session, first
	if count == 1 && end == s.Next() && s.grows { // the newest tick need not be decoded
		r.Anchor = s.live[len(s.live)-1].anchor.Load()
		r.Elapsed = append(r.Elapsed, s.code.elapsed)
		for m := s.now.mask; m != 0; m &= m - 1 {
			n := bits.TrailingZeros64(m)
			r.AddColumn(s.series[n])[0] = s.now.of[n]
		}
		return
	}
	s.each(r, first, end, func(r *report.Report, b *segment, _ int, d *decoder) {
		r.Anchor = b.anchor.Load()
		r.Elapsed = append(r.Elapsed, d.elapsed)
	})
	clear(s.columns[:])
	s.each(r, first, end, s.lay)
	clear(s.columns[:]) // the report's memory is its owner's
}

func (s *Spool) lay(r *report.Report, _ *segment, i int, d *decoder) {
	for m := d.values.mask; m != 0; m &= m - 1 {
		n := bits.TrailingZeros64(m)
		if s.columns[n] == nil {
			s.columns[n] = r.AddColumn(s.series[n])
		}
		s.columns[n][i] = d.values.of[n]
	}
}

// each decodes the ticks from first up to end, counted from 0.
func (s *Spool) each(r *report.Report, first, end uint64, visit func(r *report.Report, b *segment, i int, d *decoder)) {
	d := &s.reader
	for k := range s.live {
		b := &s.live[k]
		if b.end() <= first || b.first >= end {
			continue
		}
		d.open(b.data[:commitOf(b.commit.Load()).used])
		for n := b.first; n < min(b.end(), end) && d.next(); n++ {
			if n >= first {
				visit(r, b, int(n-first), d)
			}
		}
	}
}
