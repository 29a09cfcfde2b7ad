package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"bramble/pisensor/sensor"
	"bramble/pisensor/systemd"
)

// hearing is a service manager's socket that is read without waiting.
func hearing(t *testing.T) (name string, heard func() []string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "notify")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	return name, func() (all []string) {
		b := make([]byte, 4096)
		for {
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			if err != nil {
				return all
			}
			all = append(all, string(b[:n]))
		}
	}
}

func TestSignsOfLifeRideOnWakeUps(t *testing.T) {
	name, heard := hearing(t)
	m, err := systemd.Connect(func(k string) string {
		return map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"}[k]
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f := func(interval time.Duration, limit int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := &supervisor{manager: m, every: m.Watchdog() / 2, log: slog.New(slog.DiscardHandler)}
			h := sensor.Health{Connected: true, Interval: interval}
			began, last := time.Now(), time.Now()
			messages, wakeUps := 0, 0
			for next := began; time.Since(began) < time.Hour; {
				again := s.heartbeat(h)
				h.Waiting++
				if said := heard(); len(said) > 0 {
					messages += len(said)
					last = time.Now()
				}
				if silence := time.Since(last); silence > 30*time.Second {
					t.Fatalf("silent for %v", silence)
				}
				for !next.After(time.Now()) {
					next = next.Add(interval)
				}
				if again < time.Until(next) {
					wakeUps++
				}
				time.Sleep(min(again, time.Until(next)))
			}
			if messages > limit || interval <= 30*time.Second && wakeUps > 0 {
				t.Errorf("ticks every %v: %d messages and %d wake-ups of their own in an hour", interval, messages, wakeUps)
			}
		})
	}
	f(time.Second, 125)
	f(10*time.Second, 121)
	f(20*time.Second, 181)
	f(time.Minute, 121)
}

func TestTheManagerIsNotifiedOfChanges(t *testing.T) {
	name, heard := hearing(t)
	m, err := systemd.Connect(func(k string) string { return map[string]string{"NOTIFY_SOCKET": name}[k] })
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := &supervisor{manager: m, log: slog.New(slog.DiscardHandler)}
	f := func(h sensor.Health, want ...string) {
		t.Helper()
		if next := s.heartbeat(h); next != unwatched {
			t.Errorf("again in %v", next)
		}
		if got := strings.Join(heard(), "|"); got != strings.Join(want, "|") {
			t.Errorf("said %q, want %q", got, want)
		}
	}
	h := sensor.Health{Interval: 10 * time.Second}
	f(h, "WATCHDOG=1\nREADY=1\nSTATUS=collector away, every 10s, 0 readings wait")
	h.Waiting = 28
	f(h)
	h.Connected = true
	f(h, "WATCHDOG=1\nSTATUS=connected, every 10s, 28 readings wait")
	h.Watchers, h.Interval = 2, time.Second
	f(h, "WATCHDOG=1\nSTATUS=connected, every 1s, 28 readings wait, watched live by 2")
	h.Watchers, h.Stopping = 0, true
	f(h, "WATCHDOG=1\nSTOPPING=1\nSTATUS=stopping, connected, every 1s, 28 readings wait")
}
