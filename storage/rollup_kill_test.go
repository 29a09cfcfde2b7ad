package storage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// rollupDirEnv makes the test binary a process that rolls up the readings in a directory.
const rollupDirEnv = "BRAMBLE_ROLLUP_DIR"

// rollupStep is how many days a pass takes. It has a mark in the end.
const rollupStep = 7

// rollupPasses is how many passes there are, so that there are moments between two to kill at.
func rollupPasses() int {
	if storagetest.Kills(2) > 1 {
		return 30
	}
	return 9
}

// rollUpAll rolls up a week after the other, says "begin", each time how far that is in Unix milliseconds, and in the end
// "done". Then it waits to be killed.
func rollUpAll(dir string) error {
	rolled, err := storage.Open(dir+"/rollups", storage.Options{Retention: forever})
	if err != nil {
		return err
	}
	raw, err := storage.Open(dir+"/series", storage.Options{Retention: aYear})
	if err != nil {
		return err
	}
	fmt.Println("begin")
	for days := rollupPasses() * rollupStep; days > 0; days -= rollupStep {
		r, err := storage.NewRollups(context.Background(), storage.RollupOptions{Raw: raw, Rolled: rolled, Late: late + time.Duration(days-rollupStep)*24*time.Hour})
		if err != nil {
			return err
		}
		if err := r.CatchUp(context.Background()); err != nil {
			return err
		}
		fmt.Println(r.Until().UnixMilli())
	}
	fmt.Println("done")
	select {} // without closing anything
}

// rollUpAndKill kills a process that rolls up what is in dir, some time after it has said so many times how far it is, or at
// once when it has done. It returns how far it said that it was, and whether it had done.
func rollUpAndKill(t *testing.T, dir string, passes int, after time.Duration) (until time.Time, done bool) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), rollupDirEnv+"="+dir)
	c.Stderr = t.Output()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() }) // also where the test fails before
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("it does not begin")
	}
	kill := time.AfterFunc(time.Hour, func() { c.Process.Kill() })
	defer kill.Stop()
	for n := 0; !done; n++ {
		if n == passes {
			kill.Reset(after)
		}
		if !lines.Scan() {
			break
		}
		if done = lines.Text() == "done"; done {
			break
		}
		ms, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		until = time.UnixMilli(ms)
	}
	c.Process.Kill()
	if err := c.Wait(); err == nil {
		t.Error("it was not killed")
	}
	return until, done
}

// rollupKills is how often a process is killed while it rolls up, and the seed of the moments. BRAMBLE_KILLS and
// BRAMBLE_SEED set others.
func rollupKills(t *testing.T) (n int, seed uint64) {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("BRAMBLE_KILLS"))
	if err != nil {
		n = storagetest.Kills(8)
	}
	if seed, err = strconv.ParseUint(os.Getenv("BRAMBLE_SEED"), 10, 64); err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%d kills, BRAMBLE_SEED=%d", n, seed)
	return n, seed
}

// Killed at any moment, everything up to the mark is on disk, exactly, also where it was killed right behind the mark; what
// lies behind is rolled up again and is the same as without a kill.
func TestAKilledCollectorRollsUpTheSame(t *testing.T) {
	times, seed := rollupKills(t)
	random := rand.New(rand.NewPCG(seed, 0))
	boards := []string{"b1", "b2", "b3"}
	var all [][]storage.Row
	for i, board := range boards {
		all = append(all, walk(storagetest.Temperature(board), day(rollupPasses()*rollupStep-10), time.Now(), uint64(i)))
	}
	fresh := func() (dir string) {
		dir = t.TempDir()
		raw := storagetest.Open(t, dir+"/series", storage.Options{Retention: aYear})
		for _, rows := range all {
			storagetest.Add(t, raw, rows)
		}
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	// check returns how far the rollups in dir are, and that all up to there is right.
	check := func(dir string, said time.Time) time.Time {
		t.Helper()
		r := roll(t, dir, aYear, storage.RollupOptions{})
		until := r.Until()
		if until.Before(said) {
			t.Errorf("it said that it had rolled up until %s, and on disk is %s", said.UTC(), until.UTC())
		}
		for i, board := range boards {
			if !until.IsZero() {
				compareUpTo(t, r.rolled, `pi_soc_temperature_celsius{board="`+board+`"}`, all[i], until, until)
			}
		}
		if err := errors.Join(r.raw.Close(), r.rolled.Close()); err != nil {
			t.Fatal(err)
		}
		return until
	}
	dir, marked := fresh(), 0
	for range times {
		said, done := rollUpAndKill(t, dir, random.IntN(rollupPasses()), time.Duration(random.IntN(40))*time.Millisecond)
		if until := check(dir, said); !until.IsZero() && !done {
			marked++
		}
		if done {
			dir = fresh()
		}
	}
	if times >= 8 && marked == 0 {
		t.Errorf("none of %d kills came between two marks", times)
	}
	said, done := rollUpAndKill(t, dir, rollupPasses()+1, 0)
	if !done || time.Since(said) > late+26*time.Hour {
		t.Fatalf("it does not come to an end: rolled up until %s", said.UTC())
	}
	check(dir, said)
	r := roll(t, dir, aYear, storage.RollupOptions{})
	for i, board := range boards {
		compare(t, r.rolled, `pi_soc_temperature_celsius{board="`+board+`"}`, all[i], r.Until())
	}
	if n := storagetest.Number(t, r.rolled, `count(last_over_time({__name__=~"pi_.*"}[1y]))`, time.Now()); n != 12 {
		t.Errorf("%v series, want 4 of each board", n)
	}
}
