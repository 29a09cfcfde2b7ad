package host

import (
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// load is the mean of the last minute's running and blocked tasks.
func load(r source.Roots) *source.Value {
	return source.NewValue(report.Load1, parseLoad, source.At(filepath.Join(r.Procfs, "loadavg")))
}

// parseLoad reads the first number of /proc/loadavg, in hundredths.
func parseLoad(b []byte) (int64, error) {
	first, _ := source.Field(b)
	return source.Decimal(first, 2)
}
