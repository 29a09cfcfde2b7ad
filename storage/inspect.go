package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/mergeset"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// Limits of the engine's caches while it inspects, in bytes. Rows are read once and cached for nothing; what is read
// again and again are the index's blocks, which hold the names of the series.
const (
	inspectMemory      = 16 << 20
	inspectNames       = 1 << 20
	inspectIndexBlocks = 14 << 20
)

// ErrInProcess is returned by [Inspect] in a process that has had a store open.
var ErrInProcess = errors.New("inspect in a process of its own: deduplication is set once a process")

// Inspect opens the store in dir, decodes every block of every row, and counts: rows, which the parts' metadata of
// the snapshot must agree with, and the index's series. Deduplication is off and the retention at its maximum, so
// that opening changes no count. It does change files: inspect a copy.
//
// Call it in a process of its own, for one store or several, one after the other. The engine panics on some kinds of damage, also in goroutines where no caller can
// catch it: the process then ends, and that is the answer. log receives the engine's warnings.
func Inspect(ctx context.Context, dir string, log *slog.Logger) (c Counts, err error) {
	if err := checkFiles(dir); err != nil {
		return c, fmt.Errorf("inspect store %s: %w", dir, err)
	}
	if err := engine.startInspection(dir, log); err != nil {
		return c, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("inspect store %s: %v", dir, p)
		}
	}()
	db := vm.MustOpenStorage(dir, vm.OpenOptions{})
	if c, err = count(ctx, db); err != nil {
		return c, fmt.Errorf("inspect store %s: %w", dir, err)
	}
	db.MustClose()
	return c, nil
}

// startInspection sets the process up to count rather than to serve.
func (p *process) startInspection(dir string, log *slog.Logger) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inspecting {
		return nil
	}
	if p.started {
		return ErrInProcess
	}
	engineLog.use(log)
	if err := p.start(dir, inspectMemory); err != nil {
		return err
	}
	vm.SetTSIDCacheSize(inspectNames)
	vm.SetMetricNameCacheSize(inspectNames)
	mergeset.SetDataBlocksCacheSize(inspectIndexBlocks)
	vm.SetDedupInterval(0)
	p.started, p.inspecting = true, true
	return nil
}

// count reads every row.
func count(ctx context.Context, db *vm.Storage) (c Counts, err error) {
	var block vm.Block
	err = eachMetric(db, func(s *vm.Search, series int) error {
		c.Series += uint64(series)
		for s.NextMetricBlock() {
			if err := ctx.Err(); err != nil {
				return err
			}
			s.MetricBlockRef.BlockRef.MustReadBlock(&block)
			if err := block.UnmarshalData(); err != nil {
				return fmt.Errorf("decode a block of %s: %w", nameText(s.MetricBlockRef.MetricName), err)
			}
			c.Rows += uint64(block.RowsCount())
		}
		return s.Error()
	})
	return c, err
}

// nameText shows a series for a person.
func nameText(encoded []byte) string {
	var name vm.MetricName
	if err := name.Unmarshal(encoded); err != nil {
		return "a series without a readable name"
	}
	return name.String()
}
