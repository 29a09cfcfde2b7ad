package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"bramble/pisensor/sensor"
	"bramble/pisensor/source"
)

// defaultStateDir is where a package installs the daemon's state.
const defaultStateDir = "/var/lib/pisensor"

// config is everything that a command line can say.
type config struct {
	stateDir string
	roots    source.Roots
	interval time.Duration
	name     string
	speed    float64 // 0 = not given
}

// flags returns the flag set of a command, with the flags that all share.
func (c *config) flags(command, arguments string, stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: pisensor %s [flags]\n", command+arguments)
		f.PrintDefaults()
	}
	f.StringVar(&c.stateDir, "state-dir", defaultStateDir, "`directory` of this board's key and enrolment")
	f.StringVar(&c.roots.Sysfs, "sysfs-root", "/sys", "`directory` to read instead of /sys")
	f.StringVar(&c.roots.Procfs, "procfs-root", "/proc", "`directory` to read instead of /proc")
	f.StringVar(&c.roots.Devfs, "devfs-root", "/dev", "`directory` to read instead of /dev")
	return f
}

func (c *config) intervalFlag(f *flag.FlagSet) {
	c.interval = sensor.DefaultInterval
	f.Func("interval", fmt.Sprintf("`time` between two readings of a calm board, 1s to 60s (default %v)", sensor.DefaultInterval), func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < time.Second || d > sensor.MaxInterval {
			return fmt.Errorf("use 1s to 60s")
		}
		c.interval = d
		return nil
	})
}

// parse reads flags and want positional arguments, in any order.
func parse(f *flag.FlagSet, args []string, want int) ([]string, error) {
	found, err := positional(f, args)
	if err != nil {
		return nil, err
	}
	return found, counted(f, found, want)
}

// positional parses flags and returns the arguments between them.
func positional(f *flag.FlagSet, args []string) (found []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{fmt.Errorf("%s: %w", f.Name(), err)}
		}
		if f.NArg() == 0 {
			return found, nil
		}
		found = append(found, f.Arg(0))
		args = f.Args()[1:]
	}
}

func counted(f *flag.FlagSet, found []string, want int) error {
	if len(found) != want {
		f.Usage()
		return usageError{fmt.Errorf("%s: %d arguments given, want %d", f.Name(), len(found), want)}
	}
	return nil
}
