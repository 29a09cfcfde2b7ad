package pager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/picture"
	"bramble/alerting/rules"
	"bramble/storage"
	"bramble/storage/series"
)

// pictureEnd is when the pictures of these tests are drawn.
var pictureEnd = time.Now().Add(-time.Minute).Truncate(time.Second)

func openSeries(t testing.TB) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.TempDir(), storage.Options{Retention: 40 * 24 * time.Hour, MemoryBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// tell stores a value of a board every 10 s of the half hour.
func tell(t testing.TB, s *storage.Store, board string, more map[string]string, name string, value func(minute float64) (float64, bool)) {
	t.Helper()
	labels := []series.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}}
	for n, v := range more {
		labels = append(labels, series.Label{Name: n, Value: v})
	}
	named := storage.SeriesOf(labels)
	var rows []storage.Row
	for at := pictureEnd.Add(-picture.Span); !at.After(pictureEnd); at = at.Add(10 * time.Second) {
		if v, ok := value(at.Sub(pictureEnd.Add(-picture.Span)).Minutes()); ok {
			rows = append(rows, storage.Row{Series: named, At: at.UnixMilli(), Value: v})
		}
	}
	if err := s.Add(rows); err != nil {
		t.Fatal(err)
	}
}

// ruleID is the ID of a default rule.
func ruleID(t testing.TB, name string) string {
	t.Helper()
	for r := range rules.Default().All() {
		if r.Name == name {
			return r.ID
		}
	}
	t.Fatalf("no rule %s", name)
	return ""
}

// hotBoard is an incident of one board that crossed 80 °C 6 min before the end.
func hotBoard(t testing.TB, s *storage.Store) *incident.Incident {
	tell(t, s, "r1-a-03", map[string]string{"rack": "r1", "switch": "r1-a"}, alert.TemperatureMetric, func(m float64) (float64, bool) {
		return 61 + 0.4*math.Sin(m*3) + 23/(1+math.Exp(-(m-22)/0.8)), true
	})
	at := pictureEnd.Add(-6 * time.Minute).UnixMilli()
	in := &incident.Incident{ID: "hot", Number: 12, Alerts: []incident.Alert{{
		Rule: ruleID(t, "SocHot"), Series: `board="r1-a-03"`, StartsAt: at,
		Labels:      map[string]string{"alertname": "SocHot", "board": "r1-a-03", "rack": "r1", "switch": "r1-a", "severity": "critical"},
		Annotations: map[string]string{"summary": "r1-a-03: SoC at 80.4 °C"},
	}}}
	in.Describe()
	return in
}

// throttledSwitch is an incident of 13 boards, of which one is the hottest and lost its clock.
func throttledSwitch(t testing.TB, s *storage.Store) *incident.Incident {
	place := map[string]string{"rack": "r3", "switch": "r3-a"}
	boards := make([]string, 13)
	for i := range boards {
		boards[i] = fmt.Sprintf("r3-a-%02d", i+1)
		late := float64(i%3) * 2
		tell(t, s, boards[i], place, alert.TemperatureMetric, func(m float64) (float64, bool) {
			return 60 + 20/(1+math.Exp(-(m-12-late))) + math.Sin(m*float64(i+2))*0.6*float64(1-i/12) + float64(i)*0.1 + float64(i/12)*1.5, true
		})
	}
	for i, b := range boards {
		tell(t, s, b, map[string]string{"rack": "r3", "switch": "r3-a", "reason": "throttled"}, alert.ThrottledMetric, func(m float64) (float64, bool) {
			return math.Floor(max(0, min(1, (m-17)/float64(i+1)*2))), true
		})
	}
	clock := func(source string) map[string]string {
		return map[string]string{"rack": "r3", "switch": "r3-a", "source": source}
	}
	tell(t, s, "r3-a-13", clock("requested"), alert.ClockMetric, func(float64) (float64, bool) { return 1200e6, true })
	tell(t, s, "r3-a-13", clock("measured"), alert.ClockMetric, func(m float64) (float64, bool) {
		return 1200e6 - 543e6*math.Floor(max(0, m-18)/3)/4, true
	})
	at := pictureEnd.Add(-9 * time.Minute).UnixMilli()
	in := &incident.Incident{ID: "throttled", Number: 1479, Alerts: []incident.Alert{{
		Rule: alert.DomainRule(ruleID(t, "Throttled")), StartsAt: at, Boards: boards,
		Labels:      map[string]string{"alertname": "Throttled", "domain": "switch", "rack": "r3", "switch": "r3-a", "severity": "warning"},
		Annotations: map[string]string{"summary": "Switch r3-a (rack r3): 13 of 16 boards throttled", "what": "throttled"},
	}}}
	in.Describe()
	return in
}

// silentSwitch is an incident of one of three switches.
func silentSwitch(t testing.TB, s *storage.Store) *incident.Incident {
	var boards []string
	for _, sw := range []string{"r7-a", "r7-b", "r7-c"} {
		for i := range 16 {
			b := fmt.Sprintf("%s-%02d", sw, i+1)
			dead := sw == "r7-b"
			if dead {
				boards = append(boards, b)
			}
			tell(t, s, b, map[string]string{"rack": "r7", "switch": sw}, alert.UpMetric, func(m float64) (float64, bool) {
				if dead && m > 27.4 {
					return 0, true
				}
				return 1, true
			})
			tell(t, s, b, map[string]string{"rack": "r7", "switch": sw}, alert.TemperatureMetric, func(m float64) (float64, bool) {
				return 46 + float64(i)*1.7, !dead || m < 27.4
			})
		}
	}
	in := &incident.Incident{ID: "silent", Number: 1482, Alerts: []incident.Alert{{
		Rule: alert.DomainRule(ruleID(t, "BoardSilent")), StartsAt: pictureEnd.UnixMilli(), Boards: boards,
		Labels: map[string]string{"alertname": "BoardSilent", "domain": "switch", "rack": "r7", "switch": "r7-b", "severity": "critical"},
		Annotations: map[string]string{
			"summary": "Switch r7-b (rack r7): 16 of 16 boards silent", alert.LastReportNote: pictureEnd.Add(-156 * time.Second).UTC().Format(alert.NoteTime),
		},
	}}}
	in.Describe()
	return in
}

func drawn(t testing.TB, s *storage.Store, in *incident.Incident) (image.Image, []byte) {
	t.Helper()
	p := NewPictures(rules.NewEngine(rules.Default()), s, nil)
	defer p.Close()
	b, err := p.Draw(context.Background(), in, pictureEnd)
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
	s := openSeries(t)
	for _, in := range []*incident.Incident{hotBoard(t, s), throttledSwitch(t, s), silentSwitch(t, s)} {
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

// slowStore answers when it is told to.
type slowStore struct{ release chan struct{} }

func (s slowStore) QueryRange(context.Context, string, time.Time, time.Time, time.Duration) ([]series.Result, error) {
	<-s.release
	return nil, nil
}

func TestAPictureIsNotWaitedForBeyondItsTime(t *testing.T) {
	store := slowStore{make(chan struct{})}
	p := NewPictures(rules.NewEngine(rules.Default()), store, nil)
	defer p.Close()
	defer close(store.release)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	in := &incident.Incident{ID: "slow", Alerts: []incident.Alert{{Rule: ruleID(t, "SocHot"), Labels: map[string]string{"board": "b1"}}}}
	if _, err := p.Draw(ctx, in, pictureEnd); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestARuleThatIsGoneHasNoPicture(t *testing.T) {
	p := NewPictures(rules.NewEngine(nil), slowStore{}, nil)
	defer p.Close()
	in := &incident.Incident{ID: "gone", Alerts: []incident.Alert{{Rule: "board/Gone", Labels: map[string]string{"board": "b1"}}}}
	if _, err := p.Draw(context.Background(), in, pictureEnd); !errors.Is(err, ErrNoPicture) {
		t.Errorf("got %v, want ErrNoPicture", err)
	}
}

func BenchmarkPicture(b *testing.B) {
	s := openSeries(b)
	p := NewPictures(rules.NewEngine(rules.Default()), s, nil)
	defer p.Close()
	for _, in := range []*incident.Incident{hotBoard(b, s), throttledSwitch(b, s), silentSwitch(b, s)} {
		b.Run(in.ID, func(b *testing.B) {
			for b.Loop() {
				shown, err := p.read(context.Background(), in, pictureEnd)
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
