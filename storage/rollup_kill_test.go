package storage_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"bramble/storage"
)

// rollupDirEnv makes the test binary a process that rolls up what is in a directory.
const rollupDirEnv = "BRAMBLE_ROLLUP_DIR"

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
	os.Stdout.WriteString("rolling\n")
	if err := r.CatchUp(context.Background()); err != nil {
		return err
	}
	return errors.Join(raw.Close(), rolled.Close())
}

// Killed at any moment, and begun again, rollups are the same as without.
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
	for i := range 12 {
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
		if _, err := out.Read(make([]byte, 1)); err != nil { // it rolls
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(1+i*i)*4*time.Millisecond, func() { c.Process.Kill() })
		if err := c.Wait(); err != nil {
			killed++
		}
		timer.Stop()
	}
	if killed < 3 {
		t.Errorf("only %d of 12 were killed while they rolled up", killed)
	}
	r := roll(t, dir, aYear, storage.RollupOptions{})
	r.catchUp(t)
	for i, board := range []string{"b1", "b2", "b3"} {
		compare(t, r.rolled, `pi_soc_temperature_celsius{board="`+board+`"}`, all[i], r.Until())
	}
	if n := number(t, r.rolled, `count(last_over_time({__name__=~"pi_.*"}[1y]))`, time.Now()); n != 12 {
		t.Errorf("%v series, want 4 of each board", n)
	}
}
