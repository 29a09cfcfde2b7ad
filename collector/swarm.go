package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"

	"bramble/collector/rack"
	"bramble/pisensor/identity"
	"bramble/pisensor/report"
)

// enrolAtOnce is how many simulated boards enrol at the same time.
const enrolAtOnce = 32

type swarmFlags struct {
	Boards    int           `help:"How many simulated boards." required:"" placeholder:"N"`
	NATS      string        `name:"nats" help:"URL of the collector's NATS, such as nats://127.0.0.1:4222." required:"" placeholder:"URL"`
	Token     string        `help:"A rack's enrolment token for that many boards, as 'collector board token' prints it." placeholder:"T"`
	TokenFile string        `help:"A file that holds the token." placeholder:"FILE"`
	StateDir  string        `help:"Keep the boards' keys here, so that the same boards come back." placeholder:"DIR"`
	Interval  time.Duration `help:"Time between two readings of a board." default:"10s"`
}

func (f *swarmFlags) check() error {
	switch {
	case f.Boards < 1 || f.Boards > 100_000:
		return fmt.Errorf("--boards %d: want 1 to 100000", f.Boards)
	case f.Token != "" && f.TokenFile != "":
		return errors.New("--token and --token-file: give one of them")
	}
	return nil
}

func runSwarm(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f swarmFlags
	if help, err := parse("swarm", "Runs simulated boards against a collector.", &f, args, stdout, stderr); help || err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.StateDir == "" {
		if f.StateDir, err = os.MkdirTemp("", "bramble-swarm-"); err != nil {
			return fmt.Errorf("make a temporary directory for keys: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(f.StateDir)) }()
	}
	placements, identities, err := f.enrol(ctx, rack.Plan(f.Boards, demoSeed))
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready", f.NATS)
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return rack.New(rack.Options{Placements: placements, Interval: f.Interval, Log: log}).Run(ctx, identities)
}

// enrol gives every simulated board its identity as `pisensor enrol` does, each
// in its own part of the state directory. The collector may know a board under
// another name than it asked for; it then goes by that.
func (f *swarmFlags) enrol(ctx context.Context, placements []rack.Placement) ([]rack.Placement, map[string]rack.Identity, error) {
	identities := make(map[string]rack.Identity, len(placements))
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(enrolAtOnce)
	for i := range placements {
		all.Go(func() error {
			p := &placements[i]
			e, key, err := f.identity(ctx, filepath.Join(f.StateDir, p.Board))
			if err != nil {
				return fmt.Errorf("simulated board %s: %w", p.Board, err)
			}
			p.Board = e.Board
			mu.Lock()
			defer mu.Unlock()
			identities[p.Board] = rack.Identity{URL: f.NATS, Pin: e.Pin, Key: key}
			return nil
		})
	}
	return placements, identities, all.Wait()
}

// identity is a simulated board's, enrolled if it is not yet.
func (f *swarmFlags) identity(ctx context.Context, dir string) (identity.Enrolment, nkeys.KeyPair, error) {
	e, key, err := identity.Load(dir)
	if !errors.Is(err, identity.ErrNotEnrolled) {
		return e, key, err
	}
	if err := f.enrolOne(ctx, dir); err != nil {
		return e, nil, err
	}
	return identity.Load(dir)
}

// enrolOne wishes for no name: the collector numbers the boards of the token's
// rack, so that several swarms go together.
func (f *swarmFlags) enrolOne(ctx context.Context, dir string) error {
	text, err := f.token()
	if err != nil {
		return err
	}
	token, err := report.ParseToken(text)
	if err != nil {
		return err
	}
	_, err = identity.Enrol(ctx, dir, f.NATS, token, "")
	return err
}

func (f *swarmFlags) token() (string, error) {
	switch {
	case f.TokenFile != "":
		b, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	case f.Token != "":
		return f.Token, nil
	}
	return "", errors.New("not enrolled yet: give --token or --token-file, as `collector board token --rack R --count N` prints it")
}
