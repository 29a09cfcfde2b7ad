package source

import (
	"fmt"

	"bramble/pisensor/report"
)

// largestValue is the longest content of a file that holds one value, in bytes.
const largestValue = 128

// Parser turns a file's text into a value in the metric's wire unit. It must
// allocate nothing where it succeeds.
type Parser func([]byte) (int64, error)

// Value is a source that is one small file with one value.
type Value struct {
	*File
	metric report.Metric
	parse  Parser
}

// NewValue returns the source of a metric that is the first of the paths.
func NewValue(m report.Metric, parse Parser, paths func() []string) *Value {
	return &Value{NewFile(paths), m, parse}
}

// Read adds the value.
func (v *Value) Read(t *report.Tick, scratch []byte) error {
	n, err := v.Get(scratch)
	if err != nil {
		return err
	}
	if err := Add(t, v.metric, n); err != nil {
		return fmt.Errorf("%s: %w", v.path, err)
	}
	return nil
}

// Get returns the value.
func (v *Value) Get(scratch []byte) (int64, error) {
	b, err := v.File.Read(scratch[:largestValue+1])
	if err != nil {
		return 0, err
	}
	if len(b) > largestValue {
		return 0, fmt.Errorf("%s: longer than %d bytes", v.path, largestValue)
	}
	n, err := v.parse(b)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", v.path, err)
	}
	return n, nil
}
