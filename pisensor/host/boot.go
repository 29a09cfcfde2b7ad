package host

import (
	"bytes"
	"fmt"
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// earliest is the first boot time that is believed, in Unix seconds: 2020. A
// board has no clock of its own that runs while it is off; until its clock is
// set for the first time, it may believe in 1970.
const earliest = 1_577_836_800

// bootTime is when the kernel started, by the wall clock: the kernel's
// boot-relative zero, which moves when the wall clock is set and not while it
// is slewed. A small step is the clock's, not a boot's, so that the first
// value holds until another is more than 1 s away. A reboot is also a new
// boot id.
type bootTime struct {
	*source.File
	held int64 // seconds; 0 = none yet
}

func newBootTime(r source.Roots) *bootTime {
	return &bootTime{File: source.NewFile(source.At(filepath.Join(r.Procfs, "stat")))}
}

// Read adds the boot time.
func (f *bootTime) Read(t *report.Tick, scratch []byte) error {
	b, err := f.ReadAll(scratch)
	if err != nil {
		return err
	}
	v, err := parseBootTime(b)
	if err != nil {
		return err
	}
	if v < earliest {
		return source.ErrAbsent // the clock is not set yet
	}
	if v < f.held-1 || v > f.held+1 {
		f.held = v
	}
	return source.Add(t, report.BootTime, f.held*1000)
}

// parseBootTime finds btime, in Unix seconds.
func parseBootTime(b []byte) (int64, error) {
	_, rest, ok := bytes.Cut(b, []byte("\nbtime "))
	if !ok {
		return 0, fmt.Errorf("%.32q… has no btime", b)
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	v, err := source.Integer(line)
	if err == nil && v > 1<<40 {
		err = fmt.Errorf("btime %d is beyond any clock", v)
	}
	return v, err
}
