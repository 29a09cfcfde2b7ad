package ingest

import (
	"encoding/json"
	"fmt"
	"slices"

	"bramble/collector/registry"
	"bramble/pisensor/report"
	"bramble/storage"
)

// placer makes the rows of journalled records once more, the same as the loop
// made when it decided them. It belongs to one goroutine, shares nothing with
// the loop, and knows neither rules nor live pages.
type placer struct {
	registry *registry.Registry
	boards   map[string]*board // with columns alone
	report   report.Report
}

func newPlacer(r *registry.Registry) *placer {
	return &placer{registry: r, boards: map[string]*board{}}
}

// rows appends the rows of a record. A board that has been removed since has none.
func (p *placer) rows(dst []storage.Row, record []byte) ([]storage.Row, error) {
	if len(record) == 0 {
		return dst, errRecord
	}
	switch body := record[1:]; record[0] {
	case recordReport, recordLimited:
		r, err := decodeReportRecord(body, record[0] == recordLimited)
		if err != nil {
			return dst, err
		}
		return p.reportRows(dst, &r)
	case recordOwn:
		var own ownRecord
		if err := json.Unmarshal(body, &own); err != nil {
			return dst, fmt.Errorf("%w: %w", errRecord, err)
		}
		return p.ownRows(dst, &own), nil
	case recordCheckpoint:
		return dst, nil
	}
	return dst, fmt.Errorf("%w: kind %d", errRecord, record[0])
}

func (p *placer) board(name string) (*board, bool) {
	known, ok := p.registry.Board(name)
	if !ok {
		return nil, false
	}
	b := p.boards[name]
	if b == nil {
		b = &board{name: name}
		p.boards[name] = b
	}
	b.refresh(known)
	return b, true
}

func (p *placer) reportRows(dst []storage.Row, record *reportRecord) ([]storage.Row, error) {
	b, ok := p.board(record.board)
	if !ok {
		return dst, nil
	}
	r := &p.report
	if err := r.Decode(record.report); err != nil {
		return dst, err
	}
	old, end := window(r, record.received, maxBehind)
	for i := old; i < end; i++ {
		at := r.At(i)
		v := version(b.registry, at)
		for k := range r.Columns {
			wire := r.Columns[k].Values[i]
			if wire == report.Missing || slices.Contains(record.refused, k) {
				continue
			}
			c := b.column(nil, r.Columns[k].Series, v)
			for o := range c.outputs {
				out := &c.outputs[o]
				dst = append(dst, storage.Row{Series: out.row, At: at, Value: out.value(c.definition, wire)})
			}
		}
	}
	return dst, nil
}

func (p *placer) ownRows(dst []storage.Row, own *ownRecord) []storage.Row {
	for _, o := range own.Boards {
		b, ok := p.board(o.Name)
		if !ok {
			continue
		}
		out := newOutput(nil, b.name, upSeries, nil, version(b.registry, own.At), -1)
		value := 0.0
		if o.Up {
			value = 1
		}
		dst = append(dst, storage.Row{Series: out.row, At: own.At, Value: value})
	}
	return dst
}
