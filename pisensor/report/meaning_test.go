package report

import (
	"slices"
	"strings"
	"testing"
)

// Every series has a meaning, and its unit is the one in its name.
func TestMeanings(t *testing.T) {
	names := SeriesNames()
	for _, name := range names {
		m, ok := MeaningOf(name)
		if !ok || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s has no sentence of help", name)
		}
		if m.Unit != "" && !slices.Contains(strings.Split(name, "_"), m.Unit) {
			t.Errorf("%s: unit %q is not in the name", name, m.Unit)
		}
	}
	for name := range meanings {
		if !slices.Contains(names, name) {
			t.Errorf("%s has a meaning, and no metric becomes it", name)
		}
	}
}
