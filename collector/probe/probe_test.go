package probe

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childEnv makes this test binary probe in a network of its own, where it knows
// who lives.
const childEnv = "PROBE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestAlive(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "127.0.0.7", "::ffff:127.0.0.1"} {
		if !Alive(t.Context(), netip.MustParseAddr(address)) {
			t.Errorf("%s does not answer", address)
		}
	}
}

func TestAliveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Alive(ctx, netip.MustParseAddr("192.0.2.1")) {
		t.Error("an address answered that was not asked")
	}
}

// TestNobody probes addresses where nobody lives, in a network namespace.
func TestNobody(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Skip("this system gives no network namespace: ", err)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// child finds that no address answers while the loopback is down, and that one
// whose port never accepts costs no more than the bound.
func child() error {
	if Alive(context.Background(), netip.MustParseAddr("127.0.0.1")) {
		return fmt.Errorf("an address answers in a network without interfaces")
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	if !Alive(context.Background(), netip.MustParseAddr("127.0.0.1")) {
		return fmt.Errorf("the loopback does not answer")
	}
	if err := deaf([4]byte{127, 0, 0, 2}); err != nil {
		return err
	}
	began := time.Now()
	lives := Alive(context.Background(), netip.MustParseAddr("127.0.0.2"))
	if took := time.Since(began); lives || took < Timeout || took > 2*Timeout {
		return fmt.Errorf("a port that never accepts answers: %v after %v", lives, took)
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// deaf listens on the probed port and fills its queue, so that further
// connections hang.
func deaf(address [4]byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: port, Addr: address}
	if err := unix.Bind(s, to); err != nil {
		return err
	}
	if err := unix.Listen(s, 0); err != nil {
		return err
	}
	for range 3 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(c, to); err != nil && err != unix.EINPROGRESS {
			return err
		}
	}
	return nil
}
