package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkADayAway reports the sensor's memory after 24 h without a
// collector, at the default rate: its spool is then as full as a day makes it.
//
// It runs in Debian's kernel on an emulated ARM processor whose clock counts
// instructions (2 ns each) and jumps ahead whenever the kernel has nothing to
// do (QEMU's -icount sleep=off), so that a day passes in about two minutes. Its
// temperature and clock change before every tick, load and memory are those of
// that kernel. The sensor was never connected: the memory of TLS is not in the
// figure.
func BenchmarkADayAway(b *testing.B) {
	const day = 24 * time.Hour
	k := newKernel(b)
	s := newServer(b, "127.0.0.1")
	for _, g := range []target{{"arm", "6"}, {"arm64", ""}} {
		b.Run(g.String(), func(b *testing.B) {
			f := files{"etc/os-release": []byte("PRETTY_NAME=\"Initramfs of a benchmark\"\n")}
			f.add(b, "pisensor", g.build(b))
			for name, content := range boardFiles {
				f["board/"+name] = []byte(content)
			}
			state := s.enrol("pi-"+g.String(), s.nats).state
			for _, name := range stateFiles(b, state) {
				f.add(b, "state/"+name, filepath.Join(state, name))
			}
			image := k.image(b, f)
			for b.Loop() {
				p := k.prepare(b, image, []string{"console=ttyAMA0", "BOARD_AWAY=" + day.String()},
					"-M", "virt", "-cpu", "cortex-a53", "-m", "512", "-icount", "shift=1,sleep=off", "-nic", "none")
				p.begin(b)
				if code := p.exit(b, 10*time.Minute); code != 0 {
					b.Fatalf("QEMU ended with %d: %s%s", code, p.out, p.errs)
				}
				report := p.says(b, p.out, "board: away for 24h0m0s, used ")
				used, err := time.ParseDuration(strings.TrimSpace(report))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(used/(2*time.Nanosecond))/24/1e6, "Minstructions/h")
				for _, name := range []string{"VmRSS", "VmHWM", "RssAnon"} {
					b.ReportMetric(float64(kibibytes(b, p, name)), "KiB-"+name)
				}
			}
		})
	}
}

// kibibytes finds a line of /proc/PID/status that the board has printed.
func kibibytes(b *testing.B, p *process, name string) int {
	b.Helper()
	fields := strings.Fields(p.says(b, p.out, "status "+name+":"))
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func stateFiles(b *testing.B, dir string) (names []string) {
	b.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
