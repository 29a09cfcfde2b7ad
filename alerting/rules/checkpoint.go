package rules

import (
	"encoding/json"
	"fmt"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// CheckpointVersion rises when an older collector could not read the checkpoint.
const CheckpointVersion = 1

// lastValue is the last value of a series that rules over several series look at.
type lastValue struct {
	Own      map[string]string `json:"own"`
	Registry map[string]string `json:"registry,omitempty"`
	At       int64             `json:"at"`
	Value    alert.Value       `json:"value"`
}

type checkpoint struct {
	Version int                `json:"version"`
	Marks   map[string]int64   `json:"marks"`
	Alerts  []alert.Transition `json:"alerts"`
	Values  []lastValue        `json:"values,omitempty"`
	// Evaluated is the time of each group's last evaluation.
	Evaluated map[string]int64 `json:"evaluated,omitempty"`
	// Registry names the labels that came from the registry.
	Registry []string `json:"registry,omitempty"`
}

// Checkpoint returns all of the engine's state as JSON: records journalled before it need not be replayed.
func (e *Engine) Checkpoint() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := checkpoint{
		Version: CheckpointVersion, Marks: make(map[string]int64, len(e.marks)),
		Alerts: e.statesLocked(func(s alert.State) bool { return true }), Evaluated: map[string]int64{},
	}
	for origin, mark := range e.marks {
		c.Marks[origin] = *mark
	}
	for _, s := range e.series {
		if s.at != 0 && e.isOperand(s) {
			c.Values = append(c.Values, lastValue{series.Map(s.own), series.Map(s.registry), s.at, alert.Value(s.value)})
		}
	}
	for name, ev := range e.evaluated {
		c.Evaluated[name] = ev.at
	}
	for name := range e.registryNames {
		c.Registry = append(c.Registry, name)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode alert checkpoint: %w", err)
	}
	return b, nil
}

// isOperand reports whether a rule over several series looks at s.
func (e *Engine) isOperand(s *Series) bool {
	for _, ref := range e.index[s.name] {
		if ref.rule.condition.root.leaf == nil {
			return true
		}
	}
	return false
}

// Restore puts a checkpoint's state in force, in an engine that has observed nothing yet.
func (e *Engine) Restore(b []byte) error {
	var c checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("decode alert checkpoint: %w", err)
	}
	if c.Version != CheckpointVersion {
		return fmt.Errorf("decode alert checkpoint: version %d, this program knows %d; run the newer program", c.Version, CheckpointVersion)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for origin, at := range c.Marks {
		e.marks.advance(origin, at)
	}
	for _, t := range c.Alerts {
		e.apply(t)
	}
	for name, at := range c.Evaluated {
		e.evaluated[name] = &evaluation{at: at}
	}
	for _, name := range c.Registry {
		e.registryNames[name] = true
	}
	for _, v := range c.Values {
		e.restoreValue(v)
	}
	return nil
}

func (e *Engine) restoreValue(v lastValue) {
	own := series.List(v.Own)
	s := e.series[ownKey(own)]
	if s == nil {
		s = e.addSeries(own, series.List(v.Registry))
	}
	s.value, s.at = float64(v.Value), v.At
}
