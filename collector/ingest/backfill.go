package ingest

import (
	"fmt"
	"time"

	"bramble/pisensor/report"
	"bramble/storage"
)

// Backfill appends the rows of one past tick of a board, under the labels that are in force at its
// time, for the caller to store: those of its readings, and of the boot that info describes. It is
// for history that can be made again: journal, rules and live pages never see it. It must not be
// called once Run has begun.
func (in *Ingest) Backfill(rows []storage.Row, name string, at int64, t *report.Tick, booted time.Time, info []report.Attribute) ([]storage.Row, error) {
	known, ok := in.Registry.Board(name)
	if !ok {
		return rows, fmt.Errorf("backfill board %q: no such board", name)
	}
	b := in.board(name)
	in.presence.refresh(b, known)
	v := version(known, at)
	for _, r := range t.Readings {
		c := b.column(in.Engine, r.Series, v)
		for i := range c.outputs {
			o := &c.outputs[i]
			rows = append(rows, storage.Row{Series: o.row, At: at, Value: o.value(c.definition, r.Value)})
		}
	}
	b.boot.Anchor = booted.UnixMilli()
	b.boot.learn(info)
	for _, v := range in.presence.bootValues(b, at) {
		rows = append(rows, storage.Row{Series: v.output.row, At: at, Value: v.value})
	}
	return rows, nil
}
