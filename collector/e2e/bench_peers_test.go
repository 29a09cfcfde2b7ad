package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// benchTime is how long agents are compared. BRAMBLE_BENCH_TIME sets another
// time: the figures of docs/benchmarks.md are those of 1h.
func benchTime(b *testing.B) time.Duration {
	b.Helper()
	text := os.Getenv("BRAMBLE_BENCH_TIME")
	if text == "" {
		return 10 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 2*warmUp {
		b.Fatalf("BRAMBLE_BENCH_TIME=%q: use a time of %v or more, such as 1h", text, 2*warmUp)
	}
	return d
}

// warmUp is how much of the beginning one of the figures leaves out.
const warmUp = time.Minute

// BenchmarkPeers compares the cost of agents on this machine, all at the same
// time: this sensor at 10 s and at 1 Hz with TLS to a real collector, and those
// peers that are installed, each sending or asked every 10 s. It prints a table.
//
//	go test -run xxx -bench Peers -benchtime 1x -timeout 2h ./collector/e2e
func BenchmarkPeers(b *testing.B) {
	s := newServer(b, "127.0.0.1")
	agents := []*agent{s.sensor(b, "pi-10s", 10*time.Second), s.sensor(b, "pi-1s", time.Second)}
	agents = append(agents, peers(b)...)
	for b.Loop() {
		compare(b, s, agents, benchTime(b))
	}
}

// boardFiles are the files below /sys that a board has and an ordinary machine has not,
// in the kernel's formats.
var boardFiles = map[string]string{
	"class/thermal/thermal_zone0/type":                    "cpu-thermal\n",
	"class/thermal/thermal_zone0/temp":                    "46698\n",
	"devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1000000\n",
	"devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1000000\n",
	"devices/platform/soc/soc:firmware/get_throttled":     "0\n",
}

// likeBoardFiles are files of every Linux kernel with numbers of that size: the
// sensor keeps the kernel's own files open, and opens others for each reading.
var likeBoardFiles = map[string]string{
	"class/thermal/thermal_zone0/temp":                    "/proc/sys/fs/inotify/max_queued_events", // 16384
	"devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "/proc/sys/fs/pipe-max-size",             // 1048576
	"devices/system/cpu/cpufreq/policy0/scaling_max_freq": "/proc/sys/fs/pipe-max-size",
	"devices/platform/soc/soc:firmware/get_throttled":     "/proc/sys/vm/laptop_mode", // 0
}

// boardTree makes a board's /sys of them, with this machine's network devices.
func boardTree(b *testing.B) string {
	b.Helper()
	root := b.TempDir()
	tree(b, root, boardFiles)
	for name, kernels := range likeBoardFiles {
		path := filepath.Join(root, name)
		if text, err := os.ReadFile(kernels); err != nil || len(text) > len(boardFiles[name]) || text[0] == '0' != (boardFiles[name] == "0\n") {
			b.Fatalf("%s holds %q (%v): want a number like %q", kernels, text, err, boardFiles[name])
		}
		if err := errors.Join(os.Remove(path), os.Symlink(kernels, path)); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Symlink("/sys/class/net", filepath.Join(root, "class/net")); err != nil {
		b.Fatal(err)
	}
	return root
}

// sensor returns this project's agent, built as it is released and enrolled
// through a proxy that counts.
func (s *server) sensor(b *testing.B, name string, interval time.Duration) *agent {
	b.Helper()
	m := newMeter(b, s.nats)
	enrolled := s.enrol(name, m.address)
	path, sysfs := target{runtime.GOARCH, ""}.build(b), boardTree(b)
	a := &agent{
		name:  fmt.Sprintf("pisensor, %v", interval),
		reads: "temperature, requested and maximum clock and throttle bits from kernel files with numbers of that size, all else from this machine's /proc; TLS",
		start: func(t testing.TB, a *agent) {
			m.bytes.Store(0) // enrolment is once in a board's life
			a.process = spawn(t, path, "run", "--state-dir", enrolled.state, "--interval", interval.String(), "--sysfs-root", sysfs)
		},
		wire: m.bytes.Load,
	}
	a.readings = func() int64 { _, sent := s.readings(enrolled.name); return sent }
	return a
}

// readings counts a board's stored samples, and the readings that they came in:
// the four series of the throttle bits travel as one.
func (s *server) readings(name string) (samples, sent int64) {
	s.t.Helper()
	series, err := s.export(fmt.Sprintf("{board=%q}", name), false)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, one := range series {
		n, reason := int64(len(one.Values)), one.Metric["reason"]
		if slices.Contains(ownSeries, one.Metric["__name__"]) {
			continue
		}
		samples += n
		if reason == "" || reason == report.Reasons[0] {
			sent += n
		}
	}
	return samples, sent
}

// compare runs all agents for a time and prints their cost.
func compare(b *testing.B, s *server, agents []*agent, d time.Duration) {
	began, worked := time.Now(), busy(b)
	var asking sync.WaitGroup
	over := make(chan struct{})
	end := sync.OnceFunc(func() { close(over); asking.Wait() })
	b.Cleanup(end)
	for _, a := range agents {
		a.costs, a.bytes = []cost{{at: time.Now()}}, []int64{0}
		a.start(b, a)
		if a.ask != nil {
			eventually(b, patience, func() error { return a.first() })
			asking.Go(func() { a.askAgain(b, over) })
		}
	}
	look := func() {
		for _, a := range agents {
			select {
			case <-a.done:
				b.Fatalf("%s ended: %s%s", a.name, a.out, a.errs)
			default:
			}
			a.costs, a.bytes = append(a.costs, measure(b, a.cmd.Process.Pid)), append(a.bytes, a.wire())
		}
	}
	after(b, warmUp)
	look()
	after(b, d-time.Since(began))
	look()
	others := busy(b) - worked
	for _, a := range agents {
		others -= a.costs[2].cpu
	}
	us := measure(b, os.Getpid()).cpu + measure(b, s.cmd.Process.Pid).cpu
	end()
	for _, a := range agents {
		a.stop(b, patience)
	}
	eventually(b, patience, func() error { return s.took("pi-10s", "pi-1s") })
	describe(b, agents, time.Since(began), others, us)
}

// first asks an agent that has just started, and says why it does not answer.
func (a *agent) first() error {
	err := a.ask(a)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s%s", a.name, err, a.out, a.errs)
	}
	return err
}

// askAgain asks an agent in its rhythm until the end.
func (a *agent) askAgain(b *testing.B, over <-chan struct{}) {
	tick := time.NewTicker(agentInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.ask(a); err != nil {
				b.Errorf("%s: %v", a.name, err)
			}
		case <-over:
			return
		}
	}
}

// took waits until the store holds all acknowledged readings.
func (s *server) took(boards ...string) error {
	var stored int64
	for _, name := range boards {
		samples, _ := s.readings(name)
		stored += samples
	}
	if taken := int64(s.metric("bramble_readings_total")); stored != taken {
		return fmt.Errorf("%d samples are stored, %d taken", stored, taken)
	}
	return nil
}

// figures are an agent's, as the table has them.
type figures struct {
	cpu, steady      float64 // seconds an hour: all, and without the warm-up
	switches, sleeps float64 // a second, without the warm-up; sleeps are the voluntary ones
	perHour          float64 // bytes on the wire, without the warm-up
	perReading       float64 // bytes, all included
	readings         int64
	now              cost
}

func (a *agent) figures() figures {
	count := a.asked.Load()
	if a.readings != nil {
		count = a.readings()
	}
	first, warm, last := a.costs[0], a.costs[1], a.costs[2]
	all, steady := last.at.Sub(first.at), last.at.Sub(warm.at)
	return figures{
		cpu: last.cpu.Seconds() / all.Hours(), steady: (last.cpu - warm.cpu).Seconds() / steady.Hours(),
		switches: float64(last.switches-warm.switches) / steady.Seconds(), sleeps: float64(last.voluntary-warm.voluntary) / steady.Seconds(),
		perHour:    float64(a.bytes[2]-a.bytes[1]) / steady.Hours(),
		perReading: float64(a.wire()) / float64(max(count, 1)), readings: count, now: last,
	}
}

// describe prints the table and reports the sensor's figures.
func describe(b *testing.B, agents []*agent, d, others, us time.Duration) {
	var t strings.Builder
	fmt.Fprintf(&t, "\n%v on %d cores, %s/%s, all at the same time. Others used %.0f %% of one core meanwhile (of it %.0f s the collector and this harness).\n\n",
		d.Round(time.Second), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, 100*others.Seconds()/d.Seconds(), us.Seconds())
	fmt.Fprintf(&t, "| agent | CPU s/h | without the first %v | resident MB | proportional | own (anonymous) | peak | threads | switches/s | of them waits | bytes/h | readings | bytes a reading |\n", warmUp)
	t.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	mb := func(kib int) float64 { return float64(kib) * 1024 / 1e6 }
	for _, a := range agents {
		f := a.figures()
		switches := fmt.Sprintf("%.2f | %.2f", f.switches, f.sleeps)
		if f.now.forks {
			switches = "its processes end | and are not counted"
		}
		fmt.Fprintf(&t, "| %s | %.3f | %.3f | %.1f | %.1f | %.1f | %.1f | %d | %s | %.0f | %d | %.1f |\n",
			a.name, f.cpu, f.steady, mb(f.now.resident), mb(f.now.proportional), mb(f.now.anonymous), mb(f.now.peak), f.now.threads,
			switches, f.perHour, f.readings, f.perReading)
		name := strings.NewReplacer(", ", "-", " ", "-").Replace(a.name)
		b.ReportMetric(f.cpu, name+"-CPU-s/h")
		b.ReportMetric(mb(f.now.resident), name+"-MB")
		if !f.now.forks {
			b.ReportMetric(f.switches, name+"-switches/s")
		}
		b.ReportMetric(f.perReading, name+"-B/reading")
	}
	t.WriteString("\nWhat they read:\n")
	for _, a := range agents {
		fmt.Fprintf(&t, "- %s: %s.\n", a.name, a.reads)
	}
	fmt.Println(t.String())
}

// BenchmarkBinarySize reports the size of the stripped builds.
func BenchmarkBinarySize(b *testing.B) {
	for b.Loop() {
		for _, g := range []target{{"arm", "6"}, {"arm", "7"}, {"arm64", ""}, {"amd64", ""}} {
			info, err := os.Stat(g.build(b))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/1e6, "MB-"+g.String())
		}
	}
}
