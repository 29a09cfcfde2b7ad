package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/storage"
)

const hottest = `max_over_time(pi_soc_temperature_celsius:15m_max[2y])`

// fillRollups adds a bucket of a year ago for each board.
func (c *collector) fillRollups(t testing.TB, boards int) {
	t.Helper()
	for b := range boards {
		series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "pi_soc_temperature_celsius:15m_max"}, {Name: "board", Value: fmt.Sprint("b", b)}})
		at := time.Now().Add(-365 * 24 * time.Hour).Truncate(storage.Bucket).UnixMilli()
		if err := c.Rollups.Add([]storage.Row{{Series: series, At: at, Value: 90}}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *collector) hottest(t testing.TB) map[string]float64 {
	t.Helper()
	rs, err := c.Rollups.Query(t.Context(), hottest, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return values(rs)
}

func (c *collector) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(c.Store.Close(), c.Rollups.Close(), c.DB.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRollupsAreBackedUpTestedAndRestored(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t, dir)
	c.fill(t, 3, 100)
	c.fillRollups(t, 7)
	k := c.keeper(t, Config{})
	m := create(t, k)
	if !m.Good() || m.RollupRows != 7 || m.RollupSeries != 7 || m.Rows != 300 {
		t.Errorf("manifest: %+v", m)
	}
	want := c.hottest(t)
	to := t.TempDir()
	if _, err := (Restore{Backup: k.dirOf(m), DataDir: to, Key: k.Key(), Child: checker(t)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := newCollector(t, to).hottest(t); len(got) != 7 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("restored: %v, want %v", got, want)
	}
	// The series alone bring the rollups with them.
	c.fillRollups(t, 9)
	c.close(t)
	res, err := Restore{Backup: k.dirOf(m), DataDir: dir, SeriesOnly: true, Aside: true, Child: checker(t)}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(res.Aside, rollupsDir)); err != nil {
		t.Error(err)
	}
	again := newCollector(t, dir)
	if got := again.hottest(t); len(got) != 7 {
		t.Errorf("restored: %v, want 7 boards", got)
	}
	// A count that is not the snapshot's is found.
	m.RollupRows++
	if err := m.write(t.Context(), folderShelf(k.dirOf(m))); err != nil {
		t.Fatal(err)
	}
	if _, err := again.keeper(t, Config{}).Verify(t.Context(), m.Name); err == nil || !strings.Contains(err.Error(), "rollups: the restored store has 7 rows") {
		t.Errorf("verify: %v", err)
	}
}

// A backup of a collector that had no rollups leaves those that are there in place.
func TestASeriesOnlyRestoreWithoutRollupsLeavesThem(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t, dir)
	c.fill(t, 3, 100)
	rolled := c.Rollups
	c.Rollups = nil
	k := c.keeper(t, Config{})
	m := create(t, k)
	c.Rollups = rolled
	if m.holds(rollupsDir) || !m.Good() {
		t.Errorf("manifest: %+v", m)
	}
	c.fillRollups(t, 5)
	c.close(t)
	if _, err := (Restore{Backup: k.dirOf(m), DataDir: dir, SeriesOnly: true, Aside: true, Child: checker(t)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := newCollector(t, dir).hottest(t); len(got) != 5 {
		t.Errorf("%v, want the 5 boards that were there", got)
	}
}
