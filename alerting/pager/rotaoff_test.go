package pager

import (
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
)

// TestRotasOff: a rota is off while nobody is on call, and for no longer.
func TestRotasOff(t *testing.T) {
	text := strings.Replace(rotaOfTwo, "rotate: daily", `rotate: daily, hours: "20:00-08:00"`, 1)
	p, err := Open(Options{DB: openDB(t, t.TempDir()), Config: channelsTo("http://127.0.0.1:1", "ada-ntfy", "jonas-ntfy"), OnCall: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	if off := p.Rotas().Off(day.Add(23 * time.Hour)); len(off) != 0 {
		t.Errorf("at night: %+v", off)
	}
	off := p.Rotas().Off(day.Add(12 * time.Hour))
	if len(off) != 1 || off[0].Kind != alert.OffRota || off[0].Until != day.Add(20*time.Hour).UnixMilli() || !strings.Contains(off[0].What, "rota first") {
		t.Errorf("at noon: %+v", off)
	}
	if names := p.routing.Load().receivers(); !strings.Contains(strings.Join(names, " "), "ada-ntfy jonas-ntfy") {
		t.Errorf("receivers that must work: %v", names)
	}
}
