package systemd

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestNotifyOnBothKindsOfSocket(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@bramble-test-" + strconv.Itoa(os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		m, err := Connect(environment{"NOTIFY_SOCKET": name}.get)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Notify([]byte("READY=1")); err != nil {
			t.Fatal(err)
		}
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := m.Store("spool", f); err != nil {
			t.Fatal(err)
		}
		if err := m.Discard("spool"); err != nil {
			t.Fatal(err)
		}
		for _, want := range []struct {
			text  string
			files int
		}{{"READY=1", 0}, {"FDSTORE=1\nFDNAME=spool", 1}, {"FDSTOREREMOVE=1\nFDNAME=spool", 0}} {
			b, oob := make([]byte, 100), make([]byte, 100)
			n, rights, _, _, err := conn.ReadMsgUnix(b, oob)
			if err != nil {
				t.Fatal(err)
			}
			if got := files(t, oob[:rights]); string(b[:n]) != want.text || len(got) != want.files {
				t.Errorf("%s: %q with %d files, want %q with %d", name, b[:n], len(got), want.text, want.files)
			}
		}
	}
}

func files(t *testing.T, oob []byte) (all []int) {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fds...)
	}
	for _, fd := range all {
		unix.Close(fd)
	}
	return all
}

func TestWithoutAManager(t *testing.T) {
	if m, err := Connect(environment{}.get); m != nil || err != nil {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := Connect(environment{"NOTIFY_SOCKET": "vsock:2:1"}.get); err == nil {
		t.Error("a socket of another kind is not refused")
	}
	m, err := Connect(environment{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "nobody")}.get)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Notify([]byte("READY=1")); err == nil {
		t.Error("nobody there is no error")
	}
}

func TestAManagerThatDoesNotReadIsNotWaitedFor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := Connect(environment{"NOTIFY_SOCKET": name}.get)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 100_000 {
		if m.Notify([]byte("WATCHDOG=1")) != nil {
			return
		}
	}
	t.Error("100,000 messages that nobody reads are no error")
}

func TestWatchdog(t *testing.T) {
	f := func(e environment, want time.Duration) {
		t.Helper()
		if got := watchdog(e.get); got != want {
			t.Errorf("%v: %v, want %v", e, got, want)
		}
	}
	f(environment{}, 0)
	f(environment{"WATCHDOG_USEC": "60000000"}, time.Minute)
	f(environment{"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}, time.Minute)
	f(environment{"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0)
	f(environment{"WATCHDOG_USEC": "soon"}, 0)
	f(environment{"WATCHDOG_USEC": "-1"}, 0)
	f(environment{"WATCHDOG_USEC": "9223372036854775807"}, 0)
}

func FuzzFileNames(f *testing.F) {
	f.Add("2", "7", "spool:other")
	f.Add("1", "7", "spool")
	f.Add("3", "7", "a:b")
	f.Add("1", "8", "spool")
	f.Add("-1", "7", "")
	f.Add("99999999999999999999", "7", "")
	f.Fuzz(func(t *testing.T, fds, pid, names string) {
		got := fileNames(environment{"LISTEN_FDS": fds, "LISTEN_PID": pid, "LISTEN_FDNAMES": names}.get, 7)
		if len(got) > maxFiles || pid != "7" && got != nil {
			t.Errorf("%d files of process %q", len(got), pid)
		}
		if fds == "2" && pid == "7" && names == "spool:other" && !slices.Equal(got, []string{"spool", "other"}) {
			t.Errorf("names %q", got)
		}
	})
}
