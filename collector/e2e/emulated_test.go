package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// requireEmulation asks for the tests on emulated boards: where QEMU is absent
// they fail instead of being skipped.
const requireEmulation = "BRAMBLE_REQUIRE_QEMU"

// lacking skips the test, unless requireEmulation is set.
func lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv(requireEmulation) == "1" {
		t.Fatalf("%s, and %s=1 requires it", reason, requireEmulation)
	}
	t.Skip(reason)
}

// emulator returns the path of a QEMU program, or skips the test.
func emulator(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacking(t, "no %s found: install Debian's %s to run this test", name, debianPackage)
	}
	return path
}

// target is a processor that pisensor is built for.
type target struct {
	arch, arm string // GOARCH, GOARM
}

func (g target) String() string { return g.arch + g.arm }

// build builds pisensor as a release is built, and returns the binary's path.
func (g target) build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pisensor-"+g.String())
	g.compile(t, path, "bramble/pisensor")
	return path
}

func (g target) compile(t testing.TB, path, source string) {
	t.Helper()
	c := exec.Command("go", "build", "-trimpath", "-gcflags=all=-l", "-gcflags=bramble/...=", "-gcflags=bramble/pisensor/report=-l", "-gcflags=bramble/pisensor/source=-l", "-gcflags=bramble/pisensor/spool=-l", "-gcflags=runtime=", "-gcflags=internal/runtime/...=",
		"-gcflags=bytes=", "-gcflags=hash/...=", "-gcflags=crypto/internal/fips140/aes/...=", "-ldflags", "-s -w", "-o", path, source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+g.arch, "GOARM="+g.arm)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s for %v: %v\n%s", source, g, err, out)
	}
}

// tree writes files under a directory.
func tree(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// piZero are the files of a Zero W that is under-voltage, in the kernel's formats.
var piZero = map[string]string{
	"sys/class/thermal/thermal_zone0/type":                    "cpu-thermal\n",
	"sys/class/thermal/thermal_zone0/temp":                    "46698\n",
	"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1000000\n",
	"sys/devices/platform/soc/soc:firmware/get_throttled":     "50005\n",
	"proc/loadavg":              "0.27 0.31 0.30 1/75 412\n",
	"proc/device-tree/model":    "Raspberry Pi Zero W Rev 1.1\x00",
	"proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-v6\n",
	"dev/null":                  "", // and no vcio
}

// piZeroShows is the answer of a query about it, to the last digit.
var piZeroShows = map[string]float64{
	`pi_soc_temperature_celsius`:                    46.698,
	`pi_cpu_clock_hertz{source="requested"}`:        1e9,
	`pi_throttled{reason="under_voltage"}`:          1,
	`pi_throttled{reason="frequency_capped"}`:       0,
	`pi_throttled{reason="throttled"}`:              1,
	`pi_throttled{reason="soft_temperature_limit"}`: 0,
	`pi_load1`: 0.27,
}

// sample is one line of an instant query's answer.
type sample struct {
	labels map[string]string
	at     time.Time
	value  float64
}

// query returns the answer of /api/v1/query now, of raw rows.
func (s *server) query(expr string) ([]sample, error) {
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	q := url.Values{"query": {expr}, "nocache": {"1"}}
	if err := s.json("api/v1/query?"+q.Encode(), &a); err != nil {
		return nil, err
	}
	var all []sample
	for _, r := range a.Data.Result {
		at, okAt := r.Value[0].(float64)
		text, okValue := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if !okAt || !okValue || err != nil {
			return nil, fmt.Errorf("query %s: value %v", expr, r.Value)
		}
		all = append(all, sample{r.Metric, time.UnixMilli(int64(at * 1000)), value})
	}
	return all, nil
}

// shows waits until a query for each series of a board has exactly one answer,
// the value that is wanted.
func (s *server) shows(name string, want map[string]float64) {
	s.t.Helper()
	for series, value := range want {
		eventually(s.t, patience, func() error {
			got, err := s.query(ofBoard(series, name))
			if err == nil && (len(got) != 1 || got[0].value != value) {
				err = fmt.Errorf("%s of %s is %v, want %v", series, name, got, value)
			}
			return err
		})
	}
}

// ofBoard adds a board to a selector.
func ofBoard(series, name string) string {
	metric, rest, labelled := strings.Cut(series, "{")
	if labelled {
		return fmt.Sprintf("%s{board=%q,%s", metric, name, rest)
	}
	return fmt.Sprintf("%s{board=%q}", metric, name)
}

// ticks returns how many temperatures of a board are stored.
func (s *server) ticks(name string) (n int, err error) {
	series, err := s.export(ofBoard("pi_soc_temperature_celsius", name), false)
	for _, one := range series {
		n += len(one.Values)
	}
	return n, err
}

// grows waits until a board has so many temperatures more than before.
func (s *server) grows(name string, before, by int) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		n, err := s.ticks(name)
		if err == nil && n < before+by {
			err = fmt.Errorf("%d temperatures of %s after %d", n, name, before)
		}
		return err
	})
}

// TestEmulatedProcessors runs the builds for a Pi's processors against a real
// collector: enrolment, sampling, the collector's and the sensor's kill -9, once
// and replay.
func TestEmulatedProcessors(t *testing.T) {
	endurance(t) // it compiles everything for other processors
	t.Parallel()
	for _, c := range []struct {
		target target
		qemu   string
	}{
		{target{"arm", "6"}, "qemu-arm-static"}, {target{"arm", "7"}, "qemu-arm-static"}, {target{"arm64", ""}, "qemu-aarch64-static"},
	} {
		t.Run(c.target.String(), func(t *testing.T) {
			t.Parallel()
			qemu := emulator(t, c.qemu, "qemu-user-static")
			emulated(t, []string{qemu, c.target.build(t)})
		})
	}
}

// emulated goes through a sensor's life. pisensor is how it is started.
func emulated(t *testing.T, pisensor []string) {
	root, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	tree(t, root, piZero)
	line := func(args ...string) []string { return slices.Concat(pisensor, args) }
	roots := []string{"--sysfs-root", root + "/sys", "--procfs-root", root + "/proc", "--devfs-root", root + "/dev"}

	once := execute(t, "", line(append([]string{"once"}, roots...)...)...)
	for _, want := range []string{"46.7 °C", "1000 MHz", "under voltage, throttled", "0.27", "Raspberry Pi Zero W Rev 1.1"} {
		if once.code != 0 || !strings.Contains(once.out, want) {
			t.Errorf("once: exit %d without %q: %s%s", once.code, want, once.out, once.errs)
		}
	}

	s := newServer(t, "127.0.0.1")
	enrolment := line("enrol", "nats://"+s.nats, s.do("", "board", "add", "pi-1", "--label", "rack=r1"), "--state-dir", state)
	if a := execute(t, "", enrolment...); a.code != 0 || a.out != "pi-1\n" {
		t.Fatalf("enrol: %+v", a)
	}
	state = t.TempDir() // its OS is installed anew: the key is lost, the token is not
	if a := execute(t, "", append(enrolment[:len(enrolment)-1:len(enrolment)-1], state)...); a.code != 0 || a.out != "pi-1\n" {
		t.Fatalf("enrol with another key: %+v", a)
	}

	sensor := line(append([]string{"run", "--state-dir", state, "--interval", "1s"}, roots...)...)
	p := spawn(t, sensor...)
	s.shows("pi-1", piZeroShows)
	s.shows("pi-1", map[string]float64{`pi_info{model="Raspberry Pi Zero W Rev 1.1",kernel="6.12.25+rpt-rpi-v6"}`: 1})
	s.kill()
	s.start()
	before, err := s.ticks("pi-1")
	if err != nil {
		t.Fatal(err)
	}
	s.grows("pi-1", before, 3)
	p.kill()
	tree(t, root, map[string]string{"sys/class/thermal/thermal_zone0/temp": "-1250\n", "proc/loadavg": "11.04 3.1 1.2 1/75 412\n"})
	p = spawn(t, sensor...)
	s.shows("pi-1", map[string]float64{"pi_soc_temperature_celsius": -1.25, "pi_load1": 11.04})
	if code := p.stop(t, patience); code != 0 {
		t.Errorf("run: exit %d: %s", code, p.errs)
	}

	b := board{"pi-2", filepath.Join(t.TempDir(), "pi-2")}
	if a := execute(t, "", line("enrol", "nats://"+s.nats, s.do("", "board", "add", "pi-2"), "--state-dir", b.state)...); a.code != 0 {
		t.Fatalf("enrol: %+v", a)
	}
	r := invent(t, "emulated", 500, uneven)
	if a := execute(t, "", line("replay", r.file(t), "--state-dir", b.state)...); a.code != 0 {
		t.Errorf("replay: %+v", a)
	}
	s.returned(b, r, 1)
}
