package receivers

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alerttest/readings"
	"bramble/alerting/incident"
	"bramble/alerting/rules"
	"bramble/storage/series"
)

// heldStore does not answer its first questions before never is closed; the others it answers by answer.
type heldStore struct {
	held   atomic.Int32 // questions that are still to be held
	answer func() ([]series.Result, error)
	never  chan struct{}
}

func (s *heldStore) QueryRange(context.Context, string, time.Time, time.Time, time.Duration) ([]series.Result, error) {
	if s.held.Add(-1) >= 0 {
		<-s.never
	}
	return s.answer()
}

// pictureFor has a mail about an incident wait for its picture, and returns the picture and how long that took.
func pictureFor(ctx context.Context, m *mailer, id, rule string) ([]byte, time.Duration) {
	f := &facts{notes: map[string]string{PagePictureURL: "there is one"},
		incident: incident.Incident{ID: id, Alerts: []incident.Alert{{Rule: rule, Labels: map[string]string{"board": id}}}}}
	b := m.picture(context.WithValue(notify.WithNow(ctx, readings.End), factsKey{}, f))
	return b, f.drew
}

func newPictureMailer(_ testing.TB, store rules.RangeQuerier) *mailer {
	log := slog.New(slog.DiscardHandler)
	drawn := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "drawn"}, []string{"result"})
	return &mailer{parts: &Parts{Pictures: NewPictures(rules.NewEngine(rules.Default()), store, log), Drawn: drawn, Log: log}}
}

// On fake time a mail waits for its picture for 300 ms, to the nanosecond, and no longer: for a store that does not answer, and for
// a renderer that others keep busy. A picture that comes before is in it.
func TestAPictureIsWaitedForByTheClock(t *testing.T) {
	f := func(name string, others int, answers, want time.Duration, drawn bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &heldStore{never: make(chan struct{}), answer: func() ([]series.Result, error) {
					time.Sleep(answers)
					return []series.Result{{At: []int64{readings.End.UnixMilli()}, Values: []float64{85}}}, nil
				}}
				store.held.Store(int32(others))
				m := newPictureMailer(t, store)
				for i := range others { // which fill the renderer
					go pictureFor(t.Context(), m, fmt.Sprint("other ", i), readings.RuleID(t, "SocHot"))
					synctest.Wait()
				}
				b, took := pictureFor(t.Context(), m, "b1", readings.RuleID(t, "SocHot"))
				if took != want || (b != nil) != drawn {
					t.Errorf("the mail waited %v and has a picture of %d bytes, want %v and %v", took, len(b), want, drawn)
				}
				close(store.never)
				m.parts.Pictures.Close()
			})
		})
	}
	f("in time", 0, pictureBudget-time.Millisecond, pictureBudget-time.Millisecond, true)
	f("the store is slow", 0, pictureBudget+time.Millisecond, pictureBudget, false)
	f("the renderer is busy", 2, 0, pictureBudget, false)
}

// BenchmarkLatePicture measures for how long a mail waits for a picture that never comes, beside as many busy loops as there are
// processors; each wait is a sample.
func BenchmarkLatePicture(b *testing.B) {
	ctx, idle := context.WithCancel(b.Context())
	var busy sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	store := readings.SlowStore{Release: make(chan struct{})}
	m, rule := newPictureMailer(b, store), readings.RuleID(b, "SocHot")
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		_, d := pictureFor(b.Context(), m, fmt.Sprint("b", i), rule)
		took = append(took, d)
	}
	idle()
	busy.Wait()
	close(store.Release)
	m.parts.Pictures.Close()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
