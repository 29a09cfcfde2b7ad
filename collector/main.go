// Collector is the server of Bramble: it takes the boards' reports, stores the
// series, pages the person on call, and shows live graphs to browsers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"bramble/collector/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// execute runs one command, says in one line why it failed, and returns the exit status.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := run(ctx, args, stdin, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "collector:", config.OneLine(err))
	if errors.Is(err, errDamaged) {
		return exitDamaged
	}
	return 1
}

const usage = `Bramble watches racks of Raspberry Pi boards.

  collector demo      the whole chain with simulated boards, on this machine
  collector serve     the real thing
  collector swarm     simulated boards against a running collector

  collector board     add | list | token | label | move | revoke | retire
  collector user      add | list | passwd | remove
  collector token     create | list | revoke     API tokens
  collector customer  list | allow
  collector backup    create | list | verify | restore
  collector rules     check | test | rehearse FILE...
  collector maintenance start | list | end
  collector check     config FILE | mail | state
  collector version

Each of them explains itself with --help.
`

// errUsage stands for a command line that could not be understood.
var errUsage = errors.New("see `collector help`")

// run executes one command. It returns nil after a clean stop.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("no command: %w", errUsage)
	}
	switch args[0] {
	case "demo":
		return runDemo(ctx, args[1:], stdout, stderr)
	case "serve":
		return runServe(ctx, args[1:], stdout, stderr)
	case "swarm":
		return runSwarm(ctx, args[1:], stdout, stderr)
	case "board", "user", "token", "customer", "maintenance":
		return runAdmin(ctx, args, stdin, stdout, stderr)
	case "backup":
		return runBackup(ctx, args, stdin, stdout, stderr)
	case checkBackup:
		return runCheckBackup(ctx, args[1:], stdin, stderr)
	case "rules":
		return runRules(ctx, args[1:], stdout, stderr)
	case "check":
		return runCheck(ctx, args[1:], stdout, stderr)
	case "version":
		return runVersion(args[1:], stdout, stderr)
	case "--version":
		return runVersion(nil, stdout, stderr)
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return nil
	}
	return fmt.Errorf("unknown command %q: %w", args[0], errUsage)
}

func runVersion(args []string, stdout, stderr io.Writer) error {
	var none struct{}
	if help, err := parse("version", "Prints the version.", &none, args, stdout, stderr); help || err != nil {
		return err
	}
	fmt.Fprintln(stdout, "collector", version())
	return nil
}

// release is set by the release build with -ldflags -X.
var release string

// version is the release, else the module's version or the commit that it was
// built from.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" })
	if v := strings.TrimPrefix(info.Main.Version, "v"); v != "" && v != "(devel)" {
		return v
	}
	if i >= 0 {
		return "commit " + info.Settings[i].Value[:min(12, len(info.Settings[i].Value))]
	}
	return "development"
}

// parse reads flags into grammar. help is true when the person asked for help
// and got it.
func parse(name, description string, grammar any, args []string, stdout, stderr io.Writer) (help bool, err error) {
	k, err := parseCommand(name, description, grammar, args, stdout, stderr)
	return k == nil && err == nil, err
}

// parseCommand is parse for a grammar with commands: it returns which was
// typed, nil when the person asked for help and got it.
func parseCommand(name, description string, grammar any, args []string, stdout, stderr io.Writer) (*kong.Context, error) {
	help := false
	p, err := kong.New(grammar, kong.Name("collector "+name), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { help = true }))
	if err != nil {
		return nil, err
	}
	k, err := p.Parse(args)
	if help {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; see `collector %s --help`", err, name)
	}
	return k, nil
}
