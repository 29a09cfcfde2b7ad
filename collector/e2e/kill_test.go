package e2e

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// killPlan is how often a collector is killed in the middle of its work, once in a plain run, and the seed of the moments.
// BRAMBLE_KILLS and BRAMBLE_SEED set others.
func killPlan(t testing.TB) (kills int, seed uint64) {
	t.Helper()
	kills, err := strconv.Atoi(os.Getenv("BRAMBLE_KILLS"))
	if err != nil {
		kills = often(1, 10)
	}
	if seed, err = strconv.ParseUint(os.Getenv("BRAMBLE_SEED"), 10, 64); err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%d kills, BRAMBLE_SEED=%d", kills, seed)
	return kills, seed
}

// TestKilledAgainAndAgain kills the collector at random moments, once in a plain run, while boards report and replay: they
// ride it out, and every reading is there exactly once.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	kills, seed := killPlan(t)
	random := rand.New(rand.NewPCG(seed, 0))
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1")}
	s.found()
	f, keys := newFleet(t, s, often(20, 50))
	s.start()
	f.connect(keys, nil)
	boards := []board{s.enrol("pi-1", s.nats, "rack=r1"), s.enrol("pi-2", s.nats, "rack=r1"), s.enrol("pi-3", s.nats)}
	sent := []*recorded{
		invent(t, "live", often(160, 400), every(1_000)),      // 8 or 20 s at speed 20
		invent(t, "slow", often(40, 100), every(10_000)),      // 8 or 20 s at speed 50
		invent(t, "past", often(6_000, 30_000), every(5_000)), // more than one report, as fast as it goes
	}
	speeds := []float64{20, 50, 1}
	replays := []*process{
		boards[0].replay(t, sent[0], "--speed", "20"), boards[1].replay(t, sent[1], "--speed", "50"), boards[2].replay(t, sent[2]),
	}
	stop := f.keepReporting(50 * time.Millisecond)
	for i := range kills {
		longest := []int{1500, 3000, 300}[i%3] // ms
		after(t, time.Duration(random.IntN(longest))*time.Millisecond)
		s.kill()
		s.start()
	}
	stop()
	f.settled(2 * patience)
	for i, p := range replays {
		if code := p.exit(t, 2*patience); code != 0 {
			t.Errorf("replay %d: exit %d: %s", i, code, p.errs)
		}
	}
	check := func(when string) {
		t.Helper()
		for i, b := range boards {
			s.returned(b, sent[i], speeds[i])
		}
		f.complete(patience)
		t.Logf("%s: %d readings of replays are there once, too", when, sent[0].readings()+sent[1].readings()+sent[2].readings())
	}
	check("after the replays")
	s.kill() // the last acknowledged readings must be there too
	s.start()
	check("after one more kill")
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
	s.start()
	check("after a clean stop")
}

// keepReporting has every board report at an interval, and send the unacknowledged reports again now and then, until
// stop is called.
func (f *fleet) keepReporting(every time.Duration) (stop func()) {
	quit := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		at := time.Now().Add(-24 * time.Hour)
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			case <-f.t.Context().Done():
				return
			case <-tick.C:
			}
			at = at.Add(time.Second)
			for i, b := range f.boards {
				b.report(at, 40+float64((n+i)%20))
			}
			if n%20 == 19 {
				f.again()
			}
		}
	})
	return sync.OnceFunc(func() { close(quit); running.Wait() })
}

// A collector that may open too few files says so, and touches nothing.
func TestTooFewFilesAreSaidAtTheStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := spawn(t, "sh", "-c", `ulimit -n 200 && exec "$0" "$@"`, program(t, "collector"), "serve", "--data-dir", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0")
	<-p.done
	if text := p.errs.String(); p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, "may have 200 files open, and the collector needs 512") {
		t.Errorf("exit %d: %s", p.cmd.ProcessState.ExitCode(), text)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory: %v", err)
	}
}
