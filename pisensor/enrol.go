package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"bramble/pisensor/backoff"
	"bramble/pisensor/identity"
	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// Between two tries of an enrolment that waits.
const (
	retryFirst = time.Second
	retryMax   = 15 * time.Second
)

// maxTokenFile bounds the bytes read from a token's file.
const maxTokenFile = 4 << 10

// enrolment holds the flags and arguments of `pisensor enrol`.
type enrolment struct {
	config
	url   string
	token report.Token
	wait  time.Duration // keep trying for so long
	renew bool          // with a new key
}

// enrol is `pisensor enrol URL TOKEN`.
func enrol(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var e enrolment
	f := e.flags("enrol", " URL [TOKEN]", stderr)
	f.StringVar(&e.name, "name", hostName(), "`name` that a new board of a rack would like; empty: the collector numbers it")
	f.DurationVar(&e.wait, "wait", 0, "keep trying for this `time` while the collector cannot be reached, as at the first boot")
	f.BoolVar(&e.renew, "new-key", false, "make a new key; the old one is void for good as soon as the collector has the new one. It takes the board's own token, as `collector board token NAME` prints it")
	file := f.String("token-file", "", "`file` that holds the token, - for standard input: the process list shows arguments to everybody")
	if err := e.parse(f, args, file); err != nil {
		return err
	}
	done, err := e.do(ctx, stderr)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run this as root, or choose another directory with --state-dir", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, done.Board)
	return err
}

func (e *enrolment) parse(f *flag.FlagSet, args []string, file *string) error {
	found, err := positional(f, args)
	if err != nil {
		return err
	}
	if *file != "" {
		if err := counted(f, found, 1); err != nil {
			return err
		}
		text, err := readToken(*file)
		if err != nil {
			return err
		}
		found = append(found, text)
	}
	if err := counted(f, found, 2); err != nil {
		return err
	}
	e.url = found[0]
	if err := sensor.CheckURL(e.url, ""); err != nil {
		return err
	}
	if e.token, err = report.ParseToken(found[1]); err != nil && *file != "" {
		return fmt.Errorf("token file %s: %w", *file, err)
	}
	return err
}

// readToken reads a file, or standard input.
func readToken(name string) (string, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTokenFile))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// do asks until the collector has answered or the time is over. It prints the reason for waiting
// once, and again when the reason changes.
func (e *enrolment) do(ctx context.Context, stderr io.Writer) (identity.Enrolment, error) {
	end, said := time.Now().Add(e.wait), ""
	for tries := 0; ; tries++ {
		pause := backoff.Wait(retryFirst, retryMax, tries)
		ask := identity.Enrol
		if e.renew {
			ask = identity.Renew
		}
		done, err := ask(ctx, e.stateDir, e.url, e.token, e.name)
		if !errors.Is(err, identity.ErrUnreachable) {
			return done, err
		}
		left := time.Until(end)
		switch {
		case left <= 0 && e.wait > 0:
			return done, fmt.Errorf("%w; gave up after %v", err, e.wait)
		case left <= 0:
			return done, fmt.Errorf("%w; try again, or let it try with --wait 5m", err)
		}
		if text := err.Error(); text != said {
			said = text
			fmt.Fprintf(stderr, "pisensor: %s; trying again for %v\n", text, left.Round(time.Second))
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return done, fmt.Errorf("%w; stopped", err)
		}
	}
}

// defaultNames are host names that images come with: they distinguish no board from another, and a
// rack's token takes each name once.
var defaultNames = map[string]bool{"localhost": true, "raspberrypi": true, "debian": true, "ubuntu": true, "dietpi": true, "alarm": true, "alarmpi": true}

// hostName is the host's name as far as it can be a board's, else empty.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if report.ValidateBoard(name) != nil || defaultNames[name] {
		return ""
	}
	return name
}
