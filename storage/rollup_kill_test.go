package storage_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"bramble/storage"
)

// rollupDirEnv makes the test binary a process that rolls up what is in a directory.
const rollupDirEnv = "BRAMBLE_ROLLUP_DIR"

// rollUpAll says when it begins and when all is rolled up, and waits to be killed.
func rollUpAll(dir string) error {
	rolled, err := storage.Open(dir+"/rollups", storage.Options{Retention: forever})
	if err != nil {
		return err
	}
	raw, err := storage.Open(dir+"/series", storage.Options{Retention: aYear})
	if err != nil {
		return err
	}
	r, err := storage.NewRollups(context.Background(), storage.RollupOptions{Raw: raw, Rolled: rolled, Late: late})
	if err != nil {
		return err
	}
	fmt.Println("rolling")
	if err := r.CatchUp(context.Background()); err != nil {
		return err
	}
	fmt.Println("done")
	select {} // without closing anything
}

// rollUpAndKill kills a process that rolls up what is in dir, some time after it has begun, or at once when it has done.
// It reports whether it had.
func rollUpAndKill(t *testing.T, dir string, after time.Duration) (done bool) {
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
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("it does not begin")
	}
	timer := time.AfterFunc(after, func() { c.Process.Kill() })
	defer timer.Stop()
	done = lines.Scan()
	c.Process.Kill()
	if err := c.Wait(); err == nil {
		t.Error("it was not killed")
	}
	return done
}

// Killed at any moment, and begun again, rollups are the same as without; once they are done they are on disk.
func TestAKilledCollectorRollsUpTheSame(t *testing.T) {
	dir := t.TempDir()
	raw := open(t, dir+"/series", storage.Options{Retention: aYear})
	var all [][]storage.Row
	for i, board := range []string{"b1", "b2", "b3"} {
		all = append(all, walk(temperature(board), day(200), time.Now(), uint64(i)))
		add(t, raw, all[i])
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for i := range 8 {
		if !rollUpAndKill(t, dir, time.Duration(1+i*i)*4*time.Millisecond) {
			killed++
		}
	}
	if killed < 3 {
		t.Errorf("only %d of 8 were killed while they rolled up", killed)
	}
	if !rollUpAndKill(t, dir, time.Minute) {
		t.Fatal("it does not come to an end")
	}
	r := roll(t, dir, aYear, storage.RollupOptions{})
	if time.Since(r.Until()) > late+26*time.Hour {
		t.Errorf("rolled up until %s", r.Until())
	}
	for i, board := range []string{"b1", "b2", "b3"} {
		compare(t, r.rolled, `pi_soc_temperature_celsius{board="`+board+`"}`, all[i], r.Until())
	}
	if n := number(t, r.rolled, `count(last_over_time({__name__=~"pi_.*"}[1y]))`, time.Now()); n != 12 {
		t.Errorf("%v series, want 4 of each board", n)
	}
}
