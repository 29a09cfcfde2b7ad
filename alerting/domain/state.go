package domain

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
)

const (
	// SettleFor is how long a board's alert waits for those of its peers before it pages. With a reading a second near
	// a line it leaves a crossing within two seconds of its page.
	SettleFor = 500 * time.Millisecond
	// burstGap ends a burst: alerts that begin later than this after the one before are another failure.
	burstGap = 5 * time.Minute
	// lingerFor is how long a domain's alert stays when nearly all of its boards are back and the rest does not move.
	lingerFor = 2 * time.Minute
	// updateEvery is how often the boards of a domain's alert are brought up to date.
	updateEvery = 5 * time.Second
	// commitWithin is how long a domain's alert may wait for the journal before it pages without.
	commitWithin = 5 * time.Second
)

// state decides which alerts of boards are one failure of a domain. It is pure: transitions and times come
// in, effects come out.
type state struct {
	alerts map[string]map[string]*boardAlert // by rule and key
	open   map[string]map[string]*openDomain // by rule and domain
	past   map[string]int64                  // FiredAt of the last alert of a rule and domain
}

// boardAlert is an alert of a board that fires, or whose transitions wait for a decision.
type boardAlert struct {
	last    alert.Transition
	pending []alert.Transition // not passed on yet
	until   time.Time
	passed  bool   // its further transitions are passed on at once
	by      string // the domain that explains it, "" for none
}

// began is when it began for the board, not for the rule: a rule that is new finds boards that are silent for long.
func (a *boardAlert) began() int64 { return alert.Began(a.last.Annotations, a.last.FiredAt) }

func (a *boardAlert) board() string { return a.last.Labels[alert.BoardLabel] }

// openDomain is a domain whose alert fires.
type openDomain struct {
	domain    alert.Domain
	last      alert.Transition
	committed bool // it is on disk and passed on
	closing   bool
	asked     time.Time // when its last transition went to be committed
	boards    map[string]bool
	firing    int
	changed   time.Time // when firing last changed
}

// effects are the transitions that follow from an event.
type effects struct {
	commit []alert.Transition // of domains: to be journalled, and taken when they are
	pass   []alert.Transition // to be passed on, in order
}

func newState() *state {
	return &state{alerts: map[string]map[string]*boardAlert{}, open: map[string]map[string]*openDomain{}, past: map[string]int64{}}
}

// take takes a journalled transition in. f may be nil while the fleet is not known yet.
func (s *state) take(fx *effects, t alert.Transition, now time.Time, f *fleetIndex) {
	switch {
	case alert.IsDomainRule(t.Rule):
		s.takeDomain(fx, t, now)
	case !alert.IsBoardAlert(&t) || t.State == alert.Pending || t.From == alert.Pending && t.State == alert.Inactive:
		fx.pass = append(fx.pass, t)
	case t.State.Active():
		s.takeFiring(fx, t, now, f)
	default:
		s.takeEnded(fx, t)
	}
}

func (s *state) takeDomain(fx *effects, t alert.Transition, now time.Time) {
	rule := alert.BaseRule(t.Rule)
	fx.pass = append(fx.pass, t)
	d, ok := alert.DomainOf(&t)
	if !ok {
		return
	}
	s.past[rule+d.ID()] = max(s.past[rule+d.ID()], t.FiredAt)
	if !t.State.Active() {
		delete(s.open[rule], d.ID())
		for _, a := range s.alerts[rule] {
			if a.by == d.ID() {
				a.by = ""
			}
		}
		return
	}
	o := s.open[rule][d.ID()]
	if o == nil {
		o = &openDomain{domain: d, boards: map[string]bool{}, changed: now}
		s.add(rule, o)
	}
	if t.At >= o.last.At {
		o.last = t
	}
	o.committed = true
	for _, b := range t.Boards {
		o.boards[b] = true
	}
	for _, key := range slices.Sorted(maps.Keys(s.alerts[rule])) {
		if a := s.alerts[rule][key]; d.Holds(a.last.Labels) {
			a.by = cmpLarger(s.open[rule], a.by, d)
			s.passOn(fx, a)
		}
	}
}

// cmpLarger returns the larger of the domain that explains an alert so far and d.
func cmpLarger(open map[string]*openDomain, by string, d alert.Domain) string {
	if o := open[by]; o != nil && o.domain.Rank() > d.Rank() {
		return by
	}
	return d.ID()
}

func (s *state) add(rule string, o *openDomain) {
	if s.open[rule] == nil {
		s.open[rule] = map[string]*openDomain{}
	}
	s.open[rule][o.domain.ID()] = o
}

func (s *state) takeFiring(fx *effects, t alert.Transition, now time.Time, f *fleetIndex) {
	a := s.alerts[t.Rule][t.Key()]
	if a != nil {
		if t.At > a.last.At || a.passed {
			a.last, a.pending = t, append(a.pending, t)
		}
		if a.passed {
			s.passOn(fx, a)
		}
		return
	}
	a = &boardAlert{last: t, pending: []alert.Transition{t}, until: now.Add(SettleFor)}
	if s.alerts[t.Rule] == nil {
		s.alerts[t.Rule] = map[string]*boardAlert{}
	}
	s.alerts[t.Rule][t.Key()] = a
	if s.join(fx, a) {
		return
	}
	if f != nil && !f.hasPeers(a.board()) && !alert.PagesDomainsOnly(&t) {
		s.passOn(fx, a) // nobody to wait for
	}
}

// join gives an alert to the largest open domain that holds it, if there is one.
func (s *state) join(fx *effects, a *boardAlert) bool {
	var by *openDomain
	for _, o := range s.open[a.last.Rule] {
		if o.domain.Holds(a.last.Labels) && !o.closing && (by == nil || o.domain.Rank() > by.domain.Rank()) {
			by = o
		}
	}
	if by == nil {
		return false
	}
	a.by = by.domain.ID()
	if by.committed {
		s.passOn(fx, a)
	}
	return true
}

// passOn passes the pending transitions of an alert on.
func (s *state) passOn(fx *effects, a *boardAlert) {
	fx.pass = append(fx.pass, a.pending...)
	a.pending, a.passed = nil, true
	if !a.last.State.Active() {
		delete(s.alerts[a.last.Rule], a.last.Key())
	}
}

// passOnAll passes the alerts on that wait for a decision, without one.
func (s *state) passOnAll(fx *effects) {
	for _, rule := range slices.Sorted(maps.Keys(s.alerts)) {
		for _, key := range slices.Sorted(maps.Keys(s.alerts[rule])) {
			if a := s.alerts[rule][key]; a.undecided() {
				s.passOn(fx, a)
			}
		}
	}
}

func (s *state) takeEnded(fx *effects, t alert.Transition) {
	a := s.alerts[t.Rule][t.Key()]
	if a == nil {
		fx.pass = append(fx.pass, t)
		return
	}
	if t.At <= a.last.At && !a.passed {
		return // replayed
	}
	a.last, a.pending = t, append(a.pending, t)
	if a.passed {
		s.passOn(fx, a)
	}
}

// decide finds the domains that explain pending alerts, and those that are over. Nothing is concluded from an alert that
// is silenced: somebody works there.
func (s *state) decide(fx *effects, now time.Time, f *fleetIndex, silenced func(*alert.Transition) bool) {
	for _, rule := range slices.Sorted(maps.Keys(s.alerts)) {
		if s.due(rule, now) {
			s.explain(fx, rule, now, f, silenced)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(s.open)) {
		for _, id := range slices.Sorted(maps.Keys(s.open[rule])) {
			s.follow(fx, rule, s.open[rule][id], now, f)
		}
	}
}

// due reports whether an alert of the rule has waited long enough.
func (s *state) due(rule string, now time.Time) bool {
	for _, a := range s.alerts[rule] {
		if a.undecided() && !now.Before(a.until) {
			return true
		}
	}
	return false
}

func (a *boardAlert) undecided() bool { return !a.passed && a.by == "" }

func (s *state) explain(fx *effects, rule string, now time.Time, f *fleetIndex, silenced func(*alert.Transition) bool) {
	for _, chain := range s.bursts(rule) {
		if !slices.ContainsFunc(chain, (*boardAlert).undecided) {
			continue
		}
		b := newBurst(chain)
		for _, a := range chain {
			if !silenced(&a.last) {
				b.fired[a.board()] = true
			}
		}
		for _, a := range s.alerts[rule] {
			if !b.fired[a.board()] {
				b.other[a.board()] = true
			}
		}
		for _, x := range f.explain(b) {
			s.openFound(fx, rule, chain, b, x, now, f)
		}
		for _, a := range chain {
			if a.undecided() && !s.join(fx, a) && !now.Before(a.until) {
				s.passOn(fx, a)
			}
		}
	}
}

// bursts returns the rule's alerts in the order of their beginning, cut where nothing began for a while.
func (s *state) bursts(rule string) (out [][]*boardAlert) {
	all := slices.SortedFunc(maps.Values(s.alerts[rule]), func(a, b *boardAlert) int {
		return cmp.Or(cmp.Compare(a.began(), b.began()), strings.Compare(a.last.Series, b.last.Series))
	})
	from := 0
	for i := range all {
		if i > 0 && all[i].began()-all[i-1].began() > burstGap.Milliseconds() {
			out = append(out, all[from:i])
			from = i
		}
	}
	return append(out, all[from:])
}

// openFound opens the domain that was found, unless it or a larger one is open.
func (s *state) openFound(fx *effects, rule string, chain []*boardAlert, b burst, x found, now time.Time, f *fleetIndex) {
	d := f.domains[x.domain].Domain
	for _, o := range s.open[rule] {
		i, known := f.byID[o.domain.ID()]
		if o.domain.ID() == d.ID() || known && o.domain.Rank() > d.Rank() && f.within(x.domain, i) {
			return
		}
	}
	o := &openDomain{domain: d, asked: now, changed: now, boards: map[string]bool{}}
	var members []*boardAlert
	for _, a := range chain {
		if b.fired[a.board()] && f.in(a.board(), x.domain) {
			members = append(members, a)
			o.boards[a.board()] = true
		}
	}
	o.firing = len(o.boards)
	o.last = f.alertOf(rule, d, members, b, x, now)
	if past := s.past[rule+d.ID()]; o.last.FiredAt <= past {
		o.last.FiredAt = past + 1
	}
	s.add(rule, o)
	fx.commit = append(fx.commit, o.last)
}

// follow closes a domain that is over and brings the boards of one that grows up to date.
func (s *state) follow(fx *effects, rule string, o *openDomain, now time.Time, f *fleetIndex) {
	if !o.committed || o.closing {
		if now.Sub(o.asked) > commitWithin && !o.asked.IsZero() { // the journal does not take it: page all the same
			o.asked = time.Time{}
			s.takeDomain(fx, o.last, now)
		}
		return
	}
	firing, holding, grown := map[string]bool{}, map[string]bool{}, false
	for _, a := range s.alerts[rule] {
		if o.domain.Holds(a.last.Labels) && a.last.State.Active() {
			firing[a.board()] = true
			if a.last.State == alert.Firing {
				holding[a.board()] = true
			}
			grown = grown || !o.boards[a.board()]
		}
	}
	if len(firing) != o.firing {
		o.firing, o.changed = len(firing), now
	}
	switch {
	case len(firing) == 0, 10*len(firing) <= len(o.boards) && now.Sub(o.changed) >= lingerFor:
		o.closing, o.asked, o.last = true, now, o.closed(holding, now)
	case grown && now.Sub(o.asked) >= updateEvery:
		maps.Copy(o.boards, firing)
		o.asked, o.last = now, s.updated(rule, o, now, f)
	default:
		return
	}
	fx.commit = append(fx.commit, o.last)
}

// next returns when decide is to be called again; false where nothing waits.
func (s *state) next(now time.Time) (time.Time, bool) {
	var at time.Time
	for _, alerts := range s.alerts {
		for _, a := range alerts {
			if a.undecided() && (at.IsZero() || a.until.Before(at)) {
				at = a.until
			}
		}
	}
	if at.IsZero() && len(s.open) == 0 {
		return at, false
	}
	for _, open := range s.open {
		if second := now.Add(time.Second); len(open) > 0 && (at.IsZero() || second.Before(at)) {
			at = second
		}
	}
	return at, !at.IsZero()
}

// held returns the transitions that are not passed on yet, in the order of their alerts.
func (s *state) held() (out []alert.Transition) {
	for _, rule := range slices.Sorted(maps.Keys(s.alerts)) {
		for _, key := range slices.Sorted(maps.Keys(s.alerts[rule])) {
			out = append(out, s.alerts[rule][key].pending...)
		}
	}
	return out
}
