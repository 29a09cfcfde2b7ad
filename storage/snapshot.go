package storage

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// Counts say how much a store holds: rows as they lie on disk, duplicates that were not merged yet included, and
// the series of the index.
type Counts struct {
	Rows, Series uint64
}

// File is one file of a snapshot.
type File struct {
	Name   string // relative to the store's directory, with slashes
	Source string // where its bytes are
	Size   int64
}

// Snapshot is a store at one instant. It costs a few links and holds the disk space of the parts that the store has
// merged away since, so release it soon. It is not safe for concurrent use.
type Snapshot struct {
	Counts
	Files []File

	store *Store
	name  string
}

// Snapshot holds on to the store as it is: all rows of every [Store.Add] that returned before are in it, synced to
// disk. Adds wait while it runs, as for a [Store.Barrier]. The caller copies the files and releases the snapshot.
func (s *Store) Snapshot() (_ *Snapshot, err error) {
	if err := s.gate.Enter(); err != nil {
		return nil, err
	}
	defer s.gate.Leave()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("snapshot store %s: %v", s.dir, p)
		}
	}()
	n, err := s.freeze()
	if err != nil {
		return nil, fmt.Errorf("snapshot store %s: %w", s.dir, err)
	}
	if err := n.read(); err != nil {
		n.Release()
		return nil, fmt.Errorf("snapshot store %s: %w", s.dir, err)
	}
	return n, nil
}

// freeze makes the links while nobody writes.
func (s *Store) freeze() (*Snapshot, error) {
	s.writers.Lock()
	defer s.writers.Unlock()
	added := s.fresh.added.Load()
	if err := s.flushToDisk(); err != nil {
		return nil, err
	}
	s.durable = added
	series, err := countSeries(s.db)
	if err != nil {
		return nil, err
	}
	return &Snapshot{store: s, name: s.db.MustCreateSnapshot(), Counts: Counts{Series: series}}, nil
}

// Release lets the store remove the files that only the snapshot held. Releasing twice, or after the store was closed, is
// harmless: the next [Open] removes the remains of a crash.
func (n *Snapshot) Release() {
	if n.name == "" || n.store.gate.Enter() != nil {
		return
	}
	defer n.store.gate.Leave()
	if err := n.store.db.DeleteSnapshot(n.name); err != nil {
		n.store.log.Warn("snapshot not removed", "store", n.store.dir, "snapshot", n.name, "err", err)
	}
	n.name = ""
}

// read lists the files and adds up the rows that the parts' metadata state. The folders of a snapshot are
// symbolic links into the store, and links are followed.
func (n *Snapshot) read() error {
	root := filepath.Join(n.store.dir, "snapshots", n.name)
	return n.walk(root, "")
}

func (n *Snapshot) walk(dir, name string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, inner := filepath.Join(dir, e.Name()), filepath.ToSlash(filepath.Join(name, e.Name()))
		info, err := os.Stat(source) // follows links
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := n.walk(source, inner); err != nil {
				return err
			}
			continue
		}
		if err := n.add(File{Name: inner, Source: source, Size: info.Size()}, info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

func (n *Snapshot) add(f File, mode fs.FileMode) error {
	if !mode.IsRegular() {
		return fmt.Errorf("%s is no regular file", f.Source)
	}
	n.Files = append(n.Files, f)
	isData := strings.HasPrefix(f.Name, "data/small/") || strings.HasPrefix(f.Name, "data/big/")
	if !isData || filepath.Base(f.Name) != "metadata.json" {
		return nil
	}
	rows, err := rowsOfPart(f.Source)
	n.Rows += rows
	return err
}

// rowsOfPart reads how many rows a part has from its metadata.
func rowsOfPart(metadata string) (uint64, error) {
	data, err := os.ReadFile(metadata)
	if err != nil {
		return 0, err
	}
	var part struct{ RowsCount uint64 }
	if err := json.Unmarshal(data, &part); err != nil {
		return 0, damaged(metadata, err)
	}
	return part.RowsCount, nil
}

// removeStaleSnapshots removes the snapshots of a process that was killed. Nobody but this package makes any.
func removeStaleSnapshots(db *vm.Storage) error {
	for _, name := range db.MustListSnapshots() {
		if err := db.DeleteSnapshot(name); err != nil {
			return err
		}
	}
	return nil
}

// noLimit is more series than an index can number; the engine adds one to it.
const noLimit = math.MaxInt32

// everything is all times that rows can have.
var everything = vm.TimeRange{MinTimestamp: 0, MaxTimestamp: math.MaxInt64}

// countSeries asks the index, one metric after the other.
func countSeries(db *vm.Storage) (n uint64, err error) {
	err = eachMetric(db, func(s *vm.Search, series int) error {
		n += uint64(series)
		return nil
	})
	return n, err
}

// eachMetric searches every row there is and calls f for each name of a metric, with how many series the index has
// of it. The engine keeps some tens of bytes for each series of a search; a search a metric bounds that.
func eachMetric(db *vm.Storage, f func(s *vm.Search, series int) error) error {
	names, err := db.SearchLabelValues(nil, "__name__", nil, everything, noLimit, noLimit, math.MaxUint64)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := oneMetric(db, name, f); err != nil {
			return fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return nil
}

func oneMetric(db *vm.Storage, name string, f func(*vm.Search, int) error) error {
	filters, err := compile([]vm.TagFilter{{Value: []byte(name)}}) // an empty key is the name
	if err != nil {
		return err
	}
	s := new(vm.Search)
	defer s.MustClose()
	series := s.Init(nil, db, []*vm.TagFilters{filters}, everything, noLimit, math.MaxUint64)
	if err := s.Error(); err != nil {
		return err
	}
	return f(s, series)
}
