package soc

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
)

// board is a tree of a board's files, written by hand after the kernel's formats.
type board struct {
	t    *testing.T
	root string
}

func newBoard(t *testing.T, files map[string]string) board {
	b := board{t, t.TempDir()}
	for name, text := range files {
		b.write(name, text)
	}
	return b
}

func (b board) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b board) open() *Board {
	opened := Open(Roots{
		Sysfs: filepath.Join(b.root, "sys"), Procfs: filepath.Join(b.root, "proc"),
		Devfs: filepath.Join(b.root, "dev"), Etc: filepath.Join(b.root, "etc"),
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	b.t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return opened
}

func read(b *Board) map[report.Series]int64 {
	var t report.Tick
	b.Read(&t)
	got := map[report.Series]int64{}
	for _, r := range t.Readings {
		got[r.Series] = r.Value
	}
	return got
}

func of(m report.Metric) report.Series { return report.Series{Metric: m} }

func failed(source string) report.Series {
	return report.Series{Metric: report.SensorReadErrors, Instance: source}
}

var threeB = map[string]string{
	"sys/class/thermal/thermal_zone0/type":                    "cpu-thermal\n",
	"sys/class/thermal/thermal_zone0/temp":                    "83852\n",
	"sys/class/hwmon/hwmon0/name":                             "cpu_thermal\n",
	"sys/class/hwmon/hwmon0/temp1_input":                      "83852\n",
	"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1200000\n",
	"sys/devices/platform/soc/soc:firmware/get_throttled":     "60006\n",
	"proc/loadavg":                           "4.18 2.01 0.91 5/180 1234\n",
	"proc/device-tree/model":                 "Raspberry Pi 3 Model B Rev 1.2\x00",
	"proc/device-tree/system/linux,revision": "\x00\xa0\x20\x82",
	"proc/sys/kernel/osrelease":              "6.12.34-v7+\n",
	"etc/os-release":                         "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Raspbian GNU/Linux 12 (bookworm)\"\n",
}

func TestBoards(t *testing.T) {
	f := func(name string, files map[string]string, want map[report.Series]int64) {
		t.Helper()
		if diff := cmp.Diff(want, read(newBoard(t, files).open())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	f("3B without a mailbox", threeB, map[report.Series]int64{
		of(report.SOCTemperature): 83852, of(report.ClockRequested): 1_200_000, of(report.Throttled): 6, of(report.Load1): 418,
	})
	f("nothing at all", nil, map[report.Series]int64{})
	f("old zone behind another", map[string]string{
		"sys/class/thermal/thermal_zone0/type": "gpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "99000\n",
		"sys/class/thermal/thermal_zone1/type": "bcm2835_thermal\n", "sys/class/thermal/thermal_zone1/temp": "-1234\n",
	}, map[report.Series]int64{of(report.SOCTemperature): -1234})
	f("hwmon alone", map[string]string{
		"sys/class/hwmon/hwmon3/name": "cpu_thermal\n", "sys/class/hwmon/hwmon3/temp1_input": "40780",
		"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/temp1_input": "1",
	}, map[report.Series]int64{of(report.SOCTemperature): 40780})
	f("nonsense is counted, the rest goes on", map[string]string{
		"sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "999999999\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "<unsupported>\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":  "xyz\n",
		"proc/loadavg": "0.53 0.40 0.31 1/123 4567\n",
		"dev/vcio":     "not a device",
	}, map[report.Series]int64{
		failed("thermal"): 1, failed("cpufreq"): 1, failed("get_throttled"): 1, of(report.Load1): 53,
	})
	f("empty, negative and huge", map[string]string{
		"sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "-5\n",
		"proc/loadavg": string(make([]byte, 1<<20)),
	}, map[report.Series]int64{failed("thermal"): 1, failed("cpufreq"): 1, failed("loadavg"): 1})
	f("a directory where a file should be", map[string]string{
		"sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp/x": "1",
	}, map[report.Series]int64{failed("thermal"): 1})
}

func TestFilesMayBeReplacedInAPlainTree(t *testing.T) {
	b := newBoard(t, threeB)
	opened := b.open()
	read(opened)
	path := filepath.Join(b.root, "sys/class/thermal/thermal_zone0/temp")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, ok := read(opened)[of(report.SOCTemperature)]; !ok || got != 83852 {
		t.Errorf("without the zone: %d, want hwmon's", got)
	}
	b.write("next", "41000\n")
	if err := os.Rename(filepath.Join(b.root, "next"), path); err != nil {
		t.Fatal(err)
	}
	if got := read(opened)[of(report.SOCTemperature)]; got != 41000 {
		t.Errorf("with a new file: %d", got)
	}
}

func TestAttributes(t *testing.T) {
	want := []report.Attribute{
		{Key: report.AttributeModel, Value: "Raspberry Pi 3 Model B Rev 1.2"},
		{Key: report.AttributeRevision, Value: "a02082"},
		{Key: report.AttributeKernel, Value: "6.12.34-v7+"},
		{Key: report.AttributeOS, Value: "Raspbian GNU/Linux 12 (bookworm)"},
	}
	if diff := cmp.Diff(want, newBoard(t, threeB).open().Attributes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	forged := newBoard(t, map[string]string{
		"proc/device-tree/model":    "evil\nmodel\x00",
		"proc/sys/kernel/osrelease": string(slices.Repeat([]byte("ä"), 200)),
	})
	got := forged.open().Attributes()
	if len(got) != 1 || len(got[0].Value) > report.MaxAttributeSize {
		t.Errorf("%q", got)
	}
}

func TestTheRealKernelsFilesStayOpenAndCostNoAllocation(t *testing.T) {
	opened := Open(Roots{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer opened.Close()
	var tick report.Tick
	opened.Read(&tick)
	if opened.load.open == nil {
		t.Skip("this system has no /proc/loadavg")
	}
	if n := testing.AllocsPerRun(50, func() { tick.Reset(); opened.load.add(&tick, report.Load1, parseLoad) }); n > 0 {
		t.Errorf("%v allocations a reading", n)
	}
}

func BenchmarkRead(b *testing.B) {
	opened := Open(Roots{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer opened.Close()
	var tick report.Tick
	b.ReportAllocs()
	for b.Loop() {
		tick.Reset()
		opened.Read(&tick)
	}
	b.ReportMetric(float64(len(tick.Readings)), "readings")
}
