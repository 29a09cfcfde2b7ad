package pager

import (
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
)

// TestAPageSaysHowTheLastOneEnded: the closing comment counts more than what was said on the way, and another board's is
// not meant.
func TestAPageSaysHowTheLastOneEnded(t *testing.T) {
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
	t0 := time.Now().Add(-time.Hour)
	p.Deliver([]alert.Transition{alerttest.Fire("b1", t0)})
	in := p.until(t, "paged", pageState("delivered"))
	if err := p.Acknowledge(t.Context(), in.ID, "ada", "looking"); err != nil {
		t.Fatal(err)
	}
	if err := p.CloseIncident(t.Context(), in.ID, "jonas", "the fan was dusty"); err != nil {
		t.Fatal(err)
	}
	p.until(t, "closed", func(in incident.Incident) bool { return in.ResolvedAt != 0 })
	for board, want := range map[string]string{"b1": `"the fan was dusty" (jonas)`, "b2": ""} {
		lead := alerttest.Fire(board, time.Now())
		next := incident.Incident{ID: "next", Alerts: []incident.Alert{{Rule: lead.Rule, Series: lead.Series, Labels: lead.Labels}}}
		got, err := p.parts.Before(t.Context(), &next)
		if err != nil || !strings.HasSuffix(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, %v; want %s", board, got, err, want)
		}
	}
}
