// Package unit has the values with a unit that configuration files write: durations such as 90d and sizes such as 512MiB.
// A value that cannot be read does not end the decoding: all of a file's are reported at once, with their lines.
package unit

import (
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Duration is written as Prometheus does: 10s, 1h30m, 90d.
type Duration time.Duration

// Seconds is the duration as a number of seconds.
func (d Duration) Seconds() float64 { return time.Duration(d).Seconds() }

func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalYAML implements yaml.Unmarshaler. It errs with a *yaml.TypeError.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := model.ParseDuration(n.Value)
	if err != nil {
		return located(n, fmt.Errorf("%w: write it like 30s, 12h or 90d", err))
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes: 4096, 512MiB, 2GiB.
type Size int64

// UnmarshalYAML implements yaml.Unmarshaler. It errs with a *yaml.TypeError.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := units.ParseStrictBytes(n.Value)
	if err == nil && v < 0 {
		err = errors.New("is negative")
	}
	if err != nil {
		return located(n, fmt.Errorf("%q: %w: write it like 512MiB", n.Value, err))
	}
	*s = Size(v)
	return nil
}

// located is an error as the YAML package collects them, with the column, which its own lack.
func located(n *yaml.Node, err error) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d column %d: %v", n.Line, n.Column, err)}}
}
