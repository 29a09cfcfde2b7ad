package storage

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/querytracer"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage/metricnamestats"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage/metricsmetadata"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/vmselectapi"
)

// maxNames bounds the label names and values of one answer (VictoriaMetrics' -search.maxTagKeys).
const maxNames = 100_000

// errUnsupported answers the calls that this package refuses to serve: changes, the cluster protocol, Graphite, and
// the calls that carry no filters and so cannot say which store they mean.
var errUnsupported = errors.New("not supported by this store")

// selectAPI connects the engine's query layer to the stores of the process. It implements vmselectapi.API.
type selectAPI struct{}

// search is a query in the engine's terms.
type search struct {
	store     *Store
	filters   []*vm.TagFilters
	times     vm.TimeRange
	maxSeries int
}

func newSearch(sq *vm.SearchQuery) (*search, error) {
	s, alternatives, err := stores.pick(sq.TagFilterss)
	if err != nil {
		return nil, err
	}
	q := &search{store: s, times: sq.GetTimeRange(), maxSeries: sq.MaxMetrics}
	if q.maxSeries <= 0 {
		q.maxSeries = engine.maxSeries
	}
	for _, filters := range alternatives {
		if len(filters) == 0 { // this alternative matches every series
			q.filters = nil
			return q, nil
		}
		compiled, err := s.compile(filters)
		if err != nil {
			return nil, err
		}
		q.filters = append(q.filters, compiled)
	}
	return q, nil
}

func compile(filters []vm.TagFilter) (*vm.TagFilters, error) {
	compiled := vm.NewTagFilters()
	for i := range filters {
		f := &filters[i]
		if string(f.Key) == "__graphite__" {
			return nil, fmt.Errorf("graphite selector %s: %w", f.Value, errUnsupported)
		}
		if err := compiled.Add(f.Key, f.Value, f.IsNegative, f.IsRegexp); err != nil {
			return nil, fmt.Errorf("parse label filter %s: %w", f, err)
		}
	}
	return compiled, nil
}

// indexedLabel is a label that no series has, and indexed the number of the flush that made the newest series visible.
const indexedLabel = "__bramble_indexed__"

// compile adds a filter that every series passes. The engine keeps which series filters have found, and looks again only
// up to ten seconds after it has indexed new ones in the background. The filter differs from then on, so that what is kept
// is not found.
func (s *Store) compile(filters []vm.TagFilter) (*vm.TagFilters, error) {
	compiled, err := compile(filters)
	if err != nil {
		return nil, err
	}
	return compiled, compiled.Add([]byte(indexedLabel), strconv.AppendUint(nil, s.fresh.indexed.Load(), 10), true, false)
}

// named returns the filters for calls that need at least one: every series has a name.
func (q *search) named() ([]*vm.TagFilters, error) {
	if q.filters != nil {
		return q.filters, nil
	}
	all, err := q.store.compile([]vm.TagFilter{{Value: []byte(".+"), IsRegexp: true}})
	return []*vm.TagFilters{all}, err
}

var searches = sync.Pool{New: func() any { return new(vm.Search) }}

// getSearch starts a search. The caller is inside the store's gate, so the store stays open until putSearch.
func getSearch(qt *querytracer.Tracer, sq *vm.SearchQuery, deadline uint64) (*vm.Search, int, error) {
	q, err := newSearch(sq)
	if err != nil {
		return nil, 0, err
	}
	filters, err := q.named()
	if err != nil {
		return nil, 0, err
	}
	sr := searches.Get().(*vm.Search)
	return sr, sr.Init(qt, q.store.db, filters, q.times, q.maxSeries, deadline), nil
}

func putSearch(sr *vm.Search) {
	sr.MustClose()
	searches.Put(sr)
}

func (selectAPI) SearchMetricNames(qt *querytracer.Tracer, sq *vm.SearchQuery, deadline uint64) ([]string, error) {
	q, err := newSearch(sq)
	if err != nil {
		return nil, err
	}
	filters, err := q.named()
	if err != nil {
		return nil, err
	}
	return q.store.db.SearchMetricNames(qt, filters, q.times, q.maxSeries, deadline)
}

func (selectAPI) LabelNames(qt *querytracer.Tracer, sq *vm.SearchQuery, limit int, deadline uint64) ([]string, error) {
	q, err := newSearch(sq)
	if err != nil {
		return nil, err
	}
	return q.store.db.SearchLabelNames(qt, q.filters, q.times, atMost(limit), q.maxSeries, deadline)
}

func (selectAPI) LabelValues(qt *querytracer.Tracer, sq *vm.SearchQuery, name string, limit int, deadline uint64) ([]string, error) {
	q, err := newSearch(sq)
	if err != nil {
		return nil, err
	}
	return q.store.db.SearchLabelValues(qt, name, q.filters, q.times, atMost(limit), q.maxSeries, deadline)
}

func atMost(limit int) int {
	if limit <= 0 {
		return maxNames
	}
	return min(limit, maxNames)
}

func (selectAPI) TSDBStatus(qt *querytracer.Tracer, sq *vm.SearchQuery, focus string, topN int, deadline uint64) (*vm.TSDBStatus, error) {
	q, err := newSearch(sq)
	if err != nil {
		return nil, err
	}
	day := uint64(sq.MinTimestamp) / (24 * 3600 * 1000)
	return q.store.db.GetTSDBStatus(qt, q.filters, day, focus, topN, q.maxSeries, deadline)
}

// GetMetadataRecords returns none: types and help texts are not stored.
func (selectAPI) GetMetadataRecords(*querytracer.Tracer, *vm.TenantToken, int, string, uint64) ([]*metricsmetadata.Row, error) {
	return nil, nil
}

func (selectAPI) Tenants(*querytracer.Tracer, vm.TimeRange, uint64) ([]string, error) {
	return nil, nil
}

func (selectAPI) InitSearch(*querytracer.Tracer, *vm.SearchQuery, uint64) (vmselectapi.BlockIterator, error) {
	return nil, errUnsupported
}

func (selectAPI) TagValueSuffixes(*querytracer.Tracer, uint32, uint32, vm.TimeRange, string, string, byte, int, uint64) ([]string, error) {
	return nil, errUnsupported
}

func (selectAPI) SeriesCount(*querytracer.Tracer, uint32, uint32, uint64) (uint64, error) {
	return 0, errUnsupported
}

func (selectAPI) DeleteSeries(*querytracer.Tracer, *vm.SearchQuery, uint64) (int, error) {
	return 0, errUnsupported
}

func (selectAPI) RegisterMetricNames(*querytracer.Tracer, []vm.MetricRow, uint64) error {
	return errUnsupported
}

func (selectAPI) GetMetricNamesUsageStats(*querytracer.Tracer, *vm.TenantToken, int, int, string, uint64) (metricnamestats.StatsResult, error) {
	return metricnamestats.StatsResult{}, errUnsupported
}

func (selectAPI) ResetMetricNamesUsageStats(*querytracer.Tracer, uint64) error {
	return errUnsupported
}

// pickLabel is a filter that every query carries and no series has: its value names the store to ask. The
// engine's query layer knows one storage a process; this is how it serves several. It also keeps them apart
// in every cache, since filters are part of the keys.
const pickLabel = "__bramble_store__"

var errNoStore = errors.New("query names no open store")

// stores are the open stores of the process by their id. Ids are never used again.
var stores = &directory{byID: map[string]*Store{}}

type directory struct {
	mu   sync.RWMutex
	byID map[string]*Store
	last uint64
}

func (d *directory) add(s *Store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	s.id = strconv.FormatUint(d.last, 10)
	d.byID[s.id] = s
}

func (d *directory) remove(s *Store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byID, s.id)
}

// pick returns the store that filters (alternatives of conjunctions) name and the filters without its name.
func (d *directory) pick(filters [][]vm.TagFilter) (*Store, [][]vm.TagFilter, error) {
	id := ""
	rest := make([][]vm.TagFilter, len(filters))
	for i, all := range filters {
		picked, others, err := split(all)
		if err != nil {
			return nil, nil, err
		}
		if id != "" && picked != id {
			return nil, nil, fmt.Errorf("label %s is reserved", pickLabel)
		}
		id, rest[i] = picked, others
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.byID[id]
	if !ok {
		return nil, nil, errNoStore
	}
	return s, rest, nil
}

// split takes the store's name out of filters. A second, different one can only come from a user's query.
func split(filters []vm.TagFilter) (id string, others []vm.TagFilter, err error) {
	others = make([]vm.TagFilter, 0, len(filters))
	for _, f := range filters {
		if string(f.Key) != pickLabel {
			others = append(others, f)
			continue
		}
		value := string(f.Value)
		if f.IsNegative || f.IsRegexp || id != "" && value != id {
			return "", nil, fmt.Errorf("label %s is reserved", pickLabel)
		}
		id = value
	}
	if id == "" {
		return "", nil, errNoStore
	}
	return id, others, nil
}

// picker returns the filter that picks s.
func (s *Store) picker() [][]vm.TagFilter {
	return [][]vm.TagFilter{{{Key: []byte(pickLabel), Value: []byte(s.id)}}}
}
