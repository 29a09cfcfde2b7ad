package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
)

// ownName marks a run of this test in a name space of its own.
const ownName = "PISENSOR_TEST_OWN_NAME"

// TestUnderVoltageCallsForATick has the kernel's domain name in the place of
// its alarm: a file that says 0 or 1, that the kernel lets one poll as it does
// hwmon's, and that a test can change where it has a name space of its own.
func TestUnderVoltageCallsForATick(t *testing.T) {
	if os.Getenv(ownName) == "" {
		again(t)
		return
	}
	alarm := func(v string) {
		t.Helper()
		if err := unix.Setdomainname([]byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	alarm("0")
	roots := likeAPi(t)
	path := filepath.Join(roots.Sysfs, "class/hwmon/hwmon1/in0_lcrit_alarm")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/sys/kernel/domainname", path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(roots.Sysfs, "devices/platform/soc/soc:firmware/get_throttled")); err != nil {
		t.Fatal(err)
	}
	board := openBoard(roots, slog.New(slog.NewTextHandler(io.Discard, nil)))
	says := func(want string) {
		t.Helper()
		var tick report.Tick
		board.Read(&tick)
		if got := seriesOf(tick.Readings); !strings.Contains(got, `pi_throttled{reason="under_voltage"} `+want+"\n") {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
	says("0")
	for _, v := range []string{"1", "0", "1"} {
		alarm(v)
		<-board.Wake()
		says(v)
	}
	if err := board.Close(); err != nil {
		t.Error(err)
	}
}

// again runs the test once more where it may change its host's names.
func again(t *testing.T) {
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=20s")
	c.Env = append(os.Environ(), ownName+"=yes")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUTS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Skip("a name space of its own is not to be had here: ", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
