package maintenance

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

// Coverage is the part of the fleet that matchers cover: Boards, in order, of Of boards.
type Coverage struct {
	Boards []string
	Of     int
	labels map[string]bool // that boards have
}

// RuleLabels are labels of alerts that rules give, or domains: which alerts of a board they leave is not the question.
var RuleLabels = map[string]bool{"severity": true, alert.DomainLabel: true, alert.PagesLabel: true}

// Cover finds the boards whose alerts the matchers may cover. names are those of rules about boards; where there are
// some, a matcher for alertname that fits none of them is about something else than boards.
func Cover(ms amlabels.Matchers, fleet map[string]alert.Place, names []string) Coverage {
	c := Coverage{Of: len(fleet), labels: map[string]bool{}}
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
			c.Boards = append(c.Boards, board)
		}
	}
	slices.Sort(c.Boards)
	return c
}

func covers(ms amlabels.Matchers, board string, labels map[string]string) bool {
	for _, m := range ms {
		value := labels[m.Name]
		if m.Name == alert.BoardLabel {
			value = board
		}
		if m.Name != alert.NameLabel && !RuleLabels[m.Name] && !m.Matches(value) {
			return false
		}
	}
	return true
}

// Confirm returns a *ConfirmError where so much must be confirmed, and number is not the number of boards.
func (c Coverage) Confirm(number int) error {
	if n := len(c.Boards); n > 1 && n*confirmOneIn > c.Of && number != n {
		return &ConfirmError{Boards: n, Of: c.Of}
	}
	return nil
}

// mayStart returns the reason against a maintenance of this coverage, nil for none: a name that is misspelt hides nothing.
func (c Coverage) mayStart(ms amlabels.Matchers, number int) error {
	for _, m := range ms {
		if c.Of > 0 && m.Name != alert.BoardLabel && m.Name != alert.NameLabel && !RuleLabels[m.Name] && !c.labels[m.Name] {
			return fmt.Errorf("no board has the label %q", m.Name)
		}
	}
	if c.Of > 0 && len(c.Boards) == 0 {
		return fmt.Errorf("no board matches %s", ms)
	}
	return c.Confirm(number)
}
