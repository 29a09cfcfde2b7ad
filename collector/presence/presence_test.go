package presence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is a fleet whose boards report every 10 s, each at a phase of its own,
// until it is taken away.
type world struct {
	*Fleet
	t      *testing.T
	now    time.Time
	queue  Queue
	boards []*simulated
	seen   []string // "second: boards" of each verdict
	last   []Verdict
	answer func(board string) (Answer, bool)
}

type simulated struct {
	name    string
	every   time.Duration
	next    time.Time
	gone    bool
	goodbye bool
}

var start = time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)

// newWorld places boards: "b1 switch=s1 rack=r1" is one.
func newWorld(t *testing.T, phase func(i int) time.Duration, places ...string) *world {
	w := &world{Fleet: New(), t: t, now: start, answer: func(string) (Answer, bool) { return Unknown, true }}
	for i, p := range places {
		words := strings.Fields(p)
		w.Place(words[0], words[1:])
		w.boards = append(w.boards, &simulated{name: words[0], every: 10 * time.Second, next: start.Add(phase(i))})
	}
	return w
}

func evenly(i int) time.Duration {
	return time.Duration(i) * 1300 * time.Millisecond % (10 * time.Second)
}

// until runs the world to a time after the start, and looks every second.
func (w *world) until(d time.Duration) {
	for end := start.Add(d); w.now.Before(end); w.now = w.now.Add(100 * time.Millisecond) {
		for _, b := range w.boards {
			if b.gone || w.now.Before(b.next) {
				continue
			}
			w.Heard(b.name, w.now, b.every, b.goodbye)
			b.gone = b.goodbye
			b.next = b.next.Add(b.every)
		}
		if w.now.Sub(start)%time.Second == 0 {
			w.look()
		}
	}
}

func (w *world) look() {
	l := w.Look(w.now, w.queue)
	for _, b := range l.Probe {
		if a, ok := w.answer(b); ok {
			w.Probed(b, a)
		}
	}
	if len(l.Silent) == 0 {
		return
	}
	var names []string
	for _, v := range l.Silent {
		names = append(names, v.Board)
	}
	w.last = l.Silent
	w.seen = append(w.seen, fmt.Sprintf("%.0f: %s", w.now.Sub(start).Seconds(), strings.Join(names, " ")))
}

func (w *world) take(names ...string) {
	for _, b := range w.boards {
		if slices.Contains(names, b.name) {
			b.gone = true
		}
	}
}

func (w *world) bring(names ...string) {
	for _, b := range w.boards {
		if slices.Contains(names, b.name) {
			b.gone, b.next = false, w.now
		}
	}
}

func (w *world) want(seen ...string) {
	w.t.Helper()
	if !slices.Equal(w.seen, seen) {
		w.t.Errorf("silent at\n%q, want\n%q", w.seen, seen)
	}
}

var rack = []string{
	"a1 a r", "a2 a r", "a3 a r", "a4 a r", "b1 b r", "b2 b r", "b3 b r", "b4 b r",
}

func TestLoneBoardIsSilentAfterThreeMissedReports(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second) // a2 reports at 91.3
	w.take("a2")
	w.until(200 * time.Second)
	w.want("123: a2") // 121.3, seen and probed at 122, judged at 123
	if v := w.last[0]; v.Domain != "a" || v.Peers != 3 || v.Reports != 3 || v.Due != 10*time.Second || v.Last.Sub(start) != 91300*time.Millisecond {
		t.Errorf("verdict %+v", v)
	}
}

func TestBoardsOfASwitchAreOneVerdict(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second) // reports at 90.0, 91.3, 92.6, 93.9
	w.take("a1", "a2", "a3", "a4")
	w.until(200 * time.Second)
	w.want("125: a1 a2 a3 a4")
	if v := w.last[0]; v.Peers != 3 || v.Reports != 0 {
		t.Errorf("verdict %+v", v)
	}
	w.bring("a1", "a2", "a3", "a4")
	w.until(201 * time.Second)
	if s, _ := w.State("a3"); s != Up {
		t.Errorf("a board that reports again is %q", s)
	}
}

// TestBoardsThatVanishTogetherAreJudgedTogether takes a random switch, or the whole
// rack, away at a random instant.
func TestBoardsThatVanishTogetherAreJudgedTogether(t *testing.T) {
	for seed := range uint64(200) {
		dice := rand.New(rand.NewPCG(seed, 1))
		var places, gone []string
		all := seed%4 == 0
		for i := range 40 {
			name := fmt.Sprintf("b%02d", i)
			places = append(places, fmt.Sprintf("%s s%d r", name, i/10))
			if all || i/10 == int(seed%3) {
				gone = append(gone, name)
			}
		}
		w := newWorld(t, func(int) time.Duration { return time.Duration(dice.IntN(100)) * 100 * time.Millisecond }, places...)
		w.until(100*time.Second + time.Duration(dice.IntN(100))*100*time.Millisecond)
		cut := w.now
		w.take(gone...)
		w.until(180 * time.Second)
		if len(w.last) != len(gone) || len(w.seen) != 1 {
			t.Fatalf("seed %d: %d boards went at %v; silent: %q", seed, len(gone), cut.Sub(start), w.seen)
		}
		var second float64
		if _, err := fmt.Sscanf(w.seen[0], "%f:", &second); err != nil || second > cut.Sub(start).Seconds()+MinSilence.Seconds()+3 {
			t.Fatalf("seed %d: cut at %v, told at %v s", seed, cut.Sub(start), second)
		}
	}
}

func TestAPeerThatSaysNothingOfUseHoldsNobodyForLong(t *testing.T) {
	w := newWorld(t, evenly, "a1 a", "a2 a")
	w.boards[1].every = time.Minute // it reports at 61.3, and at 121.3 once more
	w.until(70 * time.Second)
	w.take("a1") // last at 60
	w.until(120 * time.Second)
	w.want("100: a1") // 90 and ten seconds: a2's report does not tell whether the switch lived after 70
}

func TestLateIsNotSilent(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second)
	w.take("a2")
	w.until(121 * time.Second)
	w.bring("a2") // in time, were it by 0.3 s
	w.until(300 * time.Second)
	w.want()
}

func TestWaitingReportsAreSeenFirst(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second)
	w.take("a2")
	w.queue = Queue{Seen: 1000, Waiting: 50}
	w.until(130 * time.Second)
	w.want()
	w.queue = Queue{Seen: 1049, Waiting: 5000}
	w.until(131 * time.Second)
	w.want()
	w.queue.Seen = 1050
	w.until(132 * time.Second)
	w.want("131: a2")
}

func TestGoodbyeAndForgottenAreNotSilent(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second)
	w.boards[1].goodbye = true
	w.until(110 * time.Second)
	w.take("a3")
	w.Forget("a3")
	w.until(300 * time.Second)
	w.want()
	if s, _ := w.State("a2"); s != Stopped {
		t.Errorf("a board that said goodbye is %q", s)
	}
	w.take("a1")
	w.until(400 * time.Second)
	if v := w.last; len(v) != 1 || v[0].Peers != 1 {
		t.Errorf("who said goodbye or is forgotten is nobody's peer: %+v", v)
	}
}

func TestNobodyIsSilentAfterTheCollectorWasAway(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.until(100 * time.Second)
	w.take("a2")
	w.now = start.Add(10 * time.Minute) // the process was stopped meanwhile, and no report came
	for _, b := range w.boards {
		b.next = w.now.Add(time.Second)
	}
	w.until(10*time.Minute + 55*time.Second)
	w.want()
	w.until(10*time.Minute + 65*time.Second)
	w.want("662: a2")
}

func TestRestartGivesGraceAndKeepsTheSilent(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.Restore("a1", Silent, start.Add(-time.Hour))
	w.Restore("a2", Up, start.Add(-time.Hour))
	w.Restore("a3", Stopped, start.Add(-time.Hour))
	w.take("a1", "a2", "a3")
	w.until(59 * time.Second)
	w.want()
	w.until(70 * time.Second)
	w.want("62: a2")
	if s, _ := w.State("a1"); s != Silent {
		t.Errorf("a silent board is %q after a restart", s)
	}
}

func TestProbe(t *testing.T) {
	f := func(a Answer, answered bool, want Answer, seen string) {
		t.Helper()
		w := newWorld(t, evenly, rack...)
		asked := 0
		w.answer = func(string) (Answer, bool) { asked++; return a, answered }
		w.until(100 * time.Second)
		w.take("a2")
		w.until(200 * time.Second)
		w.want(seen)
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		if got := w.last[0].Answer; got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
	}
	f(Answers, true, Answers, "123: a2")
	f(NoAnswer, true, NoAnswer, "123: a2")
	f(Shared, true, Shared, "123: a2")
	f(Unknown, false, Unasked, "125: a2") // 121.3 + 3
}

func TestProbeOfABoardThatIsBackCountsNothing(t *testing.T) {
	w := newWorld(t, evenly, rack...)
	w.Heard("a1", w.now, time.Second, false)
	w.Probed("a1", NoAnswer)
	w.Probed("nobody", NoAnswer)
	if b := w.Fleet.boards["a1"]; b.probed {
		t.Error("an answer to no question was taken")
	}
}
