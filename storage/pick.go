package storage

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

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
