package soc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

var scratch = make([]byte, 64<<10)

// The boards that have each source, and the series that the sources give together, are tested in pisensor, on
// trees of files.

func TestThrottledKeepsTheBitsOfNow(t *testing.T) {
	f := func(in string, want int64, ok bool) {
		t.Helper()
		if got, err := parseThrottled([]byte(in)); (err == nil) != ok || ok && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	f("0\n", 0, true)
	f("50005\n", 5, true)
	f("60006\n", 6, true)
	f("80008\n", 8, true)
	f("f0000\n", 0, true) // it has been: it is not
	f("", 0, false)
	f("-1\n", 0, false)
	f("100000000\n", 0, false)
}

func FuzzThrottled(f *testing.F) {
	f.Add([]byte("60006\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseThrottled(b); err == nil && (v < 0 || v > 15) {
			t.Errorf("%q: %d", b, v)
		}
	})
}

func TestModelAndRevision(t *testing.T) {
	f := func(parse func([]byte) (string, error), in, want string, ok bool) {
		t.Helper()
		if got, err := parse([]byte(in)); got != want || (err == nil) != ok {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	const cpuinfo = "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n\nHardware\t: BCM2835\nRevision\t: 000e\nSerial\t\t: 0000000000000000\nModel\t\t: Raspberry Pi Model B Rev 2\n"
	f(model, "Raspberry Pi 4 Model B Rev 1.4\x00", "Raspberry Pi 4 Model B Rev 1.4\x00", true)
	f(model, cpuinfo, "Raspberry Pi Model B Rev 2", true)
	f(model, "processor\t: 0\nmodel name\t: some other processor\n", "", false)
	f(revision, "\x00\xd0\x31\x14", "d03114", true)
	f(revision, "\x00\x00\x00\x0e", "000e", true)
	f(revision, cpuinfo, "000e", true)
	f(revision, "Revision\t: none\n", "", false)
	f(revision, "\x00\x00", "", false)
}

// TestCPUInfoOfRealBoards reads the files of real boards, where they lie beside the source. The revision's
// second digit group names the model, so that one checks the other.
func TestCPUInfoOfRealBoards(t *testing.T) {
	const dir = "../../../shared/data/cpuinfo"
	files, err := filepath.Glob(filepath.Join(dir, "*.cpuinfo"))
	if err != nil || len(files) == 0 {
		t.Skipf("no cpuinfo of real boards in %s", dir)
	}
	types := map[string]string{ // raspberrypi.com, "New-style revision codes", bits 4–11
		"04": "2 Model B", "08": "3 Model B", "09": "Zero", "0d": "3 Model B Plus", "11": "4 Model B", "12": "Zero 2", "17": "5 Model B",
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, errM := model(b)
		r, errR := revision(b)
		if errM != nil || errR != nil {
			t.Errorf("%s: %v, %v", file, errM, errR)
			continue
		}
		want := "Raspberry Pi Model B Rev 2" // old-style code 000e
		if len(r) == 6 {
			want = "Raspberry Pi " + types[r[3:5]] + " Rev 1." + r[5:]
		}
		if m != want {
			t.Errorf("%s: revision %s is a %q, the model says %q", file, r, want, m)
		}
	}
}

func FuzzModelAndRevision(f *testing.F) {
	f.Add([]byte("Revision\t: 000e\nModel\t\t: Raspberry Pi Model B Rev 2\n"))
	f.Add([]byte("\x00\xa0\x20\x82"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := revision(b); err == nil {
			if _, err := source.Hex([]byte(v)); err != nil {
				t.Errorf("%q: revision %q", b, v)
			}
		}
		model(b)
	})
}

// TestWrongMailboxes has something else in the device's place. No test can
// have the real one; pisensor's plays the firmware behind the system call.
func TestWrongMailboxes(t *testing.T) {
	f := func(name string, make func(path string) error, want error) {
		t.Helper()
		dir := t.TempDir()
		if err := make(filepath.Join(dir, "vcio")); err != nil {
			t.Fatal(err)
		}
		m := newMailbox(source.Roots{Devfs: dir})
		defer m.Close()
		var tick report.Tick
		if err := m.Read(&tick, scratch); !errors.Is(err, want) || len(tick.Readings) > 0 {
			t.Errorf("%s: %v, %v; want %v", name, tick.Readings, err, want)
		}
	}
	f("none", func(string) error { return nil }, source.ErrAbsent)
	f("a file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, errNoDevice)
	f("a pipe", func(p string) error { return unix.Mkfifo(p, 0o600) }, errNoDevice)
	f("no permission", func(p string) error { return os.Symlink("/proc/sys/vm/compact_memory", p) }, errGroup)
}

// asked reports whether a device has been found, and has not understood.
func asked(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed) && failed.Op == "ask"
}

// TestAMailboxMayComeLate has the driver's device appear after the start.
func TestAMailboxMayComeLate(t *testing.T) {
	dir := t.TempDir()
	m := newMailbox(source.Roots{Devfs: dir})
	defer m.Close()
	var tick report.Tick
	for range 100 {
		if err := m.Read(&tick, scratch); !errors.Is(err, source.ErrAbsent) {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/null", filepath.Join(dir, "vcio_gencmd")); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := m.Read(&tick, scratch); asked(err) {
			return
		}
	}
	t.Error("not found")
}

// TestWatch gets a change from the kernel itself. The file is one of a control group, which signals by the
// same means as hwmon (kernfs), and which a test can change where it may.
func TestWatch(t *testing.T) {
	dir := controlGroup(t)
	wake := make(chan struct{}, 1)
	w, err := startWatch(filepath.Join(dir, "cgroup.events"), wake)
	if err != nil {
		t.Fatal(err)
	}
	frozen := func(v string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"1", "0", "1"} {
		frozen(v)
		<-wake
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	frozen("0")
	select {
	case <-wake:
		t.Error("woken after the end")
	default:
	}
}

// controlGroup makes an empty control group, or skips.
func controlGroup(t *testing.T) string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := filepath.Join(root, fmt.Sprintf("pisensor-test-%d", os.Getpid()))
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
			continue
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skip("no control group can be made here: ", err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err != nil {
			t.Skip("the kernel's control groups cannot be frozen: ", err)
		}
		return dir
	}
	t.Skip("no control groups of version 2 are mounted here")
	return ""
}

// TestAWatchEndsWithItsFile has files that cannot be polled.
func TestAWatchEndsWithItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in0_lcrit_alarm")
	if err := os.WriteFile(path, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := startWatch(path, make(chan struct{}, 1))
	if err != nil {
		t.Fatal(err)
	}
	<-w.ended
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := startWatch(path+"x", nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestADipBetweenTwoReads: an alarm that is over when it is read was up all the same, once.
func TestADipBetweenTwoReads(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "class/hwmon/hwmon0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte("rpi_volt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const calm = "/proc/sys/vm/panic_on_oom" // a file of the kernel's that can be polled for nothing and says 0
	if b, err := os.ReadFile(calm); err != nil || string(b) != "0\n" {
		t.Skipf("%s says %q, %v", calm, b, err)
	}
	if err := os.Symlink(calm, filepath.Join(dir, "in0_lcrit_alarm")); err != nil {
		t.Fatal(err)
	}
	u := newUnderVoltage(source.Roots{Sysfs: root})
	defer u.Close()
	u.settled = true
	read := func(bits, want, fault int64) {
		t.Helper()
		var tick report.Tick
		if bits >= 0 {
			tick.Add(report.Throttled, bits)
		}
		if err := u.Read(&tick, scratch); err != nil {
			t.Fatal(err)
		}
		metric := report.Throttled
		if bits < 0 {
			metric = report.UnderVoltage
		}
		if got := tick.Readings[source.Index(&tick, metric)].Value; got != want {
			t.Errorf("bits %d: got %d, want %d", bits, got, want)
		}
		if got := tick.Readings[source.Index(&tick, report.SupplyFault)].Value; got != fault {
			t.Errorf("bits %d: fault %d, want %d", bits, got, fault)
		}
	}
	read(4, 4, 0)
	read(-1, 0, 0)
	u.watch.raised.Store(true)
	read(4, 5, report.SupplyDipped)
	read(4, 4, 0)
	u.watch.raised.Store(true)
	read(-1, 1, report.SupplyDipped)
	read(-1, 0, 0)
	u.watch.raised.Store(true)
	read(5, 5, report.SupplyLow)
}

// TestAChangeIsRemembered: a watch that sees the alarm rise and fall says that it rose, whenever it is asked.
func TestAChangeIsRemembered(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "in0_lcrit_alarm"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var raised atomic.Bool
	c, wake := content{raised: &raised}, make(chan struct{}, 1)
	for i, says := range []string{"0\n", "1\n", "0\n"} {
		if _, err := f.WriteAt([]byte(says), 0); err != nil {
			t.Fatal(err)
		}
		c.look(f.Fd(), wake)
		if raised.Load() != (i > 0) {
			t.Errorf("after %q: raised is %v", says, raised.Load())
		}
	}
}
