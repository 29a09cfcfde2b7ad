package outbox

import (
	"testing"

	_ "modernc.org/sqlite"
)

func TestBackoff(t *testing.T) {
	for n := 1; n < 20; n++ {
		want := min(minBackoff<<min(n-1, 10), MaxBackoff)
		if d := Backoff(n, MaxBackoff); d < want/2 || d > want*3/2 {
			t.Errorf("backoff %d is %s, want about %s", n, d, want)
		}
	}
}
