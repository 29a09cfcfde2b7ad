package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
	"bramble/pisensor/spool"
)

// BenchmarkResident reports the resident memory of the stripped daemon: with a
// full spool while its collector is away, and at most while it delivers all of it.
func BenchmarkResident(b *testing.B) {
	c := newCollector(b)
	dir, m := enrolled(b, c), newManager(b)
	s, f, err := spool.Create(sensor.DefaultSpoolBytes, "pi-1")
	if err != nil {
		b.Fatal(err)
	}
	fillUp(s)
	if err := s.Unmap(); err != nil {
		b.Fatal(err)
	}
	m.files["spool"] = f
	c.stop()
	for b.Loop() {
		p := m.start(append([]string{"--interval", "1s", "--state-dir", dir}, roots(fixture(b))...)...)
		for range 100 { // watchdog messages, one a second: memory used by the start is given back after a minute
			m.until(`WATCHDOG=1\nSTATUS=collector away, every 1s, [0-9]{6} readings wait`)
		}
		b.ReportMetric(resident(b, p.Process.Pid, "VmRSS"), "kB-full")
		b.ReportMetric(resident(b, p.Process.Pid, "RssAnon"), "kB-full-anonymous")
		c.start()
		m.until(`STATUS=connected, every 1s, [0-9]{1,2} readings wait`)
		b.ReportMetric(resident(b, p.Process.Pid, "VmHWM"), "kB-most")
		b.ReportMetric(resident(b, p.Process.Pid, "VmRSS"), "kB-after")
		p.Process.Kill()
		p.Wait()
		c.stop()
	}
	c.start()
}

// fillUp fills a spool with ticks of 29 series that take all of it.
func fillUp(s *spool.Spool) {
	r := rand.New(rand.NewPCG(1, 2))
	s.SetAnchor(1_700_000_000_000)
	var tick report.Tick
	for at := int64(1); s.Dropped() == 0; at++ {
		tick.Reset()
		for i := range 29 {
			tick.AddInstance(report.NetworkReceive, fmt.Sprint("eth", i), r.Int64N(1<<26))
		}
		s.Add(at, tick.Readings)
	}
}

// resident returns a field of a process's status in kB.
func resident(b *testing.B, pid int, field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		b.Fatal(err)
	}
	return kb
}
