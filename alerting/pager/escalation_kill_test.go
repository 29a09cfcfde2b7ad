package pager

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/escalation"
)

// steps is an oncall.yml with two steps and what they wait.
func steps(first, second string) string {
	return fmt.Sprintf(`
people:
  - {name: ada, channels: [{receiver: ada-ntfy}]}
  - {name: jonas, ack_notice: jonas-ntfy, channels: [{receiver: jonas-ntfy}]}
policies:
  - name: default
    receivers: [oncall]
    steps: [{notify: [ada], wait: %s}, {notify: [jonas], wait: %s}]
    repeat: 1
    fallback: everybody
`, first, second)
}

// life is one page's way in a process that is killed.
type life struct {
	t       *testing.T
	s       *sink
	dir     string
	journal func(alert.Transition) string
	v       *victim
	got     map[string]map[string]bool // "receiver what", by id
}

// a step of a life; waits says that a request is waited for.
type lifeStep struct {
	name  string
	do    func(l *life)
	waits bool
}

func (l *life) said(h hook) string {
	what := h.Status
	for _, a := range h.Alerts {
		if strings.HasPrefix(a.Annotations["summary"], "Acknowledged by") {
			what = "acknowledged"
		}
		if a.Labels["alertname"] == escalation.BundleAlert {
			what = "bundle"
		}
		what += " " + a.Labels["board"]
	}
	return strings.TrimSpace(strings.TrimPrefix(h.path, "/") + " " + what)
}

// see waits until something was received.
func see(what string) lifeStep {
	return lifeStep{name: what, waits: true, do: func(l *life) {
		l.t.Helper()
		for len(l.got[what]) == 0 {
			l.take()
		}
	}}
}

func (l *life) take() {
	l.t.Helper()
	defer func() {
		if l.t.Failed() {
			l.t.Logf("until then came %v", l.got)
		}
	}()
	h := l.s.next(l.t)
	if l.got[l.said(h)] == nil {
		l.got[l.said(h)] = map[string]bool{}
	}
	l.got[l.said(h)][h.id] = true
}

func person(verb string) lifeStep {
	return lifeStep{name: verb, do: func(l *life) { l.v.say("person " + verb) }}
}

func (l *life) restart() {
	l.v.kill()
	l.v = startVictim(l.t, l.dir)
}

// settled is how long nothing may come after a life for it to be over.
const settled = 2 * time.Second

// live runs a life, killed before step at, or, where flight is set, while that step's request has no answer.
func live(t *testing.T, onCall string, steps []lifeStep, at int, flight bool) map[string]int {
	s := newSink(t, nil)
	dir, journal := setUp(t, s.URL)
	for name, text := range map[string][]byte{"alertmanager.yml": channelsTo(s.URL, "ada-ntfy", "jonas-ntfy", "everybody"), "oncall.yml": []byte(onCall)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &life{t: t, s: s, dir: dir, journal: journal, got: map[string]map[string]bool{}}
	l.v = startVictim(t, dir)
	for i, step := range steps {
		switch {
		case i == at && flight:
			held := make(chan struct{})
			s.answerWith(func(int, http.ResponseWriter, *http.Request) { <-held })
			step.do(l)
			l.v.kill()
			s.answerWith(nil)
			close(held)
			l.v = startVictim(t, dir)
		case i == at:
			l.restart()
			step.do(l)
		default:
			step.do(l)
		}
	}
	if at == len(steps) {
		l.restart()
	}
	for over := time.After(settled); ; {
		select {
		case h := <-s.got:
			if l.got[l.said(h)] == nil {
				l.got[l.said(h)] = map[string]bool{}
			}
			l.got[l.said(h)][h.id] = true
			continue
		case <-over:
		}
		break
	}
	l.v.kill()
	counts := map[string]int{}
	for what, ids := range l.got {
		counts[what] = len(ids)
	}
	return counts
}

// TestKillEscalation kills the pager between every two steps of a page's life, and while each request has no answer yet:
// what is sent is the same, each message with one id, as in the life of a pager that nobody kills. A plain run kills at the
// last step alone.
func TestKillEscalation(t *testing.T) {
	t0 := time.Now()
	f := alerttest.Fire("b1", t0)
	fires := []lifeStep{
		{name: "journalled", do: func(l *life) { l.journal(f) }},
		{name: "delivered to the pager", do: func(l *life) { l.v.say(jsonOf(l.t, f)) }},
	}
	ends := []lifeStep{
		{name: "end journalled", do: func(l *life) { l.journal(alerttest.Resolve(f, t0.Add(time.Millisecond))) }},
		{name: "end delivered to the pager", do: func(l *life) { l.v.say(jsonOf(l.t, alerttest.Resolve(f, t0.Add(time.Millisecond)))) }},
	}
	many := lifeStep{name: "five boards", do: func(l *life) {
		for i := range 5 {
			l.v.say(l.journal(alerttest.Fire(fmt.Sprintf("c%d", i), t0)))
		}
	}}
	const ada, jonas = "ada-ntfy firing b1", "jonas-ntfy firing b1"
	for name, row := range map[string]struct {
		onCall string
		steps  []lifeStep
		want   map[string]int
	}{
		"acknowledged in the second step": {
			steps("1s", "1h"),
			slices.Concat(fires, []lifeStep{see(ada), see(jonas), person("ack"), see("jonas-ntfy acknowledged b1")}, ends, []lifeStep{see("ada-ntfy resolved b1")}),
			map[string]int{ada: 1, jonas: 1, "jonas-ntfy acknowledged b1": 1, "ada-ntfy resolved b1": 1},
		},
		"nobody acknowledges": {
			steps("4s", "4s"), // longer than a restart: who has a page waiting gets no second one
			slices.Concat(fires, []lifeStep{see(ada), see(jonas), see("everybody firing b1")}),
			map[string]int{ada: 2, jonas: 2, "everybody firing b1": 1},
		},
		"snoozed for two seconds": {
			steps("1h", "1h"),
			slices.Concat(fires, []lifeStep{see(ada), person("snooze"), {name: "a second page", waits: true, do: func(l *life) {
				for len(l.got[ada]) < 2 {
					l.take()
				}
			}}, person("ack")}),
			map[string]int{ada: 2},
		},
		"closed by hand": {
			steps("1h", "1h"),
			slices.Concat(fires, []lifeStep{see(ada), person("close"), see("ada-ntfy resolved b1")}),
			map[string]int{ada: 1, "ada-ntfy resolved b1": 1},
		},
		"five at once": {
			steps("1h", "1h"),
			[]lifeStep{many, see("ada-ntfy bundle")},
			nil, // who is third depends on the order; counted below
		},
	} {
		for at := 1; at <= len(row.steps); at++ {
			for _, flight := range []bool{false, true} {
				if flight && (at == len(row.steps) || !row.steps[at].waits) {
					continue
				}
				where := "before the end"
				if at < len(row.steps) {
					where = row.steps[at].name
				}
				t.Run(fmt.Sprintf("%s/%s/%t", name, where, flight), func(t *testing.T) {
					if at != len(row.steps)-1 {
						endurance(t)
					}
					t.Parallel()
					got := live(t, row.onCall, row.steps, at, flight)
					if row.want == nil {
						if got["ada-ntfy bundle"] != 1 {
							t.Errorf("got %v", got)
						}
						maps.DeleteFunc(got, func(what string, n int) bool { return !strings.HasPrefix(what, "ada-") || n != 1 })
						if len(got) != 3 {
							t.Errorf("ada got %v", got)
						}
						return
					}
					if !maps.Equal(got, row.want) {
						t.Errorf("got  %v\nwant %v", got, row.want)
					}
				})
			}
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
