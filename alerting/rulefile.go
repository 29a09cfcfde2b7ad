package alerting

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

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
