package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this program test backups as the collector does: in a process of its own, by starting itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == checkBackup {
		main()
	}
	os.Exit(m.Run())
}

// TestScripts runs the command lines of testdata, one after the other in this process, each in its script's directory.
// "collector COMMAND…" runs a command; "oneline collector COMMAND…" one that writes one line to stderr and nothing to
// stdout, and "serve FILE" is that for a config file.
func TestScripts(t *testing.T) {
	testscript.RunT(serial{t}, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"collector": func(ts *testscript.TestScript, neg bool, args []string) {
				stdout, stderr := runIn(t.Context(), ts, neg, args)
				_, _ = ts.Stdout().Write(stdout)
				_, _ = ts.Stderr().Write(stderr)
			},
			"oneline": func(ts *testscript.TestScript, neg bool, args []string) { runOneLine(t.Context(), ts, neg, args[1:]) },
			"serve": func(ts *testscript.TestScript, neg bool, args []string) {
				runOneLine(t.Context(), ts, neg, []string{"serve", "--data-dir", "d", "--config", args[0]})
			},
		},
	})
}

// serial runs scripts one after the other: they share the working directory.
type serial struct{ *testing.T }

func (serial) Parallel() {}

func (serial) Verbose() bool { return testing.Verbose() }

func (t serial) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// runIn runs a command in the script's directory. It fails the script where the command ends otherwise than wanted.
func runIn(ctx context.Context, ts *testscript.TestScript, fails bool, args []string) (stdout, stderr []byte) {
	was, err := os.Getwd()
	ts.Check(err)
	ts.Check(os.Chdir(ts.MkAbs(".")))
	var out, errs bytes.Buffer
	status := execute(ctx, args, strings.NewReader(""), &out, &errs)
	ts.Check(os.Chdir(was))
	if !slices.Contains([]int{0, 1}, status) || (status != 0) != fails {
		ts.Fatalf("collector %q: exit %d\n%s", args, status, &errs)
	}
	return out.Bytes(), errs.Bytes()
}

func runOneLine(ctx context.Context, ts *testscript.TestScript, fails bool, args []string) {
	stdout, stderr := runIn(ctx, ts, fails, args)
	if len(stdout) > 0 || bytes.Count(stderr, []byte("\n")) != 1 {
		ts.Fatalf("collector %q: stdout %q, stderr is not one line: %q", args, stdout, stderr)
	}
	_, _ = ts.Stderr().Write(stderr)
}
