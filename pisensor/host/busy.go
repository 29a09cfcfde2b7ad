package host

import (
	"bytes"
	"errors"
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// busyColumns are the columns of /proc/stat's first line in which a processor
// works, summed over all processors: user, nice, system, irq, softirq, steal.
// Not idle and iowait, in which it waits; guest time is part of user.
var busyColumns = [...]bool{0: true, 1: true, 2: true, 5: true, 6: true, 7: true}

var errStat = errors.New("no line of all processors")

// stat is the beginning of /proc/stat, which holds the line of all processors.
type stat struct{ *source.File }

// busy is the processors' time, in USER_HZ, which is 100 on every Pi.
func busy(r source.Roots) stat {
	return stat{source.NewFile(source.At(filepath.Join(r.Procfs, "stat")))}
}

// Read adds the busy time.
func (f stat) Read(t *report.Tick, scratch []byte) error {
	b, err := f.File.Read(scratch[:256])
	if err != nil {
		return err
	}
	v, err := parseBusy(b)
	if err != nil {
		return err
	}
	return source.Add(t, report.CPUBusy, v)
}

// parseBusy sums the first line. Kernels before 2.6.11 have fewer columns.
func parseBusy(b []byte) (int64, error) {
	line, _, whole := bytes.Cut(b, []byte{'\n'})
	name, rest := source.Field(line)
	if string(name) != "cpu" || !whole {
		return 0, errStat
	}
	var sum int64
	for _, works := range busyColumns {
		var word []byte
		if word, rest = source.Field(rest); len(word) == 0 {
			return 0, errStat
		}
		v, err := source.Integer(word)
		if err != nil || v < 0 {
			return 0, errStat
		}
		if works {
			sum += v
		}
	}
	return sum, nil
}

// load is the mean of the last minute's running and blocked tasks.
func load(r source.Roots) *source.Value {
	return source.NewValue(report.Load1, parseLoad, source.At(filepath.Join(r.Procfs, "loadavg")))
}

// parseLoad reads the first number of /proc/loadavg, in hundredths.
func parseLoad(b []byte) (int64, error) {
	first, _ := source.Field(b)
	return source.Decimal(first, 2)
}
