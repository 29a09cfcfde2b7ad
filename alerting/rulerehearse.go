package alerting

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bramble/storage"
)

const (
	// rehearseStep is how often a rule that readings decide is looked at: a board's interval far from every line.
	rehearseStep = 10 * time.Second
	// rehearsePoints bounds what one query brings, in points: 16 MB where each board has one series.
	rehearsePoints = 1_000_000
	// rehearseSteps is the most steps of one query; the store refuses 30,000.
	rehearseSteps = 8_640
	// rehearsePages is how many pages are kept by name; all are counted.
	rehearsePages = 1_000
	// nightBegins and nightEnds are hours of the named zone.
	nightBegins, nightEnds = 22, 7
)

// RangeQuerier answers queries over a time; the store is one.
type RangeQuerier interface {
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]storage.Result, error)
}

// RehearseOptions say what to rehearse. All but Zone are needed.
type RehearseOptions struct {
	Rules *Rules
	Store RangeQuerier
	// Fleet is where boards stand now; the past is judged by it.
	Fleet    map[string]Place
	From, To time.Time
	Zone     *time.Location // of the nights; nil means UTC
}

// Rehearsal is what rules would have done.
type Rehearsal struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Zone  string    `json:"zone"`
	Pages int       `json:"pages"`
	// AtNight counts the pages between 22:00 and 07:00, Nights the nights with at least one.
	AtNight  int              `json:"atNight"`
	Nights   int              `json:"nights"`
	Rules    []RehearsedRule  `json:"rules"`    // those with the most pages first
	Subjects []RehearsedCount `json:"subjects"` // boards and domains, those with the most pages first
	Told     []RehearsedPage  `json:"told"`     // the first thousand pages
}

// RehearsedRule is what one rule would have done.
type RehearsedRule struct {
	Rule    string `json:"rule"` // its ID
	Name    string `json:"name"`
	Pages   int    `json:"pages"`
	AtNight int    `json:"atNight"`
	// Domains counts the pages for what boards share, Explained the alerts that a domain's page stood for.
	Domains   int `json:"domains"`
	Explained int `json:"explained"`
	// Recorded counts the alerts that page nobody; Shadow is set for a rule that never pages.
	Recorded int  `json:"recorded"`
	Shadow   bool `json:"shadow,omitempty"`
	Boards   int  `json:"boards"` // with at least one alert
}

// RehearsedCount is how often somebody would have been paged about a board or a domain.
type RehearsedCount struct {
	Subject string `json:"subject"`
	Pages   int    `json:"pages"`
}

// RehearsedPage is one page.
type RehearsedPage struct {
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Subject string    `json:"subject"`
	Summary string    `json:"summary"`
	Night   bool      `json:"night"`
}

// Rehearse runs rules over what is stored, one after the other, with the state machine and the domains that decide real
// readings, and counts the pages. Rules that readings decide are looked at every 10 s, the others on their interval;
// Alertmanager's grouping and silences are not applied. Memory is bounded by one query's answer.
func Rehearse(ctx context.Context, o RehearseOptions) (*Rehearsal, error) {
	if !o.From.Before(o.To) {
		return nil, fmt.Errorf("rehearse: begins at %s, which is not before its end %s", o.From.Format(time.RFC3339), o.To.Format(time.RFC3339))
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	out := &Rehearsal{From: o.From, To: o.To, Zone: o.Zone.String()}
	fleet := indexFleet(o.Fleet)
	subjects, nights := map[string]int{}, map[string]bool{}
	for r := range o.Rules.All() {
		if r.Record != "" {
			continue // what it recorded is stored, what it would have is not
		}
		h := newRehearsal(o, r, fleet)
		if err := h.run(ctx); err != nil {
			return nil, fmt.Errorf("%s:%d: rehearse rule %q: %w", r.File, r.Line, r.Name, err)
		}
		out.add(h, subjects, nights)
	}
	out.Nights = len(nights)
	out.sort(subjects)
	return out, nil
}

func (out *Rehearsal) add(h *rehearsal, subjects map[string]int, nights map[string]bool) {
	h.count.Boards = len(h.boards)
	out.Pages += h.count.Pages
	out.AtNight += h.count.AtNight
	out.Rules = append(out.Rules, h.count)
	out.Told = append(out.Told, h.told...)
	for s, n := range h.subjects {
		subjects[s] += n
	}
	maps.Copy(nights, h.nights)
}

func (out *Rehearsal) sort(subjects map[string]int) {
	slices.SortStableFunc(out.Rules, func(a, b RehearsedRule) int { return cmp.Compare(b.Pages, a.Pages) })
	for _, s := range slices.Sorted(maps.Keys(subjects)) {
		out.Subjects = append(out.Subjects, RehearsedCount{s, subjects[s]})
	}
	slices.SortStableFunc(out.Subjects, func(a, b RehearsedCount) int { return cmp.Compare(b.Pages, a.Pages) })
	slices.SortStableFunc(out.Told, func(a, b RehearsedPage) int { return a.At.Compare(b.At) })
	out.Told = out.Told[:min(len(out.Told), rehearsePages)]
}

// rehearsal is one rule's.
type rehearsal struct {
	RehearseOptions
	rule    *Rule
	fleet   *fleetIndex
	step    time.Duration
	engine  *Engine
	tracked map[string]*rehearsed // by the key of the series
	domains *domainState
	inbox   *inbox // knows which domain stands for an alert

	count    RehearsedRule
	boards   map[string]bool
	subjects map[string]int
	nights   map[string]bool
	told     []RehearsedPage
}

// rehearsed is one series for which the rule's condition held.
type rehearsed struct {
	subject subject
	alert   *alert
	hits    points
	present points
}

// points are those of one chunk, in time; next is the first that was not looked at.
type points struct {
	at     []int64
	values []float64
	next   int
}

// take reports whether there is a point at a time, and its value.
func (p *points) take(at int64) (float64, bool) {
	for p.next < len(p.at) && p.at[p.next] < at {
		p.next++
	}
	if p.next == len(p.at) || p.at[p.next] != at {
		return 0, false
	}
	return p.values[p.next], true
}

func newRehearsal(o RehearseOptions, r *Rule, fleet *fleetIndex) *rehearsal {
	h := &rehearsal{
		RehearseOptions: o, rule: r, fleet: fleet, step: rehearseStep, engine: NewEngine(nil), tracked: map[string]*rehearsed{},
		domains: newDomainState(), inbox: newInbox(), boards: map[string]bool{}, subjects: map[string]int{}, nights: map[string]bool{},
		count: RehearsedRule{Rule: r.ID, Name: r.Name, Shadow: r.Labels[shadowLabel] == shadowTrue},
	}
	if !r.OnArrival() {
		h.step = max(r.group.Interval, time.Second)
	}
	for _, p := range o.Fleet { // relabelling a board does not make another series of it
		for name := range p.Labels {
			h.engine.registryNames[name] = true
		}
	}
	return h
}

// run goes through the time in chunks whose answers are bounded. Where the store refuses one, most likely because boards
// have several series, it asks for less.
func (h *rehearsal) run(ctx context.Context) error {
	steps := min(rehearseSteps, max(1, rehearsePoints/max(1, len(h.Fleet))))
	begin := h.From.Truncate(h.step)
	for begin.Before(h.To) {
		end := begin.Add(time.Duration(steps-1) * h.step)
		if end.After(h.To) {
			end = h.To
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.chunk(ctx, begin, end); err != nil {
			if steps == 1 {
				return err
			}
			steps = max(1, steps/4)
			continue
		}
		begin = begin.Add(time.Duration(steps) * h.step)
	}
	return nil
}

func (h *rehearsal) chunk(ctx context.Context, begin, end time.Time) error {
	if err := h.query(ctx, begin, end); err != nil {
		return err
	}
	if len(h.tracked) == 0 && len(h.domains.open) == 0 {
		return nil
	}
	for at := begin; !at.After(end); at = at.Add(h.step) {
		h.decide(at)
	}
	for key, s := range h.tracked {
		if s.alert.last.State == Inactive {
			delete(h.tracked, key)
		}
	}
	return nil
}

// query finds the series for which the condition holds within a chunk, and where these are at all.
func (h *rehearsal) query(ctx context.Context, begin, end time.Time) error {
	for _, s := range h.tracked {
		s.hits, s.present = points{}, points{}
	}
	offset := h.rule.group.Offset
	found, err := h.Store.QueryRange(ctx, h.rule.Expr, begin.Add(-offset), end.Add(-offset), h.step)
	if err != nil {
		return err
	}
	for _, f := range found {
		s := h.engine.subject(f.Labels)
		t := h.tracked[s.key]
		if t == nil {
			t = &rehearsed{alert: &alert{}}
			h.tracked[s.key] = t
		}
		t.subject = s
		t.hits.add(f, offset)
	}
	if h.rule.presence == "" || len(h.tracked) == 0 {
		return nil
	}
	there, err := h.Store.QueryRange(ctx, h.rule.presence, begin.Add(-offset), end.Add(-offset), h.step)
	if err != nil {
		return err
	}
	for _, f := range there {
		if t := h.tracked[h.engine.subject(f.Labels).key]; t != nil {
			t.present.add(f, offset)
		}
	}
	return nil
}

// add puts an answer's points behind those that are there: a series that was relabelled within the chunk is two.
func (p *points) add(r storage.Result, offset time.Duration) {
	sorted := len(p.at) == 0 || len(r.At) == 0 || p.at[len(p.at)-1] < r.At[0]
	for i, at := range r.At {
		p.at, p.values = append(p.at, at+offset.Milliseconds()), append(p.values, r.Values[i])
	}
	if sorted {
		return
	}
	values := make(map[int64]float64, len(p.at))
	for i, at := range p.at {
		values[at] = p.values[i]
	}
	p.at = slices.Sorted(maps.Keys(values))
	p.values = p.values[:len(p.at)]
	for i, at := range p.at {
		p.values[i] = values[at]
	}
}

// decide decides at one time, and lets domains settle.
func (h *rehearsal) decide(at time.Time) {
	ms := at.UnixMilli()
	var ts []Transition
	for _, s := range h.tracked {
		if v, hit := s.hits.take(ms); hit {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, true, ms, v)
			continue
		}
		if v, present := s.present.take(ms); s.alert.last.State != Inactive && (present || h.rule.presence == "") {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, false, ms, v)
		}
	}
	if len(ts) == 0 && len(h.domains.open[h.rule.ID]) == 0 {
		return
	}
	slices.SortFunc(ts, compareTransitions)
	var fx domainEffects
	for _, t := range ts {
		h.domains.take(&fx, t, at, h.fleet)
	}
	h.domains.decide(&fx, at.Add(settleFor), h.fleet, func(*Transition) bool { return false })
	for _, t := range fx.commit {
		h.domains.take(&fx, t, at, h.fleet)
	}
	for _, t := range fx.pass {
		h.pass(t)
	}
}

// pass counts a transition that would have gone to the pager.
func (h *rehearsal) pass(t Transition) {
	h.inbox.noteDomain(t)
	if t.State != Firing || t.From.Active() {
		return
	}
	if b := t.Labels[boardLabel]; b != "" {
		h.boards[b] = true
	}
	switch {
	case h.inbox.inhibiting(t) != nil:
		h.count.Explained++
	case h.count.Shadow, pagesNobody(t.Labels):
		h.count.Recorded++
	default:
		h.page(t)
	}
}

func (h *rehearsal) page(t Transition) {
	at := time.UnixMilli(t.FiredAt).In(h.Zone)
	subject := cmp.Or(t.Labels[boardLabel], "the collector")
	if d, ok := domainOf(&t); ok {
		subject = d.title()
		h.count.Domains++
	}
	h.count.Pages++
	h.subjects[subject]++
	night := at.Hour() >= nightBegins || at.Hour() < nightEnds
	if night {
		h.count.AtNight++
		h.nights[at.Add(-nightEnds*time.Hour).Format(time.DateOnly)] = true
	}
	if len(h.told) < rehearsePages {
		h.told = append(h.told, RehearsedPage{At: at, Rule: t.Labels[alertLabel], Subject: subject, Summary: t.Annotations["summary"], Night: night})
	}
}
