package sim

import (
	"encoding/csv"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Recordings of real boards lie beside the tree, not in it: they are other
// people's data.
const recordings = "../../../shared/data/recordings"

// recording is one recorded run of a real board and its surroundings, which no
// recording tells: they are fitted, everything else is the model's.
type recording struct {
	file, model             string
	cooling, ambient, plate float64 // factor; °C; °C of the plate at the start
	soft                    float64 // °C, temp_soft_limit of that board where it is not the model's

	rms, worst, clock float64 // bounds: °C, °C, MHz RMS
}

var calibration = []recording{
	{file: "sbc-bench_1niO.csv", model: "Zero W", cooling: 1.15, ambient: 25.4, plate: 63.3, rms: 1, worst: 2.5},
	{file: "sbc-bench_3Njz.csv", model: "Zero W", cooling: 0.68, ambient: 20.6, plate: 41.7, rms: 1, worst: 2.5},
	{file: "sbc-bench_3MGN.csv", model: "1B", cooling: 1.35, ambient: 18.4, plate: 39.5, rms: 1, worst: 2.5},
	{file: "sbc-bench_4vVG.csv", model: "1B", cooling: 0.87, ambient: 23.8, plate: 49.8, rms: 1, worst: 2.5},
	{file: "sbc-bench_3MGs.csv", model: "2B", cooling: 0.40, ambient: 23.0, plate: 34.1, rms: 1, worst: 2.5},
	{file: "sbc-bench_1ivw.csv", model: "2B", cooling: 1.93, ambient: 25.8, plate: 25.2, rms: 1.7, worst: 4.5},
	{file: "sbc-bench_1iFf.csv", model: "2B", cooling: 1.15, ambient: 24.1, plate: 50.4, rms: 1, worst: 2.5},
	{file: "sbc-bench_4hOp.csv", model: "3B", cooling: 1.50, ambient: 28.8, plate: 50.8, rms: 2.5, worst: 8, clock: 50},
	{file: "pitemp_minmax_a.csv", model: "3B", cooling: 0.70, ambient: 38.0, plate: 40.4, rms: 1.5, worst: 5},
	{file: "pitemp_pistress_a.csv", model: "3B", cooling: 1.41, ambient: 24.9, plate: 42.0, rms: 1.6, worst: 5},
	{file: "sbc-bench_1iGM.csv", model: "3B+", cooling: 1.31, ambient: 24.1, plate: 57.8, rms: 1.2, worst: 4},
	{file: "sbc-bench_1iI5.csv", model: "3B+", cooling: 0.86, ambient: 32.4, plate: 52.2, soft: 70, rms: 1.2, worst: 3, clock: 75},
	{file: "sbc-bench_3DeL.csv", model: "Zero 2 W", cooling: 0.84, ambient: 29.5, plate: 53.4, rms: 1, worst: 2.5},
	{file: "sbc-bench_3Dfo.csv", model: "Zero 2 W", cooling: 1.21, ambient: 25.7, plate: 49.3, rms: 1, worst: 2.5},
	{file: "sbc-bench_3EgS.csv", model: "4B", cooling: 0.91, ambient: 24.4, plate: 39.1, rms: 1.3, worst: 3},
	{file: "sbc-bench_3EhG.csv", model: "4B", cooling: 0.57, ambient: 31.4, plate: 45.8, rms: 2.2, worst: 6},
	{file: "sbc-bench_3FlD.csv", model: "4B", cooling: 0.78, ambient: 24.1, plate: 37.5, rms: 1.4, worst: 3},
	{file: "sbc-bench_3Gia.csv", model: "4B", cooling: 1.23, ambient: 19.6, plate: 32.4, rms: 1.8, worst: 4},
	{file: "sbc-bench_3InF.csv", model: "4B", cooling: 1.12, ambient: 21.8, plate: 44.2, rms: 1.5, worst: 4},
	{file: "sbc-bench_3KVs.csv", model: "4B", cooling: 0.03, ambient: 22.4, plate: 21.3, rms: 1.4, worst: 4, clock: 1},
	{file: "sbc-bench_3L37.csv", model: "4B", cooling: 0.03, ambient: 21.5, plate: 20.7, rms: 1.6, worst: 4.5, clock: 1},
	{file: "sbc-bench_3Llk.csv", model: "4B", cooling: 1.09, ambient: 25.3, plate: 59.7, rms: 2.2, worst: 5.5, clock: 1},
	{file: "sbc-bench_3N94.csv", model: "4B", cooling: 0.17, ambient: 45.7, plate: 29.5, rms: 3.5, worst: 8},
	{file: "sbc-bench_3OBF.csv", model: "4B", cooling: 0.53, ambient: 30.5, plate: 34.1, rms: 1.5, worst: 4},
	{file: "sbc-bench_3VME.csv", model: "4B", cooling: 1.03, ambient: 22.2, plate: 39.3, rms: 1.5, worst: 4},
	{file: "sbc-bench_2Cyi.csv", model: "400", cooling: 1.01, ambient: 34.6, plate: 40.1, rms: 1.1, worst: 2.5},
	{file: "sbc-bench_1ULtUe.csv", model: "5", cooling: 0.83, ambient: 10.3, plate: 22.6, rms: 1.2, worst: 3.5},
	{file: "sbc-bench_4HDw.csv", model: "5", cooling: 0.58, ambient: 30.7, plate: 41.8, rms: 1.4, worst: 3.5},
	{file: "sbc-bench_4I1w.csv", model: "5", cooling: 0.79, ambient: 29.8, plate: 48.0, rms: 1.6, worst: 4.5, clock: 100},
	{file: "sbc-bench_4JAv.csv", model: "5", cooling: 0.50, ambient: 31.0, plate: 43.8, rms: 1.9, worst: 8},
	{file: "sbc-bench_8-NK.csv", model: "5", cooling: 0.43, ambient: 32.9, plate: 43.0, rms: 2.1, worst: 7.5},
	{file: "sbc-bench_Au3jaA.csv", model: "5", cooling: 0.65, ambient: 21.1, plate: 38.5, rms: 1.2, worst: 5},
}

// sample is one row of a recording. Busy is the mean since the row before; the
// rest is of the instant. Zero where the recording does not say.
type sample struct {
	at                       float64 // s
	requested, measured      float64 // MHz
	busy, volts, temperature float64 // share of all cores; V; °C
}

func TestModelFitsRecordings(t *testing.T) {
	for _, r := range calibration {
		t.Run(strings.TrimSuffix(r.file, ".csv"), func(t *testing.T) {
			fit := r.replay(t, readRecording(t, r.file))
			t.Logf("| %s | %s | %d | %.2f | %.1f | %.0f | %.0f / %.0f | %.2f | %.1f |", r.model, r.file,
				fit.n, fit.rms, fit.worst, fit.clock, fit.lowest, fit.lowestRecorded, r.cooling, r.ambient)
			if fit.rms > r.rms || fit.worst > r.worst {
				t.Errorf("temperature is off by %.2f °C RMS, %.1f °C at worst; want at most %.1f and %.1f", fit.rms, fit.worst, r.rms, r.worst)
			}
			if fit.clock > r.clock {
				t.Errorf("clock is off by %.0f MHz RMS, want at most %.0f", fit.clock, r.clock)
			}
		})
	}
}

type fit struct {
	n                      int
	rms, worst, clock      float64
	lowest, lowestRecorded float64
}

// replay drives the model with the recorded board's work, second by second, and compares
// temperature and clock at each row. Heat, governor where the recording has no clock, and firmware
// are the model's, in a closed loop.
func (r recording) replay(t *testing.T, samples []sample) fit {
	s := r.machine(samples[0])
	f := fit{lowest: math.Inf(1), lowestRecorded: math.Inf(1)}
	for i, row := range samples[1:] {
		r.drive(&s, row, int(math.Round(row.at)-math.Round(samples[i].at)))
		f.add(row, &s)
	}
	f.rms, f.clock = math.Sqrt(f.rms/float64(f.n)), math.Sqrt(f.clock/float64(f.n))
	return f
}

func (r recording) machine(first sample) machine {
	m := *ModelNamed(r.model)
	m.Fan = false // recorded coolers, where there are any, are part of the fitted factor
	soft := m.SoftLimit
	if r.soft > 0 {
		soft = r.soft
	}
	s := newMachine(&m, soft)
	s.heat.soc, s.heat.plate = first.temperature, r.plate
	s.governor.requested, s.firmware.measured = first.requested, first.measured
	return s
}

func (r recording) drive(s *machine, row sample, seconds int) {
	cores := float64(s.model.Cores)
	s.governor.fixed, s.coreVolts = row.requested, row.volts
	w := Work{Busy: row.busy * cores, Peak: min(1, row.busy*cores), Vector: row.busy > 0.99 && row.requested > 0}
	for range seconds {
		s.step(w, r.ambient, r.cooling, false)
	}
}

func (f *fit) add(row sample, s *machine) {
	f.n++
	e := math.Abs(s.heat.soc - row.temperature)
	f.rms += e * e
	f.worst = max(f.worst, e)
	f.lowest = min(f.lowest, s.firmware.measured)
	if row.measured > 0 {
		f.lowestRecorded = min(f.lowestRecorded, row.measured)
		f.clock += (s.firmware.measured - row.measured) * (s.firmware.measured - row.measured)
	}
}

func readRecording(t *testing.T, file string) []sample {
	t.Helper()
	f, err := os.Open(filepath.Join(recordings, file))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("recording %s is not here: the model is not compared with a real board", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := make(map[string]int)
	for i, name := range rows[0] {
		column[name] = i
	}
	var samples []sample
	for _, row := range rows[1:] {
		if usage, ok := column["usage"]; ok && row[usage] == "" {
			continue // a mark between phases, not a reading
		}
		samples = append(samples, parseSample(t, column, row))
	}
	return samples
}

// A recorded temperature is one that the model's sensor can say. A step of the
// sensor is 0.5 °C, so that a wrong offset or step misses most of them.
func TestSensorSendsTheRecordedReadings(t *testing.T) {
	for _, r := range calibration {
		register := ModelNamed(r.model).Register
		rounding := 0.0501 // sbc-bench prints one decimal
		if strings.HasPrefix(r.file, "pitemp") {
			rounding = 0
		}
		for _, s := range readRecording(t, r.file) {
			said := float64(register.quantise(s.temperature)) / 1000
			if math.Abs(said-s.temperature) > rounding {
				t.Errorf("%s: sensor says %v °C, the recording %v", r.file, said, s.temperature)
			}
		}
	}
}

// The hard case: a 3B at full load, of which little but the clock is left. Its
// clock may be off by one of the firmware's steps.
func TestThrottlingGoesAsDeepAsRecorded(t *testing.T) {
	for _, r := range calibration {
		if r.file != "sbc-bench_4hOp.csv" {
			continue
		}
		fit := r.replay(t, readRecording(t, r.file))
		if d := math.Abs(fit.lowest - fit.lowestRecorded); d > throttleStep+0.5 {
			t.Errorf("lowest clock %.0f MHz, the recording's is %.0f", fit.lowest, fit.lowestRecorded)
		}
	}
}

func parseSample(t *testing.T, column map[string]int, row []string) sample {
	t.Helper()
	number := func(name string) float64 {
		i, ok := column[name]
		if !ok {
			return 0
		}
		v, err := strconv.ParseFloat(row[i], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	s := sample{
		at: number("t_s"), requested: number("requested_mhz"), measured: number("firmware_mhz"),
		busy: (number("cpu_pct") + number("usage")) / 100, volts: number("vcore_v"),
		temperature: number("temp_c") + number("temp"),
	}
	if i, ok := column["datetime"]; ok {
		at, err := time.Parse("2006-01-02 15:04:05.999999", row[i])
		if err != nil {
			t.Fatal(err)
		}
		s.at = float64(at.UnixMilli()) / 1000
	}
	return s
}
