// Package readings stores readings of boards that fire, and makes the incidents about them, for tests of pictures.
package readings

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/picture"
	"bramble/alerting/rules"
	"bramble/storage"
	"bramble/storage/series"
)

// End is when the pictures of these tests are drawn.
var End = time.Now().Add(-time.Minute).Truncate(time.Second)

// Open returns an empty store.
func Open(t testing.TB) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.TempDir(), storage.Options{Retention: 40 * 24 * time.Hour, MemoryBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Tell stores a value of a board every 10 s of the half hour.
func Tell(t testing.TB, s *storage.Store, board string, more map[string]string, name string, value func(minute float64) (float64, bool)) {
	t.Helper()
	labels := []series.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}}
	for n, v := range more {
		labels = append(labels, series.Label{Name: n, Value: v})
	}
	named := storage.SeriesOf(labels)
	var rows []storage.Row
	for at := End.Add(-picture.Span); !at.After(End); at = at.Add(10 * time.Second) {
		if v, ok := value(at.Sub(End.Add(-picture.Span)).Minutes()); ok {
			rows = append(rows, storage.Row{Series: named, At: at.UnixMilli(), Value: v})
		}
	}
	if err := s.Add(rows); err != nil {
		t.Fatal(err)
	}
}

// RuleID is the ID of a default rule.
func RuleID(t testing.TB, name string) string {
	t.Helper()
	for r := range rules.Default().All() {
		if r.Name == name {
			return r.ID
		}
	}
	t.Fatalf("no rule %s", name)
	return ""
}

// HotBoard is an incident of one board that crossed 80 °C 6 min before the end.
func HotBoard(t testing.TB, s *storage.Store) *incident.Incident {
	Tell(t, s, "r1-a-03", map[string]string{"rack": "r1", "switch": "r1-a"}, alert.TemperatureMetric, func(m float64) (float64, bool) {
		return 61 + 0.4*math.Sin(m*3) + 23/(1+math.Exp(-(m-22)/0.8)), true
	})
	at := End.Add(-6 * time.Minute).UnixMilli()
	in := &incident.Incident{ID: "hot", Number: 12, Alerts: []incident.Alert{{
		Rule: RuleID(t, "SocHot"), Series: `board="r1-a-03"`, StartsAt: at,
		Labels:      map[string]string{"alertname": "SocHot", "board": "r1-a-03", "rack": "r1", "switch": "r1-a", "severity": "critical"},
		Annotations: map[string]string{"summary": "r1-a-03: SoC at 80.4 °C"},
	}}}
	in.Describe()
	return in
}

// ThrottledSwitch is an incident of 13 boards, of which one is the hottest and lost its clock.
func ThrottledSwitch(t testing.TB, s *storage.Store) *incident.Incident {
	place := map[string]string{"rack": "r3", "switch": "r3-a"}
	boards := make([]string, 13)
	for i := range boards {
		boards[i] = fmt.Sprintf("r3-a-%02d", i+1)
		late := float64(i%3) * 2
		Tell(t, s, boards[i], place, alert.TemperatureMetric, func(m float64) (float64, bool) {
			return 60 + 20/(1+math.Exp(-(m-12-late))) + math.Sin(m*float64(i+2))*0.6*float64(1-i/12) + float64(i)*0.1 + float64(i/12)*1.5, true
		})
	}
	for i, b := range boards {
		Tell(t, s, b, map[string]string{"rack": "r3", "switch": "r3-a", "reason": "throttled"}, alert.ThrottledMetric, func(m float64) (float64, bool) {
			return math.Floor(max(0, min(1, (m-17)/float64(i+1)*2))), true
		})
	}
	clock := func(source string) map[string]string {
		return map[string]string{"rack": "r3", "switch": "r3-a", "source": source}
	}
	Tell(t, s, "r3-a-13", clock("requested"), alert.ClockMetric, func(float64) (float64, bool) { return 1200e6, true })
	Tell(t, s, "r3-a-13", clock("measured"), alert.ClockMetric, func(m float64) (float64, bool) {
		return 1200e6 - 543e6*math.Floor(max(0, m-18)/3)/4, true
	})
	at := End.Add(-9 * time.Minute).UnixMilli()
	in := &incident.Incident{ID: "throttled", Number: 1479, Alerts: []incident.Alert{{
		Rule: alert.DomainRule(RuleID(t, "Throttled")), StartsAt: at, Boards: boards,
		Labels:      map[string]string{"alertname": "Throttled", "domain": "switch", "rack": "r3", "switch": "r3-a", "severity": "warning"},
		Annotations: map[string]string{"summary": "Switch r3-a (rack r3): 13 of 16 boards throttled", "what": "throttled"},
	}}}
	in.Describe()
	return in
}

// SilentSwitch is an incident of one of three switches.
func SilentSwitch(t testing.TB, s *storage.Store) *incident.Incident {
	var boards []string
	for _, sw := range []string{"r7-a", "r7-b", "r7-c"} {
		for i := range 16 {
			b := fmt.Sprintf("%s-%02d", sw, i+1)
			dead := sw == "r7-b"
			if dead {
				boards = append(boards, b)
			}
			Tell(t, s, b, map[string]string{"rack": "r7", "switch": sw}, alert.UpMetric, func(m float64) (float64, bool) {
				if dead && m > 27.4 {
					return 0, true
				}
				return 1, true
			})
			Tell(t, s, b, map[string]string{"rack": "r7", "switch": sw}, alert.TemperatureMetric, func(m float64) (float64, bool) {
				return 46 + float64(i)*1.7, !dead || m < 27.4
			})
		}
	}
	in := &incident.Incident{ID: "silent", Number: 1482, Alerts: []incident.Alert{{
		Rule: alert.DomainRule(RuleID(t, "BoardSilent")), StartsAt: End.UnixMilli(), Boards: boards,
		Labels: map[string]string{"alertname": "BoardSilent", "domain": "switch", "rack": "r7", "switch": "r7-b", "severity": "critical"},
		Annotations: map[string]string{
			"summary": "Switch r7-b (rack r7): 16 of 16 boards silent", alert.LastReportNote: End.Add(-156 * time.Second).UTC().Format(alert.NoteTime),
		},
	}}}
	in.Describe()
	return in
}

// SlowStore answers once Release is closed.
type SlowStore struct{ Release chan struct{} }

// QueryRange implements rules.RangeQuerier.
func (s SlowStore) QueryRange(context.Context, string, time.Time, time.Time, time.Duration) ([]series.Result, error) {
	<-s.Release
	return nil, nil
}

// Goroutines are those that the store's engine starts once a process and never ends, for goleak.
func Goroutines() []goleak.Option {
	const engine = "github.com/VictoriaMetrics/VictoriaMetrics/lib/"
	return []goleak.Option{
		goleak.IgnoreAnyFunction(engine + "logger.logLimiterCleaner"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).expirationWatcher"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).prevCacheWatcher"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).cacheSizeWatcher"),
	}
}
