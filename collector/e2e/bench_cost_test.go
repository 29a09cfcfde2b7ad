package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cost is the use of a process and its descendants so far, or now.
type cost struct {
	at        time.Time
	cpu       time.Duration
	switches  int // voluntary and involuntary, of threads that live
	voluntary int // voluntary alone

	resident, peak, anonymous, proportional int // KiB: VmRSS, VmHWM, RssAnon, Pss
	threads                                 int

	forks bool // some of its processes have ended
}

// measure adds up a process's tree. The use of its ended descendants counts
// as CPU time once somebody has waited for them, and not as switches.
func measure(t testing.TB, root int) cost {
	t.Helper()
	c := cost{at: time.Now()}
	for _, pid := range descendants(t, root) {
		err := c.add(pid)
		switch {
		case err == nil:
		case pid == root:
			t.Fatalf("measure process %d: %v", pid, err)
		default: // a descendant that has just ended
		}
	}
	return c
}

func (c *cost) add(pid int) error {
	var now unix.Timespec
	// The clock of another process's CPU time, in nanoseconds: its id is
	// made as in glibc's clock_getcpuclockid. /proc/PID/stat has 10 ms.
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
		return err
	}
	stat, err := statFields(pid)
	if err != nil {
		return err
	}
	user, err1 := strconv.Atoi(stat[13]) // cutime, fields counted behind the name
	system, err2 := strconv.Atoi(stat[14])
	status, err3 := numbers(pid, "status", "VmRSS", "VmHWM", "RssAnon", "Threads")
	memory, err4 := numbers(pid, "smaps_rollup", "Pss")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	c.forks = c.forks || user+system > 0
	c.cpu += time.Duration(now.Nano()) + time.Duration(user+system)*time.Second/100
	c.resident, c.peak, c.anonymous = c.resident+status[0], c.peak+status[1], c.anonymous+status[2]
	c.threads, c.proportional = c.threads+status[3], c.proportional+memory[0]
	return c.addSwitches(pid)
}

func (c *cost) addSwitches(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		n, err := numbers(pid, "task/"+filepath.Base(task)+"/status", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
		if err != nil {
			return err
		}
		c.switches, c.voluntary = c.switches+n[0]+n[1], c.voluntary+n[0]
	}
	return nil
}

// statFields returns the fields of /proc/PID/stat behind the name: the first is the state.
func statFields(pid int) ([]string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(rest), nil
}

// numbers finds named numbers in a file of /proc/PID with lines "name: number".
func numbers(pid int, file string, names ...string) ([]int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, err
	}
	found := make([]int, len(names))
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if i := slices.Index(names, name); i >= 0 {
			if found[i], err = strconv.Atoi(strings.Fields(rest)[0]); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// descendants returns a process and all below it.
func descendants(t testing.TB, root int) []int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range all {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if stat, err := statFields(pid); err == nil {
			parent, _ := strconv.Atoi(stat[1]) // the kernel writes a number
			children[parent] = append(children[parent], pid)
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// busy returns how long this machine's processors have worked, all together.
func busy(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	var ticks int
	for i, f := range fields[1:8] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		if i != 3 && i != 4 { // idle and iowait
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100
}
