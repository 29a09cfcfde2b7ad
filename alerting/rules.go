package alerting

import (
	_ "embed"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"bramble/alerting/alert"
)

// defaultInterval is how often a group without an interval is evaluated. Prometheus' default of 1 min would let a
// crossing wait too long.
const defaultInterval = 15 * time.Second

//go:embed default.rules.yml
var defaultRules []byte

// Rules is a loaded set of rules. It is immutable and may be shared between goroutines. The zero value holds
// no rules.
type Rules struct {
	Groups []*Group
}

// Group is a group of rules with one interval.
type Group struct {
	Name, File string
	Interval   time.Duration
	// Offset shifts the time of its queries into the past; Limit is the most alerts a rule may have, 0 for no limit.
	Offset time.Duration
	Limit  int
	Rules  []*Rule
}

// Rule is one rule: an alert, or a series to record.
type Rule struct {
	// ID is stable across reloads: group, alert name and the rule's own labels.
	ID   string
	Name string
	// Record is the name of the series that a recording rule writes, "" for an alert.
	Record string
	// File and Line say where it stands.
	File string
	Line int
	Expr string
	// For and KeepFiringFor count in reading time.
	For, KeepFiringFor time.Duration
	// Labels and Annotations are the texts as written, templates included.
	Labels, Annotations map[string]string

	group            *Group
	labelTexts, text []ruleText
	condition        *condition // nil where one reading cannot decide
	asks, guard      question   // guard asks first where it is not zero: without a result of it the rule has none
	customer         string     // whose threshold it is; "" for the operator's rules
	presence         string     // what tells a series that is gone from one that recovered; "" where nothing can
}

// OnArrival reports whether one reading decides the rule, so that it needs no query.
func (r *Rule) OnArrival() bool { return r.condition != nil }

// LoadRules parses rule files, keyed by name. Decoding is strict. The error holds every problem found, each with file,
// line and rule; where it is not nil the rules are nil.
func LoadRules(files map[string][]byte) (*Rules, error) {
	var (
		rules = &Rules{}
		errs  []error
	)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		groups, err := parseRuleFile(name, files[name])
		if err != nil {
			errs = append(errs, err)
		}
		rules.Groups = append(rules.Groups, groups...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	rules.leaveRecordedToTheStore()
	rules.shareQuestions()
	rules.assignIDs()
	return rules, nil
}

// DefaultRules returns the rules that are in force where the operator gives none.
func DefaultRules() *Rules {
	rules, err := LoadRules(map[string][]byte{"default.rules.yml": defaultRules})
	if err != nil {
		panic("embedded " + err.Error()) // a test loads them
	}
	return rules
}

// DefaultRulesFile returns the YAML of DefaultRules, to start an own file from.
func DefaultRulesFile() []byte { return slices.Clone(defaultRules) }

// All iterates over every rule of every group.
func (r *Rules) All() func(yield func(*Rule) bool) {
	return func(yield func(*Rule) bool) {
		for _, g := range r.Groups {
			for _, rule := range g.Rules {
				if !yield(rule) {
					return
				}
			}
		}
	}
}

// assignIDs names every rule by group, name and labels; where these repeat, the expression tells them apart, and
// where that repeats too, their order.
func (r *Rules) assignIDs() {
	seen := map[string]int{}
	unique := func(id string) bool { seen[id]++; return seen[id] == 1 }
	for rule := range r.All() {
		id := rule.group.Name + "/" + rule.Name + alert.LabelText(rule.Labels)
		if !unique(id) {
			id += "#" + shortHash(rule.Expr)
			if n := seen[id]; !unique(id) {
				id += "." + strconv.Itoa(n)
			}
		}
		rule.ID = id
	}
}

func shortHash(text string) string {
	h := fnv.New32a()
	h.Write([]byte(text))
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}
