package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// inspectEnv makes the test binary count a store and end.
const inspectEnv = "BRAMBLE_STORAGE_INSPECT"

// inspect counts a store in a process of its own.
func inspect(t testing.TB, dir string) (storage.Counts, error) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), inspectEnv+"="+dir)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return storage.Counts{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	var counts storage.Counts
	if _, err := fmt.Sscan(out.String(), &counts.Rows, &counts.Series); err != nil {
		t.Fatal(err)
	}
	return counts, nil
}

func inspectMain(dir string) int {
	c, err := storage.Inspect(context.Background(), dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(c.Rows, c.Series)
	return 0
}

// clone copies a snapshot's files.
func clone(t testing.TB, n *storage.Snapshot) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range n.Files {
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		data, err := os.ReadFile(f.Source)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o700)
		}
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != f.Size {
			t.Errorf("%s has %d bytes, the snapshot says %d", f.Name, len(data), f.Size)
		}
	}
	return dir
}

func TestACopiedSnapshotHoldsWhatWasAddedBeforeAndNothingElse(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	now := storagetest.AnHourAgo()
	const boards, each = 300, 40
	for b := range boards {
		series := storagetest.Temperature(fmt.Sprintf("b%d", b))
		storagetest.Add(t, s, storagetest.Rows(series, now, each))
		storagetest.Add(t, s, storagetest.Rows(series, now.Add(-40*24*time.Hour), each)) // another month
	}
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b0"), now, each)) // delivered twice
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("later"), now, 7))
	if err := s.Barrier(); err != nil {
		t.Fatal(err)
	}
	dir := clone(t, n)
	got, err := inspect(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got != n.Counts {
		t.Errorf("the copy holds %+v, the snapshot says %+v", got, n.Counts)
	}
	if least := uint64(2 * boards * each); n.Series != boards || n.Rows < least || n.Rows > least+each {
		t.Errorf("the snapshot says %+v", n.Counts)
	}
	n.Release()
	n.Release()
	restored := storagetest.Open(t, dir, storage.Options{})
	for _, expr := range []string{
		`sum(count_over_time(pi_soc_temperature_celsius{board!="later"}[50d]))`, `sum(sum_over_time(pi_soc_temperature_celsius{board!="later"}[50d]))`,
	} {
		if a, b := storagetest.Number(t, s, expr, now.Add(time.Hour)), storagetest.Number(t, restored, expr, now.Add(time.Hour)); a != b {
			t.Errorf("%s: %v in the original, %v in the copy", expr, a, b)
		}
	}
	if got := storagetest.Number(t, restored, `count(count_over_time(pi_soc_temperature_celsius{board="later"}[50d]))`, now.Add(time.Hour)); got > 0 {
		t.Errorf("%v series that came later are in the copy", got)
	}
}

func TestSnapshotsLeaveNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s := storagetest.Open(t, dir, storage.Options{})
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), storagetest.AnHourAgo(), 10))
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	names := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "data", "*", "snapshots", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if len(names()) == 0 {
		t.Fatal("there is no snapshot, so this tests nothing")
	}
	if err := s.Close(); err != nil { // as a crash: nobody releases
		t.Fatal(err)
	}
	n.Release()
	if _, err := s.Snapshot(); err == nil {
		t.Error("a closed store makes snapshots")
	}
	storagetest.Open(t, dir, storage.Options{})
	if left := names(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInspectRefusesAProcessWithAStore(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	if _, err := storage.Inspect(t.Context(), t.TempDir(), slog.New(slog.NewTextHandler(io.Discard, nil))); !errors.Is(err, storage.ErrInProcess) {
		t.Errorf("got %v", err)
	}
	storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), storagetest.AnHourAgo(), 1))
}

func TestInspectCatchesWhatOpeningDoesNot(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	now := storagetest.AnHourAgo()
	for b := range 200 {
		rs := storagetest.Rows(storagetest.Temperature(fmt.Sprintf("b%d", b)), now, 50)
		for i := range rs {
			rs[i].Value += float64((i*i*7919 + b) % 1000)
		}
		storagetest.Add(t, s, rs)
	}
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Release()
	f := func(pattern string, damage func(path string) error) {
		t.Helper()
		dir := clone(t, n)
		found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		if err := damage(found[0]); err != nil {
			t.Fatal(err)
		}
		if got, err := inspect(t, dir); err == nil && got == n.Counts {
			t.Errorf("%s: the damage is not found", pattern)
		}
	}
	half := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	}
	f("data/small/*/*/values.bin", half)
	f("data/small/*/*/index.bin", half)
	f("data/small/*/*/metaindex.bin", os.Remove)
	f("data/small/*/parts.json", half)
	f("data/small/2*", os.RemoveAll)
	f("data/indexdb/2*", os.RemoveAll)
	f("data/indexdb/2*/*/items.bin", half)
}

// TestInspectMissesAMonthsIndex: series that one month's index has lost may still be in another one, so that the counts are as they were.
func TestInspectMissesAMonthsIndex(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	var months []string // with readings: the engine may have made another one beforehand
	for _, days := range []int{0, 40} {
		at := storagetest.AnHourAgo().AddDate(0, 0, -days)
		storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature("b1"), at, 10))
		months = append(months, at.UTC().Format("2006_01"))
	}
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Release()
	if got, err := inspect(t, clone(t, n)); err != nil || got != n.Counts {
		t.Fatalf("an intact copy: %+v, %v; want %+v", got, err, n.Counts)
	}
	for _, month := range months {
		dir := clone(t, n)
		gone := filepath.Join(dir, "data", "indexdb", month)
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect(t, dir); err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: %v", gone, err)
		}
		if s, err := storage.Open(dir, storage.Options{}); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("without %s it opens: %v", gone, errors.Join(err, s.Close()))
		}
	}
}
