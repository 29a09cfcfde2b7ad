package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inNamespace marks the test binary that runs in a network of its own.
const inNamespace = "BRAMBLE_TEST_NAMESPACE"

// namespaced runs the calling test once more, in network and mount namespaces
// of its own, and reports true there. The other run reports its result.
func namespaced(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("a network namespace needs iproute2: %v", err)
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inNamespace+"="+t.Name(), builtPrograms+"="+programs)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("this machine allows no network namespace: %v", err)
	case err != nil:
		t.Errorf("in the namespace: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in the namespace: %s", out)
	default:
		t.Logf("in the namespace:\n%s", out)
	}
	return false
}

// ip sets up the namespace's network.
func ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, line := range commands {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", line, err, out)
		}
	}
}

// hosts makes names known in this namespace, and no DNS server.
func hosts(t *testing.T, lines string) {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Skipf("make mounts private: %v", err)
	}
	for target, text := range map[string]string{"/etc/hosts": lines, "/etc/resolv.conf": "nameserver ::1\noptions timeout:1 attempts:1\n"} {
		path := filepath.Join(t.TempDir(), filepath.Base(target))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(path, target, "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("mount %s: %v", target, err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) }) // the namespace ends with the test
	}
}

// sixServer is a collector on all addresses of the namespace.
func sixServer(t *testing.T) (s *server, port, webPort string) {
	t.Helper()
	args, web := withWebSocket(t, "::")
	s = &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, "::1"), nats: freeAddress(t, "::"), args: args}
	s.found()
	s.start()
	_, port, err := net.SplitHostPort(s.nats)
	if err != nil {
		t.Fatal(err)
	}
	if _, webPort, err = net.SplitHostPort(web); err != nil {
		t.Fatal(err)
	}
	return s, port, webPort
}

// TestIPv6Only runs collector and boards where no IPv4 leads anywhere: there is
// but the 127.0.0.1 that Linux gives every machine.
func TestIPv6Only(t *testing.T) {
	if !namespaced(t) {
		return
	}
	ip(t, "link set lo up", "-6 address add fd00::1/128 dev lo nodad")
	if c, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		c.Close()
		t.Skip("there is IPv4 left")
	}
	hosts(t, "::1 localhost\nfd00::1 six.example\n")
	s, port, web := sixServer(t)
	for i, url := range []string{"nats://[fd00::1]:" + port, "nats://six.example:" + port, "tls://six.example:" + port, "wss://[fd00::1]:" + web, "wss://six.example:" + web} {
		name := fmt.Sprint("pi-", i)
		b := s.enrolAt(url, name, s.do("", "board", "add", name))
		s.replayed(b, invent(t, name, 20, uneven))
		p := launch(t, "pisensor", "run", "--state-dir", b.state, "--interval", "1s")
		p.says(t, p.errs, "connected to the collector")
		if code := p.stop(t, patience); code != 0 {
			t.Errorf("%s: exit %d: %s", url, code, p.errs)
		}
	}
	command(t, "", "pisensor", "enrol", "nats://absent.example:"+port, s.do("", "board", "token", "pi-0"), "--state-dir", t.TempDir()).
		refusal(t, "no DNS server says where absent.example is", "resolv.conf")
}

// TestDeadRecord has names of which one address leads nowhere: packets to it
// vanish without an answer.
func TestDeadRecord(t *testing.T) {
	if !namespaced(t) {
		return
	}
	// Both kinds of device drop what is sent to them.
	if exec.Command("ip", "link", "add", "void", "type", "dummy").Run() != nil {
		ip(t, "link add void type ifb")
	}
	ip(t, "link set lo up", "-6 address add fd00::1/128 dev lo nodad", "link set void up",
		"-4 address add 192.0.2.1/24 dev void", "-6 address add 2001:db8::1/64 dev void nodad")
	hosts(t, strings.Join([]string{
		"127.0.0.1 localhost",
		"192.0.2.9 dead-a.example", "fd00::1 dead-a.example",
		"2001:db8::9 dead-aaaa.example", "127.0.0.1 dead-aaaa.example",
		"2001:db8::9 two.example", "fd00::1 two.example",
	}, "\n")+"\n")
	s, port, web := sixServer(t)
	for i, host := range []string{"dead-a.example", "dead-aaaa.example", "two.example"} {
		for j, url := range []string{"nats://" + host + ":" + port, "wss://" + host + ":" + web} {
			name := fmt.Sprintf("pi-%d-%d", i, j)
			token := s.do("", "board", "add", name)
			begin := time.Now()
			b := s.enrolAt(url, name, token)
			t.Logf("%s: enrolled in %v", url, time.Since(begin))
			begin = time.Now()
			p := launch(t, "pisensor", "run", "--state-dir", b.state)
			p.says(t, p.errs, "connected to the collector")
			t.Logf("%s: connected in %v", url, time.Since(begin))
			if log := p.errs.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
				t.Errorf("%s: not at its first attempt: %s", url, log)
			}
			p.kill()
		}
	}
}
