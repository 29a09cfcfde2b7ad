package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bramble/collector/registry"
)

// Expectation is an announced step on a board. It changes the text of pages about the board's
// silence, and hides nothing.
type Expectation struct {
	Board string    `json:"board"`
	What  string    `json:"what"` // one of Announcements
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// Announcements are the steps that can be announced.
var Announcements = []string{"reboot", "reinstall", "shutdown"}

// MaxExpected is how far ahead an announcement may reach.
const MaxExpected = 24 * time.Hour

// String is a sentence.
func (e *Expectation) String() string {
	const clock = "15:04 UTC"
	return fmt.Sprintf("A %s was announced by %s at %s, to be over by %s.", e.What, e.By, e.At.UTC().Format(clock), e.Until.UTC().Format(clock))
}

func (e *Expectation) check() error {
	d := e.Until.Sub(e.At)
	switch {
	case !slices.Contains(Announcements, e.What):
		return fmt.Errorf("announce %q: want one of %s", e.What, strings.Join(Announcements, ", "))
	case d <= 0 || d > MaxExpected:
		return fmt.Errorf("announce a %s for %s: want more than 0 and at most %s", e.What, d, MaxExpected)
	}
	return nil
}

// Expect notes an announcement. It is on disk when Expect returns, and replaces
// an earlier one of the board. The error wraps registry.ErrNotFound for a board
// that does not exist.
func (in *Ingest) Expect(ctx context.Context, e Expectation) error {
	if err := e.check(); err != nil {
		return err
	}
	if known, ok := in.Registry.Board(e.Board); !ok || known.Retired {
		return fmt.Errorf("board %s: %w", e.Board, registry.ErrNotFound)
	}
	record, err := appendOwnRecord(nil, ownRecord{Expected: &e})
	if err != nil {
		return err
	}
	onDisk := make(chan struct{})
	if doErr := in.Do(ctx, func() {
		in.board(e.Board).expected = &e
		in.sinceCut++
		err = in.commit(record, nil, nil, func() { close(onDisk) })
	}); doErr != nil {
		return doErr
	}
	if err != nil {
		return err
	}
	select {
	case <-onDisk:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("announce: not on disk yet"), ctx.Err())
	}
}
