// Package rehearse counts the pages that rules would have caused, from the stored readings.
//
// It owns the division of the time into pieces that the store can answer, and the counts by rule, board and night. The
// decisions of a rule, and of the failure that explains an alert, are alerting's: see rules.Replay and domain.Judge.
package rehearse

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/domain"
	"bramble/alerting/rules"
)

const (
	// maxPoints bounds the answer of one query, in points: 16 MB where each board has one series.
	maxPoints = 1_000_000
	// maxSteps is the most steps of one query; the store refuses 30,000.
	maxSteps = 8_640
	// maxPages is how many pages are kept by name; all are counted.
	maxPages = 1_000
	// nightBegins and nightEnds are hours of the named zone.
	nightBegins, nightEnds = 22, 7
)

// Options choose the rules, boards and time to rehearse. All but Zone are required.
type Options struct {
	Rules *rules.Rules
	Store rules.RangeQuerier
	// Fleet is the present place of each board, which is used for the past too.
	Fleet    map[string]alert.Place
	From, To time.Time
	Zone     *time.Location // of the nights; nil means UTC
}

// Rehearsal counts the pages that rules would have caused.
type Rehearsal struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Zone  string    `json:"zone"`
	Pages int       `json:"pages"`
	// AtNight counts the pages between 22:00 and 07:00, Nights the nights with at least one.
	AtNight    int     `json:"atNight"`
	Nights     int     `json:"nights"`
	Rules      []Rule  `json:"rules"`    // those with the most pages first
	Subjects   []Count `json:"subjects"` // boards and domains, those with the most pages first
	FirstPages []Page  `json:"told"`     // the first thousand pages
}

// Rule counts the pages and alerts that one rule would have caused.
type Rule struct {
	Rule    string `json:"rule"` // its ID
	Name    string `json:"name"`
	Pages   int    `json:"pages"`
	AtNight int    `json:"atNight"`
	// Domains counts the pages for failure domains, Explained the alerts that a domain's page represented.
	Domains   int `json:"domains"`
	Explained int `json:"explained"`
	// Recorded counts the alerts that page nobody; Shadow is set for a rule that never pages.
	Recorded int  `json:"recorded"`
	Shadow   bool `json:"shadow,omitempty"`
	Boards   int  `json:"boards"` // with at least one alert
}

// Count is how often somebody would have been paged about a board or a domain.
type Count struct {
	Subject string `json:"subject"`
	Pages   int    `json:"pages"`
}

// Page is one page.
type Page struct {
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Subject string    `json:"subject"`
	Summary string    `json:"summary"`
	Night   bool      `json:"night"`
}

// Run runs rules over the stored readings, one after the other, with the state machine and the domains that decide real
// readings, and counts the pages. Rules that readings decide are looked at every 10 s, the others on their interval;
// Alertmanager's grouping and silences are not applied. Memory is bounded by one query's answer.
func Run(ctx context.Context, o Options) (*Rehearsal, error) {
	if !o.From.Before(o.To) {
		return nil, fmt.Errorf("rehearse: begins at %s, which is not before its end %s", o.From.Format(time.RFC3339), o.To.Format(time.RFC3339))
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	out := &Rehearsal{From: o.From, To: o.To, Zone: o.Zone.String()}
	subjects, nights := map[string]int{}, map[string]bool{}
	for r := range o.Rules.All() {
		if r.Record != "" {
			continue // its recorded series are stored, but those of a changed rule are not
		}
		h := newRehearsal(o, r)
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
	out.FirstPages = append(out.FirstPages, h.pages...)
	for s, n := range h.subjects {
		subjects[s] += n
	}
	maps.Copy(nights, h.nights)
}

func (out *Rehearsal) sort(subjects map[string]int) {
	slices.SortStableFunc(out.Rules, func(a, b Rule) int { return cmp.Compare(b.Pages, a.Pages) })
	for _, s := range slices.Sorted(maps.Keys(subjects)) {
		out.Subjects = append(out.Subjects, Count{s, subjects[s]})
	}
	slices.SortStableFunc(out.Subjects, func(a, b Count) int { return cmp.Compare(b.Pages, a.Pages) })
	slices.SortStableFunc(out.FirstPages, func(a, b Page) int { return a.At.Compare(b.At) })
	out.FirstPages = out.FirstPages[:min(len(out.FirstPages), maxPages)]
}

// rehearsal is one rule's.
type rehearsal struct {
	Options
	replay *rules.Replay
	judge  *domain.Judge

	count    Rule
	boards   map[string]bool
	subjects map[string]int
	nights   map[string]bool
	pages    []Page
}

func newRehearsal(o Options, r *rules.Rule) *rehearsal {
	return &rehearsal{
		Options: o, replay: rules.NewReplay(o.Store, r, o.Fleet), judge: domain.NewJudge(r.ID, r.Labels, o.Fleet), boards: map[string]bool{}, subjects: map[string]int{}, nights: map[string]bool{},
		count: Rule{Rule: r.ID, Name: r.Name, Shadow: alert.InShadow(r.Labels)},
	}
}

// run goes through the time in chunks whose answers are bounded. Where the store refuses one, most likely because boards
// have several series, it asks for less.
func (h *rehearsal) run(ctx context.Context) error {
	steps := min(maxSteps, max(1, maxPoints/max(1, len(h.Fleet))))
	step := h.replay.Step()
	begin := h.From.Truncate(step)
	for begin.Before(h.To) {
		end := begin.Add(time.Duration(steps-1) * step)
		if end.After(h.To) {
			end = h.To
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := h.replay.Over(ctx, begin, end, func(at time.Time, ts []alert.Transition) {
			for _, t := range h.judge.Take(at, ts) {
				h.take(t)
			}
		})
		if err != nil {
			if steps == 1 {
				return err
			}
			steps = max(1, steps/4)
			continue
		}
		begin = begin.Add(time.Duration(steps) * step)
	}
	return nil
}

// take counts an alert that began to fire.
func (h *rehearsal) take(t domain.Judged) {
	if b := t.Labels[alert.BoardLabel]; b != "" {
		h.boards[b] = true
	}
	switch t.Fate {
	case domain.Explained:
		h.count.Explained++
	case domain.Recorded:
		h.count.Recorded++
	default:
		h.page(t)
	}
}

func (h *rehearsal) page(t domain.Judged) {
	at := time.UnixMilli(t.FiredAt).In(h.Zone)
	subject := cmp.Or(t.Domain, t.Labels[alert.BoardLabel], "the collector")
	if t.Domain != "" {
		h.count.Domains++
	}
	h.count.Pages++
	h.subjects[subject]++
	night := at.Hour() >= nightBegins || at.Hour() < nightEnds
	if night {
		h.count.AtNight++
		h.nights[at.Add(-nightEnds*time.Hour).Format(time.DateOnly)] = true
	}
	if len(h.pages) < maxPages {
		h.pages = append(h.pages, Page{At: at, Rule: t.Labels[alert.NameLabel], Subject: subject, Summary: t.Annotations["summary"], Night: night})
	}
}
