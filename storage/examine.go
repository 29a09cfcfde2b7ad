package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/mergeset"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// examineDir is where single parts are opened, as links, in the store's directory.
const examineDir = "examine"

// Examine reads the store in dir as a whole and returns an error that wraps [ErrDamaged] and names the first part that
// the engine cannot read, or nil. It is for a process that begins after the engine has ended the last one: what [Open]
// looks at is a part's metadata alone. It takes about as long as a test restore, needs no disk space, and changes
// nothing. The store must not be open. The engine may still end the process at damage of a kind that is not known here.
func Examine(ctx context.Context, dir string, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return fmt.Errorf("examine store %s: %w", dir, err)
	}
	if err := checkFiles(dir); err != nil {
		return fmt.Errorf("examine store %s: %w", dir, err)
	}
	if err := engine.acquire(dir, o); err != nil {
		return fmt.Errorf("examine store %s: %w", dir, err)
	}
	defer engine.release()
	e := examination{data: filepath.Join(dir, "data"), scratch: filepath.Join(dir, examineDir)}
	defer os.RemoveAll(e.scratch)
	index := filepath.Join(e.data, "indexdb")
	if err := eachPartition(index, func(month string) error { return e.index(ctx, filepath.Join(index, month)) }); err != nil {
		return fmt.Errorf("examine store %s: %w", dir, err)
	}
	// The index is sound: rows can be looked for.
	if err := eachPartition(filepath.Join(e.data, "small"), func(month string) error { return e.rows(ctx, month) }); err != nil {
		return fmt.Errorf("examine store %s: %w", dir, err)
	}
	return nil
}

type examination struct{ data, scratch string }

// index reads every item of a month's index, part by part.
func (e *examination) index(ctx context.Context, month string) error {
	var parts []string
	if err := readParts(month, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := filepath.Join(e.scratch, "index")
		if err := link(month, to, []string{part}, []string{part}); err != nil {
			return err
		}
		if err := readItems(to); err != nil {
			return e.unreadable(ctx, filepath.Join(month, part), err)
		}
		if err := os.RemoveAll(e.scratch); err != nil {
			return err
		}
	}
	return nil
}

func readItems(dir string) (err error) {
	defer panicked(&err)
	table := mergeset.MustOpenTable(dir, diskFlushInterval, nil, 0, nil, new(atomic.Bool))
	var s mergeset.TableSearch
	s.Init(table, true)
	s.Seek(nil)
	for s.NextItem() {
	}
	err = s.Error()
	s.MustClose()
	table.MustClose()
	return err
}

// rows reads every row of a month, part by part, each beside the month's index.
func (e *examination) rows(ctx context.Context, month string) error {
	var parts struct{ Small, Big []string }
	if err := readParts(filepath.Join(e.data, "small", month), &parts); err != nil {
		return err
	}
	for size, names := range map[string][]string{"small": parts.Small, "big": parts.Big} {
		for _, part := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := e.part(ctx, month, size, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *examination) part(ctx context.Context, month, size, part string) error {
	var index []string
	from, to := filepath.Join(e.data, "indexdb", month), filepath.Join(e.scratch, "data")
	if err := readParts(from, &index); err != nil {
		return err
	}
	if err := link(from, filepath.Join(to, "indexdb", month), index, index); err != nil {
		return err
	}
	list := map[string][]string{"Small": {}, "Big": {}}
	list[map[string]string{"small": "Small", "big": "Big"}[size]] = []string{part}
	// The list is in the folder of small parts, whichever the part is.
	if err := link(filepath.Join(e.data, size, month), filepath.Join(to, size, month), []string{part}, nil); err != nil {
		return err
	}
	if err := writeParts(filepath.Join(to, "small", month), list); err != nil {
		return err
	}
	if err := readRows(ctx, e.scratch); err != nil {
		return e.unreadable(ctx, filepath.Join(e.data, size, month, part), err)
	}
	return os.RemoveAll(e.scratch)
}

func readRows(ctx context.Context, dir string) (err error) {
	defer panicked(&err)
	db := vm.MustOpenStorage(dir, vm.OpenOptions{})
	_, err = count(ctx, db)
	db.MustClose()
	return err
}

// maxReason bounds the engine's text about damage: it may show the whole block.
const maxReason = 300

// unreadable names a part, unless it is ctx that ended the reading.
func (e *examination) unreadable(ctx context.Context, part string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return damaged(part, fmt.Errorf("%.*s", maxReason, err.Error()))
}

// panicked turns the engine's panic into an error. Its open files stay open until the process ends.
func panicked(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%v", p)
	}
}

// link makes a folder of links to parts, with a list of parts unless that is nil.
func link(from, to string, parts []string, list any) error {
	for _, part := range parts {
		files, err := os.ReadDir(filepath.Join(from, part))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, part), 0o700); err != nil {
			return err
		}
		for _, f := range files {
			if err := os.Link(filepath.Join(from, part, f.Name()), filepath.Join(to, part, f.Name())); err != nil {
				return err
			}
		}
	}
	if list == nil {
		return nil
	}
	return writeParts(to, list)
}

func writeParts(dir string, list any) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "parts.json"), b, 0o600)
}

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
