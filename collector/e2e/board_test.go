package e2e

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recorded is a recording as a test knows it: the values of each row.
type recorded struct {
	name string
	csv  string
	at   []int64              // since the first row, ms
	rows []map[string]float64 // series → value in base units; the series without the registry's labels
}

// seriesOf maps a recording's column to its series and base unit.
var seriesOf = map[string]struct {
	series string
	scale  float64
}{
	"temp_c": {"pi_soc_temperature_celsius", 1}, "temp": {"pi_soc_temperature_celsius", 1},
	"requested_mhz": {`pi_cpu_clock_hertz{source="requested"}`, 1e6}, "firmware_mhz": {`pi_cpu_clock_hertz{source="measured"}`, 1e6},
	"load1": {"pi_load1", 1}, "vcore_v": {"pi_core_volts", 1},
}

// understand reads a recording in the test's own way.
func understand(t testing.TB, name, csv string) *recorded {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	head := strings.Split(strings.TrimSpace(lines[0]), ",")
	r := &recorded{name: name, csv: csv}
	var first int64
	for i, line := range lines[1:] {
		cells := strings.Split(strings.TrimSpace(line), ",")
		at := microseconds(t, cells[0])
		if i == 0 {
			first = at
		}
		since := (at - first) / 1000
		if i > 0 {
			since = max(since, r.at[i-1]+1) // each row has a millisecond of its own
		}
		r.at = append(r.at, since)
		row := map[string]float64{}
		for c, column := range head {
			s, known := seriesOf[column]
			if !known || cells[c] == "" {
				continue
			}
			v, err := strconv.ParseFloat(cells[c], 64)
			if err != nil {
				t.Fatal(err)
			}
			row[s.series] = v * s.scale
		}
		r.rows = append(r.rows, row)
	}
	return r
}

func microseconds(t testing.TB, cell string) int64 {
	t.Helper()
	if v, err := strconv.ParseFloat(cell, 64); err == nil {
		return int64(math.Round(v * 1e6))
	}
	stamp, err := time.Parse("2006-01-02 15:04:05.999999", cell)
	if err != nil {
		t.Fatal(err)
	}
	return stamp.UnixMicro()
}

func (r *recorded) length() time.Duration { return time.Duration(r.at[len(r.at)-1]) * time.Millisecond }

// readings is how many values the recording holds.
func (r *recorded) readings() (n int) {
	for _, row := range r.rows {
		n += len(row)
	}
	return n
}

// file writes the recording for a board to replay.
func (r *recorded) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), r.name+".csv")
	if err := os.WriteFile(path, []byte(r.csv), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// invent makes a recording of n rows: temperatures walk, and from 60 °C on the
// firmware measures less than the kernel asks for, as on a 3B+. step returns
// the time between two rows in ms.
func invent(t testing.TB, name string, n int, step func(r *rand.Rand) int) *recorded {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(name)))) // the same each time
	var b strings.Builder
	b.WriteString("t_s,requested_mhz,firmware_mhz,load1,cpu_pct,temp_c,vcore_v\n")
	at, temp := 0, 48.0
	for i := range n {
		if i > 0 {
			at += step(r)
		}
		temp = min(84, max(40, temp+r.Float64()*4-1.8))
		measured := 1400
		if temp >= 60 {
			measured = 1200 - r.IntN(40)
		}
		volts := fmt.Sprintf("%.4f", 1.2+float64(r.IntN(1500))/1e4)
		if i%7 == 3 {
			volts = "" // a reading that was not taken
		}
		fmt.Fprintf(&b, "%s,1400,%d,%.2f,%d,%.1f,%s\n", strconv.FormatFloat(float64(at)/1000, 'f', -1, 64), measured, r.Float64()*4, r.IntN(100), temp, volts)
	}
	return understand(t, name, b.String())
}

func every(ms int) func(*rand.Rand) int { return func(*rand.Rand) int { return ms } }

// uneven is the rhythm of a script that sleeps between measurements.
func uneven(r *rand.Rand) int { return 900 + r.IntN(119_000) }

// board is an enrolled board's state directory.
type board struct {
	name, state string
}

// enrol adds a board to the server and enrols it at an address.
func (s *server) enrol(name, address string, labels ...string) board {
	s.t.Helper()
	args := []string{"board", "add", name}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	return s.enrolAt("nats://"+address, name, s.do("", args...))
}

// enrolAt enrols a board at a URL with its token.
func (s *server) enrolAt(url, name, token string) board {
	s.t.Helper()
	b := board{name, filepath.Join(s.t.TempDir(), name)}
	a := command(s.t, "", "pisensor", "enrol", url, token, "--state-dir", b.state)
	if a.code != 0 || a.out != name+"\n" {
		s.t.Fatalf("enrol %s: exit %d, stdout %q, stderr %q", name, a.code, a.out, a.errs)
	}
	return b
}

// replay starts a replay of a recording.
func (b board) replay(t testing.TB, r *recorded, more ...string) *process {
	t.Helper()
	return launch(t, "pisensor", append([]string{"replay", r.file(t), "--state-dir", b.state}, more...)...)
}

// point is one value of one series.
type point struct {
	series string
	at     int64
}

// ownSeries are the series that the collector itself makes of a board.
var ownSeries = []string{"pi_board_up", "pi_info", "pi_boot_time_seconds", "pi_boots_total"}

// seriesText names a stored series without the registry's labels.
func seriesText(m map[string]string) string {
	name := m["__name__"]
	if source := m["source"]; source != "" {
		name += fmt.Sprintf("{source=%q}", source)
	}
	return name
}

// readingsOf returns the board's own samples by series and time, and how often
// one stands there under any labels.
func readingsOf(series []stored) (values map[point]float64, count map[point]int) {
	values, count = map[point]float64{}, map[point]int{}
	for _, s := range series {
		if slices.Contains(ownSeries, s.Metric["__name__"]) {
			continue
		}
		for i, at := range s.Timestamps {
			p := point{seriesText(s.Metric), at}
			values[p] = s.Values[i]
			count[p]++
		}
	}
	return values, count
}

// expect places the recording in time: its first row at a Unix time in ms.
func (r *recorded) expect(first int64, speed float64) map[point]float64 {
	all := map[point]float64{}
	for i, row := range r.rows {
		for series, v := range row {
			all[point{series, first + int64(float64(r.at[i])/speed)}] = v
		}
	}
	return all
}

// returned waits until the store holds exactly the recording, nothing doubled
// and nothing beside it, and returns the time of its first row.
func (s *server) returned(b board, r *recorded, speed float64) (first int64) {
	s.t.Helper()
	eventually(s.t, patience, func() (err error) {
		first, err = s.compare(b, r, speed)
		return err
	})
	return first
}

func (s *server) compare(b board, r *recorded, speed float64) (first int64, err error) {
	selector := fmt.Sprintf("{board=%q}", b.name)
	for _, raw := range []bool{false, true} {
		series, err := s.export(selector, raw)
		if err != nil {
			return 0, err
		}
		got, count := readingsOf(series)
		if len(got) == 0 {
			return 0, fmt.Errorf("board %s: nothing is stored", b.name)
		}
		points := slices.Collect(maps.Keys(got))
		first = slices.MinFunc(points, func(a, b point) int { return int(a.at - b.at) }).at
		if err := difference(r.expect(first, speed), got); err != nil {
			return 0, fmt.Errorf("board %s, raw %v: %w", b.name, raw, err)
		}
		for p, n := range count {
			if n != 1 && !raw {
				return 0, fmt.Errorf("board %s: %v stands there %d times", b.name, p, n)
			}
		}
	}
	return first, nil
}

// difference says in one line how the readings that came back differ from those that were sent.
func difference(want, got map[point]float64) error {
	var missing, wrong, extra []string
	for p, w := range want {
		switch g, ok := got[p]; {
		case !ok:
			missing = append(missing, fmt.Sprint(p))
		case g != w:
			wrong = append(wrong, fmt.Sprintf("%v is %v, want %v", p, g, w))
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			extra = append(extra, fmt.Sprint(p))
		}
	}
	if len(missing)+len(wrong)+len(extra) == 0 {
		return nil
	}
	few := func(s []string) []string { slices.Sort(s); return s[:min(len(s), 3)] }
	return fmt.Errorf("of %d readings %d are missing %v, %d are wrong %v, %d are too many %v",
		len(want), len(missing), few(missing), len(wrong), few(wrong), len(extra), few(extra))
}
