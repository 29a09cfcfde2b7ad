package alerting

import (
	"fmt"
	"slices"

	amlabels "github.com/prometheus/alertmanager/pkg/labels"

	"bramble/alerting/alert"
)

// confirmOneIn is the share of the fleet beyond which a silence or a maintenance must be confirmed: 5 %. One board never
// needs it.
const confirmOneIn = 20

// ConfirmError says that a silence or a maintenance covers more of the fleet than is done by mistake.
type ConfirmError struct{ Boards, Of int }

func (e *ConfirmError) Error() string {
	return fmt.Sprintf("covers %d of %d boards, more than 5 %% of the fleet: confirm the number, %d", e.Boards, e.Of, e.Boards)
}

// coverage is what matchers cover of the fleet.
type coverage struct {
	boards []string // in order
	of     int
	labels map[string]bool // that boards have
}

// ruleLabels are labels of alerts that rules give, or domains: which alerts of a board they leave is not the question.
var ruleLabels = map[string]bool{"severity": true, alert.DomainLabel: true, alert.PagesLabel: true}

// cover finds the boards whose alerts the matchers may cover. names are those of rules about boards; where there are
// some, a matcher for alertname that fits none of them is about something else than boards.
func cover(ms amlabels.Matchers, fleet map[string]alert.Place, names []string) coverage {
	c := coverage{of: len(fleet), labels: map[string]bool{}}
	for _, m := range ms {
		if m.Name == alert.NameLabel && len(names) > 0 && !slices.ContainsFunc(names, m.Matches) {
			return c
		}
	}
	for board, p := range fleet {
		for name := range p.Labels {
			c.labels[name] = true
		}
		if covers(ms, board, p.Labels) {
			c.boards = append(c.boards, board)
		}
	}
	slices.Sort(c.boards)
	return c
}

func covers(ms amlabels.Matchers, board string, labels map[string]string) bool {
	for _, m := range ms {
		value := labels[m.Name]
		if m.Name == alert.BoardLabel {
			value = board
		}
		if m.Name != alert.NameLabel && !ruleLabels[m.Name] && !m.Matches(value) {
			return false
		}
	}
	return true
}

// confirm reports whether so much must be confirmed, and is not.
func (c coverage) confirm(number int) error {
	if n := len(c.boards); n > 1 && n*confirmOneIn > c.of && number != n {
		return &ConfirmError{Boards: n, Of: c.of}
	}
	return nil
}

// mayStart reports what speaks against a maintenance of this coverage: a name that is misspelt hides nothing.
func (c coverage) mayStart(ms amlabels.Matchers, number int) error {
	for _, m := range ms {
		if c.of > 0 && m.Name != alert.BoardLabel && m.Name != alert.NameLabel && !ruleLabels[m.Name] && !c.labels[m.Name] {
			return fmt.Errorf("no board has the label %q", m.Name)
		}
	}
	if c.of > 0 && len(c.boards) == 0 {
		return fmt.Errorf("no board matches %s", ms)
	}
	return c.confirm(number)
}
