package host

import (
	"bytes"
	"fmt"
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// memory reads the memory that programs could still get without swapping. Kernels before 3.14 do
// not report it, and then there is no reading: a guess from free and cached memory would be wrong
// in both directions.
type memory struct{ *source.File }

func newMemory(r source.Roots) memory {
	return memory{source.NewFile(source.At(filepath.Join(r.Procfs, "meminfo")))}
}

// Read adds the available memory.
func (f memory) Read(t *report.Tick, scratch []byte) error {
	b, err := f.ReadAll(scratch)
	if err != nil {
		return err
	}
	v, err := parseMemory(b)
	if err != nil {
		return err
	}
	return source.Add(t, report.MemoryAvailable, v)
}

// parseMemory finds MemAvailable, in KiB.
func parseMemory(b []byte) (int64, error) {
	if !bytes.HasPrefix(b, []byte("MemTotal:")) {
		return 0, fmt.Errorf("%.32q does not begin with MemTotal", b)
	}
	_, rest, ok := bytes.Cut(b, []byte("\nMemAvailable:"))
	if !ok {
		return 0, source.ErrAbsent
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	number, rest := source.Field(line)
	if unit, _ := source.Field(rest); string(unit) != "kB" {
		return 0, fmt.Errorf("MemAvailable %.32q is not in kB", line)
	}
	return source.Integer(number)
}
