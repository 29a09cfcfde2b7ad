package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBadFiles reads the contents and nodes that a kernel, a broken disk or a board's owner may put
// in a file's place. The errors are the real kernel's: they do not depend on who runs the test.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	link := func(name, to string) {
		t.Helper()
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("good"), "48312\n")
	write(t, at("empty"), "")
	write(t, at("huge"), strings.Repeat("1", 1<<20))
	write(t, at("words"), "hot\n")
	write(t, at("negative"), "-400000\n")
	link("EIO", "/proc/self/mem")                 // nothing is mapped at its beginning
	link("EACCES", "/proc/sys/vm/compact_memory") // root may not read it either
	link("zeros", "/dev/zero")                    // never ends
	link("terminal", "/dev/tty")                  // a test has none, or nothing is typed
	link("loop", "loop")                          // ELOOP
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(name string, want error, text string) {
		t.Helper()
		v := NewValue(report.SOCTemperature, Integer, At(at(name)))
		var tick report.Tick
		err := v.Read(&tick, make([]byte, scratchSize))
		if want != nil && !errors.Is(err, want) || want == nil && err == nil || !strings.Contains(err.Error(), text) || len(tick.Readings) > 0 {
			t.Errorf("%s: %v, %v", name, tick.Readings, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	f("missing", ErrAbsent, "")
	f("good/within", ErrAbsent, "")
	f("empty", nil, `"" is not a number`)
	f("huge", nil, "longer than 128 bytes")
	f("words", nil, `"hot\n" is not a number`)
	f("negative", nil, "-400000 is beyond what pi_soc_temperature_celsius can be")
	f("EIO", unix.EIO, at("EIO"))
	f("EACCES", unix.EACCES, at("EACCES"))
	f("zeros", nil, "longer than")
	f("loop", unix.ELOOP, at("loop"))
	f("pipe", unix.ESPIPE, at("pipe"))
	f("terminal", nil, at("terminal"))
	f("", unix.EISDIR, dir)

	_, err := NewFile(At(at("huge"))).ReadAll(make([]byte, 4096))
	if err == nil || !strings.Contains(err.Error(), "longer than 4096 bytes") {
		t.Error(err)
	}
	if b, err := ReadOnce(at("good"), make([]byte, 64)); err != nil || string(b) != "48312\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadOnce(at("missing"), nil); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}

func TestFilesMayBeReplacedInAPlainTree(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	f := NewFile(At(first, second))
	f1 := func(want string) {
		t.Helper()
		if b, err := f.Read(make([]byte, 16)); err != nil || string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
	}
	write(t, first, "1")
	write(t, second, "2")
	f1("1")
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	f1("2")
	write(t, first+".new", "3")
	if err := os.Rename(first+".new", first); err != nil {
		t.Fatal(err)
	}
	f1("3")
	if f.Kernel() {
		t.Error("taken for the kernel's own")
	}
}

// TestALateDriverIsFound counts the looks: the first ones come soon after each
// other, later ones lookAgain reads apart.
func TestALateDriverIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "late")
	looks := 0
	f := NewFile(func() []string { looks++; return []string{path} })
	const reads = 5 * lookAgain
	for range reads {
		if _, err := f.Read(nil); !errors.Is(err, ErrAbsent) {
			t.Fatal(err)
		}
	}
	if looks < 10 || looks > 15 { // 9 within the first lookAgain reads
		t.Errorf("%d looks in %d reads", looks, reads)
	}
	write(t, path, "1")
	for range lookAgain + 1 {
		if b, _ := f.Read(make([]byte, 4)); string(b) == "1" {
			return
		}
	}
	t.Error("not found")
}

func TestTheKernelsFilesStayOpen(t *testing.T) {
	f := NewFile(At("/proc/loadavg"))
	scratch := make([]byte, 4096)
	if _, err := f.Read(scratch); err != nil {
		t.Skip("this system has no /proc: ", err)
	}
	before := f.fd
	if _, err := f.ReadAll(scratch); err != nil || !f.Kernel() || f.fd != before {
		t.Errorf("kernel %v, descriptor %d, then %d: %v", f.Kernel(), before, f.fd, err)
	}
	if flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a child would inherit the file: flags %x, %v", flags, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestLabelled(t *testing.T) {
	dir := t.TempDir()
	for d, label := range map[string]string{"zone0": "gpu-thermal\n", "zone1": "bcm2835_thermal\n", "zone2": "cpu-thermal", "zone10": "cpu-thermal\n"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, d, "type"), label)
	}
	if err := os.Mkdir(filepath.Join(dir, "zone3"), 0o755); err != nil { // without a label
		t.Fatal(err)
	}
	got := Labelled(filepath.Join(dir, "zone*"), "type", []string{"cpu-thermal", "bcm2835_thermal"}, "temp")
	want := []string{filepath.Join(dir, "zone10/temp"), filepath.Join(dir, "zone1/temp")}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Labelled("[", "type", nil, ""); got != nil {
		t.Errorf("%q", got)
	}
}

func TestPrintable(t *testing.T) {
	f := func(in, want string, ok bool) {
		t.Helper()
		if got, err := Printable(in); got != want || (err == nil) != ok {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	f("Raspberry Pi 3 Model B Rev 1.2\x00", "Raspberry Pi 3 Model B Rev 1.2", true)
	f(" 6.12.34-v7+\n", "6.12.34-v7+", true)
	f("evil\nmodel\x00", "", false)
	f("\xff\xfe", "", false)
	f("\x00", "", false)
	long, err := Printable(strings.Repeat("ä", 200))
	if err != nil || len(long) > report.MaxAttributeSize || len(long) < report.MaxAttributeSize-1 {
		t.Errorf("%d bytes, %v", len(long), err)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("Raspberry Pi 5 Model B Rev 1.0\x00")
	f.Add(strings.Repeat("ä", 200) + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Printable(s)
		if err != nil {
			return
		}
		r := report.Report{Info: []report.Attribute{{Key: report.AttributeModel, Value: v}}}
		if err := new(report.Report).Decode(r.Append(nil)); err != nil {
			t.Errorf("%q became %q, which the collector refuses: %v", s, v, err)
		}
	})
}
