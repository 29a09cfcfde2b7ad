package sensor

import (
	"context"
	"fmt"
)

// Sensor samples a board and publishes its readings.
type Sensor struct {
	core *core
	link *natsLink
}

// New checks the options and prepares a sensor. It opens nothing.
func New(o Options) (*Sensor, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	f := &sampler{rhythm: newRhythm(o.Board, o.Interval, o.Uptime()), sources: o.Sources}
	return build(o, f)
}

func build(o Options, f feed) (*Sensor, error) {
	l, err := newLink(&o)
	if err != nil {
		return nil, err
	}
	return &Sensor{core: newCore(&o, f), link: l}, nil
}

// Run samples and publishes until ctx ends. A collector that is away, or
// refuses the board, is waited for. A clean stop waits at most 2 s for the last
// acknowledgements and says goodbye. Run may be called once.
func (s *Sensor) Run(ctx context.Context) error {
	_, err := s.run(ctx)
	return err
}

func (s *Sensor) run(ctx context.Context) (delivered bool, err error) {
	if err := s.link.open(); err != nil {
		return false, err
	}
	delivered = s.core.run(ctx, s.link, s.link.messages, s.link.changed)
	if err := s.link.Close(); err != nil {
		return delivered, fmt.Errorf("stop sensor: %w", err)
	}
	return delivered, nil
}
