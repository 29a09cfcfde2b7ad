package storage_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// childDir, set in the environment, turns the test binary into a writer that is made to be killed.
const (
	childDir   = "BRAMBLE_STORAGE_TEST_DIR"
	childStart = "BRAMBLE_STORAGE_TEST_START" // Unix milliseconds of row 0
	childFrom  = "BRAMBLE_STORAGE_TEST_FROM"  // first row to write

	batchRows = 200
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if dir := os.Getenv(inspectEnv); dir != "" {
		os.Exit(inspectMain(dir))
	}
	if dir := os.Getenv(rollupDirEnv); dir != "" {
		if err := rollUpAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeForever adds rows and prints, after each barrier, how many rows it covers.
func writeForever(dir string) error {
	start, err := strconv.ParseInt(os.Getenv(childStart), 10, 64)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv(childFrom))
	if err != nil {
		return err
	}
	s, err := storage.Open(dir, storage.Options{})
	if err != nil {
		return err
	}
	for batch := 1; ; batch++ {
		if err := s.Add(storagetest.Rows(storagetest.Temperature("b1"), time.UnixMilli(start+int64(n)*1000), batchRows)); err != nil {
			return err
		}
		n += batchRows
		if batch%5 == 0 {
			if err := s.Barrier(); err != nil {
				return err
			}
			fmt.Println(n)
		}
	}
}

// TestKillAfterABarrierLosesNothing kills a writer, in a run for endurance again and again, each time a little after
// another barrier, and writes the rows after the last known barrier again. All rows before it must be there, once.
func TestKillAfterABarrierLosesNothing(t *testing.T) {
	dir := t.TempDir()
	start := time.Now().Add(-200 * 24 * time.Hour).Truncate(time.Second) // several months: several partitions
	durable := 0
	for round := range storagetest.Kills(4) {
		durable = runAndKill(t, dir, start, durable, round+1)
		s := storagetest.Open(t, dir, storage.Options{})
		last := start.Add(time.Duration(durable-1) * time.Second)
		window := fmt.Sprintf(`count_over_time(pi_soc_temperature_celsius[%ds])`, durable)
		if got := storagetest.Number(t, s, window, last); got != float64(durable) {
			t.Fatalf("kill %d: %v rows of %d that were durable", round, got, durable)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runAndKill starts a writer at row from, kills it after some barriers while it writes on, and returns how
// many rows the last barrier covered.
func runAndKill(t *testing.T, dir string, start time.Time, from, barriers int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir,
		childStart+"="+fmt.Sprint(start.UnixMilli()), childFrom+"="+fmt.Sprint(from))
	var stderr bytes.Buffer // a store that works says nothing
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // also where the test fails before
	durable := 0
	lines := bufio.NewScanner(out)
	for range barriers {
		if !lines.Scan() {
			t.Fatalf("writer ended early: %v, %s", cmd.Wait(), &stderr)
		}
		if durable, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // barriers that returned before the kill count too
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			durable = n
		}
	}
	_ = cmd.Wait() // it was killed
	if stderr.Len() > 0 {
		t.Errorf("the writer wrote: %s", &stderr)
	}
	return durable
}
