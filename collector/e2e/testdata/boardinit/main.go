// Boardinit is the first process of an emulated board whose file system is an initramfs. It mounts
// the kernel's file systems, loads the drivers, brings up the network and enrols and runs pisensor.
// Then it obeys the serial console's commands, line by line:
//
//	offset N   sets the thermal zone's offset, in m°C
//	stop       ends pisensor with SIGTERM and restarts the machine
//
// With BOARD_AWAY=24h it runs pisensor for that time without a network instead.
//
// It reports each step in a line that begins with "board:".
package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Files that the test has put into the initramfs.
const (
	modules = "/modules" // in the order in which they are to be loaded
	sensor  = "/pisensor"
	state   = "/state"
)

// zone is the SoC's thermal zone: the only one on this board.
const zone = "/sys/class/thermal/thermal_zone0"

func main() {
	if err := run(); err != nil {
		fmt.Println("board: failed:", err)
	}
	unix.Sync()
	fmt.Println("board:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) // comes back only with an error
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if text := os.Getenv("BOARD_AWAY"); text != "" {
		return away(text)
	}
	if err := load(); err != nil {
		return err
	}
	if err := network("usb0", netip.MustParsePrefix("10.0.2.15/24")); err != nil {
		return err
	}
	name, err := exec.Command(sensor, "enrol", os.Getenv("BOARD_URL"), os.Getenv("BOARD_TOKEN"), "--state-dir", state).CombinedOutput()
	if err != nil {
		return fmt.Errorf("enrol: %w: %s", err, name)
	}
	p := exec.Command(sensor, "run", "--state-dir", state, "--interval", "1s")
	p.Stdout, p.Stderr = os.Stdout, os.Stderr
	if err := p.Start(); err != nil {
		return err
	}
	fmt.Printf("board: in %d, at %s m°C, pisensor runs as %s", time.Now().Year(), temperature(), name)
	return obey(p)
}

// away runs pisensor, whose enrolment is in the image, for a time without any network, and prints
// its memory status and CPU time.
func away(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	p := exec.Command(sensor, "run", "--state-dir", state, "--sysfs-root", "/board")
	p.Stdout, p.Stderr = os.Stdout, os.Stderr
	if err := p.Start(); err != nil {
		return err
	}
	if err := vary(d); err != nil {
		return err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		fmt.Print("status ", line)
	}
	stopped := errors.Join(p.Process.Signal(syscall.SIGTERM), p.Wait())
	fmt.Printf("board: away for %v, used %v\n", d, p.ProcessState.UserTime()+p.ProcessState.SystemTime())
	return stopped
}

// vary changes the board's files each 10 s, for a time: readings that stay the same would take no
// space. The temperature walks in the steps of the SoC's sensor, 0.538 °C; the clock goes between a
// governor's two ends.
func vary(d time.Duration) error {
	step := 80
	for range d / (10 * time.Second) {
		time.Sleep(10 * time.Second)
		step = min(max(step+rand.IntN(5)-2, 60), 140)
		clock := 600_000 + 400_000*rand.IntN(2)
		err := errors.Join(
			os.WriteFile("/board/class/thermal/thermal_zone0/temp", fmt.Appendln(nil, 538*step), 0o644),
			os.WriteFile("/board/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", fmt.Appendln(nil, clock), 0o644))
		if err != nil {
			return err
		}
	}
	return nil
}

// load loads the drivers that the list names.
func load() error {
	list, err := os.ReadFile(modules + "/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open(modules + "/" + name)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// network gives an interface its address, once the driver has found it.
func network(name string, address netip.Prefix) error {
	for range 600 {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			return configure(name, address)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("interface %s never came", name)
}

func configure(name string, address netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	mask := ^uint32(0) << (32 - address.Bits())
	ip := address.Addr().As4()
	set := func(request uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		return errors.Join(fill(r), unix.IoctlIfreq(fd, request, r))
	}
	return errors.Join(
		set(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }),
		set(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error {
			return r.SetInet4Addr([]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)})
		}),
		set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
	)
}

// temperature is the thermal driver's value, in m°C.
func temperature() string {
	b, err := os.ReadFile(zone + "/temp")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// obey carries out the console's lines until one says stop.
func obey(p *exec.Cmd) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch verb {
		case "offset":
			if err := os.WriteFile(zone+"/offset", []byte(value), 0); err != nil {
				return err
			}
			fmt.Printf("board: with offset %s at %s m°C\n", value, temperature())
		case "stop":
			err := errors.Join(p.Process.Signal(syscall.SIGTERM), p.Wait())
			fmt.Printf("board: pisensor ended: %v\n", p.ProcessState)
			return err
		}
	}
	return errors.Join(errors.New("the console closed"), lines.Err())
}
