package storage

import (
	"context"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// scanned gets the rows of one series, deduplicated as queries see them, in ascending order. It must not keep the slices.
type scanned func(name *vm.MetricName, at []int64, values []float64) error

// metricNames returns the names of the metrics that may have rows from one time to another, both included.
func (s *Store) metricNames(times vm.TimeRange) ([]string, error) {
	if err := s.gate.Enter(); err != nil {
		return nil, err
	}
	defer s.gate.Leave()
	s.makeVisible()
	return s.db.SearchLabelValues(nil, "__name__", nil, times, noLimit, noLimit, math.MaxUint64)
}

// scan reads all rows of a metric within times, of those series that have the labels of match, one series after the
// other, in the caller's goroutine. Memory holds a few references to blocks a series of the metric, and the rows of one
// series. A series has all its rows in one call of f, also where the engine keeps it under several numbers, as it may
// do in different months.
func (s *Store) scan(ctx context.Context, metric string, match []Label, times vm.TimeRange, f scanned) error {
	return s.blocks(ctx, metric, match, times, func(blocks []seriesBlocks) error {
		for i := range blocks {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := blocks[i].read(times, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// blocks hands out where the rows of a metric are; f must not keep that.
func (s *Store) blocks(ctx context.Context, metric string, match []Label, times vm.TimeRange, f func([]seriesBlocks) error) error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	s.makeVisible()
	wanted := []vm.TagFilter{{Value: []byte(metric)}} // an empty key is the name
	for _, l := range match {
		wanted = append(wanted, vm.TagFilter{Key: []byte(l.Name), Value: []byte(l.Value)})
	}
	filters, err := s.compile(wanted)
	if err != nil {
		return err
	}
	search := new(vm.Search)
	defer search.MustClose()
	search.Init(nil, s.db, []*vm.TagFilters{filters}, times, noLimit, math.MaxUint64)
	found, err := blocksOf(ctx, search)
	if err == nil {
		err = f(found)
	}
	if err != nil {
		return fmt.Errorf("scan %s: %w", metric, err)
	}
	return nil
}

// seriesBlocks is where the rows of one series are.
type seriesBlocks struct {
	name string // in the engine's encoding
	refs []vm.BlockRef
}

func blocksOf(ctx context.Context, s *vm.Search) ([]seriesBlocks, error) {
	var all []seriesBlocks
	index := map[string]int{}
	for s.NextMetricBlock() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		i, known := index[string(s.MetricBlockRef.MetricName)]
		if !known {
			i = len(all)
			name := string(s.MetricBlockRef.MetricName)
			index[name] = i
			all = append(all, seriesBlocks{name: name})
		}
		all[i].refs = append(all[i].refs, *s.MetricBlockRef.BlockRef)
	}
	return all, s.Error()
}

// rowBuffers are the memory that each series uses again.
type rowBuffers struct {
	block  vm.Block
	at     []int64
	values []float64
}

var rowBufferPool = sync.Pool{New: func() any { return new(rowBuffers) }}

func (b *seriesBlocks) read(times vm.TimeRange, f scanned) error {
	var name vm.MetricName
	if err := name.UnmarshalString(b.name); err != nil {
		return fmt.Errorf("decode the name of a series: %w", err)
	}
	buf := rowBufferPool.Get().(*rowBuffers)
	defer rowBufferPool.Put(buf)
	at, values := buf.at[:0], buf.values[:0]
	for i := range b.refs {
		b.refs[i].MustReadBlock(&buf.block)
		if err := buf.block.UnmarshalData(); err != nil {
			return fmt.Errorf("decode a block of %s: %w", name.String(), err)
		}
		at, values = buf.block.AppendRowsWithTimeRangeFilter(at, values, times)
	}
	buf.at, buf.values = at, values
	if len(at) == 0 {
		return nil
	}
	if rows := (byTime{at, values}); !sort.IsSorted(rows) {
		sort.Stable(rows)
	}
	at, values = vm.DeduplicateSamples(at, values, dedupInterval.Milliseconds())
	return f(&name, at, values)
}

// byTime sorts the rows of blocks that overlap: those of parts that the engine has not merged yet.
type byTime struct {
	at     []int64
	values []float64
}

func (r byTime) Len() int           { return len(r.at) }
func (r byTime) Less(i, j int) bool { return r.at[i] < r.at[j] }
func (r byTime) Swap(i, j int) {
	r.at[i], r.at[j] = r.at[j], r.at[i]
	r.values[i], r.values[j] = r.values[j], r.values[i]
}

// between is the times after one instant and up to another.
func between(from, to time.Time) vm.TimeRange {
	return vm.TimeRange{MinTimestamp: from.UnixMilli() + 1, MaxTimestamp: to.UnixMilli()}
}
