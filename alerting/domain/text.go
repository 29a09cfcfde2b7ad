package domain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
)

// alertOf writes the alert of a domain: labels that routes know, and the sentences that explain the failure.
func (f *fleetIndex) alertOf(rule string, d alert.Domain, members []*boardAlert, b burst, x found, now time.Time) alert.Transition {
	t := alert.Transition{
		Rule: alert.DomainRule(rule), Series: d.ID(), From: alert.Inactive, State: alert.Firing, At: now.UnixMilli(), Received: now.UnixMilli(),
		Labels: f.sharedLabels(members), Annotations: sharedAnnotations(members),
	}
	for _, l := range d.Labels() {
		t.Labels[l.Name] = l.Value
	}
	boards := map[string]bool{}
	for _, a := range members {
		boards[a.board()] = true
		t.FiredAt = max(t.FiredAt, a.last.FiredAt)
		if t.Since == 0 || a.last.Since < t.Since {
			t.Since = a.last.Since
		}
	}
	t.Boards, t.Value = slices.Sorted(maps.Keys(boards)), alert.Value(len(boards))
	f.describe(&t, d, members, b, x)
	return t
}

func (f *fleetIndex) describe(t *alert.Transition, d alert.Domain, members []*boardAlert, b burst, x found) {
	what := cmp.Or(t.Annotations["what"], t.Labels[alert.NameLabel])
	t.Annotations["summary"] = fmt.Sprintf("%s: %d of %d boards %s", d.Title(), x.boards, x.among, what)
	if d.IsFleet() {
		t.Annotations["summary"] = fmt.Sprintf("All %d boards %s", x.boards, what)
		if b.silent {
			t.Annotations["summary"] = fmt.Sprintf("Nobody reports: all %d boards %s", x.boards, what)
		}
	}
	from, to, heard := span(members)
	if heard {
		t.Annotations[alert.LastReportNote] = from.Format(alert.NoteTime)
	}
	var reason []string
	for _, sentence := range []string{together(d, x, from, to, heard), f.others(d, b), probes(members), announced(members)} {
		if sentence != "" {
			reason = append(reason, sentence)
		}
	}
	t.Annotations[alert.ReasonNote] = strings.Join(reason, " ")
	for name, text := range t.Annotations {
		if of, ok := strings.CutSuffix(name, alert.DomainSuffix); ok {
			t.Annotations[of] = text
			delete(t.Annotations, name)
		}
	}
}

// sharedLabels are the labels that the rule gave to all members, without the registry's.
func (f *fleetIndex) sharedLabels(members []*boardAlert) map[string]string {
	out := maps.Clone(members[0].last.Labels)
	for _, a := range members {
		maps.DeleteFunc(out, func(name, value string) bool {
			_, registered := f.places[a.board()].Labels[name]
			return registered || name == alert.BoardLabel || a.last.Labels[name] != value
		})
	}
	return out
}

func sharedAnnotations(members []*boardAlert) map[string]string {
	out := map[string]string{}
	maps.Copy(out, members[0].last.Annotations)
	for _, a := range members {
		maps.DeleteFunc(out, func(name, value string) bool { return a.last.Annotations[name] != value })
	}
	for _, own := range []string{alert.ReasonNote, alert.LastReportNote, alert.ProbeNote, alert.ExpectedNote} {
		delete(out, own)
	}
	return out
}

// span is the time within which it happened to the members: that of their last reports, where all have one.
func span(members []*boardAlert) (from, to time.Time, heard bool) {
	heard = true
	for _, a := range members {
		at, err := time.Parse(alert.NoteTime, a.last.Annotations[alert.LastReportNote])
		if err != nil {
			at, heard = time.UnixMilli(a.last.FiredAt).UTC(), false
		}
		if from.IsZero() || at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	return from, to, heard
}

// together says how many boards, and how close in time.
func together(d alert.Domain, x found, from, to time.Time, heard bool) string {
	of := " of " + d.String()
	if d.IsFleet() {
		of = ""
	}
	text := fmt.Sprintf("%d of %d boards%s within %s", x.boards, x.among, of, roughly(to.Sub(from)))
	if heard {
		text = fmt.Sprintf("%d of %d boards%s; their last reports came within %s", x.boards, x.among, of, roughly(to.Sub(from)))
	}
	return text + ", up to " + to.Format("15:04:05 UTC") + "."
}

func roughly(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// others says how the boards beside the domain are: who is well tells where the failure ends.
func (f *fleetIndex) others(d alert.Domain, b burst) string {
	if d.IsFleet() {
		if b.silent {
			return "No board reports, whatever its switch or rack: look at the collector's own network first."
		}
		return "No board is spared, whatever its switch or rack."
	}
	var well, partly []string
	for _, o := range f.siblings(d) {
		fired, fine := f.tally(o.boards, b)
		name := o.Value(d.Kind().Name)
		switch {
		case fired > 0:
			partly = append(partly, fmt.Sprintf("%s has %d of %d", name, fired, fired+fine))
		case fine > 0:
			well = append(well, name)
		}
	}
	kind, where := d.Kind().Text, d.Outer()
	var text string
	switch {
	case len(well) == 1:
		text = fmt.Sprintf("%s %s%s %s.", alert.Upper(kind), well[0], where, b.verb(1))
	case len(well) > 1 && len(well) <= 4:
		text = fmt.Sprintf("%s %s%s %s.", alert.Upper(plural(kind)), alert.Enumerate(well), where, b.verb(2))
	case len(well) > 4:
		text = fmt.Sprintf("%d other %s%s %s.", len(well), plural(kind), where, b.verb(2))
	default:
		text = f.elsewhere(d, b)
	}
	if len(partly) > 0 {
		text = strings.TrimSpace(text + " " + alert.Upper(kind) + " " + alert.Enumerate(partly[:min(len(partly), 4)]) + ".")
	}
	return text
}

// elsewhere counts the boards outside the domain, where it has no like beside it.
func (f *fleetIndex) elsewhere(d alert.Domain, b burst) string {
	outside := 0
	for board := range f.places {
		if i, ok := f.byID[d.ID()]; ok && !f.in(board, i) {
			if _, fine := f.tally([]string{board}, b); fine > 0 {
				outside++
			}
		}
	}
	switch {
	case outside == 1:
		return "One board elsewhere " + b.verb(1) + "."
	case outside > 1:
		return fmt.Sprintf("%d boards elsewhere %s.", outside, b.verb(2))
	case b.silent:
		return "No other board reports: it may be the collector's own network."
	}
	return ""
}

func (f *fleetIndex) tally(boards []string, b burst) (fired, fine int) {
	for _, board := range boards {
		switch {
		case b.fired[board]:
			fired++
		case f.places[board].Watched && !b.other[board]:
			fine++
		}
	}
	return fired, fine
}

func (b burst) verb(n int) string {
	switch {
	case b.silent && n == 1:
		return "reports"
	case b.silent:
		return "report"
	case n == 1:
		return "is not affected"
	}
	return "are not affected"
}

func plural(kind string) string {
	if kind == "switch" {
		return "switches"
	}
	return kind + "s"
}

// probes says how the boards' addresses answered.
func probes(members []*boardAlert) string {
	answer, silent := 0, 0
	for _, a := range members {
		switch a.last.Annotations[alert.ProbeNote] {
		case alert.ProbeAnswers:
			answer++
		case alert.ProbeSilence:
			silent++
		}
	}
	switch {
	case answer == 0 && silent == 0:
		return ""
	case answer == 0:
		return fmt.Sprintf("None of %d addresses asked answers.", silent)
	case silent == 0:
		return fmt.Sprintf("All %d addresses asked answer: the boards live; their sensors stopped or cannot reach the collector.", answer)
	}
	return fmt.Sprintf("%d of %d addresses asked answer.", answer, answer+silent)
}

// announced says which boards were expected to go.
func announced(members []*boardAlert) string {
	n := 0
	for _, a := range members {
		if a.last.Annotations[alert.ExpectedNote] != "" {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("Something was announced for %d of them.", n)
}

// updated is the alert of a domain that more boards have joined.
func (s *state) updated(rule string, o *openDomain, now time.Time, f *fleetIndex) alert.Transition {
	t := o.last
	t.From, t.State, t.At, t.Received = alert.Firing, alert.Firing, max(now.UnixMilli(), o.last.At+1), now.UnixMilli()
	t.Boards, t.Value, t.Annotations = slices.Sorted(maps.Keys(o.boards)), alert.Value(len(o.boards)), maps.Clone(o.last.Annotations)
	i, ok := f.byID[o.domain.ID()]
	if !ok {
		return t
	}
	var members []*boardAlert
	for _, a := range s.alerts[rule] {
		if o.domain.Holds(a.last.Labels) {
			members = append(members, a)
		}
	}
	b := newBurst(members)
	b.fired = o.boards
	x := found{domain: i, boards: len(o.boards)}
	fired, fine := f.tally(f.domains[i].boards, b)
	x.among = fired + fine
	f.describe(&t, o.domain, members, b, x)
	return t
}

// closed is the last transition of a domain's alert; on the boards of holding its condition still holds.
func (o *openDomain) closed(holding map[string]bool, now time.Time) alert.Transition {
	t := o.last
	t.From, t.State, t.At, t.Received = alert.Firing, alert.Inactive, max(now.UnixMilli(), o.last.At+1), now.UnixMilli()
	if len(holding) > 0 {
		t.Annotations = maps.Clone(t.Annotations)
		left := slices.Sorted(maps.Keys(holding))
		t.Annotations[alert.ReasonNote] = fmt.Sprintf("Over for %d of %d boards; not for %s, each on its own now.",
			len(o.boards)-len(left), len(o.boards), alert.Enumerate(left))
	}
	return t
}
