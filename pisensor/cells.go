package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"bramble/pisensor/report"
)

// place returns when a row was taken since the first one, in whole
// milliseconds of its own: rows closer together are set one apart.
func (p *recordingParser) place(at time.Duration) (time.Duration, error) {
	n := len(p.rows)
	if n == 0 {
		p.start, p.last = at, at
	}
	if at < p.last {
		return 0, errors.New("the time is earlier than in the row before")
	}
	if p.last = at; at-p.start > longest {
		return 0, fmt.Errorf("the time is more than %d years behind the first row", int(longest.Hours()/24/365))
	}
	since := (at - p.start).Truncate(time.Millisecond)
	if n > 0 {
		since = max(since, p.rows[n-1].At+time.Millisecond)
	}
	return since, nil
}

// readings turns a row's cells into readings. An empty cell has none.
func (p *recordingParser) readings(cells []string) ([]report.Reading, error) {
	var found []report.Reading
	for i, c := range p.columns {
		cell := strings.TrimSpace(cells[i])
		if c.metric == 0 || cell == "" {
			continue
		}
		v, err := c.value(cell)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", p.names[i], err)
		}
		found = append(found, report.Reading{Series: report.Series{Metric: c.metric}, Value: v})
	}
	return found, nil
}

func (c column) value(cell string) (int64, error) {
	f, err := parseNumber(cell)
	if err != nil {
		return 0, err
	}
	v := math.Round(f * c.scale)
	if d := report.Define(c.metric); v < float64(d.Min) || v > float64(d.Max) {
		return 0, fmt.Errorf("%q is beyond what a board can be", cell)
	}
	return int64(v), nil
}

func parseNumber(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return f, nil
}

// parseSeconds reads a time in seconds from any zero.
func parseSeconds(s string) (time.Duration, error) {
	f, err := parseNumber(s)
	if err != nil {
		return 0, err
	}
	if math.Abs(f) > longest.Seconds() {
		return 0, fmt.Errorf("%q seconds is beyond any recording", s)
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond, nil
}

// dateTimes are the ways to write a time that are understood; one without a
// zone counts as UTC, since only the spacing matters.
var dateTimes = []string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"}

// parseDateTime reads a date and time as the time since 2000, which keeps it
// within a Duration for 292 years.
func parseDateTime(s string) (time.Duration, error) {
	for _, layout := range dateTimes {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), nil
		}
	}
	return 0, fmt.Errorf("%q is not a date and time like 2006-01-02 15:04:05", s)
}
