package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const crossingRules = `groups:
  - name: heat
    rules:
      - alert: Hot
        expr: pi_soc_temperature_celsius >= 80
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.board }} is at {{ $value }}"}
`

const crossingRoute = `route:
  receiver: sink
  group_by: [alertname, board]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: sink
    webhook_configs: [{url: %q, send_resolved: false}]
`

// alarmed starts a server whose pages go to a sink.
func alarmed(t testing.TB, k *sink) *server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rules.yml": crossingRules, "alertmanager.yml": fmt.Sprintf(crossingRoute, k.url),
		"collector.yml": "rules: [rules.yml]\nalertmanager: alertmanager.yml\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
}

const (
	// hot crosses the line and stays there; spike is back at once.
	hot   = "t_s,temp_c\n0,70\n5,75\n10,79.9\n15,80.1\n20,82\n25,84\n"
	spike = "t_s,temp_c\n0,70\n5,75\n10,79.9\n15,80.1\n20,77\n25,75\n"
)

// TestCrossingThenKill kills the collector around a crossing: in each round
// there is one page, however often its request is repeated, and never none.
func TestCrossingThenKill(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := alarmed(t, k)
	rounds := often(3, 15)
	for i := range rounds {
		b := s.enrol(roundBoard(i), s.nats)
		s.crossThenKill(k, b, i)
		eventually(t, patience, func() error {
			if len(k.keys(b.name)) == 0 {
				return fmt.Errorf("round %d: no page", i)
			}
			return nil
		})
	}
	s.kill()
	s.start()
	settled := s.enrol("settled", s.nats)
	settled.replay(t, understand(t, "hot", hot))
	eventually(t, patience, func() error {
		if len(k.keys(settled.name)) == 0 {
			return errors.New("no page of the last crossing")
		}
		return nil
	})
	after(t, 3*time.Second) // three group intervals: a second page would have come
	repeated := 0
	for i := range rounds {
		keys := k.keys(roundBoard(i))
		if len(keys) != 1 {
			t.Errorf("round %d: pages %v, want one", i, keys)
		}
		for key, n := range keys {
			if key == "" {
				t.Errorf("round %d: a page without an Idempotency-Key", i)
			}
			repeated += n - 1
		}
	}
	t.Logf("%d rounds, %d requests were repeated with their key", rounds, repeated)
}

func roundBoard(i int) string { return fmt.Sprintf("pi-%d", i) }

// crossThenKill replays one crossing and kills the collector at a moment that
// depends on the round: at random, on the page's request, or on the replay's end.
func (s *server) crossThenKill(k *sink, b board, round int) {
	s.t.Helper()
	recording := hot
	if round%5 == 2 {
		recording = spike
	}
	paged := make(chan struct{}, 100)
	killer := s.process
	k.tell(func(name string) {
		if name != b.name {
			return
		}
		if round%3 == 1 {
			killer.kill()
		}
		select {
		case paged <- struct{}{}:
		default:
		}
	})
	p := b.replay(s.t, understand(s.t, "crossing", recording))
	switch round % 3 {
	case 0:
		after(s.t, time.Duration(rand.IntN(300))*time.Millisecond)
	case 1:
		select {
		case <-paged:
		case <-time.After(patience):
			s.t.Fatalf("round %d: no page; %s", round, p.errs)
		}
	case 2:
		p.exit(s.t, patience)
	}
	s.kill()
	k.tell(nil)
	s.start()
	if code := p.exit(s.t, patience); code != 0 {
		s.t.Errorf("round %d: replay: exit %d: %s", round, code, p.errs)
	}
}
