package storage_test

import (
	"bytes"
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

// A list of parts whose keys are damaged is refused: the engine would take it for an empty one and remove all parts.
func TestPartsListWithAForeignKeyIsDamage(t *testing.T) {
	dir := t.TempDir()
	s := storagetest.Open(t, dir, storage.Options{})
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), storagetest.AnHourAgo(), 1000))
	if err := errors.Join(s.Barrier(), s.Close()); err != nil {
		t.Fatal(err)
	}
	lists, err := filepath.Glob(filepath.Join(dir, "data", "small", "*", "parts.json"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("%v, %v", lists, err)
	}
	for _, key := range []string{"Small", "Big"} {
		text, err := os.ReadFile(lists[0])
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Replace(text, []byte(`"`+key+`"`), []byte(`"`+key[:len(key)-1]+`m"`), 1)
		if bytes.Equal(damaged, text) {
			t.Fatalf("no key %s in %s", key, text)
		}
		if err := os.WriteFile(lists[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := storage.Open(dir, storage.Options{}); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "parts.json") {
			t.Errorf("key %s: %v", key, err)
		}
		if err := os.WriteFile(lists[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := storagetest.Open(t, dir, storage.Options{})
	if n := storagetest.Number(t, again, "count_over_time(pi_soc_temperature_celsius[2h])", time.Now()); n != 1000 {
		t.Errorf("%v rows, want 1000", n)
	}
}
