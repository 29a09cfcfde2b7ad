package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
)

// output is a writer that a test can read while it is written.
type output struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{} // where set, gets a note of each write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wrote != nil {
		o.wrote <- struct{}{}
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command runs a command line to its end.
func command(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs output
	code = exitCode(run(t.Context(), args, &out, &errs), &errs)
	return code, out.String(), errs.String()
}

// enrolled returns the state directory of a board that the collector knows.
func enrolled(t testing.TB, c *collector) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if code, out, errs := command(t, "enrol", c.url, c.token.String(), "--state-dir", dir); code != 0 || out != "pi-1\n" {
		t.Fatalf("enrol: exit %d, stdout %q, stderr %q", code, out, errs)
	}
	return dir
}

func TestEnrolTwiceKeepsTheKey(t *testing.T) {
	c := newCollector(t)
	dir := enrolled(t, c)
	path := filepath.Join(dir, identity.KeyFile)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	code, out, errs := command(t, "enrol", "--state-dir", dir, c.url, c.token.String())
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 || out != "pi-1\n" || !bytes.Equal(before, after) {
		t.Errorf("again: exit %d, stdout %q, stderr %q", code, out, errs)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("state directory holds %v, %v", files, err)
	}
}

func TestEnrolRefusals(t *testing.T) {
	c := newCollector(t)
	other := c.token
	other.Pin = report.NewToken("").Pin
	_, wrong := certificates(t)
	other.Pin = wrong
	unknown := report.NewToken(c.pin)
	f := func(url, token, want string) {
		t.Helper()
		code, out, errs := command(t, "enrol", url, token, "--state-dir", t.TempDir())
		if code != 1 || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("exit %d, stdout %q, stderr %q; want %q", code, out, errs, want)
		}
	}
	f(c.url, "brm1.x", "enrolment token")
	f("127.0.0.1:4222", "T", "names no protocol: write nats://127.0.0.1:4222")
	f(c.url, other.String(), "pin "+wrong+" is not in its chain (it shows "+c.pin+")")
	for range 20 { // however the refusal and the rest of the login cross
		f(c.url, unknown.String(), "does not accept this token")
		f(c.server.PortsInfo(time.Second).WebSocket[0], unknown.String(), "does not accept this token")
	}
	f("nats://127.0.0.1:1", c.token.String(), "no collector answers there")
	f("nats://kim:hush@127.0.0.1", c.token.String(), "nats://kim:xxxxx@127.0.0.1")
	f("http://127.0.0.1", c.token.String(), "use nats://")
	f("127.0.0.1:4222", c.token.String(), "names no protocol: write nats://127.0.0.1:4222")
	f("[::1]:4222", c.token.String(), "names no protocol: write nats://[::1]:4222")
	f("bramble.example.org", c.token.String(), "names no protocol: write nats://bramble.example.org")
	f("nats://127.0.0.1:port", c.token.String(), "cannot be read: write it like nats://")
	c.mu.Lock()
	c.used = true
	c.mu.Unlock()
	f(c.url, c.token.String(), "does not accept this token")
}

// secret writes a token to a file.
func secret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEnrolWithATokenFile(t *testing.T) {
	c := newCollector(t)
	dir := t.TempDir()
	if code, out, errs := command(t, "enrol", c.url, "--token-file", secret(t, c.token.String()+"\n"), "--state-dir", dir); code != 0 || out != "pi-1\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
	f := func(want int, text string, args ...string) {
		t.Helper()
		code, out, errs := command(t, append([]string{"enrol", "--state-dir", t.TempDir()}, args...)...)
		if code != want || out != "" || !strings.Contains(errs, text) || strings.Contains(errs, c.token.Secret) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want exit %d and %q", args, code, out, errs, want, text)
		}
	}
	f(1, "no such file", c.url, "--token-file", filepath.Join(dir, "absent"))
	f(1, "want brm1", c.url, "--token-file", secret(t, ""))
	f(1, "want brm1", c.url, "--token-file", secret(t, strings.Repeat("x", 1<<20)))
	f(2, "2 arguments given, want 1", c.url, c.token.String(), "--token-file", secret(t, c.token.String()))
	f(2, "-wait", c.url, c.token.String(), "--wait", "soon")
}

// A netbooted board asks before its network is up.
func TestEnrolWaitsForTheCollector(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	addr := hostOf(t, c.url)
	c.stop()
	dir := t.TempDir()
	errs := output{wrote: make(chan struct{}, 100)}
	var out output
	finished := make(chan int)
	go func() {
		finished <- exitCode(run(t.Context(), []string{"enrol", "nats://" + addr, c.token.String(), "--state-dir", dir, "--wait", "1m"}, &out, &errs), &errs)
	}()
	<-errs.wrote
	c.start()
	if code := <-finished; code != 0 || out.String() != "pi-1\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out.String(), errs.String())
	}
	if text := errs.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "no collector answers there") || !strings.Contains(text, "trying again for") {
		t.Errorf("stderr %q", text)
	}
	begin := time.Now()
	if code, _, errs := command(t, "enrol", "nats://127.0.0.1:1", c.token.String(), "--state-dir", dir, "--wait", "2s"); code != 1 || !strings.Contains(errs, "gave up after 2s") || time.Since(begin) < 2*time.Second {
		t.Errorf("exit %d after %v, stderr %q", code, time.Since(begin), errs)
	}
	// A refusal by the collector ends --wait at once.
	begin = time.Now()
	if code, _, errs := command(t, "enrol", c.url, report.NewToken(c.pin).String(), "--state-dir", dir, "--wait", "1m"); code != 1 || time.Since(begin) >= time.Minute {
		t.Errorf("exit %d after %v, stderr %q", code, time.Since(begin), errs)
	}
}

// fixture is a board's tree of files, written as the kernel would.
func fixture(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"sys/class/thermal/thermal_zone0/type":                    "cpu-thermal\n",
		"sys/class/thermal/thermal_zone0/temp":                    "48312\n",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1400000\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":     "50005\n",
		"sys/class/hwmon/hwmon1/name":                             "rpi_volt\n",
		"sys/class/hwmon/hwmon1/in0_lcrit_alarm":                  "1\n",
		"proc/loadavg":                                            "0.53 0.40 0.31 1/123 4567\n",
		"proc/device-tree/model":                                  "Raspberry Pi 3 Model B Plus Rev 1.3\x00",
		"proc/sys/kernel/osrelease":                               "6.12.34-v8\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func roots(dir string) []string {
	return []string{"--sysfs-root", dir + "/sys", "--procfs-root", dir + "/proc", "--devfs-root", dir + "/dev"}
}

func TestRunPublishesTheBoard(t *testing.T) {
	c := newCollector(t)
	dir, root := enrolled(t, c), fixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs output
	finished := make(chan int)
	go func() {
		args := append([]string{"run", "--interval", "1s", "--state-dir", dir}, roots(root)...)
		finished <- exitCode(run(ctx, args, &errs, &errs), &errs)
	}()
	has := func(s report.Series, want int64) func() bool {
		return func() bool {
			for k, v := range c.values {
				if k.series == s && v == want {
					return true
				}
			}
			return false
		}
	}
	for m, want := range map[report.Metric]int64{
		report.SOCTemperature: 48312, report.ClockRequested: 1_400_000, report.Throttled: 5, report.Load1: 53, report.SensorDropped: 0,
	} {
		c.until(fmt.Sprint("metric ", m), has(report.Series{Metric: m}, want))
	}
	if err := os.WriteFile(root+"/sys/class/thermal/thermal_zone0/temp", []byte("hot\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.until("a counted error", has(report.Series{Metric: report.SensorReadErrors, Instance: "thermal"}, 1))
	cancel()
	if code := <-finished; code != 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	c.until("a goodbye", func() bool { return c.goodbyes == 1 })
	for k := range c.values {
		if k.series.Metric == report.ClockMeasured || k.series.Metric == report.CoreVolts {
			t.Errorf("a series that this board does not have: %v", k)
		}
	}
	if got := c.info[report.AttributeModel]; got != "Raspberry Pi 3 Model B Plus Rev 1.3" {
		t.Errorf("model %q", got)
	}
}

func TestRunSaysAWrongPinAtOnce(t *testing.T) {
	c := newCollector(t)
	dir := enrolled(t, c)
	_, wrong := certificates(t)
	if err := (identity.Enrolment{URL: c.url, Board: "pi-1", Pin: wrong}).Save(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := output{wrote: make(chan struct{}, 1000)}
	finished := make(chan int)
	go func() {
		finished <- exitCode(run(ctx, []string{"run", "--state-dir", dir}, &errs, &errs), &errs)
	}()
	deadline := time.After(patience)
	for want := "level=ERROR"; !strings.Contains(errs.String(), want); {
		select {
		case <-errs.wrote:
		case <-deadline:
			t.Fatalf("no error in the log: %s", errs.String())
		}
	}
	cancel()
	if code := <-finished; code != 0 {
		t.Errorf("exit %d", code)
	}
	if log := errs.String(); !strings.Contains(log, wrong) || !strings.Contains(log, c.pin) {
		t.Errorf("the log does not name both pins: %s", log)
	}
	if len(c.values) > 0 {
		t.Error("readings went to a collector that is not the pinned one")
	}
}

func TestRunOverWebSocket(t *testing.T) {
	c := newCollector(t)
	dir := enrolled(t, c)
	ports := c.server.PortsInfo(time.Second)
	if ports == nil || len(ports.WebSocket) == 0 {
		t.Fatal("the server has no websocket port")
	}
	if err := (identity.Enrolment{URL: ports.WebSocket[0], Board: "pi-1", Pin: c.pin}).Save(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var errs output
	finished := make(chan int)
	go func() {
		finished <- exitCode(run(ctx, []string{"run", "--state-dir", dir}, &errs, &errs), &errs)
	}()
	c.until("a reading", func() bool { return len(c.values) > 0 })
	cancel()
	if code := <-finished; code != 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestOnce(t *testing.T) {
	code, out, errs := command(t, append([]string{"once"}, roots(fixture(t))...)...)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	for _, want := range []string{
		"model             Raspberry Pi 3 Model B Plus Rev 1.3\n", "firmware          not on this board\n",
		"SoC temperature   48.3 °C\n", "clock, requested  1400 MHz\n", "clock, measured   not on this board\n",
		"throttled         under voltage, throttled\n", "load, 1 min       0.53\n", "network           not on this board\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "\n"); n > 24 {
		t.Errorf("%d lines are more than a screen", n)
	}
}

// TestOnceBelowZero wants no sign on a temperature that rounds to zero.
func TestOnceBelowZero(t *testing.T) {
	root := fixture(t)
	for says, want := range map[string]string{"-1": "0.0 °C", "-49": "0.0 °C", "0": "0.0 °C", "-50": "-0.1 °C", "-1000": "-1.0 °C", "49": "0.0 °C"} {
		if err := os.WriteFile(root+"/sys/class/thermal/thermal_zone0/temp", []byte(says+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, out, _ := command(t, append([]string{"once"}, roots(root)...)...); !strings.Contains(out, "SoC temperature   "+want+"\n") {
			t.Errorf("%s m°C: want %s:\n%s", says, want, out)
		}
	}
}

// TestOnceOfBoards prints two boards that have everything between them.
func TestOnceOfBoards(t *testing.T) {
	f := func(name string, want ...string) {
		t.Helper()
		boards := fixtureBoards(t)
		b := boards[slices.IndexFunc(boards, func(b fixtureBoard) bool { return b.name == name })]
		if b.firmware != "" {
			answerAs(t, b.firmware)
		}
		tree := b.build(t)
		code, out, errs := command(t, "once", "--sysfs-root", tree.Sysfs, "--procfs-root", tree.Procfs, "--devfs-root", tree.Devfs)
		if code != 0 || errs != "" || strings.Count(out, "\n") > 24 {
			t.Errorf("%s: exit %d, stderr %q, stdout\n%s", name, code, errs, out)
		}
		for _, w := range want {
			if !strings.Contains(out, w+"\n") {
				t.Errorf("%s: no %q in\n%s", name, w, out)
			}
		}
	}
	f("pi1b-4.9-armv6",
		"revision          000e", "firmware          2018-03-12T10:20:00Z", "boot id           6f0a2b1c-5d1e-4a3e-9f0b-0f6f3a1b2c3d",
		"clock, measured   700 MHz", "clock, maximum    700 MHz", "throttled         no", "core voltage      1.2000 V", "fan               not on this board",
		"CPU busy          59s of all cores since boot", "memory available  380 MiB",
		"NFS               4 retransmissions since mounting; its latency takes two readings",
		"eth0              11.8 MiB received, 2.2 MiB sent, 1 errors, 2 carrier changes")
	f("pi5-6.12-arm64", "clock, measured   2400 MHz", "fan               2874 rpm", "core voltage      0.8846 V", "NFS               not on this board")
	f("cm4-6.12-mainline-arm64", "throttled         under voltage; the other reasons are not known", "network           not on this board")
}

func TestOnceOnThisMachine(t *testing.T) {
	code, out, errs := command(t, "once")
	if code != 0 || !strings.Contains(out, "load, 1 min") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
	_, rest, _ := strings.Cut(out, "booted            ")
	text, _, _ := strings.Cut(rest, " UTC")
	if booted, err := time.Parse("2006-01-02 15:04:05", text); err != nil || time.Since(booted) < 0 {
		t.Errorf("booted %q: %v", text, err)
	}
}

func TestCommandLine(t *testing.T) {
	f := func(want int, text string, args ...string) {
		t.Helper()
		code, out, errs := command(t, args...)
		if code != want || !strings.Contains(out+errs, text) {
			t.Errorf("%q: exit %d, want %d; stdout %q, stderr %q", args, code, want, out, errs)
		}
	}
	f(2, "usage: pisensor COMMAND")
	f(2, `unknown command "sing"`, "sing")
	f(0, "usage: pisensor COMMAND", "help")
	f(0, "pisensor ", "version")
	f(0, "-state-dir", "run", "-h")
	f(2, "use 1s to 60s", "run", "--interval", "10ms")
	f(2, "-frobnicate", "run", "--frobnicate")
	f(2, "1 arguments given, want 2", "enrol", "nats://localhost")
	f(1, "is not enrolled", "run", "--state-dir", t.TempDir())
	f(2, "below 1", "replay", "x.csv", "--speed", "0.5")
	f(2, "below 1", "replay", "--speed", "0", "x.csv")
	f(1, "no such file", "replay", "x.csv")
}

// TestNothingOfTheServerIsLinked keeps the daemon light.
func TestNothingOfTheServerIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		for _, bad := range []string{
			"nats-server", "VictoriaMetrics", "modernc.org", "gorilla", "alertmanager", "prometheus",
			"bramble/collector", "bramble/storage", "bramble/alerting", "bramble/dashboards", "pisensor/sim",
		} {
			if strings.Contains(name, bad) {
				t.Errorf("pisensor links %s", name)
			}
		}
	}
}

// recordings is where recordings of real boards lie beside the source.
const recordings = "../../shared/data/recordings"

func recordingFiles(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat(recordings); os.IsNotExist(err) {
		t.Skipf("no recordings of real boards in %s", recordings)
	}
	files, err := filepath.Glob(filepath.Join(recordings, "*.csv"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	return files
}

// expected reads a recording in its own way: values by millisecond since its
// first row.
func expected(t *testing.T, path string) map[placed]int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	names := strings.Split(strings.TrimSpace(lines[0]), ",")
	metrics := map[string]report.Metric{
		"temp_c": report.SOCTemperature, "temp": report.SOCTemperature, "requested_mhz": report.ClockRequested,
		"firmware_mhz": report.ClockMeasured, "load1": report.Load1, "vcore_v": report.CoreVolts,
	}
	want := map[placed]int64{}
	var first float64
	before := int64(-1)
	for i, line := range lines[1:] {
		cells := strings.Split(strings.TrimSpace(line), ",")
		at, err := strconv.ParseFloat(cells[0], 64)
		if err != nil {
			stamp, err := time.Parse("2006-01-02 15:04:05.999999", cells[0])
			if err != nil {
				t.Fatal(err)
			}
			at = float64(stamp.UnixMicro()) / 1e6
		}
		if i == 0 {
			first = at
		}
		ms := max(int64((at-first)*1000), before+1)
		before = ms
		for j, name := range names {
			if m := metrics[name]; m != 0 && cells[j] != "" {
				v, err := strconv.ParseFloat(cells[j], 64)
				if err != nil {
					t.Fatal(err)
				}
				d := report.Define(m)
				scale := map[report.Metric]float64{report.ClockRequested: 1e6, report.ClockMeasured: 1e6}[m]
				base := v * max(scale, 1)
				want[placed{report.Series{Metric: m}, ms}] = int64(base/d.Multiply*d.Divide + 0.5)
			}
		}
	}
	return want
}

// compare wants exactly the recording, its last row between two times, which
// clocks that agree to the millisecond may say differently by one.
func compare(t *testing.T, c *collector, want map[placed]int64, from, to time.Time) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var end, lastWant int64
	for k := range c.values {
		end = max(end, k.at)
	}
	for k := range want {
		lastWant = max(lastWant, k.at)
	}
	if end < from.UnixMilli()-1 || end > to.UnixMilli()+1 {
		t.Errorf("last row at %v, want %v to %v", time.UnixMilli(end), from, to)
	}
	if len(c.values) != len(want) || c.moved > 0 {
		t.Errorf("%d readings arrived, want %d; %d changed", len(c.values), len(want), c.moved)
	}
	missing := 0
	for k, v := range want {
		found := false
		for off := int64(-1); off <= 1 && !found; off++ { // the test rounds times in its own way
			got, ok := c.values[placed{k.series, end - lastWant + k.at + off}]
			found = ok && got == v
		}
		if !found {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d readings did not come back with their value and time", missing, len(want))
	}
}

func TestReplayOfEveryRecording(t *testing.T) {
	for _, path := range recordingFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c := newCollector(t)
			dir := enrolled(t, c)
			start := time.Now()
			code, out, errs := command(t, "replay", path, "--state-dir", dir)
			if code != 0 || out != "" {
				t.Fatalf("exit %d, stdout %q, stderr %q", code, out, errs)
			}
			compare(t, c, expected(t, path), start, time.Now())
			c.until("a goodbye", func() bool { return c.goodbyes == 1 })
		})
	}
}

const smallRecording = `t_s,requested_mhz,firmware_mhz,load1,cpu_pct,temp_c,vcore_v
0,1200,1200,1.16,0,58.0,1.3188
20,1200,1200,1.16,0,,1.3188
41,1200,657,4.18,100,83.8,1.3188
`

func writeRecording(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "board.csv")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReplayAtSpeed(t *testing.T) {
	c := newCollector(t)
	dir, path := enrolled(t, c), writeRecording(t, smallRecording)
	start := time.Now()
	code, _, errs := command(t, "replay", "--speed", "41", path, "--state-dir", dir)
	if took := time.Since(start); code != 0 || took < 990*time.Millisecond {
		t.Fatalf("exit %d after %v: %s", code, took, errs)
	}
	if !strings.Contains(errs, `ignored: "cpu_pct"`) {
		t.Errorf("stderr %q", errs)
	}
	want := map[placed]int64{}
	for k, v := range expected(t, path) {
		want[placed{k.series, k.at / 41}] = v
	}
	compare(t, c, want, start.Add(time.Second), time.Now())
}

func TestReplayRidesOutACollectorThatGoesAway(t *testing.T) {
	c := newCollector(t)
	c.keepAcks = true
	dir, path := enrolled(t, c), writeRecording(t, smallRecording)
	finished := make(chan int)
	var errs output
	start := time.Now()
	go func() {
		finished <- exitCode(run(t.Context(), []string{"replay", path, "--state-dir", dir}, &errs, &errs), &errs)
	}()
	c.until("the first report", func() bool { return len(c.values) > 0 })
	began := time.Now()
	c.stop()
	c.mu.Lock()
	c.keepAcks, c.loseAcks = false, 1
	c.mu.Unlock()
	c.start()
	if code := <-finished; code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	compare(t, c, expected(t, path), start, began)
}

func TestReplayStopsOnASignalWithAnError(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.keepAcks = true
	dir, path := enrolled(t, c), writeRecording(t, smallRecording)
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan int)
	var errs output
	go func() {
		finished <- exitCode(run(ctx, []string{"replay", path, "--state-dir", dir}, &errs, &errs), &errs)
	}()
	c.until("the first report", func() bool { return len(c.values) > 0 })
	cancel()
	if code := <-finished; code != 1 || !strings.Contains(errs.String(), "14 readings unacknowledged") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestBadRecordingsEndWithOneLine(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		path := writeRecording(t, text)
		code, out, errs := command(t, "replay", path, "--state-dir", t.TempDir())
		if code != 1 || out != "" || !strings.Contains(errs, path+": "+want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want %q", text, code, out, errs, want)
		}
	}
	f("", "line 1: the file is empty")
	f(" \r\n\n", "line 1: the file is empty")
	f("t_s,temp_c\n", "line 1: no rows behind the header")
	f("\x7fELF\x02\x01\x00\x00", "line 1: not text")
	f("t_s,temp_c\n0,40\n\xff\xfe,1\n", "line 3: not text")
	f("time,temp_c\n0,40\n", "line 1: no column t_s or datetime")
	f("t_s,heat\n0,40\n", "line 1: no column with readings")
	f("t_s,temp,temp_c\n0,40,40\n", "line 1: columns temp and temp_c say the same")
	f("t_s,datetime,temp\n0,0,40\n", "line 1: two columns of time")
	f("t_s,temp_c,load1\n0,40,1\n10,41", "line 3: cut off: 2 of 3 columns")
	f("t_s,temp_c,load1\n0,40,1\n10,41\n", "line 3: 2 columns, the header has 3")
	f("t_s,temp_c\n0,40\n10,hot\n", `line 3, column temp_c: "hot" is not a number`)
	f("t_s,temp_c\n0,40\n10,NaN\n", `line 3, column temp_c: "NaN" is not a number`)
	f("t_s,temp_c\n0,40\n10,4000\n", `line 3, column temp_c: "4000" is beyond`)
	f("t_s,temp_c\n0,40\n,41\n", `line 3, column t_s: "" is not a number`)
	f("t_s,temp_c\n10,40\n9.9,41\n", "line 3, column t_s: the time is earlier")
	f("datetime,temp\nyesterday,41\n", `line 2, column datetime: "yesterday" is not a date`)
	f("t_s,temp_c\n0,\"40\n", "line 2: ")
}

func TestADirectoryIsNoRecording(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := command(t, "replay", dir, "--state-dir", dir); code != 1 || !strings.Contains(errs, dir) {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
}

func FuzzParseRecording(f *testing.F) {
	f.Add([]byte(smallRecording))
	f.Add([]byte("datetime,temp\r\n2020-07-29 06:12:38.620239,46.698\r\n"))
	f.Add([]byte("t_s,temp_c\n0,\"40"))
	f.Add([]byte("\xef\xbb\xbft_s,load1\n-1e9,0\n1e9,1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecording(b)
		if err != nil {
			if text := err.Error(); !strings.HasPrefix(text, "line ") || strings.Contains(text, "\n") {
				t.Errorf("error %q", text)
			}
			return
		}
		for i, row := range r.rows {
			if i > 0 && row.At.Milliseconds() <= r.rows[i-1].At.Milliseconds() || row.At < 0 || row.At > longest+time.Hour {
				t.Errorf("row %d at %v", i, row.At)
			}
		}
	})
}

func TestBrokenStateIsSaid(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		c := newCollector(t)
		dir := enrolled(t, c)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), fs.FileMode(0o600)); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := command(t, "run", "--state-dir", dir); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s %q: exit %d, stderr %q", name, text, code, errs)
		}
	}
	f(identity.KeyFile, "SUAnonsense", "remove it and enrol again")
	f(identity.EnrolmentFile, "{", "enrol again")
	f(identity.EnrolmentFile, `{"url":"nats://x","board":"UPPER","pin":""}`, "enrol again")
	f(identity.EnrolmentFile, `{"url":"nats://x","board":"b","colour":"red"}`, "colour")
}
