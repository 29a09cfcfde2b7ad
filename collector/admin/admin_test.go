package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"bramble/collector/broker"
	"bramble/collector/registry"
	"bramble/pisensor/report"
)

// serveEnv makes the test binary a collector's control side on this directory.
const serveEnv = "BRAMBLE_ADMIN_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		fmt.Fprintln(os.Stderr, serveForever(dir))
		os.Exit(1)
	}
	// The store and the broker that are linked in keep goroutines of their own from the start.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/pse.periodic"))
}

func serveForever(dir string) error {
	if _, err := Lock(dir); err != nil {
		return err
	}
	runtime.GC() // the lock must not hang on anything that can be collected
	s, _, err := state(dir)
	if err != nil {
		return err
	}
	return Serve(context.Background(), filepath.Join(dir, SocketName), s)
}

// state opens a data directory as the collector's offline commands do.
func state(dir string) (State, func(), error) {
	db, err := registry.OpenDB(filepath.Join(dir, "state.db"))
	if err != nil {
		return State{}, nil, err
	}
	r, err := registry.Open(context.Background(), db)
	if err != nil {
		return State{}, nil, errors.Join(err, db.Close())
	}
	pin, err := broker.PinOf(dir)
	if err != nil {
		return State{}, nil, errors.Join(err, db.Close())
	}
	return State{Registry: r, Pin: pin}, func() { db.Close() }, nil
}

// online serves dir's commands until the returned stop is called.
func online(t *testing.T, dir string) (stop func()) {
	t.Helper()
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, done, err := state(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, filepath.Join(dir, SocketName), s) }()
	return func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		done()
		if err := release(); err != nil {
			t.Error(err)
		}
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !ok(); { // ends a hang; claims nothing
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// answers reports whether a collector answers on dir's socket.
func answers(dir string) bool {
	c, err := net.Dial("unix", filepath.Join(dir, SocketName))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// run dispatches one command line.
func run(t *testing.T, dir, line, stdin string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = Dispatch(t.Context(), dir, strings.Fields(line), strings.NewReader(stdin), &out, &errs,
		func() (State, func(), error) { return state(dir) })
	return out.String(), errs.String(), err
}

// TestBoardListOfARunningCollector says of each board whether it reports, and distinguishes a sensor that was stopped from
// one that has never reported.
func TestBoardListOfARunningCollector(t *testing.T) {
	s, closeState, err := state(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer closeState()
	s.Report = func(board string) (string, time.Time) {
		if board == "b1" {
			return "stopped", time.Date(2026, 11, 24, 22, 56, 59, 0, time.UTC)
		}
		return "", time.Time{}
	}
	var out, errs bytes.Buffer
	for _, line := range []string{"board add b1", "board add b2"} {
		if err := Run(t.Context(), strings.Fields(line), strings.NewReader(""), &out, &errs, s); err != nil {
			t.Fatal(err)
		}
	}
	out.Reset()
	if err := Run(t.Context(), []string{"board", "list"}, strings.NewReader(""), &out, &errs, s); err != nil {
		t.Fatal(err)
	}
	want := "NAME  LABELS  ENROLLED  KEY CHANGED  STATE    LAST REPORT\nb1    -       -         -            stopped  2026-11-24 22:56:59 UTC\nb2    -       -         -            -        -\n"
	if out.String() != want {
		t.Errorf("board list:\n%s\nwant\n%s", out.String(), want)
	}
}

// Tokens, ids and times differ from run to run.
var varying = regexp.MustCompile(`brm1\.\S+|bra1\.\S+|\b[0-9a-f]{8}\b|\d{4}-\d\d-\d\d \d\d:\d\d UTC`)

func mask(s string) string {
	return varying.ReplaceAllStringFunc(s, func(s string) string {
		switch {
		case strings.HasPrefix(s, "br"):
			return s[:5] + "…"
		case len(s) == 8:
			return "ID"
		}
		return "TIME"
	})
}

// session lists an operator's commands with their stdout and error, the same whether a collector runs or not. stderr is
// only compared between both.
var session = []struct{ line, stdin, stdout, err string }{
	{line: "board list", stdout: "NAME  LABELS  ENROLLED  KEY CHANGED\n"},
	{line: "board add b1 --label rack=r1 --label note=a,b", stdout: "brm1.…\n"},
	{line: "board add b2", stdout: "brm1.…\n"},
	{line: "board add b1", err: "board b1 exists already: `collector board token b1` makes a new token for it, `collector board label b1 …` changes its labels"},
	{line: "board add b3 --label board=x", err: `label name "board" is kept for the collector's own labels: choose another, such as my_board`},
	{line: "board add b3 --label rack", err: `label "rack": write it as NAME=VALUE, such as rack=r1`},
	{line: "board token b1", stdout: "brm1.…\n"},
	{line: "board token --rack r9 --count 3 --label site=ams", stdout: "brm1.…\n"},
	{line: "board token --rack r9 --names r9-a-01..48 --label site=ams", stdout: "brm1.…\n"},
	{line: "board token --rack r9 --names r9-a-01..48 --count 2", err: "board token: --count and --names: give one of them; the names say how many they are"},
	{line: "board token --names b1", err: "board token: name either a board, or a rack with --rack RACK --count N"},
	{line: "board token b1 --names b1", err: "board token: --label, --count and --names go with --rack only: `collector board label b1 …` changes the board's labels"},
	{line: "board token", err: "board token: name either a board, or a rack with --rack RACK --count N"},
	{line: "board token ghost", err: "board ghost: not found: `collector board list` shows the names"},
	{line: "board label b1 note= site=fra"},
	{line: "board move b2 --rack r2 --switch s2"},
	{line: "board revoke b2"},
	{line: "board retire b2"},
	{line: "board list", stdout: "NAME  LABELS             ENROLLED  KEY CHANGED\nb1    rack=r1 site=fra   -         -\nb2    rack=r2 switch=s2  retired   TIME\n"},
	{line: "user add kim --role admin", stdin: "long enough\n"},
	{line: "user add lee --role importer", stdin: "long enough\n", err: "role \"importer\" is for programs: `collector token create --role importer`"},
	{line: "user add lee", stdin: "", err: "read password: none on stdin: type it when asked, or pipe it in as one line"},
	{line: "user passwd kim", stdin: "another one"},
	{line: "user list", stdout: "NAME  ROLE   CREATED\nkim   admin  TIME\n"},
	{line: "user remove kim"},
	{line: "user remove kim", err: "user \"kim\": not found: `collector user list` shows the names"},
	{line: "token create --role viewer --name grafana", stdout: "bra1.…\n"},
	{line: "token create --role king", err: `role "king": use heartbeat, importer, viewer, operator or admin`},
	{line: "token list", stdout: "ID        NAME     ROLE    CREATED\nID  grafana  viewer  TIME\n"},
	{line: "token revoke nope", err: "api token \"nope\": not found: `collector token list` shows the ids"},
	{line: "board fly b1", err: "unexpected argument fly: `collector board|user|token|customer|backup|maintenance --help` shows how to write it"},
}

func TestCommandsDoTheSameOnlineAndOffline(t *testing.T) {
	transcript := func(dir string) (lines []string) {
		for _, s := range session {
			stdout, stderr, err := run(t, dir, s.line, s.stdin)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if d := cmp.Diff(s.stdout, mask(stdout)); d != "" {
				t.Errorf("%s: stdout (-want +got):\n%s", s.line, d)
			}
			if text != s.err {
				t.Errorf("%s: error %q, want %q", s.line, text, s.err)
			}
			lines = append(lines, s.line, mask(stdout), mask(stderr), text)
		}
		return lines
	}
	offline := transcript(t.TempDir())
	dir := t.TempDir()
	stop := online(t, dir)
	waitFor(t, "socket", func() bool { return answers(dir) })
	overSocket := transcript(dir)
	stop()
	if d := cmp.Diff(offline, overSocket); d != "" {
		t.Errorf("online differs (-offline +online):\n%s", d)
	}
	if _, err := os.Stat(filepath.Join(dir, SocketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestPrintedTokenEnrols(t *testing.T) {
	dir := t.TempDir()
	stdout, _, err := run(t, dir, "board token --rack r1 --count 2", "")
	if err != nil {
		t.Fatal(err)
	}
	token, err := report.ParseToken(stdout)
	if err != nil {
		t.Fatal(err)
	}
	s, done, err := state(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if id, ok := s.Registry.TokenID(token.Credentials()); !ok || id != token.ID || token.Pin != s.Pin {
		t.Errorf("token %s: id %q, known %v, pin %q", token.ID, id, ok, token.Pin)
	}
}

func TestHooksAreCalledWhileTheCollectorRuns(t *testing.T) {
	s, done, err := state(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var calls []string
	s.Disconnect = func(board string) {
		b, _ := s.Registry.Board(board)
		calls = append(calls, fmt.Sprintf("disconnect %s key %q", board, b.Key))
	}
	s.Relabel = func(_ context.Context, board string, labels map[string]string) error {
		calls = append(calls, fmt.Sprintf("relabel %s %v", board, labels))
		return nil
	}
	s.Actor = "local kim"
	for _, line := range []string{"board add b1", "board label b1 a=b", "board move b1 --rack r2", "board revoke b1", "board retire b1", "board revoke ghost"} {
		_ = Run(t.Context(), strings.Fields(line), strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}, s)
	}
	want := []string{"relabel b1 map[a:b]", "relabel b1 map[rack:r2 switch:]", `disconnect b1 key ""`, `disconnect b1 key ""`}
	if d := cmp.Diff(want, calls); d != "" {
		t.Errorf("hooks (-want +got):\n%s", d)
	}
	events, err := s.Registry.Events(t.Context(), 100)
	if err != nil || len(events) != 4 {
		t.Fatalf("events %v, %v", events, err)
	}
	for _, e := range events {
		if e.Actor != "local kim" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestOfflineRelabelBeginsAheadOfEveryReading(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{"board add b1 --label rack=r1", "board label b1 rack=r2"} {
		if _, _, err := run(t, dir, line, ""); err != nil {
			t.Fatal(err)
		}
	}
	s, done, err := state(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	b, _ := s.Registry.Board("b1")
	if ahead := time.Until(time.UnixMilli(b.Versions[1].From)); ahead < 0 || ahead > offlineLead {
		t.Errorf("new labels begin %v from now", ahead)
	}
}

// A killed collector leaves its socket and its lock file behind.
func TestKilledCollectorIsNotInTheWay(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), serveEnv+"="+dir)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "collector", func() bool { return answers(dir) })
		if _, _, err := run(t, dir, fmt.Sprintf("board add on%d", round), ""); err != nil {
			t.Errorf("while it runs: %v", err)
		}
		if info, err := os.Stat(filepath.Join(dir, SocketName)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info.Mode(), err)
		}
		if _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", c.Process.Pid)) {
			t.Errorf("lock while it runs: %v", err)
		}
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed
		if _, err := os.Stat(filepath.Join(dir, SocketName)); err != nil {
			t.Fatalf("no socket is left, so this tests nothing: %v", err)
		}
		if _, _, err := run(t, dir, fmt.Sprintf("board add off%d", round), ""); err != nil {
			t.Errorf("after it was killed: %v", err)
		}
	}
	stdout, _, err := run(t, dir, "board list", "")
	for _, name := range []string{"on0", "off0", "on1", "off1"} {
		if err != nil || !strings.Contains(stdout, name) {
			t.Errorf("%s is missing: %v\n%s", name, err, stdout)
		}
	}
}

// A collector that starts holds the lock before it answers.
func TestCommandWaitsForACollectorThatStarts(t *testing.T) {
	dir := t.TempDir()
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := run(t, dir, "board add b1", "")
		done <- err
	}()
	s, closeState, err := state(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeState()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, filepath.Join(dir, SocketName), s) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, ok := s.Registry.Board("b1"); !ok {
		t.Error("the command did not run in the collector")
	}
	cancel()
	if err := errors.Join(<-served, release()); err != nil {
		t.Error(err)
	}
}

func TestLongPathsHaveASocketToo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
	stop := online(t, dir)
	defer stop()
	waitFor(t, "socket", func() bool {
		_, err := os.Stat(filepath.Join(dir, SocketName))
		return err == nil
	})
	if _, _, err := run(t, dir, "board add b1", ""); err != nil {
		t.Error(err)
	}
}

func TestHelpNeedsNoCollector(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	stdout, _, err := run(t, dir, "board add --help", "")
	if err != nil || !strings.Contains(stdout, "--label") {
		t.Errorf("help is %q, %v", stdout, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("asking for help made a data directory")
	}
}

func TestDataDir(t *testing.T) {
	f := func(line, dir, rest string) {
		t.Helper()
		got, args, err := DataDir(strings.Fields(line), "data")
		if err != nil {
			got = err.Error()
		}
		if got != dir || strings.Join(args, " ") != rest {
			t.Errorf("%s: %q and %q", line, got, args)
		}
	}
	f("board list", "data", "board list")
	f("board --data-dir /d list", "/d", "board list")
	f("board list --data-dir=/d", "/d", "board list")
	f("board list -- --data-dir x", "data", "board list -- --data-dir x")
	f("board list --data-dir", "--data-dir: name the directory behind it", "")
	f("board list --data-dir=", "--data-dir: the directory is empty: name one", "")
}
