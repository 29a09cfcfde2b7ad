package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// recording holds the readings of a board from the past.
type recording struct {
	rows    []sensor.Row
	ignored []string // columns that mean nothing here
}

func (r *recording) readings() (n int) {
	for _, row := range r.rows {
		n += len(row.Readings)
	}
	return n
}

// column says how a recording's column becomes a reading: its number times
// scale is the metric's wire value.
type column struct {
	metric report.Metric
	scale  float64
}

// columns are the known ones, by name.
var columns = map[string]column{
	"temp_c":        {report.SOCTemperature, 1e3},
	"temp":          {report.SOCTemperature, 1e3},
	"requested_mhz": {report.ClockRequested, 1e3},
	"firmware_mhz":  {report.ClockMeasured, 1},
	"load1":         {report.Load1, 100},
	"vcore_v":       {report.CoreVolts, 1e4},
}

// timeColumns are the ones that say when a row was taken.
var timeColumns = map[string]func(string) (time.Duration, error){"t_s": parseSeconds, "datetime": parseDateTime}

// longest is the longest recording, far below the limit of a report's times.
const longest = 100 * 365 * 24 * time.Hour

// parseRecording reads comma-separated values with a header line. An empty
// cell is a reading that was not taken. Its error names the line.
func parseRecording(b []byte) (recording, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if len(bytes.TrimSpace(b)) == 0 {
		return recording{}, errors.New("line 1: the file is empty")
	}
	if line, ok := binaryLine(b); ok {
		return recording{}, fmt.Errorf("line %d: not text, is this a CSV file?", line)
	}
	p := recordingParser{csv: csv.NewReader(bytes.NewReader(b)), size: int64(len(b)), cut: b[len(b)-1] != '\n'}
	p.csv.ReuseRecord = true
	p.csv.FieldsPerRecord = -1
	if err := p.header(); err != nil {
		return recording{}, err
	}
	for {
		err := p.row()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return recording{}, err
		}
	}
	if len(p.rows) == 0 {
		return recording{}, fmt.Errorf("line %d: no rows behind the header", p.line)
	}
	return p.recording, nil
}

// binaryLine finds the first line with a byte that text cannot have: NUL or invalid UTF-8.
func binaryLine(b []byte) (int, bool) {
	number := 0
	for line := range bytes.Lines(b) {
		number++
		if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
			return number, true
		}
	}
	return 0, false
}

type recordingParser struct {
	recording
	csv     *csv.Reader
	size    int64
	cut     bool // the last line does not end with a newline
	line    int
	names   []string
	columns []column // by position; metric 0 = ignored or the time
	when    int      // position of the time
	parse   func(string) (time.Duration, error)
	start   time.Duration // of the first row
	last    time.Duration // of the row before
}

func (p *recordingParser) next() ([]string, error) {
	record, err := p.csv.Read()
	var wrong *csv.ParseError
	switch {
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("line %d: %w", wrong.Line, wrong.Err)
	case err != nil:
		return nil, err
	}
	p.line, _ = p.csv.FieldPos(0)
	return record, nil
}

func (p *recordingParser) header() error {
	names, err := p.next()
	if err != nil {
		return err
	}
	p.columns, p.when = make([]column, len(names)), -1
	for i, name := range names {
		name = strings.TrimSpace(name)
		p.names = append(p.names, name)
		if err := p.name(i, name); err != nil {
			return fmt.Errorf("line 1: %w", err)
		}
	}
	if p.when < 0 {
		return errors.New("line 1: no column t_s or datetime")
	}
	for _, c := range p.columns {
		if c.metric != 0 {
			return nil
		}
	}
	return errors.New("line 1: no column with readings: want temp_c, requested_mhz, firmware_mhz, load1 or vcore_v")
}

func (p *recordingParser) name(i int, name string) error {
	if parse, ok := timeColumns[name]; ok {
		if p.when >= 0 {
			return fmt.Errorf("two columns of time, %s and %s", p.names[p.when], name)
		}
		p.when, p.parse = i, parse
		return nil
	}
	c, ok := columns[name]
	if !ok {
		p.ignored = append(p.ignored, strconv.Quote(name))
		return nil
	}
	for j, other := range p.columns[:i] {
		if other.metric == c.metric {
			return fmt.Errorf("columns %s and %s say the same", p.names[j], name)
		}
	}
	p.columns[i] = c
	return nil
}

func (p *recordingParser) row() error {
	cells, err := p.next()
	if err != nil {
		return err
	}
	if len(cells) != len(p.names) {
		if p.cut && p.csv.InputOffset() == p.size {
			return fmt.Errorf("line %d: cut off: %d of %d columns", p.line, len(cells), len(p.names))
		}
		return fmt.Errorf("line %d: %d columns, the header has %d", p.line, len(cells), len(p.names))
	}
	at, err := p.parse(strings.TrimSpace(cells[p.when]))
	if err != nil {
		return fmt.Errorf("line %d, column %s: %w", p.line, p.names[p.when], err)
	}
	var row sensor.Row
	if row.At, err = p.place(at); err != nil {
		return fmt.Errorf("line %d, column %s: %w", p.line, p.names[p.when], err)
	}
	if row.Readings, err = p.readings(cells); err != nil {
		return fmt.Errorf("line %d, %w", p.line, err)
	}
	p.rows = append(p.rows, row)
	return nil
}
