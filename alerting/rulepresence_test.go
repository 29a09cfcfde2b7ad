package alerting

import "testing"

func TestPresence(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		r := mustRules(t, "  - alert: A\n    expr: '"+expr+"'\n")
		if got := r.Groups[0].Rules[0].presence; got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	f(`a > 5`, `a`)
	f(`5 < a`, `a`)
	f(`a > bool 5`, ``)
	f(`a`, ``)
	f(`absent(a) or b > 5`, ``)
	f(`a > 5 or b > 5`, `a or b`)
	f(`(a > 5 and b) unless c`, `a`)
	f(`count by(rack) (a > 75) / count by(rack) (a) >= 0.5`, `count(a) by(rack) / count(a) by(rack)`)
	f(`topk(3, a) > 80`, `a`)
	f(`max_over_time((a > 75)[10m:1m]) - 5 > 0`, `max_over_time(a[10m:1m]) - 5`)
	f(`avg_over_time(a[5m]) > 5`, `avg_over_time(a[5m])`)
}
