package ruletest

import (
	"os"
	"strings"
	"testing"

	"bramble/alerting/rules"
)

// TestDefaultRulesTested runs the tests of the default rules, and looks that each rule is seen to fire and to end.
func TestDefaultRulesTested(t *testing.T) {
	t.Parallel()
	const file = "../rules/testdata/default.test.yml"
	var out strings.Builder
	if err := Run(t.Context(), []string{file}, &out, openStore(t)); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := parseFile(file, data)
	if err != nil {
		t.Fatal(err)
	}
	fires, ends := map[string]int{}, map[string]bool{}
	for _, test := range f.tests {
		for _, c := range test.alerts {
			if len(c.want) > 0 {
				fires[c.name]++
			} else if fires[c.name] > 0 {
				ends[c.name] = true
			}
		}
	}
	for r := range rules.Default().All() {
		if fires[r.Name] < 2 || !ends[r.Name] {
			t.Errorf("%s fires in %d checks, and ends: %v", r.Name, fires[r.Name], ends[r.Name])
		}
	}
}
