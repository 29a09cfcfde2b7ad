package e2e

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kernelDirectory names the directory of an unpacked Debian arm64 kernel
// package (linux-image-*-arm64, dpkg-deb -x).
const kernelDirectory = "BRAMBLE_PI_KERNEL"

// bootTime bounds an emulated board's way from power-on to the first report;
// 9 to 12 s are usual on an idle machine. Where it is too short once, the board
// is switched on again.
const bootTime = 90 * time.Second

// drivers are the modules that an emulated Zero 2 W needs, in the order in
// which they depend on each other: the watchdog restarts it, USB is its network.
var drivers = []string{
	"bcm2835_wdt", "bcm2835_thermal", "bcm2835-rng", "phy-generic", "usb-common", "usbcore", "roles", "udc-core", "dwc2",
	"mii", "usbnet", "cdc_ether",
}

// piKernel is a kernel with its device trees and modules.
type piKernel struct {
	root string
}

// newKernel returns the kernel that the environment names, or skips the test.
func newKernel(t testing.TB) piKernel {
	t.Helper()
	root := os.Getenv(kernelDirectory)
	if root == "" {
		lacking(t, "%s names no unpacked linux-image-*-arm64 package", kernelDirectory)
	}
	return piKernel{root}
}

// find returns the one file that matches a pattern.
func (k piKernel) find(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(k.root, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s holds %d files %s, want 1: is it an unpacked linux-image-*-arm64 package?", k.root, len(found), pattern)
	}
	return found[0]
}

// version is the kernel's release.
func (k piKernel) version(t testing.TB) string {
	t.Helper()
	return strings.TrimPrefix(filepath.Base(k.find(t, "boot/vmlinuz-*")), "vmlinuz-")
}

// modules returns the files of the drivers.
func (k piKernel) modules(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(k.root, "lib/modules"), func(path string, _ os.DirEntry, err error) error {
		if name, is := strings.CutSuffix(filepath.Base(path), ".ko"); is {
			found[name] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// files are the contents of an initramfs beside testdata/boardinit, by name.
type files map[string][]byte

func (f files) add(t testing.TB, name, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f[name] = b
}

// image writes an initramfs that boots into testdata/boardinit. Everything in
// it may be executed.
func (k piKernel) image(t testing.TB, f files) string {
	t.Helper()
	dir := t.TempDir()
	target{"arm64", ""}.compile(t, filepath.Join(dir, "init"), "bramble/collector/e2e/testdata/boardinit")
	f.add(t, "init", filepath.Join(dir, "init"))
	var a initramfs
	for _, name := range []string{"dev", "proc", "sys"} {
		a.directory(name)
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		a.file(name, 0o755, f[name])
	}
	path := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(path, a.bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// board returns the contents of a board's image: a sensor and the drivers.
func (k piKernel) board(t testing.TB, pisensor string) files {
	t.Helper()
	f := files{"etc/os-release": []byte("PRETTY_NAME=\"Initramfs of a test\"\n"), "modules/order": []byte(strings.Join(drivers, "\n"))}
	f.add(t, "pisensor", pisensor)
	found := k.modules(t)
	for _, name := range drivers {
		f.add(t, "modules/"+name, found[name])
	}
	return f
}

// machine is an emulated board that is switched on.
type machine struct {
	*process
	console io.Writer
	said    string // about the start
}

// power switches a Zero 2 W on. It has no clock of its own, one processor and
// one USB network, in which the host's loopback is 10.0.2.2.
func (k piKernel) power(t testing.TB, image string, environment ...string) (*machine, error) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { write.Close() })
	m := &machine{console: write, process: k.prepare(t, image,
		append([]string{"console=ttyS1,115200", "maxcpus=1", "initcall_blacklist=bcm2835_power_driver_init"}, environment...),
		"-M", "raspi3ap", "-dtb", k.find(t, "usr/lib/linux-image-*/broadcom/bcm2837-rpi-zero-2-w.dtb"),
		"-serial", "null", "-netdev", "user,id=n0", "-device", "usb-net,netdev=n0")}
	m.cmd.Stdin = read
	m.begin(t)
	read.Close()
	m.said, err = m.heard(m.out, "board: in ", bootTime)
	return m, err
}

// prepare returns QEMU with this kernel, whose console is its standard output.
func (k piKernel) prepare(t testing.TB, image string, arguments []string, machine ...string) *process {
	t.Helper()
	arguments = append([]string{"rdinit=/init", "panic=1"}, arguments...)
	argv := append([]string{emulator(t, "qemu-system-aarch64", "qemu-system-arm")}, machine...)
	return prepare(append(argv, "-kernel", k.find(t, "boot/vmlinuz-*"), "-initrd", image, "-append", strings.Join(arguments, " "),
		"-serial", "stdio", "-display", "none", "-monitor", "none", "-no-reboot")...)
}

// boot switches a board on, twice where the first time takes too long.
func (k piKernel) boot(t testing.TB, image string, environment ...string) *machine {
	t.Helper()
	m, err := k.power(t, image, environment...)
	if err != nil {
		m.kill()
		t.Logf("once more, since: %v", err)
		m, err = k.power(t, image, environment...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ask writes a line to the board's console.
func (m *machine) ask(t testing.TB, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(m.console, format+"\n", args...); err != nil {
		t.Fatal(err)
	}
}

// degrees finds the temperature in a line of the board's, in °C.
func degrees(t testing.TB, line string) float64 {
	t.Helper()
	_, behind, _ := strings.Cut(line, "at ")
	number, _, _ := strings.Cut(behind, " m°C")
	v, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("no temperature in %q", line)
	}
	return float64(v) / 1000
}

// TestBoardBoots boots Debian's kernel on an emulated board, twice: first with
// the sensor of a 64-bit system, then, installed anew, with the one for every
// model. The value of the kernel's own thermal driver arrives, at the right time
// although the board's clock stands in 1970, and follows when it changes.
func TestBoardBoots(t *testing.T) {
	endurance(t)
	t.Parallel()
	k := newKernel(t)
	s := newServer(t, "127.0.0.1")
	s.do("", "board", "add", "pi-1", "--label", "rack=r1")
	_, port, _ := strings.Cut(s.nats, ":")
	began := time.Now()
	for _, g := range []target{{"arm64", ""}, {"arm", "6"}} {
		on := time.Now()
		image := k.image(t, k.board(t, g.build(t)))
		m := k.boot(t, image, "BOARD_URL=nats://10.0.2.2:"+port, "BOARD_TOKEN="+s.do("", "board", "token", "pi-1"))
		t.Logf("%v: booted after %v", g, time.Since(on).Round(time.Millisecond))
		if !strings.HasPrefix(m.said, "1970,") || !strings.Contains(m.said, "runs as pi-1") {
			t.Errorf("%v: the board said %q", g, m.said)
		}
		s.lives(t, m, g, k.version(t))
		m.ask(t, "stop")
		m.says(t, m.out, "board: pisensor ended: exit status 0")
		if code := m.exit(t, patience); code != 0 {
			t.Errorf("%v: QEMU ended with %d: %s", g, code, m.out)
		}
		eventually(t, patience, func() error {
			if s.up("pi-1") {
				return fmt.Errorf("%v: the board said goodbye and is up", g)
			}
			return nil
		})
	}
	s.between(t, "pi-1", began, time.Now())
}

// lives checks the readings of a booted board.
func (s *server) lives(t testing.TB, m *machine, g target, kernel string) {
	t.Helper()
	first := degrees(t, m.said)
	s.shows("pi-1", map[string]float64{
		"pi_soc_temperature_celsius": first,
		fmt.Sprintf("pi_info{model=%q,kernel=%q,os=%q}", "Raspberry Pi Zero 2 W", kernel, "Initramfs of a test"): 1,
	})
	m.ask(t, "offset %d", 450_000)
	hot := degrees(t, m.says(t, m.out, "board: with offset 450000 "))
	if hot <= first {
		t.Errorf("%v: %v °C after %v °C and a larger offset", g, hot, first)
	}
	s.shows("pi-1", map[string]float64{"pi_soc_temperature_celsius": hot})
	for _, series := range []string{"pi_memory_available_bytes", "pi_cpu_busy_seconds_total", `pi_network_receive_bytes_total{device="usb0"}`} {
		eventually(t, patience, func() error {
			got, err := s.query(ofBoard(series, "pi-1"))
			if err == nil && (len(got) != 1 || got[0].value <= 0) {
				err = fmt.Errorf("%v: %s is %v", g, series, got)
			}
			return err
		})
	}
	before, err := s.ticks("pi-1")
	if err != nil {
		t.Fatal(err)
	}
	s.grows("pi-1", before, 3)
	if !s.up("pi-1") {
		t.Errorf("%v: the board reports and is not up", g)
	}
}

// up returns a board's state on the fleet's page.
func (s *server) up(name string) bool {
	s.t.Helper()
	var answer struct {
		Boards []struct {
			Name string
			Up   bool
		}
	}
	if err := s.json("api/boards", &answer); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range answer.Boards {
		if b.Name == name {
			return b.Up
		}
	}
	s.t.Fatalf("no board %s", name)
	return false
}

// between checks that all of a board's temperatures were taken in a time.
func (s *server) between(t testing.TB, name string, from, to time.Time) {
	t.Helper()
	series, err := s.export(ofBoard("pi_soc_temperature_celsius", name), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range series {
		for _, at := range one.Timestamps {
			if at < from.UnixMilli() || at > to.UnixMilli() {
				t.Errorf("a temperature of %v, want %v to %v", time.UnixMilli(at), from, to)
			}
		}
	}
}
