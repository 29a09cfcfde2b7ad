package pager

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/domain"
	"bramble/alerting/incident"
	"bramble/alerting/rules"
)

// endurance skips a test that takes minutes, such as a kill at every step, unless the environment asks for it.
func endurance(t testing.TB) {
	t.Helper()
	if os.Getenv("BRAMBLE_ENDURANCE") != "1" {
		t.Skip("endurance: set BRAMBLE_ENDURANCE=1")
	}
}

// childEnv makes this test binary a pager that is killed: its value is the directory with config, journal and database.
const childEnv = "ALERTING_TEST_CHILD"

// runChild is the child: it replays the journal as the collector would, serves the API, and says when it runs.
// Further lines on stdin are transitions to deliver; "barrier" makes one. What it decides of domains it writes into the
// journal itself.
func runChild() {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return
	}
	if err := child(dir); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(dir string) error {
	config, err := os.ReadFile(filepath.Join(dir, "alertmanager.yml"))
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "state.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	onCall, err := os.ReadFile(filepath.Join(dir, "oncall.yml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p, err := Open(Options{DB: db, Config: config, OnCall: onCall, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	e := rules.NewEngine(rules.Default())
	d, err := childDomains(dir, e, p)
	if err != nil {
		return err
	}
	journal, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(journal)) {
		t, err := alert.DecodeTransition([]byte(line))
		if err != nil {
			return err
		}
		e.Apply(t)
		d.Deliver([]alert.Transition{t})
	}
	d.Resume(e.Firing())
	srv := httptest.NewServer(p.Handler())
	go func() { _ = p.Run(context.Background()) }()
	go func() { _ = d.Run(context.Background()) }()
	for resp, err := http.Get(srv.URL + "/api/v2/status"); err != nil || resp.StatusCode != 200; {
		if err == nil {
			resp.Body.Close()
		}
		resp, err = http.Get(srv.URL + "/api/v2/status")
	}
	fmt.Println("ready", srv.URL)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "barrier" {
			err = d.Settle()
		} else if verb, ok := strings.CutPrefix(in.Text(), "person "); ok {
			err = childPerson(p, verb)
		} else {
			var t alert.Transition
			t, err = alert.DecodeTransition(in.Bytes())
			e.Apply(t)
			d.Deliver([]alert.Transition{t})
		}
		if err != nil {
			return err
		}
		fmt.Println("ok")
	}
	return in.Err()
}

// childPerson does what a person does to the one open incident.
func childPerson(p *Pager, verb string) error {
	ctx := context.Background()
	open, err := p.Incidents(ctx, incident.Query{Open: true})
	if err != nil || len(open) != 1 {
		return fmt.Errorf("%d open incidents: %w", len(open), err)
	}
	switch id := open[0].ID; verb {
	case "ack":
		return p.Acknowledge(ctx, id, "mira", "mine")
	case "snooze":
		return p.Snooze(ctx, id, "mira", "", 2*time.Second)
	case "close":
		return p.CloseIncident(ctx, id, "mira", "done")
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// killPlaces are the boards that the child knows: a switch for each round.
func killPlaces() map[string]alert.Place { return alerttest.Fleet(killRounds+1, 1, 4, nil) }

// childDomains journals as the collector does: first the disk, then the delivery.
func childDomains(dir string, e *rules.Engine, p *Pager) (d *domain.Decider, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	commit := func(ts []alert.Transition) error {
		var lines []byte
		for _, t := range ts {
			b, err := json.Marshal(t)
			if err != nil {
				return err
			}
			lines = append(append(lines, b...), '\n')
		}
		if _, err := f.Write(lines); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		d.Deliver(ts)
		return nil
	}
	d = domain.New(domain.Options{Apply: e.Apply, Firing: e.Firing, Pager: p, Fleet: killPlaces, Commit: commit})
	return d, nil
}

// victim is a child process.
type victim struct {
	t   *testing.T
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Scanner
	url string
}

func startVictim(t *testing.T, dir string) *victim {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = t.Output()
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(v.kill)
	v.url = strings.TrimPrefix(v.line(), "ready ")
	if !strings.HasPrefix(v.url, "http") {
		t.Fatalf("child said %q", v.url)
	}
	return v
}

func (v *victim) line() string {
	if !v.out.Scan() {
		return "end of output"
	}
	return v.out.Text()
}

// say gives the child a line and waits for its answer.
func (v *victim) say(text string) {
	v.t.Helper()
	fmt.Fprintln(v.in, text)
	if got := v.line(); got != "ok" {
		v.t.Fatalf("child answered %q to %q", got, text)
	}
}

// kill ends the child with SIGKILL.
func (v *victim) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// setUp writes config and journal.
func setUp(t *testing.T, url string) (dir string, journal func(alert.Transition) string) {
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "alertmanager.yml"), oneSink(url, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return dir, func(tr alert.Transition) string {
		b, err := json.Marshal(tr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "%s\n", b)
		return string(b)
	}
}

// TestKill kills the pager between the steps of a page's life; each crossing is one page, counted by its id.
func TestKill(t *testing.T) {
	t.Parallel()
	t0 := time.Now()
	f := alerttest.Fire("b1", t0)
	r := alerttest.Resolve(f, t0.Add(time.Second))
	settle := func(v *victim, s *sink, journal func(alert.Transition) string) {
		// A later crossing of another board has been paged: whatever was due for b1 is through.
		v.say(journal(alerttest.Fire("fence", time.Now())))
		for {
			h := s.next(v.t)
			s.seen = append(s.seen, h)
			if h.boards() == "firing fence" {
				return
			}
		}
	}
	run := func(name string, want string, steps func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim) {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, nil)
			dir, journal := setUp(t, s.URL)
			settle(steps(t, s, dir, journal), s, journal)
			got := map[string]map[string]bool{}
			for _, h := range s.seen {
				if h.boards() == "firing fence" {
					continue
				}
				if got[h.boards()] == nil {
					got[h.boards()] = map[string]bool{}
				}
				got[h.boards()][h.id] = true
			}
			text := ""
			for _, k := range []string{"firing b1", "resolved b1"} {
				text += fmt.Sprintf("%s ×%d; ", k, len(got[k]))
			}
			if text != want {
				t.Errorf("got %swant %s", text, want)
			}
		})
	}
	const firing, both = "firing b1 ×1; resolved b1 ×0; ", "firing b1 ×1; resolved b1 ×1; "
	take := func(t *testing.T, s *sink) { s.seen = append(s.seen, s.next(t)) }

	run("journalled, not delivered", firing, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		v := startVictim(t, dir)
		journal(f)
		v.kill()
		v = startVictim(t, dir)
		take(t, s)
		return v
	})
	run("crossed and back, not delivered", both, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		startVictim(t, dir).kill()
		journal(f)
		journal(r)
		v := startVictim(t, dir)
		take(t, s)
		take(t, s)
		return v
	})
	run("delivered, killed at once", firing, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		v := startVictim(t, dir)
		v.say(journal(f))
		v.kill()
		v = startVictim(t, dir)
		take(t, s)
		return v
	})
	run("request received, not recorded", firing, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		held := make(chan struct{})
		s.answerWith(func(int, http.ResponseWriter, *http.Request) { <-held })
		v := startVictim(t, dir)
		v.say(journal(f))
		take(t, s)
		v.kill()
		s.answerWith(nil)
		close(held)
		v = startVictim(t, dir)
		take(t, s)
		return v
	})
	run("provider down, killed, up again", firing, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		s.answerWith(func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		v := startVictim(t, dir)
		v.say(journal(f))
		take(t, s)
		v.kill()
		s.answerWith(nil)
		v = startVictim(t, dir)
		take(t, s)
		return v
	})
	run("paged, killed, resolved while away", both, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		v := startVictim(t, dir)
		v.say(journal(f))
		take(t, s)
		v.kill()
		journal(r)
		v = startVictim(t, dir)
		for s.seen[len(s.seen)-1].boards() != "resolved b1" {
			take(t, s)
		}
		return v
	})
	run("all over, killed, replayed twice", both, func(t *testing.T, s *sink, dir string, journal func(alert.Transition) string) *victim {
		v := startVictim(t, dir)
		v.say(journal(f))
		take(t, s)
		v.say(journal(r))
		take(t, s)
		v.kill()
		startVictim(t, dir).kill()
		return startVictim(t, dir)
	})
}

// TestKillAtRandom kills the pager at random moments while boards cross; afterwards every crossing has exactly one page.
func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	dir, journal := setUp(t, s.URL)
	const boards = 60
	v := startVictim(t, dir)
	for i := range boards {
		v.say(journal(alerttest.Fire(fmt.Sprintf("b%d", i), time.Now())))
		if i%10 == i/10 { // six times, with different amounts on the way
			v.kill()
			v = startVictim(t, dir)
		}
	}
	got := map[string]map[string]bool{}
	for len(got) < boards {
		h := s.next(t)
		if got[h.boards()] == nil {
			got[h.boards()] = map[string]bool{}
		}
		got[h.boards()][h.id] = true
	}
	for boards, ids := range got {
		if len(ids) != 1 {
			t.Errorf("%s has %d pages", boards, len(ids))
		}
	}
}

// TestKillBarrier: after a barrier the journal may be truncated, whatever still waits for its page.
func TestKillBarrier(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	dir, _ := setUp(t, s.URL)
	config := strings.Replace(string(oneSink(s.URL, "")), "group_wait: 0s", "group_wait: 1h", 1)
	if err := os.WriteFile(filepath.Join(dir, "alertmanager.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	v := startVictim(t, dir)
	f := alerttest.Fire("b1", time.Now())
	for _, tr := range []alert.Transition{f, alerttest.Resolve(f, time.Now())} {
		b, _ := json.Marshal(tr)
		v.say(string(b)) // in no journal
	}
	v.say("barrier")
	v.kill()
	if err := os.WriteFile(filepath.Join(dir, "alertmanager.yml"), oneSink(s.URL, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	startVictim(t, dir)
	for _, want := range []string{"firing b1", "resolved b1"} {
		if h := s.next(t); h.boards() != want {
			t.Errorf("got %s, want %s", h.boards(), want)
		}
	}
}

// TestKillBarrierWhileHeld: a barrier also keeps what still waits for its peers: killed then, with nothing in the journal,
// a crossing of one board that is over already is one page and one resolve.
func TestKillBarrierWhileHeld(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	dir, _ := setUp(t, s.URL)
	v := startVictim(t, dir)
	f := alerttest.Fire("r1-a-01", time.Now())
	f.Labels["rack"], f.Labels["switch"] = "r1", "r1-a"
	for _, tr := range []alert.Transition{f, alerttest.Resolve(f, time.Now().Add(time.Millisecond))} {
		b, _ := json.Marshal(tr)
		v.say(string(b)) // in no journal
	}
	v.say("barrier")
	v.kill()
	s.none(t, "before its peers had their time")
	v = startVictim(t, dir)
	got := map[string]bool{} // a page that left, and whose answer the kill cut off, leaves again under its id
	for _, want := range []string{"firing r1-a-01", "resolved r1-a-01"} {
		h := s.next(t)
		if got[h.id] = true; h.boards() != want {
			t.Errorf("got %s, want %s", h.boards(), want)
		}
	}
	v.say("barrier")
	v.kill()
	v = startVictim(t, dir)
	text, _ := json.Marshal(alerttest.Fire("fence", time.Now()))
	v.say(string(text))
	h := s.next(t)
	for got[h.id] {
		h = s.next(t)
	}
	if h.boards() != "firing fence" {
		t.Errorf("a second time: %s", h.boards())
	}
}

// TestKillSilence: a silence that the API confirmed survives.
func TestKillSilence(t *testing.T) {
	s := newSink(t, nil)
	dir, _ := setUp(t, s.URL)
	v := startVictim(t, dir)
	now := time.Now().UTC()
	resp, err := http.Post(v.url+"/api/v2/silences", "application/json", strings.NewReader(fmt.Sprintf(
		`{"matchers":[{"name":"board","value":"b1","isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"ada","comment":"c"}`,
		now.Format(time.RFC3339Nano), now.Add(time.Hour).Format(time.RFC3339Nano))))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	v.kill()
	v = startVictim(t, dir)
	for _, b := range []string{"b1", "b2"} {
		text, _ := json.Marshal(alerttest.Fire(b, time.Now()))
		v.say(string(text))
	}
	if h := s.next(t); h.boards() != "firing b2" {
		t.Errorf("got %s", h.boards())
	}
	s.none(t, "silenced")
	http.DefaultClient.CloseIdleConnections()
}

// killRounds is how many switches fail in TestKillDomain.
const killRounds = 12

// TestKillDomain kills the pager, in one life or, with BRAMBLE_ENDURANCE=1, in six, at random moments while switches fail one after the other and come back: each of them is
// one page and one resolve, told by their ids, and none of their boards pages, under a configuration that would page each. A
// board may page before its switch where the machine was so busy that the others came after Domains had waited for them.
func TestKillDomain(t *testing.T) {
	t.Parallel()
	const lives = 6
	for life := range lives {
		t.Run(fmt.Sprintf("life %d", life+1), func(t *testing.T) {
			if life > 0 {
				endurance(t)
			}
			t.Parallel()
			killDomains(t, killRounds/lives*life, killRounds/lives*(life+1))
		})
	}
}

// killDomains lets the switches from and to fail and come back in one life.
func killDomains(t *testing.T, from, to int) {
	s := newSink(t, nil)
	dir, journal := setUp(t, s.URL)
	if err := os.WriteFile(filepath.Join(dir, "alertmanager.yml"), theirs(s.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	places := killPlaces()
	for _, p := range places {
		delete(p.Labels, "customer") // a board alone would page
	}
	v := startVictim(t, dir)
	ids := map[string]map[string]bool{}
	take := func(until string) {
		for len(ids[until]) == 0 {
			h := s.next(t)
			if ids[h.said()] == nil {
				ids[h.said()] = map[string]bool{}
			}
			ids[h.said()][h.id] = true
		}
	}
	var killed time.Time // first in a round: whoever starts after it finds all of the round's boards in the journal
	mayKill := func() {
		if rand.IntN(3) == 0 {
			v.kill()
			if killed.IsZero() {
				killed = time.Now()
			}
			v = startVictim(t, dir)
		}
	}
	late := map[string]bool{}
	for i := from; i < to; i++ {
		rack := fmt.Sprintf("r%d-", i+1)
		var lines []string
		var gone []alert.Transition
		for _, b := range alerttest.BoardsIn(places, rack) {
			gone = append(gone, alerttest.Silent(places, b, time.Now()))
			lines = append(lines, journal(gone[len(gone)-1]))
		}
		killed = time.Time{}
		mayKill()
		first := time.Now()
		for _, l := range lines {
			v.say(l) // a second time, where the journal was replayed
			mayKill()
		}
		if killed.IsZero() {
			killed = time.Now()
		}
		if apart := killed.Sub(first); apart >= domain.SettleFor {
			t.Logf("the boards of %s were told over %v: each may page for itself", rack, apart)
			late[rack] = true
		}
		select { // the half second in which they wait for each other, and the page after it
		case <-time.After(time.Duration(rand.IntN(700)) * time.Millisecond):
		case <-t.Context().Done():
		}
		mayKill()
		take("firing BoardSilent switch " + rack + "a")
		mayKill()
		lines = lines[:0]
		for _, g := range gone {
			lines = append(lines, journal(alerttest.Resolve(g, time.Now())))
		}
		for _, l := range lines {
			mayKill()
			v.say(l)
		}
		mayKill()
		take("resolved BoardSilent switch " + rack + "a")
	}
	v.say(journal(alerttest.Fire("fence", time.Now())))
	take("firing SocHot fence")
	for said, of := range ids {
		if len(of) != 1 {
			t.Errorf("%s: %d pages", said, len(of))
		}
		if who, _, alone := strings.Cut(said, "a-0"); alone && late[who[strings.LastIndex(who, " ")+1:]] {
			delete(ids, said)
		} else if alone {
			t.Errorf("a board paged: %s", said)
		}
	}
	if want := 2*(to-from) + 1; len(ids) != want {
		t.Errorf("%d kinds of pages, want %d: %v", len(ids), want, ids)
	}
}
