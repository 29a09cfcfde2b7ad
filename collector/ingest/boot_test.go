package ingest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/rules"
	"bramble/pisensor/report"
	"bramble/storage"
)

// TestBootsAreBootIDs: neither a step of the board's wall clock nor its daemon's restart nor the collector's is a reboot;
// another boot id is exactly one, to the store, the pages and the default rules, also over restarts of the collector.
func TestBootsAreBootIDs(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	began := time.Now()
	first, second := began.Add(-48*time.Hour).UnixMilli(), began.Add(-time.Minute).UnixMilli()
	btime := report.Series{Metric: report.BootTime}
	var last int64
	f := func(session uint32, number uint64, id string, anchor int64, wall int64) {
		t.Helper()
		last = max(last+1, time.Now().UnixMilli())
		r := hot(number, began, 50)
		r.Session, r.Anchor, r.Elapsed[0] = session, anchor, last-anchor
		r.Column(btime)[0] = wall // as older sensors send it: by the board's clock
		if id != "" {
			r.Info = []report.Attribute{{Key: report.AttributeKernel, Value: "6.12"}, {Key: report.AttributeBootID, Value: id}}
		}
		c.publish("pi-1", r)
		c.ack()
		c.look(time.Now())
	}
	loaded := rules.NewEngine(rules.Default())
	loaded.Series([]storage.Label{{Name: "__name__", Value: "pi_boots_total"}, {Name: "board", Value: "pi-1"}}, nil)
	evaluated := 0
	reboots := func() (states []string) {
		t.Helper()
		evaluated++
		ts, err := loaded.Evaluate(t.Context(), c.Store.(*storage.Store), time.Now().Add(time.Duration(evaluated)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range ts {
			if tr.Labels["alertname"] == "BoardRebooted" {
				states = append(states, tr.State.String())
			}
		}
		return states
	}
	const moved = `round((max_over_time(pi_boot_time_seconds{board="pi-1"}[1h]) - min_over_time(pi_boot_time_seconds{board="pi-1"}[1h])) * 1000)`
	const boots = `max_over_time(pi_boots_total{board="pi-1"}[1h])`
	const seen = `count_over_time(pi_soc_temperature_celsius{board="pi-1"}[1h])`

	f(1, 1, "a", first, first)
	f(1, 2, "", first, first+time.Hour.Milliseconds()) // the clock was set
	f(1, 3, "", first+200, first)                      // a correction of the era
	f(2, 1, "a", first+200, first)                     // the daemon was restarted
	c.expect(seen, 4)
	c.expect(boots, 0)
	c.expect(moved, 200)
	if got := reboots(); len(got) != 0 {
		t.Fatalf("nothing booted: BoardRebooted %v", got)
	}
	f(3, 1, "b", second, second)
	c.expect(boots, 1)
	c.expect(`last_over_time(pi_boot_time_seconds{board="pi-1"}[1h])`, float64(second)/1000)
	if got := reboots(); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("a boot: BoardRebooted %v", got)
	}
	for i, checkpoint := range []bool{false, true} {
		if checkpoint {
			c.checkpointed()
		}
		c.stop()
		c = start(t, dir, s)
		f(3, 1, "b", second, second) // redelivered
		f(3, uint64(2+i), "b", second, second)
		c.expect(seen, float64(6+i))
		c.expect(boots, 1)
		if got := reboots(); len(got) != 0 {
			t.Errorf("checkpoint %v: BoardRebooted %v after a restart", checkpoint, got)
		}
	}
	shown := ""
	c.mu.Lock()
	for _, l := range c.live {
		if strings.Contains(l, " pi_boot") {
			shown += l + "\n"
		}
	}
	c.mu.Unlock()
	if !strings.Contains(shown, "pi_boots_total 1\n") || strings.Count(shown, "\n") != 2 {
		t.Errorf("shown live:\n%s", shown)
	}
	if n := c.Ingest.board("pi-1").boot.Total; n != 1 {
		t.Errorf("%d boots", n)
	}
}

// TestBoardWithoutBootID has a boot time, and no count that it could not know.
func TestBoardWithoutBootID(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.publish("pi-1", hot(1, time.Now(), 50))
	c.ack()
	c.look(time.Now())
	c.expect(`count({__name__=~"pi_boot.*"})`, 1)
	c.expect(`count(pi_boot_time_seconds{board="pi-1"})`, 1)
}

func TestBootIDs(t *testing.T) {
	var b board
	f := func(want uint64, info ...report.Attribute) {
		t.Helper()
		b.learn(info)
		if b.boot.Total != want {
			t.Errorf("%v: %d boots, want %d", info, b.boot.Total, want)
		}
	}
	id := func(v string) report.Attribute { return report.Attribute{Key: report.AttributeBootID, Value: v} }
	kernel := report.Attribute{Key: report.AttributeKernel, Value: "6.12"}
	f(0, kernel)
	f(0, kernel, id("a"))
	f(0)
	f(0, kernel, id("")) // it could not be read
	f(0, kernel, id("a"))
	f(1, kernel, id("b"))
	f(2, kernel, id("c"))
}
