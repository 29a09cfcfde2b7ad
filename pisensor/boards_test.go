package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// fixtureBoard is a board of testdata/boards: its files, written by hand after the kernel's and the
// firmware's sources, its firmware's answers, and the series expected of it.
// testdata/boards/README.md describes the format.
type fixtureBoard struct {
	name     string
	files    map[string]string
	firmware string
	want     string
	about    string
}

func fixtureBoards(t *testing.T) (boards []fixtureBoard) {
	t.Helper()
	paths, err := filepath.Glob("testdata/boards/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d boards, %v", len(paths), err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b := fixtureBoard{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), files: map[string]string{}}
		for _, f := range a.Files {
			switch text := string(f.Data); f.Name {
			case "firmware":
				b.firmware = text
			case "want":
				b.want = text
			case "about":
				b.about = text
			default:
				b.files[f.Name] = text
			}
		}
		boards = append(boards, b)
	}
	return boards
}

// build writes the board's files below a directory of its own.
func (b *fixtureBoard) build(t *testing.T) source.Roots {
	t.Helper()
	root := t.TempDir()
	for name, text := range b.files {
		put(t, filepath.Join(root, name), text)
	}
	return source.Roots{Sysfs: root + "/sys", Procfs: root + "/proc", Devfs: root + "/dev", Etc: root + "/etc"}
}

func place(path, text string) error {
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		return os.Symlink(strings.TrimSpace(target), path)
	}
	if strings.Contains(path, "/device-tree/") {
		var err error
		if text, err = strconv.Unquote(`"` + strings.TrimSuffix(text, "\n") + `"`); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// seriesOf writes readings as the collector names and scales them, sorted.
func seriesOf(readings []report.Reading) string {
	var found []string
	for _, r := range readings {
		d := report.Define(r.Series.Metric)
		for bit, reason := range d.Bits {
			found = append(found, fmt.Sprintf("%s{reason=%q} %d", d.Name, reason, r.Value>>bit&1))
		}
		name := d.Name
		switch {
		case d.Bits != nil:
			continue
		case d.InstanceLabel != "":
			name += fmt.Sprintf("{%s=%q}", d.InstanceLabel, r.Series.Instance)
		case d.Label != "":
			name += fmt.Sprintf("{%s=%q}", d.Label, d.Value)
		}
		found = append(found, name+" "+strconv.FormatFloat(d.Base(r.Value), 'f', -1, 64))
	}
	return sorted(strings.Join(found, "\n"))
}

// sorted sorts lines.
func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestBoards wants from each board exactly its series: a source that a board lacks has none.
func TestBoards(t *testing.T) {
	for _, b := range fixtureBoards(t) {
		t.Run(b.name, func(t *testing.T) {
			if b.firmware != "" {
				answerAs(t, b.firmware)
			}
			opened := openBoard(b.build(t), slog.New(slog.NewTextHandler(io.Discard, nil)))
			var tick report.Tick
			opened.Read(&tick)
			if diff := cmp.Diff(sorted(b.want), seriesOf(tick.Readings)); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
			var about strings.Builder
			for _, a := range opened.Attributes() {
				fmt.Fprintf(&about, "%s %s\n", a.Key, a.Value)
			}
			if diff := cmp.Diff(sorted(b.about), sorted(about.String())); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// piLike is a tree in which the kernel's own files stand in the place of a
// Pi's: they stay open, as on a Pi. Nobody answers as the firmware.
func piLike(tb testing.TB) source.Roots {
	tb.Helper()
	root := tb.TempDir()
	for name, target := range map[string]string{
		"sys/class/thermal/thermal_zone0/temp":                    "/proc/sys/vm/max_map_count", // some 65 °C
		"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "/proc/sys/kernel/pid_max",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "/proc/sys/kernel/pid_max",
		"sys/devices/platform/soc/soc:firmware/get_throttled":     "/proc/sys/kernel/randomize_va_space",
		"sys/class/hwmon/hwmon1/in0_lcrit_alarm":                  "/proc/sys/vm/overcommit_memory",
		"sys/class/hwmon/hwmon2/fan1_input":                       "/proc/sys/kernel/pid_max",
		"sys/class/net":                                           "/sys/class/net",
		"proc/loadavg":                                            "/proc/loadavg",
		"proc/meminfo":                                            "/proc/meminfo",
		"proc/net":                                                "/proc/net",
		"proc/self":                                               "/proc/self",
		"proc/stat":                                               "/proc/stat",
		"proc/sys":                                                "/proc/sys",
		"etc":                                                     "/etc",
	} {
		if _, err := os.Stat(target); err != nil {
			tb.Skip("this system is no Linux as usual: ", err)
		}
		put(tb, filepath.Join(root, name), "-> "+target)
	}
	put(tb, root+"/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
	put(tb, root+"/sys/class/hwmon/hwmon1/name", "rpi_volt\n")
	put(tb, root+"/sys/class/hwmon/hwmon2/name", "pwmfan\n")
	return source.Roots{Sysfs: root + "/sys", Procfs: root + "/proc", Devfs: root + "/dev", Etc: root + "/etc"}
}

func put(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := place(path, text); err != nil {
		tb.Fatal(err)
	}
}

// TestATickCostsNoAllocation reads the sources of a tick at the default rate, after the group has
// come to look for absent ones rarely. A machine without a network card has eleven series of them.
func TestATickCostsNoAllocation(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	opened := openBoard(piLike(t), log)
	items := append(opened.soc.Items(), opened.host.Items()...)
	for n := range items {
		items[n] = everyTick(items[n])
	}
	g := source.NewGroup(log, items...)
	defer g.Close()
	var tick report.Tick
	for range untilLooksAreRare {
		tick.Reset()
		g.Read(&tick)
	}
	if got := seriesOf(tick.Readings); strings.Contains(got, "read_errors") || strings.Count(got, "\n") < 11 || !strings.Contains(got, "pi_load1") {
		t.Errorf("not as on a Pi:\n%s", got)
	}
	if n := testing.AllocsPerRun(50, func() { tick.Reset(); g.Read(&tick) }); n > 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

// everyTick has an item read in each tick where it is so at the default rate.
func everyTick(i source.Item) source.Item {
	if i.Every == source.Calm {
		i.Every = 0
	}
	return i
}

// untilLooksAreRare is the number of reads after which the group looks for an absent source at its
// longest gap: 1 + 2 + 4 + … + 256 (pisensor/source).
const untilLooksAreRare = 520

// TestAReportHoldsAllSeries counts the series of a board that has every source, each
// of which has failed at least once.
func TestAReportHoldsAllSeries(t *testing.T) {
	opened := openBoard(source.Roots{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	names := map[string]bool{"ack": true, "control": true} // of pisensor/sensor
	items := append(opened.soc.Items(), opened.host.Items()...)
	for _, i := range items {
		if names[i.Name] {
			t.Errorf("two sources are called %s", i.Name)
		}
		names[i.Name] = true
	}
	const (
		devices    = 4 // as many as pisensor/host reports
		operations = 6
	)
	series := len(names)
	for m := report.Metric(1); report.Define(m) != nil; m++ {
		switch d := report.Define(m); d.InstanceLabel {
		case "device":
			series += devices
		case "op":
			series += operations
		case "":
			series++
		}
	}
	if series--; series > report.MaxColumns { // Throttled and UnderVoltage never stand together
		t.Errorf("%d series, a report has room for %d", series, report.MaxColumns)
	}
	t.Logf("%d of %d series", series, report.MaxColumns)
}

// TestMailboxFailuresAreCounted has the firmware fail and come back. Values that the firmware
// returns in one call are read in one call.
func TestMailboxFailuresAreCounted(t *testing.T) {
	roots := piLike(t)
	put(t, filepath.Join(roots.Devfs, "vcio"), "-> /dev/null")
	opened := openBoard(roots, slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer opened.Close()
	f := func(firmware string, calls int, want ...string) {
		t.Helper()
		fw := answerAs(t, firmware)
		var tick report.Tick
		opened.Read(&tick)
		got := seriesOf(tick.Readings)
		for _, w := range want {
			if !strings.Contains(got, w+"\n") {
				t.Errorf("%s: no %s in\n%s", firmware, w, got)
			}
		}
		if n := fw.asked(); n != calls {
			t.Errorf("%s: %d calls, want %d", firmware, n, calls)
		}
	}
	const well = "clock 1200000000\nthrottled 0x50004\nvolts 1318750\nrevision 1700000000\n"
	clock, failed := `pi_cpu_clock_hertz{source="measured"} 1200000000`, `pisensor_read_errors_total{source="mailbox"} `
	f("fails EBUSY", 2, failed+"1")
	f("fails EINTR", 2, failed+"2")
	f(well, 2, clock, failed+"2", `pi_throttled{reason="throttled"} 1`)
	f(well, 1, clock, failed+"2")
	const old = "old-clock 1200000000\nthrottled 0\n"
	f(old, 2, clock, failed+"2")                                                     // by tag in vain, then by command
	f("fails ETIMEDOUT", 1, failed+"3", `pi_throttled{reason="frequency_capped"} 1`) // sysfs, which stands for 2
	f(well, 1, clock, failed+"3")
	const none = "throttled 0\n"
	f(none, 2, failed+"3", `pi_throttled{reason="throttled"} 0`) // it does not know: that is no failure
	f(none, 1, failed+"3")                                       // and is not asked again
}
