// Package sensor is the daemon's loop: it samples a board's sources on an even
// rhythm, keeps the readings in a bounded spool in memory, and publishes them
// over NATS until the collector has acknowledged each one.
//
// It reads no hardware itself; sources come from rooms of their own
// (pisensor/soc, pisensor/sim) or from a recording. It never writes to disk
// and sets nothing process-wide, so that many sensors can run in one process.
package sensor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
	"bramble/pisensor/spool"
)

// Limits and defaults of a sensor.
const (
	// DefaultInterval is the time between two ticks of a board far from every line.
	DefaultInterval = 10 * time.Second
	// MinInterval is the shortest interval that a caller may ask for.
	MinInterval = 100 * time.Millisecond
	// MaxInterval is the longest: each report announces the next within 60 s.
	MaxInterval = time.Minute
	// DefaultSpoolBytes holds more than 24 h of 29 readings in 10 s.
	DefaultSpoolBytes = 1 << 20
)

// Source reads one thing of a board. Read adds the readings that it can take now to the tick, and
// none where it cannot; it must return within milliseconds. One goroutine calls it.
type Source interface {
	Read(*report.Tick)
}

// Options configure a sensor. Board, URL and Key are required; every other zero value has a meaning
// of its own.
type Options struct {
	Board string        // the name under which the collector knows it (report.ValidateBoard)
	URL   string        // nats://, tls://, ws:// or wss://
	Key   nkeys.KeyPair // the board's identity, an nkey of a user with its seed
	Pin   string        // report.Pin of the collector's CA; empty = none, for plain loopback

	// Sources are read in each tick. One that reads report.SensorCPU of its own
	// process also makes the sensor keep its budget.
	Sources []Source
	Wake    <-chan struct{} // an event of the hardware: sample at once; nil = none

	Uptime func() time.Duration // boot-relative clock that counts suspended time; nil = CLOCK_BOOTTIME
	Wall   func() time.Time     // system clock; nil = time.Now

	// Dial opens the connection to the collector; nil = over the network.
	Dial func(network, address string) (net.Conn, error)

	Interval   time.Duration // 0 = DefaultInterval
	SpoolBytes int           // 0 = DefaultSpoolBytes
	Spool      *spool.Spool  // of SpoolBytes; nil = one that ends with this process
	Kept       bool          // somebody keeps Spool for the next process
	OwnSeries  bool          // each tick also reports how full the spool is and how many readings it dropped

	Attributes func() []report.Attribute // the board's description; nil = none
	Log        *slog.Logger              // nil = slog.Default()

	// Beat is called by the loop each time it wakes up, and says how soon it
	// must be called again: a loop that does not is hung. nil = nobody watches.
	Heartbeat func(Health) time.Duration

	boottime bool // Uptime is CLOCK_BOOTTIME
}

// Health is the state of a running sensor.
type Health struct {
	Connected bool
	Waiting   int           // readings in the spool
	Interval  time.Duration // between two ticks, as it now holds
	Watchers  uint64        // people who look at the board live
	Stopping  bool
}

// complete fills in the defaults and checks the caller's values.
func (o *Options) complete() error {
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.SpoolBytes == 0 {
		o.SpoolBytes = DefaultSpoolBytes
	}
	if o.Uptime == nil {
		o.Uptime, o.boottime = Uptime, true
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Interval < MinInterval || o.Interval > MaxInterval {
		return fmt.Errorf("interval %v: use %v to %v", o.Interval, MinInterval, MaxInterval)
	}
	if o.SpoolBytes < spool.MinBytes {
		return fmt.Errorf("spool of %d bytes: use at least %d", o.SpoolBytes, spool.MinBytes)
	}
	if o.Key == nil {
		return errors.New("sensor without a key: enrol the board first")
	}
	if err := report.ValidateBoard(o.Board); err != nil {
		return err
	}
	return CheckURL(o.URL, o.Pin)
}

// CheckURL refuses an address that the client library would misread, and a pin that could not be
// checked.
func CheckURL(address, pin string) error {
	if !strings.Contains(address, "://") {
		return fmt.Errorf("collector URL %q names no protocol: write nats://%s, or wss://… where the board reaches port 443 alone", address, address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("collector URL %q cannot be read: write it like nats://collector.example.org:4222 or nats://[2001:db8::1]:4222", address)
	}
	if u.User != nil {
		return fmt.Errorf("collector URL %q names a user or a token: leave it out, the board shows its key", u.Redacted())
	}
	switch u.Scheme {
	case "nats", "tls", "wss":
	case "ws":
		if pin != "" {
			return fmt.Errorf("collector URL %q has no TLS, so its pin cannot be checked: use wss://", address)
		}
	default:
		return fmt.Errorf("collector URL %q: use nats://, tls://, ws:// or wss://", address)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("collector URL %q names no host", address)
	}
	return nil
}
