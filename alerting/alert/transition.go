package alert

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// State is where an alert stands. The zero value is Inactive.
type State uint8

const (
	// Inactive means that the condition does not hold and nothing is kept firing.
	Inactive State = iota
	// Pending means that the condition holds, but not yet for the rule's `for`.
	Pending
	// Firing means that the alert pages.
	Firing
	// Cooling means that the alert still fires; its condition has been false since the transition's time and the rule's
	// keep_firing_for has not passed.
	Cooling
)

var stateNames = [...]string{"inactive", "pending", "firing", "cooling"}

// String returns the state's name as it stands in the journal.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "state(" + strconv.Itoa(int(s)) + ")"
}

// Active reports whether the alert pages in this state.
func (s State) Active() bool { return s == Firing || s == Cooling }

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) {
	if int(s) >= len(stateNames) {
		return nil, fmt.Errorf("encode alert state %d: unknown", s)
	}
	return []byte(stateNames[s]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("decode alert state %q: unknown", b)
}

// Value is a reading's value whose JSON form also carries NaN and the infinities: a number where JSON has one, else a
// string.
type Value float64

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) {
	f := float64(v)
	text := strconv.AppendFloat(nil, f, 'g', -1, 64)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.AppendQuote(nil, string(text)), nil
	}
	return text, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("decode value %q: not a number", text)
	}
	*v = Value(f)
	return nil
}

// Transition is one change of one alert's state. Rule, Series and At identify it: the same three mean the same
// transition, however often it arrives. Its JSON form goes into the collector's journal and stays readable.
type Transition struct {
	// Rule is the rule's ID, Series the canonical form of the series' own labels without the metric name.
	Rule   string `json:"rule"`
	Series string `json:"series"`
	// Labels are the alert's labels: the series' own, the registry's, the rule's, and alertname.
	Labels map[string]string `json:"labels"`
	// Annotations are rendered.
	Annotations map[string]string `json:"annotations,omitempty"`
	From        State             `json:"from"`
	State       State             `json:"state"`
	// At is the time of the reading that caused it, Since when the condition began to hold, FiredAt when the alert
	// began to fire (0 while it has not), Received when the engine decided. All are Unix milliseconds.
	At       int64 `json:"at"`
	Since    int64 `json:"since"`
	FiredAt  int64 `json:"fired_at,omitempty"`
	Received int64 `json:"received"`
	// Arrived is when the report with that reading came in, Journalled when the transition was on disk, in Unix milliseconds; 0
	// where they are not known. They tell where the time of a page went and are in no journal.
	Arrived    int64 `json:"-"`
	Journalled int64 `json:"-"`
	// Value is the value of that reading.
	Value Value `json:"value"`
	// Boards are those of a domain's alert, in order: all that were part of it so far. A board's alert has none.
	Boards []string `json:"boards,omitempty"`
	// Customer is whose threshold it is about. No operator is told of it; "" for the operator's rules.
	Customer string `json:"customer,omitempty"`
}

// Key names the alert that the transition belongs to.
func (t Transition) Key() string { return t.Rule + "\x00" + t.Series }

// DecodeTransition decodes the JSON form of a Transition. Unknown fields are ignored, so that a newer journal stays
// readable; a transition without a rule or a time is refused.
func DecodeTransition(b []byte) (Transition, error) {
	var t Transition
	if err := json.Unmarshal(b, &t); err != nil {
		return Transition{}, fmt.Errorf("decode transition: %w", err)
	}
	if t.Rule == "" || t.At == 0 {
		return Transition{}, errors.New("decode transition: rule or time is missing")
	}
	return t, nil
}

// Compare orders transitions by time, rule and series.
func Compare(a, b Transition) int {
	return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Series, b.Series))
}

// Began is the time of a silent board's last report, where an alert has it, else when it fired.
func Began(annotations map[string]string, firedAt int64) int64 {
	if at, err := time.Parse(NoteTime, annotations[LastReportNote]); err == nil {
		return at.UnixMilli()
	}
	return firedAt
}
