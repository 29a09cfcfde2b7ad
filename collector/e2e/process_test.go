package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file's kind start the programs that people start, as
// processes of their own: a killed one is really gone.

// patience ends a test that hangs. A machine that is busy with other tests may
// take a minute for a start that usually takes half a second.
const patience = 2 * time.Minute

// exitDamaged is the status that README and the service file name for damaged files.
const exitDamaged = 65

// enduranceEnv asks for the tests that take minutes: many kills, fleets, emulated boards.
const enduranceEnv = "BRAMBLE_ENDURANCE"

func enduring() bool { return os.Getenv(enduranceEnv) == "1" }

// endurance skips a test that takes minutes, unless the environment asks for it.
func endurance(t testing.TB) {
	t.Helper()
	if !enduring() {
		t.Skipf("endurance: set %s=1", enduranceEnv)
	}
}

// often is how many of something a test has: a few in a plain run, many in one for endurance.
func often(plain, endurance int) int {
	if enduring() {
		return endurance
	}
	return plain
}

// programs is where the binaries are built to, once for all tests.
var programs string

// builtPrograms names the directory where another run of the tests, which
// waits for this one, has built them.
const builtPrograms = "BRAMBLE_TEST_PROGRAMS"

func TestMain(m *testing.M) {
	setParallel()
	if programs = os.Getenv(builtPrograms); programs != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "bramble-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// setParallel lets more tests run at once than there are processors, where -parallel does not say otherwise: most of their
// time they wait.
func setParallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(max(12, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
}

var build = sync.OnceValue(func() error {
	if err := lookAtSources(); err != nil {
		return err
	}
	if os.Getenv(builtPrograms) != "" {
		return nil
	}
	for _, name := range []string{"collector", "pisensor"} {
		// Unlike go build, go run keeps its linked programs: the next run of the tests need not link it again.
		out, err := exec.Command("go", "run", "-exec", "cp -t '"+programs+"'", "bramble/"+name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
})

// lookAtSources reads the directories of all that the programs are built from. go test keeps the result of a package until a
// file or directory that its tests have opened changes, and does not see the files that a go build opens.
func lookAtSources() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		return err
	})
}

// program returns the path of a built binary.
func program(t testing.TB, name string) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programs, name)
}

// text is the output of a process so far.
type text struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed at the next write
}

func newText() *text { return &text{changed: make(chan struct{})} }

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.changed)
	x.changed = make(chan struct{})
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

func (x *text) next() (string, <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String(), x.changed
}

// process is a program that runs.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *text
	errs *text
	done chan struct{} // closed when it has ended
}

// launch starts a program. The test's end kills it.
func launch(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return spawn(t, append([]string{program(t, name)}, args...)...)
}

// spawn starts any program of this machine. The test's end kills it.
func spawn(t testing.TB, argv ...string) *process {
	t.Helper()
	p := prepare(argv...)
	p.begin(t)
	return p
}

// prepare returns a process that begin starts.
func prepare(argv ...string) *process {
	p := &process{name: strings.Join(argv, " "), out: newText(), errs: newText(), done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // where go test's time-out ends this process, no cleanup runs
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errs
	return p
}

func (p *process) begin(t testing.TB) {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the state tells
	}()
	t.Cleanup(p.kill)
}

// runs reports whether the process has been started and has not ended. A nil process has not been started.
func (p *process) runs() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process as a power cut would, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it errs where the process has ended
	<-p.done
}

// exit waits for the end of the process and returns its code.
func (p *process) exit(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		t.Fatalf("%s still runs after %v\n%s", p.name, within, p.errs)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop asks the process to end and returns its code.
func (p *process) stop(t testing.TB, within time.Duration) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	return p.exit(t, within)
}

// says waits until the text contains the wanted part, and returns the rest of
// its line.
func (p *process) says(t testing.TB, x *text, wanted string) string {
	t.Helper()
	line, err := p.heard(x, wanted, patience)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// heard is says with an error where the text does not come in time.
func (p *process) heard(x *text, wanted string, within time.Duration) (string, error) {
	deadline := time.After(within)
	for {
		s, changed := x.next()
		if _, after, ok := strings.Cut(s, wanted); ok {
			if line, _, whole := strings.Cut(after, "\n"); whole {
				return line, nil
			}
		}
		select {
		case <-changed:
		case <-p.done:
			if s := x.String(); !strings.Contains(s, wanted) {
				return "", fmt.Errorf("%s ended with %v and never said %q\n%s%s", p.name, p.cmd.ProcessState, wanted, p.out, p.errs)
			}
		case <-deadline:
			return "", fmt.Errorf("%s did not say %q in %v\n%s%s", p.name, wanted, within, p.out, p.errs)
		}
	}
}

// answer is the exit code and output of a command.
type answer struct {
	code      int
	out, errs string
}

// command runs a program to its end.
func command(t testing.TB, stdin, name string, args ...string) answer {
	t.Helper()
	return execute(t, stdin, append([]string{program(t, name)}, args...)...)
}

// execute runs any program of this machine to its end.
func execute(t testing.TB, stdin string, argv ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v: %v\n%s", argv, err, &errs)
	}
	return answer{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// refusal checks that a command ended with exit 1 and one line that contains the
// wanted parts.
func (a answer) refusal(t testing.TB, wanted ...string) {
	t.Helper()
	if a.code != 1 || a.out != "" || strings.Count(a.errs, "\n") != 1 {
		t.Errorf("exit %d, stdout %q, stderr %q; want exit 1 and one line", a.code, a.out, a.errs)
	}
	for _, w := range wanted {
		if !strings.Contains(a.errs, w) {
			t.Errorf("stderr %q does not say %q", a.errs, w)
		}
	}
}

// eventually polls until check has nothing to say, and reports the last word
// when it always has.
func eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v: %v", within, err)
		}
	}
}

// after waits, or ends the test when the test is over.
func after(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test ended while it waited")
	}
}
