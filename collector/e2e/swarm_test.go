package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestSwarmComesBack runs simulated boards against a real collector, twice: the
// second time they need no token, and are the same boards.
func TestSwarmComesBack(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	state := t.TempDir()
	args := []string{"swarm", "--boards", "5", "--nats", "nats://" + s.nats, "--state-dir", state}
	command(t, "", "collector", args...).refusal(t, "--token")

	token := s.do("", "board", "token", "--rack", "r9", "--count", "5")
	swarm := launch(t, "collector", append(args, "--token", token)...)
	eventually(t, patience, s.reporting(5))
	if code := swarm.stop(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, swarm.errs)
	}
	eventually(t, patience, s.reporting(0)) // they said goodbye
	before := s.identities()

	launch(t, "collector", args...)
	eventually(t, patience, s.reporting(5))
	if now := s.identities(); now != before || strings.Count(now, "rack=r9") != 5 {
		t.Errorf("boards\n%s\nbecame\n%s", before, now)
	}
}

// identities is the list of boards without the fields that change with every report.
func (s *server) identities() string {
	s.t.Helper()
	var all strings.Builder
	state := -1
	for line := range strings.Lines(s.do("", "board", "list")) {
		if state < 0 {
			state = strings.Index(line, "STATE")
		}
		all.WriteString(strings.TrimSpace(line[:state]) + "\n")
	}
	return all.String()
}

// reporting wants so many boards of rack r9 up.
func (s *server) reporting(boards int) func() error {
	return func() error {
		var answer struct {
			Boards []struct {
				Name string
				Up   bool
			}
		}
		if err := s.json("api/boards", &answer); err != nil {
			return err
		}
		up := 0
		for _, b := range answer.Boards {
			if b.Up {
				up++
			}
		}
		if up != boards {
			return fmt.Errorf("%d of %d boards are up", up, boards)
		}
		return nil
	}
}
