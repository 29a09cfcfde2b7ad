package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// damage changes bytes all over a file.
func damage(t *testing.T, path string) (undo func()) {
	t.Helper()
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), sound...)
	for i := 0; i < len(bad); i += max(1, len(bad)/40) {
		bad[i] ^= 0xff
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(bad)
	return func() { write(sound) }
}

// Damage behind a part's metadata, which Open does not look at, is found, and the part is named.
func TestExamineNamesThePart(t *testing.T) {
	dir := t.TempDir()
	s := storagetest.Open(t, dir, storage.Options{Retention: aYear})
	for i, board := range []string{"b1", "b2", "b3"} {
		storagetest.Add(t, s, walk(storagetest.Temperature(board), day(100), time.Now(), uint64(i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := storage.Examine(t.Context(), dir, storage.Options{}); err != nil {
		t.Fatalf("a sound store: %v", err)
	}
	var files []string
	for _, pattern := range []string{"small/*/*/index.bin", "small/*/*/values.bin", "indexdb/*/*/index.bin", "indexdb/*/*/items.bin"} {
		found, err := filepath.Glob(filepath.Join(dir, "data", pattern))
		if err != nil || len(found) < 3 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found[0], found[len(found)-1])
	}
	for _, file := range files {
		undo := damage(t, file)
		err := storage.Examine(t.Context(), dir, storage.Options{})
		if !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), filepath.Dir(file)) {
			t.Errorf("%s: got %v", file, err)
		}
		undo()
		if _, err := os.Stat(filepath.Join(dir, "examine")); err == nil {
			t.Errorf("%s: something is left behind", file)
		}
	}
	s = storagetest.Open(t, dir, storage.Options{Retention: aYear})
	if n := storagetest.Number(t, s, `count(count_over_time(pi_soc_temperature_celsius[200d]))`, time.Now()); n != 3 {
		t.Errorf("%v series after all that", n)
	}
}
