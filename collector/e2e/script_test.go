package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs pisensor's command lines of testdata; those of the collector are in its own package. They know one command
// more: "oneline COMMAND…" runs a command that writes one line to stderr and nothing to stdout.
func TestScripts(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(program(t, "pisensor"))
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			return os.WriteFile(filepath.Join(e.WorkDir, "binary.csv"), []byte("\x7fELF\x02\x01\x00\x00\xff\n\x00\x01"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"oneline": oneLineCommand,
		},
	})
}

func oneLineCommand(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	if (err == nil) == neg {
		ts.Fatalf("%v: %v", args, err)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout %q", out)
	}
	if errs := ts.ReadFile("stderr"); strings.Count(errs, "\n") != 1 {
		ts.Fatalf("stderr is not one line: %q", errs)
	}
}

// TestNoWordOfPressureStall runs a command where the kernel tells nothing of pressure stalls: in a mount namespace whose
// control group has a file of them that cannot be read. Each command would begin with a library's line about it.
func TestNoWordOfPressureStall(t *testing.T) {
	t.Parallel()
	script := `set -e
at=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)$(sed -n 's/^0:://p' /proc/self/cgroup)
echo some avg10=0.00 >"$1"
mount --bind "$1" "${at%/}/cpu.pressure"
exec "$2" version`
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script,
		"sh", filepath.Join(t.TempDir(), "pressure"), program(t, "collector"))
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && stdout.Len() == 0 {
		t.Skipf("no namespace with a control group of its own here: %v: %s", err, &stderr)
	}
	if stderr.String() != "" {
		t.Errorf("stderr of collector version: %s", &stderr)
	}
}

// TestTakenPlaces starts a second collector where there is one.
func TestTakenPlaces(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	free := "127.0.0.1:0"
	f := func(wanted []string, args ...string) {
		t.Helper()
		command(t, "", "collector", args...).refusal(t, wanted...)
	}
	f([]string{s.http, "--http"}, "serve", "--data-dir", t.TempDir(), "--http", s.http, "--nats", free)
	f([]string{s.nats, "--nats"}, "serve", "--data-dir", t.TempDir(), "--http", free, "--nats", s.nats)
	f([]string{s.dir, "--data-dir"}, "serve", "--data-dir", s.dir, "--http", free, "--nats", free)
	f([]string{s.http, "--http"}, "demo", "--http", s.http, "--nats", free)
	f([]string{s.nats, "--nats"}, "demo", "--http", free, "--nats", s.nats)
	f([]string{s.dir, "--data-dir"}, "demo", "--data-dir", s.dir, "--http", free, "--nats", free)
	f([]string{"nowhere"}, "serve", "--data-dir", t.TempDir(), "--http", "nowhere", "--nats", free)
	f([]string{"192.0.2.1", "--http"}, "serve", "--data-dir", t.TempDir(), "--http", net.JoinHostPort("192.0.2.1", "0"), "--nats", free)
	if _, err := s.get("api/boards"); err != nil {
		t.Errorf("the first collector was disturbed: %v", err)
	}
}
