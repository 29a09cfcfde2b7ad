package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// crew is how many processes of each program BenchmarkFloor runs: its figures are medians.
const crew = 5

// settled is how long programs run before they are measured: a minute after its
// start the sensor gives back memory once, and takes back as much as it needs.
const settled = 100 * time.Second

// contender is one of those that BenchmarkFloor compares.
type contender struct {
	name string
	runs []*process
	at   [2][]cost // when all have settled, and at the end
}

// BenchmarkFloor measures this sensor beside programs that do next to nothing in
// the same rhythm (testdata/floor): with a TLS connection, with the sensor's
// client library on it, and each also with the sensor's files of this machine. BRAMBLE_BENCH_BUILDS names other builds of the sensor to stand beside
// them, parted by colons, and BRAMBLE_BENCH_TIME the time of each rate, behind one
// in which all settle.
//
//	BRAMBLE_BENCH_TIME=3m go test -run xxx -bench Floor -benchtime 1x ./collector/e2e
func BenchmarkFloor(b *testing.B) {
	for _, interval := range []time.Duration{10 * time.Second, time.Second} {
		b.Run(interval.String(), func(b *testing.B) {
			s := newServer(b, "127.0.0.1")
			sensor, floor, sysfs := target{runtime.GOARCH, ""}.build(b), filepath.Join(b.TempDir(), "floor"), boardTree(b)
			target{runtime.GOARCH, ""}.compile(b, floor, "bramble/collector/e2e/testdata/floor")
			var all []*contender
			for _, path := range append([]string{sensor}, strings.FieldsFunc(os.Getenv("BRAMBLE_BENCH_BUILDS"), func(r rune) bool { return r == ':' })...) {
				p := &contender{name: "sensor " + filepath.Base(path)}
				for i := range crew {
					board := s.enrol(fmt.Sprintf("pi-%d-%d", len(all), i), s.nats)
					p.runs = append(p.runs, prepare(path, "run", "--state-dir", board.state, "--interval", interval.String(), "--sysfs-root", sysfs))
				}
				all = append(all, p)
			}
			all = append(all, floors(floor, interval, "tls://"+newSecureSink(b), "nats://"+newSecureBroker(b))...)
			for b.Loop() {
				compareBuilds(b, all, benchTime(b))
			}
		})
	}
}

// sensorFiles are those that a sensor reads in each tick at the default rate,
// hotFiles as many of them as it reads in each at 1 Hz.
var (
	sensorFiles = append(hotFiles,
		"/proc/stat", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/sys/class/net/lo/carrier_changes")
	hotFiles = []string{"/proc/sys/fs/pipe-max-size", "/proc/sys/fs/inotify/max_queued_events", "/proc/sys/vm/laptop_mode"}
)

// floors returns the four floors, whose ticks are spread over the interval.
func floors(program string, interval time.Duration, tlsURL, natsURL string) []*contender {
	files := sensorFiles
	if interval == time.Second {
		files = hotFiles
	}
	all := []*contender{{name: "timer and TLS"}, {name: "timer, TLS and files"},
		{name: "timer and client library"}, {name: "timer, client library and files"}}
	for i := range crew {
		for k, f := range all {
			phase := interval * time.Duration(i*len(all)+k) / time.Duration(crew*len(all))
			argv := []string{program, []string{tlsURL, natsURL}[k/2], interval.String(), phase.String()}
			if k%2 == 1 {
				argv = append(argv, files...)
			}
			f.runs = append(f.runs, prepare(argv...))
		}
	}
	return all
}

// compareBuilds runs all programs at the same time and prints their cost.
func compareBuilds(b *testing.B, all []*contender, d time.Duration) {
	for i := range crew {
		for _, p := range all {
			p.runs[i].begin(b)
		}
	}
	for i, wait := range []time.Duration{settled, d} {
		after(b, wait)
		for _, p := range all {
			for _, r := range p.runs {
				p.at[i] = append(p.at[i], measure(b, r.cmd.Process.Pid))
			}
		}
	}
	fmt.Printf("\n| %v, medians of %d | CPU s/h | switches/s | resident MB |\n|---|---|---|---|\n", d, crew)
	for _, p := range all {
		cpu := p.median(func(from, to cost) float64 { return (to.cpu - from.cpu).Seconds() / to.at.Sub(from.at).Hours() })
		switches := p.median(func(from, to cost) float64 {
			return float64(to.switches-from.switches) / to.at.Sub(from.at).Seconds()
		})
		resident := p.median(func(_, to cost) float64 { return float64(to.resident) * 1024 / 1e6 })
		fmt.Printf("| %s | %.3f | %.2f | %.1f |\n", p.name, cpu, switches, resident)
		b.ReportMetric(cpu, strings.NewReplacer(", ", "-", " ", "-").Replace(p.name)+"-CPU-s/h")
		for _, r := range p.runs {
			r.kill()
		}
	}
}

// median returns the middle of f's values for the program's processes.
func (p *contender) median(f func(from, to cost) float64) float64 {
	var values []float64
	for i := range p.runs {
		values = append(values, f(p.at[0][i], p.at[1][i]))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// newSecureSink returns the address of a TLS server that reads all and says nothing.
func newSecureSink(b *testing.B) string {
	b.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", certified())
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { drain(c) })
		}
	})
	b.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

// newSecureBroker returns the address of a NATS server with TLS to which nobody
// subscribes.
func newSecureBroker(b *testing.B) string {
	b.Helper()
	s, err := broker.NewServer(&broker.Options{
		Host: "127.0.0.1", Port: broker.RANDOM_PORT, NoSigs: true, NoLog: true,
		PingInterval: time.Hour, TLSConfig: certified(),
	})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.Addr().String()
}

// certified is a server's TLS configuration with a certificate that nobody checks.
func certified() *tls.Config {
	s := httptest.NewTLSServer(nil)
	s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
}

// drain reads until the other end is gone.
func drain(c net.Conn) {
	defer c.Close()
	_, _ = io.Copy(io.Discard, c)
}
