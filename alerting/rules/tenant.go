package rules

import (
	"slices"
	"strconv"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// ThresholdKind is a kind of threshold that a customer may set: one comparison of one series of a board with a number.
type ThresholdKind struct {
	Name string
	// Metric, label and value name the series; the label is "" where the metric has one series.
	metric, label, value string
	op                   operator
	// Fixed says that there is nothing to set: the state itself is the threshold, at a value of 0 or 1.
	Fixed bool
	// Min, Max and MaxHysteresis bound the numbers of a threshold, in base units.
	Min, Max, MaxHysteresis float64
}

// ThresholdKinds are the kinds of thresholds: the conditions that the default rules know of a single board.
var ThresholdKinds = []ThresholdKind{
	{Name: "hot", metric: "pi_soc_temperature_celsius", op: opGreaterEqual, Min: 30, Max: 110, MaxHysteresis: 20},
	{Name: "throttled", metric: "pi_throttled", label: "reason", value: "throttled", op: opEqual, Fixed: true, Min: 1, Max: 1},
	{Name: "under_voltage", metric: "pi_throttled", label: "reason", value: "under_voltage", op: opEqual, Fixed: true, Min: 1, Max: 1},
	{Name: "silent", metric: "pi_board_up", op: opEqual, Fixed: true, Min: 0, Max: 0},
	{Name: "memory", metric: "pi_memory_available_bytes", op: opLess, Min: 1 << 20, Max: 16 << 30, MaxHysteresis: 4 << 30},
}

// KindOf returns a kind by name.
func KindOf(name string) (ThresholdKind, bool) {
	i := slices.IndexFunc(ThresholdKinds, func(k ThresholdKind) bool { return k.Name == name })
	if i < 0 {
		return ThresholdKind{}, false
	}
	return ThresholdKinds[i], true
}

// Threshold is a condition that a customer wants to be notified of. One of a board stands above one of all boards, of the same kind.
type Threshold struct {
	Kind  string // of ThresholdKinds
	Board string // "" for all of the customer's
	// Value and Hysteresis are in base units; an alert ends only when the reading is beyond Value by Hysteresis.
	Value, Hysteresis float64
	// For is how long the condition holds before the alert fires, KeepFiringFor how long it does not before it ends.
	For, KeepFiringFor time.Duration
}

// tenants are the thresholds of customers, found by customer and metric: those of one cost the readings of another nothing.
// The zero value has none. The engine's mutex guards it.
type tenants struct {
	of     map[string]map[string][]*tenantRule // by customer and metric
	byID   map[string]*tenantRule              // any of those that share an ID
	series map[string]map[*Series]bool         // by customer: those of its boards
}

// tenantRule is a threshold as the state machine takes it.
type tenantRule struct {
	Threshold
	kind    ThresholdKind
	rule    *Rule
	release *float64
}

// tenantRuleID is one for a kind, so that an alert goes on where a board gets a threshold of its own. An operator's rule
// has a slash behind the name of its group, which a quoted name ends before.
func tenantRuleID(customer, kind string) string {
	return "customer " + strconv.Quote(customer) + " " + kind
}

func newTenantRule(customer string, t Threshold) *tenantRule {
	kind, ok := KindOf(t.Kind)
	if !ok {
		return nil
	}
	r := &tenantRule{Threshold: t, kind: kind, rule: &Rule{
		ID: tenantRuleID(customer, t.Kind), Name: t.Kind, For: t.For, KeepFiringFor: t.KeepFiringFor, customer: customer,
	}}
	if t.Hysteresis > 0 {
		release := t.Value - t.Hysteresis
		if kind.op == opLess {
			release = t.Value + t.Hysteresis
		}
		r.release = &release
	}
	return r
}

// join and leave keep the series of customers' boards, when their labels come and go.
func (t *tenants) join(s *Series) {
	customer := series.Get(s.registry, alert.CustomerLabel)
	if customer == "" {
		return
	}
	if t.series == nil {
		t.series = map[string]map[*Series]bool{}
	}
	if t.series[customer] == nil {
		t.series[customer] = map[*Series]bool{}
	}
	t.series[customer][s] = true
}

func (t *tenants) leave(s *Series) {
	if customer := series.Get(s.registry, alert.CustomerLabel); customer != "" {
		delete(t.series[customer], s)
		if len(t.series[customer]) == 0 {
			delete(t.series, customer)
		}
	}
}

// rule returns the threshold of a kind that is in force for a board.
func (t *tenants) rule(customer, metric, board, kind string) (found *tenantRule) {
	for _, r := range t.of[customer][metric] {
		if r.Kind == kind && (r.Board == board || r.Board == "" && found == nil) {
			found = r
		}
	}
	return found
}

// resolveTenant adds the thresholds of the board's customer to the tests of a series. The registry's label counts alone: a
// board cannot name a customer.
func (e *Engine) resolveTenant(s *Series) {
	customer := series.Get(s.registry, alert.CustomerLabel)
	for _, r := range e.tenants.of[customer][s.name] {
		if e.tenants.rule(customer, s.name, s.board, r.Kind) != r || r.kind.label != "" && series.Get(s.own, r.kind.label) != r.kind.value {
			continue
		}
		s.tests = append(s.tests, test{rule: r.rule, op: r.kind.op, limit: r.Value, release: r.release, alert: e.alerts[alertKey{r.rule.ID, s.key}]})
	}
}

// heldBy reports whether a firing alert goes on although its limit is not crossed any more.
func (t *test) heldBy(v float64) bool {
	return t.alert != nil && t.alert.last.State.Active() && t.op.holds(v, *t.release)
}

// SetThresholds puts the thresholds of one customer in force, in place of those before. States carry over; alerts of
// thresholds that are gone end, which the returned transitions say. No other customer's series are looked at.
func (e *Engine) SetThresholds(customer string, all []Threshold) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tenants.set(customer, all)
	var out []alert.Transition
	for s := range e.tenants.series[customer] {
		for _, k := range ThresholdKinds {
			if k.metric == s.name && e.tenants.rule(customer, s.name, s.board, k.Name) == nil {
				out = e.endTenant(out, alertKey{tenantRuleID(customer, k.Name), s.key})
			}
		}
		if s.gen == e.gen {
			s.tests = slices.DeleteFunc(s.tests, func(t test) bool { return t.rule.customer != "" })
			e.resolveTenant(s)
		}
	}
	slices.SortFunc(out, alert.Compare)
	return out
}

func (t *tenants) set(customer string, all []Threshold) {
	if t.of == nil {
		t.of, t.byID = map[string]map[string][]*tenantRule{}, map[string]*tenantRule{}
	}
	delete(t.of, customer)
	for _, k := range ThresholdKinds {
		delete(t.byID, tenantRuleID(customer, k.Name))
	}
	for _, one := range all {
		r := newTenantRule(customer, one)
		if r == nil {
			continue
		}
		if t.of[customer] == nil {
			t.of[customer] = map[string][]*tenantRule{}
		}
		t.of[customer][r.kind.metric] = append(t.of[customer][r.kind.metric], r)
		t.byID[r.rule.ID] = r
	}
}

// endTenant ends and drops one alert.
func (e *Engine) endTenant(out []alert.Transition, k alertKey) []alert.Transition {
	a := e.alerts[k]
	if a == nil {
		return out
	}
	delete(e.alerts, k)
	delete(e.active[k.rule], k.series)
	if a.last.State == alert.Inactive {
		return out
	}
	t, now := a.last, time.Now().UnixMilli()
	t.From, t.State, t.At, t.Received = a.last.State, alert.Inactive, max(now, a.last.At+1), now
	return append(out, t)
}

// EndStrayed ends the alerts of customers on boards that are not theirs any more. owner says whose a board is; it must
// not call the engine.
func (e *Engine) EndStrayed(owner func(board string) string) (out []alert.Transition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for rule, active := range e.active {
		for key, a := range active {
			if a.last.Customer != "" && owner(a.last.Labels[alert.BoardLabel]) != a.last.Customer {
				out = e.endTenant(out, alertKey{rule, key})
			}
		}
	}
	if len(out) > 0 {
		e.resolveAgain() // tests may point at alerts that were dropped
	}
	slices.SortFunc(out, alert.Compare)
	return out
}

// ofOperator leaves out alerts of customers' thresholds.
func ofOperator(ts []alert.Transition) []alert.Transition {
	return slices.DeleteFunc(ts, func(t alert.Transition) bool { return t.Customer != "" })
}

// SplitCustomers parts transitions of the operator's rules from those of customers' thresholds, each in their order.
func SplitCustomers(ts []alert.Transition) (operator, customers []alert.Transition) {
	if !slices.ContainsFunc(ts, func(t alert.Transition) bool { return t.Customer != "" }) {
		return ts, nil
	}
	for _, t := range ts {
		if t.Customer != "" {
			customers = append(customers, t)
		} else {
			operator = append(operator, t)
		}
	}
	return operator, customers
}
