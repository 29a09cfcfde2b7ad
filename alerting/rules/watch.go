package rules

import (
	"slices"

	"bramble/alerting/alert"
)

// verdict is the truth of one operand, as far as it is known.
type verdict uint8

const (
	isFalse verdict = iota
	isUnknown
	isTrue
)

// boardRule is a rule over several series, for one board.
type boardRule struct {
	rule    *Rule
	members [][]member // by leaf
	dirty   bool
	idle    bool // none of its alerts is active
}

// watching is a series' part in a rule over several.
type watching struct {
	rule   *boardRule
	leaves []*leaf
}

// quiet reports whether a value changes nothing: while no alert is active, only a comparison that holds can start one.
func (w watching) quiet(v float64) bool {
	if !w.rule.idle {
		return false
	}
	for _, l := range w.leaves {
		if l.op.holds(v, l.limit) {
			return false
		}
	}
	return true
}

type watchKey struct {
	rule  *Rule
	board string
}

// member is one series that a leaf selects.
type member struct {
	series *Series
	match  []string // by operator
}

// elements is the stack of a walk through a tree of operators.
type elements []element

// element is one series on the way through the tree of operators.
type element struct {
	series *Series
	match  []string
	is     verdict
}

// resolve looks up the rules that a series decides.
func (e *Engine) resolve(s *Series) {
	s.gen = e.gen
	s.tests, s.watched = s.tests[:0], s.watched[:0]
	for _, ref := range e.index[s.name] {
		if !ref.leaf.matches(s.labels) {
			continue
		}
		if ref.rule.condition.root.leaf != nil {
			s.tests = append(s.tests, test{rule: ref.rule, op: ref.leaf.op, limit: ref.leaf.limit, alert: e.alerts[alertKey{ref.rule.ID, s.key}]})
			continue
		}
		b := e.watch(ref.rule, s.board)
		b.members[ref.leaf.index] = append(b.members[ref.leaf.index], newMember(ref.rule.condition, s))
		i := slices.IndexFunc(s.watched, func(w watching) bool { return w.rule == b })
		if i < 0 {
			i = len(s.watched)
			s.watched = append(s.watched, watching{rule: b})
		}
		s.watched[i].leaves = append(s.watched[i].leaves, ref.leaf)
	}
	e.resolveTenant(s)
}

// watch returns the rule's state for a board. A new one takes in all of the board's series, whose last values count
// before they are observed again.
func (e *Engine) watch(r *Rule, board string) *boardRule {
	k := watchKey{r, board}
	b := e.groups[k]
	if b == nil {
		b = &boardRule{rule: r, members: make([][]member, len(r.condition.leaves))}
		e.groups[k] = b
		for _, s := range e.boards[board] {
			if s.gen != e.gen {
				e.resolve(s)
			}
		}
	}
	return b
}

func newMember(c *condition, s *Series) member {
	m := member{series: s, match: make([]string, c.operators)}
	var walk func(n *node)
	walk = func(n *node) {
		if n.leaf == nil {
			m.match[n.id] = n.matchKey(s.labels)
			walk(n.left)
			walk(n.right)
		}
	}
	walk(c.root)
	return m
}

// dirtyRules are the rules over several series that the readings of one report may change.
type dirtyRules []*boardRule

func (d *dirtyRules) mark(b *boardRule) {
	if !b.dirty {
		b.dirty = true
		*d = append(*d, b)
	}
}

// decideWatched decides the marked rules, after all readings of a report are in: readings of one time are judged
// together.
func (e *Engine) decideWatched(out []alert.Transition, at int64) []alert.Transition {
	for _, b := range e.dirty {
		b.dirty = false
		e.stack = e.stack[:0]
		e.stack.walk(b, b.rule.condition.root, at)
		out = e.decideBoard(out, b, at)
	}
	e.dirty = e.dirty[:0]
	return out
}

// decideBoard steps every alert of a rule on a board. An unknown verdict changes nothing: a series that vanished is not
// a recovery.
func (e *Engine) decideBoard(out []alert.Transition, b *boardRule, at int64) []alert.Transition {
	b.idle = true
	for i := range e.stack {
		el := e.stack[i]
		if el.series == nil {
			continue
		}
		for j := i + 1; j < len(e.stack); j++ {
			other := &e.stack[j]
			if other.series != nil && other.series.key == el.series.key {
				if other.is > el.is {
					el = *other
				}
				other.series = nil
			}
		}
		a := e.alerts[alertKey{b.rule.ID, el.series.key}]
		if a == nil && el.is != isTrue {
			continue
		}
		if a == nil {
			a = e.alertOf(b.rule.ID, el.series.key)
		}
		if el.is != isUnknown {
			out = e.step(out, b.rule, a, subject{el.series.key, el.series.labels, el.series.notes}, el.is == isTrue, at, el.series.value)
		}
		b.idle = b.idle && a.last.State == alert.Inactive
	}
	return out
}

// walk leaves the elements of n's result at the end of the stack.
func (s *elements) walk(b *boardRule, n *node, at int64) {
	if n.leaf != nil {
		for _, m := range b.members[n.leaf.index] {
			*s = append(*s, element{m.series, m.match, n.leaf.verdict(m.series, at)})
		}
		return
	}
	first := len(*s)
	s.walk(b, n.left, at)
	middle := len(*s)
	s.walk(b, n.right, at)
	left, right := (*s)[first:middle], (*s)[middle:]
	if n.or {
		n.joinOr(left, right)
		return
	}
	n.joinAnd(left, right)
	*s = (*s)[:middle]
}

func (l *leaf) verdict(s *Series, at int64) verdict {
	if s.at == 0 || at-s.at > staleAfter {
		return isUnknown
	}
	if l.op.holds(s.value, l.limit) {
		return isTrue
	}
	return isFalse
}

// joinAnd weakens the left elements by the verdicts of their right matches. No match at all is unknown: the board lacks the
// series or has not sent it yet.
func (n *node) joinAnd(left, right []element) {
	for i := range left {
		l := &left[i]
		found, best := false, isFalse
		for j := range right {
			if right[j].match[n.id] == l.match[n.id] {
				found, best = true, max(best, right[j].is)
			}
		}
		if !found {
			best = isUnknown
		}
		l.is = min(l.is, best)
	}
}

// joinOr drops the right elements that a left one answers for already.
func (n *node) joinOr(left, right []element) {
	for j := range right {
		for i := range left {
			if left[i].is == isTrue && left[i].match[n.id] == right[j].match[n.id] && left[i].series.key != right[j].series.key {
				right[j].is = isFalse
			}
		}
	}
}
