package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// ownName marks a run of this test in a name space of its own.
const ownName = "PISENSOR_TEST_OWN_NAME"

// TestUnderVoltageCallsForATick runs the daemon at its slowest pace and has the
// supply fail. The kernel's domain name stands in the alarm's place: a file
// that says 0 or 1, that the kernel lets one poll as it does hwmon's, and that
// a test can change where it has a name space of its own.
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
	c := newCollector(t)
	dir, tree := enrolled(t, c), supplied(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs output
	finished := make(chan int)
	go func() {
		args := []string{"run", "--interval", "60s", "--state-dir", dir,
			"--sysfs-root", tree.Sysfs, "--procfs-root", tree.Procfs, "--devfs-root", tree.Devfs}
		finished <- exitCode(run(ctx, args, &errs, &errs), &errs)
	}()
	arrived := func(n int, want int64) {
		t.Helper()
		c.until(fmt.Sprintf("%d times %d", n, want), func() bool {
			found := 0
			for k, v := range c.values {
				if k.series.Metric == report.UnderVoltage && v == want {
					found++
				}
			}
			return found >= n
		})
	}
	arrived(1, 0)
	for n := range 3 {
		alarm("1")
		arrived(1+n, 1)
		alarm("0")
		arrived(2+n, 0)
	}
	cancel()
	if code := <-finished; code != 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

// supplied is a Pi whose kernel alone watches the supply.
func supplied(t *testing.T) source.Roots {
	t.Helper()
	tree := piLike(t)
	path := filepath.Join(tree.Sysfs, "class/hwmon/hwmon1/in0_lcrit_alarm")
	for _, old := range []string{path, filepath.Join(tree.Sysfs, "devices/platform/soc/soc:firmware/get_throttled")} {
		if err := os.Remove(old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/proc/sys/kernel/domainname", path); err != nil {
		t.Fatal(err)
	}
	return tree
}

// again runs the test once more where it may change its host's names.
func again(t *testing.T) {
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout="+patience.String())
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
