package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fullTime is how long the disk of TestFullDiskPagesGoOn stays full to the last byte. BRAMBLE_FULL sets another one,
// such as 60s.
func fullTime(t testing.TB) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("BRAMBLE_FULL"))
	if err != nil {
		return 2 * time.Second
	}
	return d
}

// onDisk starts a server with the default rules, whose data is on a disk and whose pages go to a sink. before runs
// when the data is there and nobody holds it.
func onDisk(t testing.TB, disk string, k *sink, before func(*server)) *server {
	t.Helper()
	return onDiskUnder(t, nil, disk, k, before)
}

// onDiskUnder has a program start the server.
func onDiskUnder(t testing.TB, under []string, disk string, k *sink, before func(*server)) *server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"alertmanager.yml": fmt.Sprintf(crossingRoute, k.url), "collector.yml": "alertmanager: alertmanager.yml\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{t: t, under: under, dir: filepath.Join(disk, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"),
		args: []string{"--config", filepath.Join(dir, "collector.yml")}}
	s.found()
	before(s)
	s.start()
	return s
}

// TestFullDiskPagesGoOn fills the disk below 20 boards, or 200 in a run for endurance: first the store takes nothing and the journal takes all, then
// no byte is free. Pages leave all the time, also after a kill, each once; and when there is room again every reading
// comes to the store by itself. How long the slowest page took stands in the log.
func TestFullDiskPagesGoOn(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 400)
	k := newSink(t)
	var f *fleet
	var connect func()
	s := onDisk(t, disk, k, func(s *server) {
		boards, keys := newFleet(t, s, often(20, 200))
		f, connect = boards, func() { boards.connect(keys, nil) }
	})
	f.server = s
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.errs)
		}
	})
	connect()
	began := time.Now().Add(-time.Hour)
	step := 0
	rounds := func(n int) {
		for range n {
			step++
			for _, b := range f.boards {
				b.report(began.Add(time.Duration(step)*time.Second), 50+float64(step%9))
			}
		}
	}
	var slowest time.Duration
	hottest := 0
	pages := func(n int, when string) { // boards cross one after the other
		t.Helper()
		for range n {
			b := f.boards[hottest]
			hottest++
			crossed := time.Now()
			b.report(crossed.Add(-time.Second), 85) // SocHot wants two in a row
			b.report(crossed, 85)
			eventually(t, patience, func() error {
				if len(k.keys(b.name)) == 0 {
					return fmt.Errorf("%s: %s does not page", when, b.name)
				}
				return nil
			})
			slowest = max(slowest, time.Since(crossed))
		}
	}
	rounds(5)
	f.settled(patience)
	pages(3, "with room")

	ballast := filepath.Join(disk, "ballast")
	fillUpTo(t, ballast, disk, 72<<20) // the store's limit is 100 MiB, the journal's 48
	eventually(t, patience, func() error {
		if s.metric("bramble_storage_read_only") != 1 {
			return errors.New("the store does not say that it is full")
		}
		return nil
	})
	rounds(20)
	f.settled(patience)
	pages(5, "with a full store")
	if n := s.metric("bramble_ingest_paused"); n != 0 {
		t.Errorf("ingest is paused while the journal has room: %v", n)
	}
	eventually(t, patience, func() error { return fullIncident(s) })

	fill(t, filepath.Join(disk, "rest"))
	rounds(5)
	pages(5, "with no byte free")
	eventually(t, patience, func() error {
		if s.metric("bramble_ingest_paused") != 1 {
			return errors.New("ingest goes on without room")
		}
		return nil
	})
	after(t, fullTime(t))
	if n := s.metric("bramble_ingest_paused"); n != 1 || f.unacked() == 0 {
		t.Errorf("paused %v, %d reports unacknowledged", n, f.unacked())
	}
	f.again()
	s.kill()
	s.start() // with no byte free
	eventually(t, patience, func() error {
		for _, b := range f.boards {
			if !b.conn.IsConnected() {
				return fmt.Errorf("%s is not connected", b.name)
			}
		}
		return nil
	})
	pages(5, "after a kill with no byte free")

	if err := errors.Join(os.Remove(ballast), os.Remove(filepath.Join(disk, "rest"))); err != nil {
		t.Fatal(err)
	}
	f.settled(patience)
	f.complete(patience)
	for _, b := range f.boards[:hottest] {
		if keys := k.keys(b.name); len(keys) != 1 {
			t.Errorf("%s paged %d times", b.name, len(keys))
		}
	}
	if n := len(k.told()) - hottest; n > 1 { // the disk's own page
		t.Errorf("pages about %v", k.told())
	}
	t.Logf("slowest of %d pages: %v", hottest, slowest)
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
}

// fullIncident wants an incident that says that the disk is full.
func fullIncident(s *server) error {
	var a struct {
		Incidents []struct{ Title, State string }
	}
	if err := s.json("api/incidents", &a); err != nil {
		return err
	}
	for _, in := range a.Incidents {
		if strings.Contains(in.Title, "disk is full") && in.State == "firing" {
			return nil
		}
	}
	return fmt.Errorf("no incident says that the disk is full: %+v", a)
}
