package rules

import (
	"maps"
	"strconv"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

const (
	// WatchdogLabel marks the watchdog's alert, whose name others use too.
	WatchdogLabel = "watchdog"
	// WatchdogValue is the value of WatchdogLabel.
	WatchdogValue = "collector"
	// BeatNote is the annotation that says when the rule saw the reading that the beat is about, in the form of
	// alert.NoteTime.
	BeatNote = "beat"

	watchdogOrigin = "collector/watchdog"
)

// ownRules are no operator's to change: without them nobody outside hears of a collector that is dead.
const ownRules = `
groups:
  - name: watchdog
    rules:
      - alert: Watchdog
        expr: bramble_watchdog == 1
        labels: {watchdog: collector, severity: none}
        annotations:
          summary: "alerting works from a reading to a delivery"
          description: "This alert always fires. Each of its beats takes the whole way and ends at the heartbeat outside."
  - name: test pages
    rules:
      - alert: TestPage
        expr: bramble_test_page == 1
        labels: {severity: none}
        annotations:
          summary: "TEST: this page is a test, nothing is wrong"
          description: "Test {{ $labels.test_id }} of receiver {{ $labels.test_receiver }}. Nothing has to be done: the collector notes by itself that it arrived."
          runbook: "None: it is a test."
      - alert: TestPageFailed
        expr: bramble_test_page_failed == 1
        labels: {severity: critical}
        annotations:
          what: "without a working receiver"
          summary: "the last test page to receiver {{ $labels.test_receiver }} was not delivered"
          description: "Pages to this receiver wake nobody. Where there are other receivers, this one comes through them."
          runbook: "The page /watch shows what the provider answered. Mend the receiver in alertmanager.yml, reload, and send another test page: the next that arrives ends this alert."
`

// WithOwn returns rules with those beside them that the collector watches its own alerting by.
func (r *Rules) WithOwn() *Rules {
	own, err := Load(map[string][]byte{"(built in)": []byte(ownRules)})
	if err != nil {
		panic("embedded " + err.Error()) // a test loads them
	}
	return &Rules{Groups: append(append([]*Group{}, r.Groups...), own.Groups...)}
}

// Beat gives the watchdog's rule its reading and returns the transition that carries the beat on, to be journalled and
// delivered as any other. It returns none where the rule is not in force.
func (e *Engine) Beat(now time.Time) []alert.Transition {
	s := e.Series([]series.Label{{Name: series.NameLabel, Value: "bramble_watchdog"}}, nil)
	notes := map[string]string{BeatNote: now.UTC().Format(alert.NoteTime)}
	e.Annotate(s, notes)
	if out := e.Observe(watchdogOrigin, now.UnixMilli(), []Reading{{Series: s, Value: 1}}); len(out) > 0 {
		return out
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range s.tests {
		if w.rule.Labels[WatchdogLabel] != WatchdogValue || w.alert == nil || w.alert.last.State != alert.Firing || w.alert.last.At >= now.UnixMilli() {
			continue
		}
		t := w.alert.last
		t.From, t.At, t.Received, t.Annotations = alert.Firing, now.UnixMilli(), now.UnixMilli(), maps.Clone(t.Annotations)
		maps.Copy(t.Annotations, notes)
		w.alert.last = t
		return []alert.Transition{t}
	}
	return nil
}

// Labels of the alerts of test pages: the number of the test, and the receiver that is tested.
const (
	TestID       = "test_id"
	TestReceiver = "test_receiver"
)

// Test gives the rule of test pages the reading of a test, by its number and receiver: on begins the alert, off ends it.
func (e *Engine) Test(number int64, receiver string, on bool, now time.Time) []alert.Transition {
	id := strconv.FormatInt(number, 10)
	s := e.Series([]series.Label{{Name: series.NameLabel, Value: "bramble_test_page"}, {Name: TestID, Value: id}, {Name: TestReceiver, Value: receiver}}, nil)
	value := 0.0
	if on {
		value = 1
	}
	return e.Observe("collector/test "+id, now.UnixMilli(), []Reading{{Series: s, Value: value}})
}
