package soc

import (
	"bytes"
	"path/filepath"
)

func loadPaths(r Roots) func() []string {
	paths := []string{filepath.Join(r.Procfs, "loadavg")}
	return func() []string { return paths }
}

// parseLoad reads the first number of /proc/loadavg, in hundredths.
func parseLoad(b []byte) (int64, error) {
	first, _, _ := bytes.Cut(b, []byte{' '})
	v, err := parseDecimal(first, 2)
	if v < 0 {
		return 0, errNumber
	}
	return v, err
}
