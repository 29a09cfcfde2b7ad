// Pisensor reads a board's SoC temperature, clocks and throttle state and
// publishes them to a Bramble collector.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

const usage = `usage: pisensor COMMAND [flags]

  run                    sample this board and publish until stopped
  enrol URL [TOKEN]      make this board's key and register it with a collector
  once                   print one reading and exit
  replay FILE.csv        send a recording in place of this board's readings
  version                print the version

Each command explains its flags with -h.
`

// memoryLimit is where the garbage collector begins, in bytes of all that the runtime has taken.
// Left to its usual pace it would run every two minutes; the daemon needs it about once an hour
// (shed). The limit is far above the live memory, 2.5 MB beside the spool's 1 MiB, so that it is a
// bound and not a pace.
const memoryLimit = 6 << 20

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) > 1 && os.Args[1] == "run" { // the others are short, or hold a recording
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

// exitCode prints the error on one line and returns the shell's exit code: 2 for a wrong command
// line, 1 for every other error.
func exitCode(err error, stderr io.Writer) int {
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "pisensor: %v\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "pisensor: %v\n", err)
		return 1
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return usageError{errors.New("no command given")}
	}
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"run": runSensor, "enrol": enrol, "once": once, "replay": replay, "version": version,
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return nil
	}
	command := commands[args[0]]
	if command == nil {
		fmt.Fprint(stderr, usage)
		return usageError{fmt.Errorf("unknown command %q", args[0])}
	}
	return command(ctx, args[1:], stdout, stderr)
}
