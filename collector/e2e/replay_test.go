package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recordings is where recordings of real boards lie beside the source.
const recordings = "../../../shared/data/recordings"

// TestReplayComesBackExactly replays recordings without --speed: values, spacing
// and the place in time must come back as they were sent.
func TestReplayComesBackExactly(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	for i, r := range []*recorded{
		invent(t, "uneven", 60, uneven), invent(t, "even", 500, every(10_000)),
		understand(t, "3b", throttling3B), understand(t, "single", "t_s,temp_c\n17,51.5\n"),
		understand(t, "dates", "datetime,usage,temp\n2020-02-28 23:59:59.750000,1,46.698\n2020-02-29 00:00:01.250000,2,47.236\n2020-02-29 00:00:01.252000,2,47.774\n"),
	} {
		b := s.enrol(fmt.Sprintf("pi-%d", i), s.nats, "rack=r1", "customer=acme")
		s.replayed(b, r)
	}
	series, err := s.export(`{__name__=~"pi_.*"}`, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range series {
		if one.Metric["rack"] != "r1" || one.Metric["customer"] != "acme" || one.Metric["__name__"] == "pi_throttled" {
			t.Errorf("series %v", one.Metric)
		}
	}
}

// throttling3B is a 3B+ above its soft limit of 60 °C: asked for 1400 MHz, it
// runs at 1200.
const throttling3B = `t_s,requested_mhz,firmware_mhz,load1,cpu_pct,temp_c,vcore_v,pmic_w
0,600,600,0.08,2,46.7,1.2000,
61,1400,1400,1.24,98,55.8,1.3188,
121,1400,1400,3.31,99,59.6,1.3188,
182,1400,1200,3.92,99,61.2,1.2313,
243,1400,1200,4.03,99,64.5,1.2313,
304.5,1400,1199,4.10,99,68.2,1.2313,
365,600,600,2.74,3,58.0,1.2000,
`

// replayed replays a recording and wants it back with its last row at the start.
func (s *server) replayed(b board, r *recorded) {
	s.t.Helper()
	before := time.Now()
	p := b.replay(s.t, r)
	if code := p.exit(s.t, patience); code != 0 {
		s.t.Fatalf("replay %s: exit %d: %s", r.name, code, p.errs)
	}
	first := s.returned(b, r, 1)
	last := time.UnixMilli(first + r.at[len(r.at)-1])
	if last.Before(before.Add(-time.Millisecond)) || last.After(time.Now()) {
		s.t.Errorf("%s: its last row lies at %v, the replay started at %v", r.name, last, before)
	}
}

// TestReplayInTheGraphs asks for the measured clock as a graph does.
func TestReplayInTheGraphs(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats)
	r := understand(t, "3b", throttling3B)
	s.replayed(b, r)
	first := s.returned(b, r, 1)
	step := 500 * time.Millisecond
	ask := func(source string) map[int64]float64 {
		t.Helper()
		start := time.UnixMilli(first)
		found, err := s.queryRange(fmt.Sprintf(`last_over_time(pi_cpu_clock_hertz{board="pi-1",source=%q}[%s])`, source, step), start, start.Add(r.length()), step)
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %d series, %v", source, len(found), err)
		}
		return found[0]
	}
	measured, requested := ask("measured"), ask("requested")
	lost := 0
	for i, row := range r.rows {
		at := first + r.at[i]
		want := [2]float64{row[`pi_cpu_clock_hertz{source="measured"}`], row[`pi_cpu_clock_hertz{source="requested"}`]}
		if got := [2]float64{measured[at], requested[at]}; got != want {
			t.Errorf("row %d: clocks %v, want %v", i, got, want)
		}
		if measured[at] < requested[at] {
			lost++
		}
	}
	if lost != 3 || len(measured) != len(r.rows) {
		t.Errorf("%d rows with a lower measured clock, want 3; %d points, want %d", lost, len(measured), len(r.rows))
	}
}

// TestReplayWithSpeed sends a recording in a multiple of real time.
func TestReplayWithSpeed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b, r := s.enrol("pi-1", s.nats), invent(t, "fast", 100, every(10_000))
	before := time.Now()
	p := b.replay(t, r, "--speed", "200")
	if code := p.exit(t, patience); code != 0 {
		t.Fatalf("exit %d: %s", code, p.errs)
	}
	took, want := time.Since(before), r.length()/200
	if took < want {
		t.Errorf("took %v, want %v of real time", took, want)
	}
	first := time.UnixMilli(s.returned(b, r, 200))
	if first.Before(before.Add(-time.Millisecond)) || first.Add(want).After(before.Add(took)) {
		t.Errorf("first row at %v, the replay ran from %v to %v", first, before, before.Add(took))
	}
}

// TestReplayRealRecordings replays recordings of real boards that lie beside the source: a few, or all of them for endurance.
func TestReplayRealRecordings(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(recordings, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no recordings of real boards in %s", recordings)
	}
	files = evenly(files, often(6, len(files)))
	s := newServer(t, "127.0.0.1")
	type running struct {
		board
		*recorded
		*process
	}
	all := make([]running, 0, len(files))
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r := understand(t, strings.TrimSuffix(filepath.Base(file), ".csv"), string(b))
		board := s.enrol(fmt.Sprintf("pi-%d", i), s.nats)
		all = append(all, running{board, r, board.replay(t, r)})
	}
	for _, one := range all {
		if code := one.exit(t, 2*patience); code != 0 {
			t.Fatalf("replay %s: exit %d: %s", one.recorded.name, code, one.errs)
		}
		s.returned(one.board, one.recorded, 1)
	}
}

// evenly returns n of all files, or all where there are fewer.
func evenly(files []string, n int) (some []string) {
	n = min(n, len(files))
	for i := range n {
		some = append(some, files[i*len(files)/n])
	}
	return some
}
