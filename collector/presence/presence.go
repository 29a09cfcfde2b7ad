// Package presence decides whether boards report: which are up and which are silent, with the
// evidence.
//
// It is pure: time and all facts come in with the call, and the next steps come out. It owns no
// clock, no goroutine and no network; the caller probes the addresses, journals the verdicts and
// passes them to the rules.
package presence

import (
	"time"
)

const (
	// MinSilence is the shortest time without a report that counts as silence.
	MinSilence = 30 * time.Second
	// DefaultDue is used where a report does not say when the next one comes.
	DefaultDue = 20 * time.Second
	// MaxDue bounds the interval that a board can claim.
	MaxDue = time.Minute
	// Grace is how long nobody is called silent after the collector itself was away.
	Grace = time.Minute
	// Pause is a gap between two looks after which the collector itself was away.
	Pause = 5 * time.Second
	// PeerWait is how long an overdue board waits at most for its peers: those that
	// went away at the same moment had their last report up to an interval later.
	PeerWait = 10 * time.Second
	// ProbeWait is how long it waits at most for the answer of its address.
	ProbeWait = 3 * time.Second
)

// State says whether a board reports.
type State string

// The states of a board. The zero value is Unheard.
const (
	Unheard State = ""        // has not reported yet
	Up      State = "up"      // reports arrive
	Silent  State = "silent"  // reports were due and did not come
	Stopped State = "stopped" // its sensor said goodbye
)

// Answer is the result of probing a board's address.
type Answer string

// The answers of a probe. The zero value means that there was none to ask.
const (
	Unknown  Answer = ""
	Answers  Answer = "answers"  // something at the address lives
	NoAnswer Answer = "silence"  // nothing came back in time
	Shared   Answer = "shared"   // several boards are behind the address: it says nothing of one
	Unasked  Answer = "no probe" // it could not be asked in time
)

// Fleet holds the state of all boards' reports. The zero value is not usable; see New. It is not
// safe for concurrent use.
type Fleet struct {
	boards   map[string]*board
	domains  map[string]map[*board]bool
	lookedAt time.Time
}

type board struct {
	name     string
	domains  []string // smallest first
	state    State
	last     time.Time     // the last report
	due      time.Duration // the interval that it announced
	deadline time.Time     // zero while no report is expected
	overdue  bool
	queue    uint64 // messages that must have been seen before it is judged
	answer   Answer
	probed   bool
}

// New returns an empty fleet.
func New() *Fleet {
	return &Fleet{boards: map[string]*board{}, domains: map[string]map[*board]bool{}}
}

func (f *Fleet) board(name string) *board {
	b := f.boards[name]
	if b == nil {
		b = &board{name: name}
		f.boards[name] = b
	}
	return b
}

// Place says in which domains a board stands, the smallest first; equal names
// mean the same domain.
func (f *Fleet) Place(name string, domains []string) {
	b := f.board(name)
	f.leave(b)
	b.domains = domains
	for _, d := range domains {
		if f.domains[d] == nil {
			f.domains[d] = map[*board]bool{}
		}
		f.domains[d][b] = true
	}
}

func (f *Fleet) leave(b *board) {
	for _, d := range b.domains {
		delete(f.domains[d], b)
		if len(f.domains[d]) == 0 {
			delete(f.domains, d)
		}
	}
}

// Restore puts back a board's state from before the collector stopped.
func (f *Fleet) Restore(name string, s State, last time.Time) {
	b := f.board(name)
	b.state, b.last, b.due = s, last, DefaultDue
}

// Forget drops a board that is no longer watched.
func (f *Fleet) Forget(name string) {
	if b := f.boards[name]; b != nil {
		f.leave(b)
		delete(f.boards, name)
	}
}

// State returns whether a board reports, and when it last did.
func (f *Fleet) State(name string) (State, time.Time) {
	b := f.boards[name]
	if b == nil {
		return Unheard, time.Time{}
	}
	return b.state, b.last
}

// Heard notes a report, of now or of the past: late is not silent. due is how
// long the board says that its next one takes, 0 where it does not say. It
// returns whether the board's state is another than before.
func (f *Fleet) Heard(name string, at time.Time, due time.Duration, goodbye bool) (changed bool) {
	b := f.board(name)
	if due <= 0 {
		due = DefaultDue
	}
	b.last, b.due = at, min(due, MaxDue)
	b.deadline = at.Add(max(3*b.due, MinSilence))
	b.overdue, b.probed, b.answer = false, false, Unknown
	was := b.state
	b.state = Up
	if goodbye {
		b.state, b.deadline = Stopped, time.Time{}
	}
	return b.state != was
}

// Probed notes the result of a probe that Look asked for. A board that has reported since does not
// need it.
func (f *Fleet) Probed(name string, a Answer) {
	if b := f.boards[name]; b != nil && b.overdue {
		b.answer, b.probed = a, true
	}
}
