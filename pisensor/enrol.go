package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
)

// enrol is `pisensor enrol URL TOKEN`.
func enrol(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	f := c.flags("enrol", " URL TOKEN", stderr)
	f.StringVar(&c.name, "name", hostName(), "`name` that this board would like; only a rack's token heeds it")
	found, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	token, err := report.ParseToken(found[1])
	if err != nil {
		return err
	}
	e, err := identity.Enrol(ctx, c.stateDir, found[0], token, c.name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, e.Board)
	return err
}

// hostName is the host's name as far as it can be a board's, else empty.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if report.ValidateBoard(name) != nil {
		return ""
	}
	return name
}
