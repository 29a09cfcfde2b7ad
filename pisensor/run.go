package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// runSensor is `pisensor run`.
func runSensor(ctx context.Context, args []string, _, stderr io.Writer) (err error) {
	var c config
	f := c.flags("run", "", stderr)
	c.intervalFlag(f)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	e, key, err := identity.Load(c.stateDir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	board := openBoard(c.roots, log)
	cost := openCost()
	super := newSupervisor(log)
	kept := super.spool(e.Board)
	defer func() { err = errors.Join(err, board.Close(), cost.Close(), super.Close(), kept.Unmap()) }()
	o := sensor.Options{
		Board: e.Board, URL: e.URL, Key: key, Pin: e.Pin,
		Sources: []sensor.Source{board, cost}, Wake: board.Wake(), Interval: c.interval, OwnSeries: true,
		Spool: kept, Kept: kept != nil,
		Attributes: func() []report.Attribute { return append(board.Attributes(), ownVersion()) },
		Log:        log,
	}
	if super != nil {
		o.Heartbeat = super.heartbeat
	}
	s, err := sensor.New(o)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	log.Info("pisensor starts", "version", versionText(), "board", e.Board, "url", e.URL, "interval", c.interval)
	return s.Run(ctx)
}

func ownVersion() report.Attribute {
	return report.Attribute{Key: report.AttributeSensor, Value: versionText()}
}
