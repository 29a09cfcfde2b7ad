package picture

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func one() (*Picture, error) {
	return &Picture{From: end.Add(-Span), To: end, Rows: []Row{{Line: level("r1-a", 16), Of: 16}}}, nil
}

// shelf fails the test where a picture does.
func shelf(t *testing.T) *Shelf {
	s := NewShelf(func(subject string, err error) { t.Errorf("%s: %v", subject, err) })
	t.Cleanup(s.Close)
	return s
}

func TestAPictureIsDrawnOnce(t *testing.T) {
	s, read := shelf(t), atomic.Int64{}
	for _, at := range []time.Time{end, end, end.Add(time.Second)} {
		b, err := s.Draw(t.Context(), "12", at, func() (*Picture, error) {
			read.Add(1)
			return one()
		})
		if err != nil || len(b) == 0 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	if n := read.Load(); n != 2 {
		t.Errorf("read %d times for two pictures", n)
	}
}

// TestDrawingGoesOn gives up, lets the picture be drawn, and asks again.
func TestDrawingGoesOn(t *testing.T) {
	s, release := shelf(t), make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	busy := errors.New("no time")
	_, err := s.Draw(ctx, "12", end, func() (*Picture, error) {
		cancel(busy)
		<-release
		return one()
	})
	if !errors.Is(err, busy) {
		t.Errorf("got %v, want %v", err, busy)
	}
	close(release)
	b, err := s.Draw(t.Context(), "12", end, func() (*Picture, error) { return nil, errors.New("read again") })
	if err != nil || len(b) == 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAFailedPictureIsTriedAgain(t *testing.T) {
	var reported []string
	s := NewShelf(func(subject string, err error) { reported = append(reported, fmt.Sprint(subject, ": ", err)) })
	defer s.Close()
	_, err := s.Draw(t.Context(), "12", end, func() (*Picture, error) { return nil, errors.New("no store") })
	if err == nil || err.Error() != "no store" {
		t.Error(err)
	}
	if _, err = s.Draw(t.Context(), "12", end, func() (*Picture, error) { panic("no sense") }); err == nil || err.Error() != "panic: no sense" {
		t.Error(err)
	}
	if b, err := s.Draw(t.Context(), "12", end, one); err != nil || len(b) == 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if len(reported) != 2 || reported[0] != "12: no store" || reported[1] != "12: panic: no sense" {
		t.Errorf("reported %q", reported)
	}
}

func TestAShelfForgets(t *testing.T) {
	s := shelf(t)
	for i := range keptPictures + 1 {
		s.keep(shelfKey{fmt.Sprint(i), end.UnixMilli()}, &drawing{})
	}
	if len(s.kept) != keptPictures || len(s.order) != keptPictures || s.kept[shelfKey{"0", end.UnixMilli()}] != nil {
		t.Errorf("%d pictures are kept", len(s.kept))
	}
}
