package alerting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/picture"
	"bramble/alerting/rules"
	"bramble/storage/series"
)

// pictureBudget is the longest that a page waits for its picture; then it leaves without.
const pictureBudget = 300 * time.Millisecond

// ErrNoPicture is for what cannot be drawn: an alert that came by the API, a rule that is gone, no readings.
var ErrNoPicture = errors.New("there is nothing to draw")

// Pictures draws incidents: the half hour before a page of the series that fired, and the line that they crossed. All
// methods are safe for concurrent use; a nil Pictures draws nothing.
type Pictures struct {
	engine *rules.Engine
	store  rules.RangeQuerier
	shelf  *picture.Shelf
	budget time.Duration // that a page waits
}

// NewPictures draws what the engine's rules say from what the store holds.
func NewPictures(engine *rules.Engine, store rules.RangeQuerier, log *slog.Logger) *Pictures {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	shelf := picture.NewShelf(func(incident string, err error) {
		if !errors.Is(err, ErrNoPicture) {
			log.Warn("incident not drawn", "incident", incident, "err", err)
		}
	})
	return &Pictures{engine: engine, store: store, shelf: shelf, budget: pictureBudget}
}

// Draw returns an incident's picture as it is at a time, a PNG of 1200 by 600 pixels. Where it takes longer than ctx
// allows, drawing goes on for the next who asks.
func (p *Pictures) Draw(ctx context.Context, in *Incident, at time.Time) ([]byte, error) {
	if p == nil {
		return nil, ErrNoPicture
	}
	b, err := p.shelf.Draw(ctx, in.ID, at, func() (*picture.Picture, error) {
		ctx, cancel := context.WithTimeout(context.Background(), tryTimeout) // not the caller's: others may wait for it too
		defer cancel()
		return p.read(ctx, in, at)
	})
	if err != nil && !errors.Is(err, ErrNoPicture) {
		err = fmt.Errorf("draw incident %s: %w", in.ID, err)
	}
	return b, err
}

// drawable reports whether there is anything to draw of an incident, without drawing it.
func (p *Pictures) drawable(in *Incident) bool {
	if p == nil {
		return false
	}
	_, ok := p.engine.Comparison(in.lead().Rule, nil)
	return ok
}

// Close waits for what is being drawn. Nobody calls Draw any more.
func (p *Pictures) Close() {
	if p != nil {
		p.shelf.Close()
	}
}

// newPicture says what an incident's picture says in words.
func newPicture(in *Incident, at time.Time) *picture.Picture {
	began := time.UnixMilli(in.StartedAt).UTC()
	title, _, _ := strings.Cut(in.Title, " since ")
	s := &picture.Picture{Title: title, To: at.UTC(), From: at.UTC().Add(-picture.Span)}
	s.Subtitle = "since " + began.Format("15:04:05 UTC")
	s.Foot = fmt.Sprintf("#%d · since %s · Bramble", in.Number, began.Format("2 January 15:04:05 UTC"))
	switch {
	case in.ResolvedAt != 0 && in.ResolvedAt <= at.UnixMilli():
		s.Mark = picture.Resolved
		s.Subtitle += ", resolved " + time.UnixMilli(in.ResolvedAt).UTC().Format("15:04:05 UTC")
	case alert.SeverityRank(in.Severity) >= alert.SeverityRank("error"):
		s.Mark = picture.Critical
	}
	return s
}

// lineOf is a series under a name.
func lineOf(r series.Result, name string) picture.Line {
	return picture.Line{Name: name, At: r.At, Values: r.Values}
}

// graphOf shows series by their boards, with the last value of the main one under the title.
func graphOf(s *picture.Picture, metric string, found []series.Result, lowIsBad bool) *picture.Graph {
	lines := make([]picture.Line, len(found))
	for i, r := range found {
		lines[i] = lineOf(r, series.Get(r.Labels, alert.BoardLabel))
	}
	g := picture.NewGraph(metric, lines, lowIsBad)
	if g.Main() != "" {
		s.Subtitle += " · " + g.Main() + ": " + g.Last()
	}
	return g
}

// laneOf shows on how many of an incident's boards a bit is set.
func laneOf(bits series.Result, in *Incident) *picture.Graph {
	return picture.NewLane(lineOf(bits, ""), max(1, len(in.touched())), cmp.Or(in.lead().Annotations["what"], "set"))
}
