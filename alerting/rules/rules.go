package rules

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

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
	presence         string     // the query that tells a series that is gone from one that recovered; "" where none can
}

// OnArrival reports whether one reading decides the rule, so that it needs no query.
func (r *Rule) OnArrival() bool { return r.condition != nil }

// Load parses rule files, keyed by name. Decoding is strict. The error holds every problem found, each with file,
// line and rule; where it is not nil the rules are nil.
func Load(files map[string][]byte) (*Rules, error) {
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

// Default returns the rules that are in force where the operator gives none.
func Default() *Rules {
	rules, err := Load(map[string][]byte{"default.rules.yml": defaultRules})
	if err != nil {
		panic("embedded " + err.Error()) // a test loads them
	}
	return rules
}

// DefaultFile returns the YAML of Default, to start an own file from.
func DefaultFile() []byte { return slices.Clone(defaultRules) }

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

// maxRuleFile bounds a rule file, in bytes: 10,000 long rules fit.
const maxRuleFile = 8 << 20

type ruleFileYAML struct {
	Groups []groupYAML `yaml:"groups"`
}

type groupYAML struct {
	Name        yaml.Node         `yaml:"name"`
	Interval    string            `yaml:"interval"`
	QueryOffset string            `yaml:"query_offset"`
	Limit       int               `yaml:"limit"`
	Labels      map[string]string `yaml:"labels"`
	Rules       []ruleYAML        `yaml:"rules"`
}

type ruleYAML struct {
	Record        yaml.Node         `yaml:"record"`
	Alert         yaml.Node         `yaml:"alert"`
	Expr          yaml.Node         `yaml:"expr"`
	For           string            `yaml:"for"`
	KeepFiringFor string            `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

// unknownField matches the decoder's wording for a key that a struct lacks.
var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found in type \S+`)

// parseRuleFile decodes one file; every problem of it is in the error.
func parseRuleFile(file string, data []byte) ([]*Group, error) {
	if len(data) > maxRuleFile {
		return nil, fmt.Errorf("%s: file has %d bytes; split it into files of at most %d", file, len(data), maxRuleFile)
	}
	raw, err := decodeRuleFile(file, data)
	if err != nil {
		return nil, err
	}
	var (
		groups []*Group
		errs   []error
		seen   = map[string]bool{}
	)
	for i := range raw.Groups {
		g, err := raw.Groups[i].build(file)
		errs = append(errs, err)
		if seen[g.Name] {
			errs = append(errs, fmt.Errorf("%s:%d: group %q: name is used twice in this file", file, raw.Groups[i].Name.Line, g.Name))
		}
		seen[g.Name] = true
		groups = append(groups, g)
	}
	return groups, errors.Join(errs...)
}

func decodeRuleFile(file string, data []byte) (raw ruleFileYAML, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: decode YAML: %v", file, r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return raw, yamlError(file, err)
	}
	if err := dec.Decode(&ruleFileYAML{}); !errors.Is(err, io.EOF) {
		return raw, fmt.Errorf("%s: more than one YAML document; keep one a file", file)
	}
	return raw, nil
}

// yamlError puts the file before each problem that the decoder found.
func yamlError(file string, err error) error {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		return fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, text := range list.Errors {
		text = unknownField.ReplaceAllString(text, `line $1: key "$2" is unknown`)
		errs = append(errs, fmt.Errorf("%s: %s", file, text))
	}
	return errors.Join(errs...)
}

func (g *groupYAML) build(file string) (*Group, error) {
	where := fmt.Sprintf("%s:%d: group %q", file, g.Name.Line, g.Name.Value)
	group := &Group{Name: g.Name.Value, File: file, Limit: g.Limit}
	var errs []error
	if group.Name == "" {
		errs = append(errs, fmt.Errorf("%s: group without a name", file))
	}
	group.Interval = parseDuration(where+": interval", g.Interval, defaultInterval, &errs)
	group.Offset = parseDuration(where+": query_offset", g.QueryOffset, 0, &errs)
	for i := range g.Rules {
		rule, err := g.Rules[i].build(file, group, g.Labels)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		group.Rules = append(group.Rules, rule)
	}
	return group, errors.Join(errs...)
}

func (r *ruleYAML) build(file string, group *Group, groupLabels map[string]string) (*Rule, error) {
	rule := &Rule{
		Name: r.Alert.Value, File: file, Line: r.Alert.Line, Expr: strings.TrimSpace(r.Expr.Value), group: group,
		Labels: map[string]string{}, Annotations: r.Annotations,
	}
	maps.Copy(rule.Labels, groupLabels)
	maps.Copy(rule.Labels, r.Labels)
	if r.Record.Value != "" {
		return rule, r.buildRecord(file, rule)
	}
	where := fmt.Sprintf("%s:%d: rule %q", file, r.Alert.Line, rule.Name)
	var errs []error
	if rule.Name == "" {
		where = fmt.Sprintf("%s:%d: rule without a name", file, r.Expr.Line)
		errs = append(errs, fmt.Errorf("%s: add `alert: NAME`", where))
	}
	rule.For = parseDuration(where+": for", r.For, 0, &errs)
	rule.KeepFiringFor = parseDuration(where+": keep_firing_for", r.KeepFiringFor, 0, &errs)
	errs = append(errs, rule.parseExpr(where, r.Expr.Line))
	rule.labelTexts = parseTexts(where+": label", rule.Labels, &errs)
	rule.text = parseTexts(where+": annotation", rule.Annotations, &errs)
	return rule, errors.Join(errs...)
}

// parseExpr parses the expression and decides whether one reading can decide it.
func (r *Rule) parseExpr(where string, line int) error {
	if r.Expr == "" {
		return fmt.Errorf("%s: add `expr: EXPRESSION`", where)
	}
	expr, err := metricsql.Parse(r.Expr)
	if err != nil {
		return fmt.Errorf("%s: expr at line %d: %w", where, line, err)
	}
	r.condition = classify(expr)
	r.asks, r.guard, r.presence = questionOf(r.Expr, expr), guardOf(expr), presence(expr)
	return nil
}

func parseDuration(where, text string, empty time.Duration, errs *[]error) time.Duration {
	if text == "" {
		return empty
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		*errs = append(*errs, fmt.Errorf("%s: %w; write it like 90s or 5m", where, err))
	}
	return time.Duration(d)
}

func parseTexts(where string, texts map[string]string, errs *[]error) []ruleText {
	var out []ruleText
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if !model.UTF8Validation.IsValidLabelName(name) || strings.HasPrefix(name, "__") {
			*errs = append(*errs, fmt.Errorf("%s %q: not a valid name", where, name))
			continue
		}
		t, err := parseRuleText(name, texts[name])
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s %q: %w", where, name, err))
			continue
		}
		out = append(out, t)
	}
	return out
}
