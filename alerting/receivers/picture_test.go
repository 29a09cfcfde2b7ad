package receivers

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bramble/alerting/alerttest/readings"
	"bramble/alerting/incident"
	"bramble/alerting/rules"
	"bramble/storage"
)

func drawn(t testing.TB, s *storage.Store, in *incident.Incident) (image.Image, []byte) {
	t.Helper()
	p := NewPictures(rules.NewEngine(rules.Default()), s, nil)
	defer p.Close()
	b, err := p.Draw(context.Background(), in, readings.End)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("BRAMBLE_PICTURES"); dir != "" { // to look at them
		if err := os.WriteFile(filepath.Join(dir, in.ID+".png"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return img, b
}

// red counts the pixels in the colour of what was crossed, where the graphs are.
func red(img image.Image) (n int) {
	for y := 120; y < 508; y++ {
		for x := 100; x < 968; x++ {
			if r, g, b, _ := img.At(x, y).RGBA(); r>>8 == 0xb0 && g>>8 == 0x1f && b>>8 == 0x24 {
				n++
			}
		}
	}
	return n
}

func TestPictures(t *testing.T) {
	s := readings.Open(t)
	for _, in := range []*incident.Incident{readings.HotBoard(t, s), readings.ThrottledSwitch(t, s), readings.SilentSwitch(t, s)} {
		t.Run(in.ID, func(t *testing.T) {
			img, b := drawn(t, s, in)
			if got := img.Bounds().Size(); got != (image.Point{1200, 600}) {
				t.Errorf("size %v, want 1200x600", got)
			}
			if len(b) > 60_000 {
				t.Errorf("%d bytes, want at most 60 kB", len(b))
			}
			if red(img) < 200 {
				t.Error("what was crossed is not drawn in red")
			}
		})
	}
}

func TestAPictureIsNotWaitedForBeyondItsTime(t *testing.T) {
	store := readings.SlowStore{Release: make(chan struct{})}
	p := NewPictures(rules.NewEngine(rules.Default()), store, nil)
	defer p.Close()
	defer close(store.Release)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	in := &incident.Incident{ID: "slow", Alerts: []incident.Alert{{Rule: readings.RuleID(t, "SocHot"), Labels: map[string]string{"board": "b1"}}}}
	if _, err := p.Draw(ctx, in, readings.End); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestARuleThatIsGoneHasNoPicture(t *testing.T) {
	p := NewPictures(rules.NewEngine(nil), readings.SlowStore{}, nil)
	defer p.Close()
	in := &incident.Incident{ID: "gone", Alerts: []incident.Alert{{Rule: "board/Gone", Labels: map[string]string{"board": "b1"}}}}
	if _, err := p.Draw(context.Background(), in, readings.End); !errors.Is(err, ErrNoPicture) {
		t.Errorf("got %v, want ErrNoPicture", err)
	}
}

func BenchmarkPicture(b *testing.B) {
	s := readings.Open(b)
	p := NewPictures(rules.NewEngine(rules.Default()), s, nil)
	defer p.Close()
	for _, in := range []*incident.Incident{readings.HotBoard(b, s), readings.ThrottledSwitch(b, s), readings.SilentSwitch(b, s)} {
		b.Run(in.ID, func(b *testing.B) {
			for b.Loop() {
				shown, err := p.read(context.Background(), in, readings.End)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := shown.PNG(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
