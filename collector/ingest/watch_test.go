package ingest

import (
	"testing"
	"time"

	"bramble/pisensor/report"
)

func TestABoardHearsHowManyPeopleWatch(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	controls, err := c.board.SubscribeSync(report.ControlSubject("pi-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.board.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		viewer string
		want   uint64
	}{{"mira", 1}, {"jo", 2}, {"mira", 2}} {
		if err := c.Watch("pi-1", x.viewer, time.Hour); err != nil {
			t.Fatal(err)
		}
		m, err := controls.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := report.DecodeControl(m.Data); err != nil || got.Watchers != x.want || got.Lease != maxLease.Milliseconds() {
			t.Errorf("%s: %+v, %v; want %d watchers", x.viewer, got, err, x.want)
		}
	}
	if err := c.Watch("pi-9", "mira", time.Hour); err == nil {
		t.Error("a board that nobody knows is watched")
	}
}

func TestGoneViewersDoNotCount(t *testing.T) {
	var v viewers
	now := time.Now()
	for i, x := range []struct {
		viewer string
		after  time.Duration
		want   int
	}{{"mira", 0, 1}, {"jo", 30 * time.Second, 2}, {"jo", 50 * time.Second, 2}, {"jo", 61 * time.Second, 1}} {
		at := now.Add(x.after)
		if got := v.look("pi-1", x.viewer, at, at.Add(time.Minute)); got != x.want {
			t.Errorf("step %d: %d viewers, want %d", i, got, x.want)
		}
	}
	v.look("pi-2", "mira", now.Add(time.Hour), now.Add(time.Hour))
	if len(v.until) != 1 {
		t.Errorf("%d boards are remembered, want 1", len(v.until))
	}
}

func TestLinesThatABoardWouldRefuseAreLeftOut(t *testing.T) {
	var lines []report.Line
	for level := range int64(300) {
		lines = append(lines, report.Line{Metric: report.SOCTemperature, Level: level * 1000})
	}
	lines = append([]report.Line{{Metric: report.SOCTemperature, Level: 1e9}, {Metric: 60_000}}, lines...)
	got := sendable(lines)
	if len(got) != report.MaxLines || got[0].Level != 0 {
		t.Errorf("%d lines, the first at %d", len(got), got[0].Level)
	}
}
