package source

import (
	"bytes"
	"path/filepath"
	"slices"
)

// Labelled returns file in each directory that the pattern matches and whose
// file label holds one of the names, in the order of the names: it is how
// thermal zones (label type) and hwmon devices (label name) are found, whose
// numbers depend on which driver loaded first.
func Labelled(pattern, label string, names []string, file string) []string {
	directories, err := filepath.Glob(pattern)
	if err != nil {
		return nil // a root with a broken pattern has no sensors
	}
	found := make([]string, len(names))
	var scratch [64]byte
	for _, d := range directories {
		b, err := ReadOnce(filepath.Join(d, label), scratch[:])
		if err != nil {
			continue // without a label it is not one of the wanted ones
		}
		if i := slices.Index(names, string(bytes.TrimSpace(b))); i >= 0 && found[i] == "" {
			found[i] = filepath.Join(d, file)
		}
	}
	return slices.DeleteFunc(found, func(s string) bool { return s == "" })
}
