package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// largestRecording bounds a recording, in bytes: years at one row a minute.
const largestRecording = 256 << 20

// replay is `pisensor replay FILE.csv`.
func replay(ctx context.Context, args []string, _, stderr io.Writer) error {
	var c config
	f := c.flags("replay", " FILE.csv", stderr)
	f.Func("speed", "play the recording `N` times as fast as it was taken, N ≥ 1 (default: as fast as it can be sent)", func(s string) (err error) {
		c.speed, err = parseSpeed(s)
		return err
	})
	found, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	rec, err := readRecording(found[0])
	if err != nil {
		return err
	}
	for _, name := range rec.ignored {
		fmt.Fprintf(stderr, "ignored: %s\n", name)
	}
	e, key, err := identity.Load(c.stateDir)
	if err != nil {
		return err
	}
	o := sensor.Options{
		Board: e.Board, URL: e.URL, Key: key, Pin: e.Pin,
		Attributes: func() []report.Attribute { return []report.Attribute{ownVersion()} },
		Log:        slog.New(slog.NewTextHandler(stderr, nil)),
	}
	if err := sensor.Replay(ctx, o, rec.rows, c.speed); err != nil {
		return fmt.Errorf("replay %s: %w", found[0], err)
	}
	fmt.Fprintf(stderr, "replayed %d rows, %d readings, all acknowledged\n", len(rec.rows), rec.readings())
	return nil
}

func parseSpeed(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("not a number")
	}
	if n < 1 {
		return 0, fmt.Errorf("below 1: a recording played slower than it was taken would fall behind its own times")
	}
	return n, nil
}

// readRecording reads a recording from a file. Its error names the file.
func readRecording(path string) (recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return recording{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largestRecording+1))
	if err != nil {
		return recording{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > largestRecording {
		return recording{}, fmt.Errorf("%s is larger than %d bytes", path, largestRecording)
	}
	r, err := parseRecording(b)
	if err != nil {
		return recording{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
