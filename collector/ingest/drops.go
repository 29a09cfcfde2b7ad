package ingest

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/pisensor/report"
)

// Reasons why a whole report is dropped.
const (
	undecodable   = "undecodable"
	oversized     = "oversized"
	replayed      = "replayed"       // taken before: acknowledged once more, not stored again
	foreign       = "foreign"        // of a board that is not registered
	outsideWindow = "outside_window" // no tick has a time that is accepted
	overAllowance = "over_allowance" // too many of the board's readings wait already; not acknowledged
)

// Reasons why readings are dropped within a report that was decoded.
const (
	unknownMetric = "unknown_metric" // of a sensor that is newer than the collector
	implausible   = "implausible"    // outside the range of its metric
	tooOld        = "too_old"
	tooFarAhead   = "too_far_ahead" // not acknowledged: the sensor sends it again when its time has come
	overLimit     = "series_limit"
)

// missingTicks stands beside the reasons where a board's are listed.
const missingTicks = "missing_ticks"

var (
	reportReasons  = []string{undecodable, oversized, replayed, foreign, outsideWindow, overAllowance}
	readingReasons = []string{unknownMetric, implausible, tooOld, tooFarAhead, overLimit}

	rejectedReports  = prometheus.NewDesc("bramble_reports_rejected_total", "Reports dropped, by reason.", []string{"reason"}, nil)
	rejectedReadings = prometheus.NewDesc("bramble_readings_rejected_total", "Readings dropped within accepted reports, by reason.", []string{"reason"}, nil)
	boardReports     = prometheus.NewDesc("bramble_board_reports_rejected_total", "Reports of a board that were dropped, by reason.", []string{"board", "reason"}, nil)
	boardReadings    = prometheus.NewDesc("bramble_board_readings_rejected_total", "Readings of a board that were dropped, by reason.", []string{"board", "reason"}, nil)

	missing      = prometheus.NewDesc("bramble_ticks_missing_total", "Ticks of ended sessions of sensors that never arrived: a reboot, a crash or a full spool lost them.", nil, nil)
	boardMissing = prometheus.NewDesc("bramble_board_ticks_missing_total", "Ticks of a board's ended sessions that never arrived.", []string{"board"}, nil)
	unaccounted  = prometheus.NewDesc("bramble_board_unaccounted_seconds_total", "Time between a board's last tick before its sensor ended without a word and its next boot or first tick after it: what was read meanwhile is lost, how much nobody can say.", []string{"board"}, nil)
)

// drops counts reports, readings and ticks that were not taken since the start. A board is listed
// once something of it was dropped, until it leaves the registry. It is safe for concurrent use.
type drops struct {
	mu     sync.Mutex
	total  tally
	boards map[string]*tally
}

// tally counts by reason. Taken twice is no loss and counts in the total alone.
type tally struct {
	reports, readings map[string]uint64
	ticks             uint64        // of sessions that have ended, that never arrived
	unaccounted       time.Duration // see lost
}

func (t *tally) add(reports bool, reason string, n uint64) {
	of := &t.readings
	if reports {
		of = &t.reports
	}
	if *of == nil {
		*of = map[string]uint64{}
	}
	(*of)[reason] += n
}

// report counts a whole report; board is "" where no registered one sent it.
func (d *drops) report(board, reason string) { d.count(board, true, reason, 1) }

// readings counts readings of a board.
func (d *drops) readings(board, reason string, n int) {
	if n > 0 {
		d.count(board, false, reason, uint64(n))
	}
}

func (d *drops) count(board string, reports bool, reason string, n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total.add(reports, reason, n)
	if board != "" && reason != replayed {
		d.board(board).add(reports, reason, n)
	}
}

func (d *drops) forget(board string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.boards, board)
}

// lost counts the losses of an ended session of a board: ticks that are known to have been sampled,
// and time in which nobody can know how many were.
func (d *drops) lost(board string, ticks uint64, unaccounted time.Duration) {
	if ticks == 0 && unaccounted <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range []*tally{&d.total, d.board(board)} {
		t.ticks += ticks
		t.unaccounted += max(unaccounted, 0)
	}
}

// board returns a board's tally. The caller holds mu.
func (d *drops) board(name string) *tally {
	if d.boards == nil {
		d.boards = map[string]*tally{}
	}
	if d.boards[name] == nil {
		d.boards[name] = &tally{}
	}
	return d.boards[name]
}

// of returns a board's drops by reason; nil where there are none. No reason counts both reports and
// readings.
func (d *drops) of(board string) map[string]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.boards[board]
	if t == nil {
		return nil
	}
	all := map[string]uint64{}
	maps.Copy(all, t.reports)
	maps.Copy(all, t.readings)
	if t.ticks > 0 {
		all[missingTicks] = t.ticks
	}
	return all
}

// Describe implements prometheus.Collector.
func (d *drops) Describe(to chan<- *prometheus.Desc) {
	for _, x := range []*prometheus.Desc{rejectedReports, rejectedReadings, boardReports, boardReadings, missing, boardMissing, unaccounted} {
		to <- x
	}
}

// Collect implements prometheus.Collector.
func (d *drops) Collect(to chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	put := func(desc *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, n, labels...)
	}
	put(missing, float64(d.total.ticks))
	for _, reason := range reportReasons {
		put(rejectedReports, float64(d.total.reports[reason]), reason)
	}
	for _, reason := range readingReasons {
		put(rejectedReadings, float64(d.total.readings[reason]), reason)
	}
	for board, t := range d.boards {
		for reason, n := range t.reports {
			put(boardReports, float64(n), board, reason)
		}
		for reason, n := range t.readings {
			put(boardReadings, float64(n), board, reason)
		}
		if t.ticks > 0 || t.unaccounted > 0 {
			put(boardMissing, float64(t.ticks), board)
			put(unaccounted, t.unaccounted.Seconds(), board)
		}
	}
}

// Rejected returns how many reports were dropped since the start, by reason.
func (in *Ingest) Rejected() map[string]uint64 {
	in.drops.mu.Lock()
	defer in.drops.mu.Unlock()
	counts := map[string]uint64{}
	for _, reason := range reportReasons {
		if reason != replayed { // which costs nobody anything
			counts[reason] = in.drops.total.reports[reason]
		}
	}
	return counts
}

// Dropped returns how much of a board was dropped since the start, by reason:
// reports that could not be decoded, were too large or outside the window of
// times, readings of the others, and ticks of ended sessions that never arrived.
// nil means nothing.
func (in *Ingest) Dropped(board string) map[string]uint64 { return in.drops.of(board) }

// countDropped counts the readings of a decoded report that are not taken: ticks before old and
// from end on lie outside the window.
func (in *Ingest) countDropped(board string, r *report.Report, old, end int) {
	d := &in.drops
	d.readings(board, unknownMetric, r.Unknown)
	d.readings(board, implausible, r.Implausible)
	if old > 0 || end < r.Ticks() {
		before, behind := 0, 0
		for k := range r.Columns {
			before += present(r.Columns[k].Values[:old])
			behind += present(r.Columns[k].Values[end:])
		}
		d.readings(board, tooOld, before)
		d.readings(board, tooFarAhead, behind)
	}
}

// countRefused counts the readings of the series that are over the board's limit.
func (in *Ingest) countRefused(board string, r *report.Report, old, end int) {
	n := 0
	for _, k := range in.tick.refused {
		n += present(r.Columns[k].Values[old:end])
	}
	in.drops.readings(board, overLimit, n)
}

// present counts the readings among a column's values.
func present(values []int64) (n int) {
	for _, v := range values {
		if v != report.Missing {
			n++
		}
	}
	return n
}
