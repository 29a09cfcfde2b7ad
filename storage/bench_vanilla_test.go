package storage_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/remote"
	"bramble/storage/storagetest"
)

// The benchmarks of this file put the vanilla server beside the embedded store: the same rows, one run.

// recording is a board's measurements, one row after the other.
type recording struct{ celsius, hertz []float64 }

// readRecordings reads those of real boards that lie beside the source.
func readRecordings(b *testing.B) (all []recording) {
	b.Helper()
	files, err := filepath.Glob("../../shared/data/recordings/sbc-bench_*.csv")
	if err != nil || len(files) == 0 {
		b.Skip("the recordings of real boards are not here: ", err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		f.Close()
		if err != nil {
			b.Fatal(name, err)
		}
		celsius, megahertz := slices.Index(rows[0], "temp_c"), slices.Index(rows[0], "firmware_mhz")
		var r recording
		for _, row := range rows[1:] {
			t, err1 := strconv.ParseFloat(row[celsius], 64)
			c, err2 := strconv.ParseFloat(row[megahertz], 64)
			if err1 == nil && err2 == nil {
				r.celsius, r.hertz = append(r.celsius, t), append(r.hertz, c*1e6)
			}
		}
		if len(r.celsius) > 10 {
			all = append(all, r)
		}
	}
	return all
}

// recordedDay is a day of n boards at 10 s, made of pieces of the recordings, of a minute on average: they are too short to
// fill a day, and repeating one would compress too well. A piece goes on from the temperature that the last one has left.
func recordedDay(b *testing.B, n int) [][]storage.Row {
	recordings := readRecordings(b)
	start := time.Now().Add(-25 * time.Hour).Truncate(time.Hour)
	var batches [][]storage.Row
	for i := range n {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		series := storage.Boards(i + 1)[i]
		celsius := 45 + 20*random.Float64()
		var batch []storage.Row
		var r recording
		at := 0
		for tick := range 8640 {
			if at+1 >= len(r.celsius) || random.IntN(6) == 0 {
				r = recordings[random.IntN(len(recordings))]
				at = random.IntN(len(r.celsius) - 1)
			}
			at++
			if next := celsius + r.celsius[at] - r.celsius[at-1]; next > 35 && next < 85 {
				celsius = float64(int64(next*10+0.5)) / 10
			}
			ms := start.UnixMilli() + int64(tick)*10_000 + int64(i%10)*1000
			batch = append(batch, storage.Row{series.Temperature, ms, celsius}, storage.Row{series.Clock, ms, r.hertz[at]})
		}
		batches = append(batches, batch)
	}
	return batches
}

// openAt opens a remote store with a queue of its own. arrived returns when the server has all rows.
func openAt(b testing.TB, o remote.Options) (r *remote.Store, registry *prometheus.Registry, arrived func()) {
	b.Helper()
	registry = prometheus.NewRegistry()
	o.Dir, o.Registerer = b.TempDir(), registry
	r, err := remote.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r, registry, func() {
		if err := r.Barrier(); err != nil {
			b.Fatal(err)
		}
		poll(b, func() bool { return gauge(b, registry, "bramble_remote_queue_rows_waiting") == 0 })
	}
}

// gauge returns a metric without labels.
func gauge(b testing.TB, g prometheus.Gatherer, name string) float64 {
	b.Helper()
	families, err := g.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	b.Fatalf("no metric %s", name)
	return 0
}

func poll(b testing.TB, done func() bool) {
	b.Helper()
	for deadline := time.After(2 * time.Minute); !done(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			b.Fatal("waited two minutes")
		}
	}
}

// BenchmarkBesideVanillaAdd gives both the same rows of 1,000 boards, in batches of 2,000: to the embedded store in this
// process, and to the server through the remote store's queue. Of the server, both ends are reported.
func BenchmarkBesideVanillaAdd(b *testing.B) {
	const rows = 2_000_000
	var batches [][]storage.Row
	ds, at := storage.Boards(1000), time.Now().Add(-24*time.Hour).UnixMilli()
	for i := range rows / 2000 {
		var batch []storage.Row
		for _, d := range ds {
			batch = d.Tick(batch, at+int64(i)*10_000)
		}
		batches = append(batches, batch)
	}
	for b.Loop() {
		embedded := storage.OpenBench(b)
		storage.FlushBatch(b, embedded, batches[0]) // registers the series
		cpu := storagetest.CPUSeconds(b)
		for _, batch := range batches {
			storage.FlushBatch(b, embedded, batch)
		}
		b.ReportMetric(rows/(storagetest.CPUSeconds(b)-cpu), "embedded-rows/cpu-s")
		if err := embedded.Close(); err != nil {
			b.Fatal(err)
		}

		v := storagetest.StartVanilla(b)
		r, registry, arrived := openAt(b, remote.Options{Write: v.URL})
		if err := r.Add(batches[0]); err != nil {
			b.Fatal(err)
		}
		arrived()
		cpu, server, start := storagetest.CPUSeconds(b), v.CPUSeconds(b), time.Now()
		for _, batch := range batches {
			if err := r.Add(batch); err != nil {
				b.Fatal(err)
			}
		}
		arrived()
		b.ReportMetric(rows/(storagetest.CPUSeconds(b)-cpu), "remote-client-rows/cpu-s")
		b.ReportMetric(rows/(v.CPUSeconds(b)-server), "vanilla-server-rows/cpu-s")
		b.ReportMetric(rows/time.Since(start).Seconds(), "remote-rows/s")
		b.ReportMetric(gauge(b, registry, "bramble_remote_queue_bytes")/rows, "queue-B/row")
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		v.Kill()
	}
}

// BenchmarkBesideVanillaSize reports the bytes a sample of a day of 100 boards at 10 s, merged, without the index.
func BenchmarkBesideVanillaSize(b *testing.B) {
	batches := recordedDay(b, 100)
	n := float64(100 * 8640 * 2)
	for b.Loop() {
		embedded := storage.OpenBench(b)
		v := storagetest.StartVanilla(b)
		r, _, arrived := openAt(b, remote.Options{Write: v.URL})
		for _, batch := range batches {
			storage.FlushBatch(b, embedded, batch)
			if err := r.Add(batch); err != nil {
				b.Fatal(err)
			}
		}
		if err := embedded.Barrier(); err != nil {
			b.Fatal(err)
		}
		data, index := storage.MergedSizes(b, embedded)
		b.ReportMetric(float64(data)/n, "embedded-B/sample")
		b.ReportMetric(float64(index)/n, "embedded-index-B/sample")

		arrived()
		poll(b, func() bool {
			return v.Gauges(b, `vm_rows{type="storage/inmemory"}`, `vm_pending_rows{type="storage"}`) == 0 &&
				v.Gauges(b, `vm_rows{type="storage/small"}`, `vm_rows{type="storage/big"}`) == n
		})
		v.Get(b, "/internal/force_merge")
		poll(b, func() bool {
			return v.Gauges(b, "vm_active_force_merges") == 0 && v.Gauges(b, `vm_parts{type="storage/small"}`, `vm_parts{type="storage/big"}`) <= 2
		})
		b.ReportMetric(v.Gauges(b, `vm_data_size_bytes{type="storage/`)/n, "vanilla-B/sample")
	}
}

// BenchmarkBesideVanillaDay asks both over HTTP, in turn, for 24 h of one of 100 boards at 10 s.
func BenchmarkBesideVanillaDay(b *testing.B) {
	batches := recordedDay(b, 100)
	embedded, v := storage.OpenBench(b), storagetest.StartVanilla(b)
	r, _, arrived := openAt(b, remote.Options{Write: v.URL})
	for _, batch := range batches {
		storage.FlushBatch(b, embedded, batch)
		if err := r.Add(batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := embedded.Barrier(); err != nil {
		b.Fatal(err)
	}
	arrived()
	v.Show(b)
	ours, proxied := httptest.NewServer(embedded.Handler()), httptest.NewServer(r.Handler())
	defer ours.Close()
	defer proxied.Close()
	start := batches[0][0].At / 1000
	ask := func(base string, i int, more string) time.Duration {
		at := base + "/api/v1/query_range?step=10s&query=" + url.QueryEscape(fmt.Sprintf(`pi_soc_temperature_celsius{board="b%05d"}`, i%100)) +
			fmt.Sprintf("&start=%d&end=%d", start, start+86390) + more
		began := time.Now()
		resp, err := http.Get(at)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n < 8640*15 {
			b.Fatal(n, err)
		}
		return time.Since(began)
	}
	took := map[string][]time.Duration{}
	for i := 0; b.Loop(); i++ {
		took["embedded"] = append(took["embedded"], ask(ours.URL, i, ""))
		took["vanilla"] = append(took["vanilla"], ask(v.URL, i, ""))
		took["vanilla-nocache"] = append(took["vanilla-nocache"], ask(v.URL, i, "&nocache=1"))
		took["remote"] = append(took["remote"], ask(proxied.URL, i, ""))
	}
	report(b, took)
}

// BenchmarkBesideVanillaStart opens a store of 200,000 series and 13 months, and starts the server on a copy of it. The
// server's time includes that of its process.
func BenchmarkBesideVanillaStart(b *testing.B) {
	dir := b.TempDir()
	embedded, err := storage.Open(dir, storage.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ds, now := storage.Boards(100_000), time.Now()
	for month := range 13 {
		var batch []storage.Row
		for _, d := range ds {
			batch = d.Tick(batch, now.Add(-time.Duration(month)*30*24*time.Hour).UnixMilli())
		}
		storage.FlushBatch(b, embedded, batch)
	}
	if err := embedded.Close(); err != nil {
		b.Fatal(err)
	}
	v := storagetest.NewVanilla(b)
	if err := os.CopyFS(v.Dir, os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		began := time.Now()
		if embedded, err = storage.Open(dir, storage.Options{}); err != nil {
			b.Fatal(err)
		}
		took["embedded"] = append(took["embedded"], time.Since(began))
		if err := embedded.Close(); err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		v.Start(b)
		took["vanilla"] = append(took["vanilla"], time.Since(began))
		v.Kill()
	}
	report(b, took)
}

// report gives medians.
func report(b *testing.B, took map[string][]time.Duration) {
	for who, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, who+"-p50-ms")
	}
}
