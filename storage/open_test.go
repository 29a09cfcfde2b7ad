package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/storagetest"
)

func TestAFullDiskRefusesRowsAndKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	now := storagetest.AnHourAgo()
	s := storagetest.Open(t, dir, storage.Options{})
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), now, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	s = storagetest.Open(t, dir, storage.Options{MinFreeBytes: math.MaxInt64, Registerer: registry})
	if err := s.Add(storagetest.Rows(storagetest.Temperature("b2"), now, 1)); !errors.Is(err, storage.ErrReadOnly) {
		t.Fatalf("got %v", err)
	}
	if got := storagetest.Number(t, s, `count(pi_soc_temperature_celsius)`, now); got != 1 {
		t.Fatalf("%v series, want the old one alone", got)
	}
	if err := s.Barrier(); err != nil {
		t.Fatal(err)
	}
	if gather(t, registry)["bramble_storage_read_only"] != 1 {
		t.Error("read-only is not told")
	}
}

func TestASecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := storagetest.Open(t, dir, storage.Options{})
	_, err := storage.Open(dir, storage.Options{})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "already open") {
		t.Fatalf("got %v", err)
	}
	now := storagetest.AnHourAgo()
	storagetest.Add(t, first, storagetest.Rows(storagetest.Temperature("b1"), now, 1))
	if got := storagetest.Number(t, first, `pi_soc_temperature_celsius`, now); got != 40 {
		t.Fatalf("the first store answers %v after the refusal", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	storagetest.Open(t, dir, storage.Options{})
}

func TestDamageAtOpenIsAnErrorThatNamesTheFile(t *testing.T) {
	truncate := func(path string) error { return os.Truncate(path, 1) }
	for _, c := range []struct {
		file   string // the first match is damaged
		damage func(string) error
	}{
		{"data/small/*/parts.json", truncate},
		{"data/indexdb/*/parts.json", truncate},
		{"data/small/*/*/metadata.json", os.Remove},
		{"data/small/*/*/metaindex.bin", truncate},
		{"data/small/*/*/values.bin", os.Remove},
		{"data/indexdb/*/*/items.bin", os.Remove},
		{"data/indexdb/*/*/metadata.json", truncate},
		{"data/indexdb/*/*/metaindex.bin", os.Remove},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir := t.TempDir()
			s := storagetest.Open(t, dir, storage.Options{})
			storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), storagetest.AnHourAgo(), 100))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := match(t, dir, c.file)
			if err := c.damage(path); err != nil {
				t.Fatal(err)
			}
			_, err := storage.Open(dir, storage.Options{})
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want an error that names %s", err, path)
			}
		})
	}
}

// match returns the first file like pattern that is not part of a snapshot.
func match(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.Contains(f, "snapshots") {
			return f
		}
	}
	t.Fatalf("no file like %s", pattern)
	return ""
}

func TestOpenRefusesWhatIsNoDirectoryAndNoOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Open(file, storage.Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file: %v", err)
	}
	for _, o := range []storage.Options{{Retention: time.Hour}, {MinFreeBytes: -1}, {MemoryBytes: -1}} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := storage.Open(dir, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v left a directory: %v", o, err)
		}
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, queryErr := s.Query(context.Background(), "vector(1)", time.Now())
	for what, err := range map[string]error{
		"add": s.Add(storagetest.Rows(storagetest.Temperature("b1"), time.Now(), 1)), "barrier": s.Barrier(), "query": queryErr,
	} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
