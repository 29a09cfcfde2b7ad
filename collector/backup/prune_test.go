package backup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bramble/collector/config/unit"

	"github.com/prometheus/client_golang/prometheus"
)

// entry is a backup that was taken at a time; result is "good", "bad" or "untested".
func entry(taken time.Time, result string) Entry {
	m := &Manifest{Name: taken.UTC().Format(nameLayout), Taken: taken, Pin: "ours", Bytes: 100}
	switch result {
	case "good":
		m.Test = &Test{At: taken.Add(time.Minute)}
	case "bad":
		m.Test = &Test{At: taken.Add(time.Minute), Error: "no"}
	}
	return Entry{Name: m.Name, Manifest: m}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var all []Entry
	for h := 0; h < 24*800; h += 6 { // four a day, for more than two years
		all = append(all, entry(now.Add(-time.Duration(h)*time.Hour), "good"))
	}
	kept := func(entries []Entry) (left []Entry) {
		gone := expired(entries, DefaultKeep, "ours", "", now)
		for _, e := range entries {
			if !slices.ContainsFunc(gone, func(g Entry) bool { return g.Name == e.Name }) {
				left = append(left, e)
			}
		}
		return left
	}
	left := kept(all)
	days, weeks, months := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range left {
		days[day(e.Manifest.Taken)], weeks[week(e.Manifest.Taken)], months[month(e.Manifest.Taken)] = true, true, true
	}
	if len(months) != 12 || len(weeks) < 4 || len(days) < 7 || len(left) > 23+4 {
		t.Errorf("%d are left, of %d days, %d weeks, %d months", len(left), len(days), len(weeks), len(months))
	}
	if again := kept(left); len(again) != len(left) {
		t.Errorf("pruning twice leaves %d of %d", len(again), len(left))
	}
	f := func(want int, entries ...Entry) {
		t.Helper()
		if got := kept(entries); len(got) != want {
			t.Errorf("%d are left, want %d", len(got), want)
		}
	}
	old := now.Add(-3 * 365 * 24 * time.Hour)
	f(1, entry(old, "good"))
	f(2, entry(now, "bad"), entry(old, "good")) // the last good one outlives newer bad ones
	f(2, entry(now, "bad"), entry(now.Add(-time.Hour), "untested"), entry(now.Add(-2*time.Hour), "bad"), entry(old, "good"))
	f(3, entry(now, "good"), entry(now.Add(-time.Hour), "good"), entry(now.Add(-2*time.Hour), "good")) // a busy day
	foreign := entry(old, "good")
	foreign.Manifest.Pin = "theirs"
	f(2, entry(now, "good"), foreign)
	f(2, entry(now, "good"), Entry{Name: "unreadable", Err: fmt.Errorf("no")})
	way := entry(old.Add(-time.Hour), "good")
	if gone := expired([]Entry{entry(now, "good"), entry(old, "good"), way, entry(old.Add(-2*time.Hour), "good")}, Keep{}, "ours", way.Name, now); len(gone) != 2 || gone[0].Name == way.Name || gone[1].Name == way.Name {
		t.Errorf("beside the way back of an upgrade %v go", gone)
	}
	if gone := expired(nil, Keep{}, "ours", "", now); len(gone) != 0 {
		t.Errorf("nothing has %v to remove", gone)
	}
}

func TestPruneRemovesFromTheTarget(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 2, 10)
	k := c.keeper(t, Config{Keep: Keep{Daily: 1}})
	first := create(t, k)
	second := create(t, k)
	if err := k.prune(t.Context(), second.Taken.Add(23*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := len(names(t, k.config.Target)); got != 3 {
		t.Errorf("%d entries in the target after a prune within a day, want both backups and the lock", got)
	}
	if err := k.prune(t.Context(), second.Taken.Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, k.config.Target); !slices.Equal(got, []string{".lock", second.Name}) {
		t.Errorf("the target holds %v, want the newer one alone (not %s)", got, first.Name)
	}
}

func TestScheduleIsDue(t *testing.T) {
	now := time.Now()
	f := func(want bool, s Status) {
		t.Helper()
		k := New(Config{}, Source{DataDir: t.TempDir()}, nil, nil)
		k.status = s
		if got := k.due(now); got != want {
			t.Errorf("%+v: due %v", s, got)
		}
	}
	daily := 24 * time.Hour
	f(false, Status{})
	f(true, Status{Every: daily})
	f(false, Status{Every: daily, Entries: []Entry{entry(now.Add(-23*time.Hour), "good")}})
	f(true, Status{Every: daily, Entries: []Entry{entry(now.Add(-25*time.Hour), "good")}})
	f(true, Status{Every: daily, Entries: []Entry{entry(now.Add(-time.Hour), "bad"), entry(now.Add(-25*time.Hour), "good")}})
	failed := Status{Every: daily, AttemptAt: now.Add(-time.Minute), AttemptErr: os.ErrNotExist}
	f(false, failed)
	failed.AttemptAt = now.Add(-retryAfter)
	f(true, failed)
}

// gathered returns the keeper's series by name and result.
func gathered(t *testing.T, k *Keeper) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(k)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue()
		}
	}
	return all
}

func TestSeriesHoldKnownValuesAlone(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 10, 2000)
	k := c.keeper(t, Config{Every: unit.Duration(6 * time.Hour)})
	got := gathered(t, k)
	if len(got) != 4 || got["bramble_backup_interval_seconds"] != 21600 || got["bramble_backups/good"] != 0 {
		t.Errorf("before the first backup: %v", got)
	}
	first := create(t, k)
	c.fill(t, 40, 2000)
	m := create(t, k)
	got = gathered(t, k)
	for name, want := range map[string]float64{
		"bramble_backups/good": 2, "bramble_backups/bad": 0, "bramble_backups/untested": 0,
		"bramble_backup_size_bytes": float64(m.Bytes), "bramble_backup_size_ratio": float64(m.Bytes) / float64(first.Bytes),
		"bramble_backup_rows": float64(m.Rows), "bramble_backup_series": 40, "bramble_backup_last_attempt_failed": 0,
		"bramble_backup_last_test_timestamp_seconds":    float64(m.Test.At.Unix()),
		"bramble_backup_last_attempt_timestamp_seconds": float64(m.Taken.Unix()),
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if age := got["bramble_backup_age_seconds"]; age < 0 || age > 60 {
		t.Errorf("age %v s", age)
	}
	if err := os.WriteFile(filepath.Join(k.dirOf(m), stateFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(t.Context(), m.Name); err == nil {
		t.Fatal("damage is not found")
	}
	if got = gathered(t, k); got["bramble_backups/bad"] != 1 || got["bramble_backup_size_bytes"] != float64(first.Bytes) {
		t.Errorf("after the newest was found damaged: %v", got)
	}
}
