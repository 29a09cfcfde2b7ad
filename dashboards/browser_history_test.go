package dashboards

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"bramble/storage"
)

// twoYears puts readings of two years into a store, every 10 minutes with one gap of 30 days, throttled for one hour, and
// one single reading of 90 °C a year ago.
func twoYears(t *testing.T, store *storage.Store, board string, now time.Time) (peak time.Time) {
	t.Helper()
	series := func(name, label, value string) storage.Series {
		ls := []storage.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}, {Name: "rack", Value: "r1"}}
		if label != "" {
			ls = append(ls, storage.Label{Name: label, Value: value})
		}
		return storage.SeriesOf(ls)
	}
	temperature := series("pi_soc_temperature_celsius", "", "")
	requested, measured := series("pi_cpu_clock_hertz", "source", "requested"), series("pi_cpu_clock_hertz", "source", "measured")
	bit := series("pi_throttled", "reason", "throttled")
	begin := now.Add(-730 * 24 * time.Hour).Truncate(10 * time.Minute)
	peak = now.Add(-360 * 24 * time.Hour).Truncate(10 * time.Minute)
	var rows []storage.Row
	for at, last := begin, false; !last; at = at.Add(10 * time.Minute) {
		if last = !at.Before(now); last { // the step that has begun has a reading at any time
			at = now
		}
		ago := now.Sub(at)
		if ago > 500*24*time.Hour && ago < 530*24*time.Hour {
			continue
		}
		celsius, clock, throttle := 48+float64(at.Unix()/600%24)/3, 1.2e9, 0.0
		switch {
		case at.Equal(peak):
			celsius = 90
		case ago > 200*24*time.Hour && ago < 200*24*time.Hour+time.Hour:
			celsius, clock, throttle = 83, 6e8, 1
		}
		ms := at.UnixMilli()
		rows = append(rows, storage.Row{Series: temperature, At: ms, Value: celsius}, storage.Row{Series: requested, At: ms, Value: 1.2e9},
			storage.Row{Series: measured, At: ms, Value: clock}, storage.Row{Series: bit, At: ms, Value: throttle})
	}
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	return peak
}

// clockLoss is the difference that the collector keeps a history of.
var clockLoss = []storage.Difference{{Metric: "pi_cpu_clock_hertz", Label: "source", Of: "requested", Less: "measured", As: "pi_cpu_clock_lost_hertz"}}

// rollups opens both stores in dir.
func rollups(t *testing.T, dir string, retention time.Duration) (*storage.Rollups, func()) {
	t.Helper()
	rolled, err := storage.Open(dir+"/rollups", storage.Options{Retention: 100 * 365 * 24 * time.Hour, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := storage.Open(dir+"/series", storage.Options{Retention: retention, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := storage.NewRollups(t.Context(), storage.RollupOptions{Raw: raw, Rolled: rolled, Late: 8 * 24 * time.Hour, Log: quiet(), Differences: clockLoss})
	if err != nil {
		t.Fatal(err)
	}
	return r, func() {
		if err := errors.Join(raw.Close(), rolled.Close()); err != nil {
			t.Error(err)
		}
	}
}

// historyOf connects a server to rollups as the collector does.
func historyOf(r *storage.Rollups) parts {
	return parts{
		Open: true, Series: r.Raw.Handler(), Rollups: r.Rolled.Handler(),
		RollupStatus: func() Rollups {
			return Rollups{BucketSeconds: 900, RawSeconds: 90 * 86400, KeptSeconds: 100 * 365 * 86400, Until: r.Until().UnixMilli()}
		},
		History: func(ctx context.Context, q HistoryQuery) ([]Span, error) {
			found, err := r.History(ctx, storage.HistoryQuery{
				Metric: q.Metric, Match: []storage.Label{{Name: "board", Value: q.Board}}, By: q.By, Start: q.Start, End: q.End, Step: q.Step,
			})
			return spansOf(found), err
		},
	}
}

// spansOf are a store's spans as the pages have them.
func spansOf(found []storage.Span) []Span {
	spans := []Span{}
	for _, f := range found {
		s := Span{Labels: map[string]string{}, At: f.At, Min: f.Min, Max: f.Max, Mean: f.Mean, Count: f.Count}
		for _, l := range f.Labels {
			s.Labels[l.Name] = l.Value
		}
		spans = append(spans, s)
	}
	return spans
}

// inkAt counts pixels of the colour of a line in the temperature graph, near a share of its width and between two temperatures.
func inkAt(share, low, high float64) string {
	return fmt.Sprintf(`(() => {
		const c = document.querySelector('[data-graph="temperature"] canvas'), r = devicePixelRatio;
		const over = document.querySelector('[data-graph="temperature"] .u-over').getBoundingClientRect(), own = c.getBoundingClientRect();
		const x = (over.left - own.left + over.width * %v) * r, y = (t) => (over.top - own.top + over.height * (90 - t) / 50) * r;
		const want = getComputedStyle(document.documentElement).getPropertyValue("--text").trim().match(/\w\w/g).map((h) => parseInt(h, 16));
		const d = c.getContext("2d").getImageData(x - 14 * r, y(%v), 28 * r, y(%v) - y(%v)).data;
		let n = 0;
		for (let i = 0; i < d.length; i += 4) if (d[i+3] > 40 && want.every((w, k) => Math.abs(w - d[i+k]) < 90)) n++;
		return n;
	})()`, share, high, low, high)
}

// The one reading of 90 °C a year ago is in the view of two years, when its readings are long gone.
func TestBrowserTwoYearsShowTheirOnePeak(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	r, stop := rollups(t, dir, 3*365*24*time.Hour)
	peak := twoYears(t, r.Raw, "r1-01", now)
	if err := r.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	r, stop = rollups(t, dir, 90*24*time.Hour)
	defer stop()
	_, web := start(t, historyOf(r))
	b := openTab(t, web.URL)

	b.open("/board/r1-01?range=2y")
	b.text(".summary-text", "48.0 to 90.0 °C")
	b.text(".summary-text", "measured clock 600 to 1200 MHz")
	b.text(".summary-text", "up to 600 MHz lost") // for one hour of two years
	b.text(".summary-text", "throttled for 1 h 00 m")
	b.text(".summary-text", "1 gap without readings, ")
	b.until(`/1 gap without readings, (29|30) d/.test(document.querySelector(".summary-text").textContent)`, `document.querySelector(".summary-text").textContent`) // 29 or 30 whole days, as the hour has it
	b.text(`[data-graph="temperature"] header`, "highest, mean and lowest reading of each day")
	b.until(`Number(document.getElementById("graphs").dataset.points) > 690`, `document.getElementById("graphs").dataset.points`)
	share := 1 - now.Sub(peak).Hours()/(730*24)
	b.until(inkAt(share, 82, 88)+" > 3", inkAt(share, 82, 88))
	b.until(inkAt(share+0.05, 82, 88)+" === 0", inkAt(share+0.05, 82, 88)) // and nowhere else

	// The other ranges.
	for _, c := range []struct {
		name, words, step string
		points            int
	}{
		{"1y", "48.0 to 90.0 °C", "each 12 hours", 720}, {"90d", "48.0 to 55.7 °C", "each 3 hours", 718}, {"30d", "48.0 to 55.7 °C", "each hour", 718}, {"7d", "48.0 to 55.7 °C", "each 15 minutes", 670},
	} {
		b.open("/board/r1-01?range=" + c.name)
		b.text(".summary-text", c.words)
		b.text(`[data-graph="temperature"] header`, c.step)
		b.text(".summary-text", "no gap.")
		b.until(fmt.Sprintf(`Number(document.getElementById("graphs").dataset.points) >= %d`, c.points), `document.getElementById("graphs").dataset.points`)
	}
	b.open("/board/r1-01?range=24h") // readings
	b.until(`Number(document.getElementById("graphs").dataset.points) >= 140`, `document.getElementById("graphs").dataset.points`)
	b.until(`document.querySelector('[data-graph="temperature"] header').textContent.includes("°C") && !document.body.textContent.includes("highest, mean")`, "document.body.textContent")

	// A day of a year ago, of which no reading is left.
	b.open(fmt.Sprintf("/board/r1-01?from=%d&to=%d", peak.Add(-12*time.Hour).UnixMilli(), peak.Add(12*time.Hour).UnixMilli()))
	b.text(".summary-text", "to 90.0 °C")
	b.text(`[data-graph="temperature"] header`, "each 15 minutes")
	b.until(inkAt(0.5, 82, 88)+" > 3", inkAt(0.5, 82, 88))
	b.clean()
}
