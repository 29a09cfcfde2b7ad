package main

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"bramble/pisensor/sensor"
	"bramble/pisensor/spool"
	"bramble/pisensor/systemd"
)

// supervisor reports the sensor's state to the service manager.
type supervisor struct {
	manager *systemd.Manager
	log     *slog.Logger
	every   time.Duration // at most between two signs of life; 0 = none are wanted
	last    time.Time     // of the last one
	said    sensor.Health // the health that was last sent
	ready   bool
	failing bool
	buf     []byte
}

// unwatched is the heartbeat's interval with a manager without a watchdog.
const unwatched = time.Hour

// newSupervisor returns nil where no service manager has started this process.
func newSupervisor(log *slog.Logger) *supervisor {
	m, err := systemd.Connect(os.Getenv)
	if err != nil {
		log.Warn("going on without the service manager", "err", err)
	}
	if m == nil {
		return nil
	}
	return &supervisor{manager: m, log: log, every: m.Watchdog() / 2}
}

// heartbeat is the sensor's Options.Beat. It speaks when something has changed, and
// for the watchdog on the last wake-up that comes anyway before it must.
func (s *supervisor) heartbeat(h sensor.Health) time.Duration {
	now := time.Now()
	changed := h
	changed.Waiting, changed.Interval = s.said.Waiting, s.said.Interval // these change all the time
	due := s.every > 0 && now.Sub(s.last)+h.Interval > s.every
	if due || !s.ready || changed != s.said {
		s.say(h)
		s.last = now
	}
	if s.every == 0 {
		return unwatched
	}
	return s.every - now.Sub(s.last)
}

func (s *supervisor) say(h sensor.Health) {
	s.buf = append(s.buf[:0], "WATCHDOG=1\n"...)
	switch {
	case h.Stopping:
		s.buf = append(s.buf, "STOPPING=1\n"...)
	case !s.ready:
		s.buf = append(s.buf, "READY=1\n"...)
	}
	s.buf = appendStatus(s.buf, h)
	s.ready, s.said = true, h
	s.note(s.manager.Notify(s.buf))
}

// note logs when the way to the manager fails, once.
func (s *supervisor) note(err error) {
	if err != nil && !s.failing {
		s.log.Warn("service manager", "err", err)
	}
	s.failing = err != nil
}

// appendStatus writes the line that `systemctl status` shows.
func appendStatus(b []byte, h sensor.Health) []byte {
	b = append(b, "STATUS="...)
	if h.Stopping {
		b = append(b, "stopping, "...)
	}
	if h.Connected {
		b = append(b, "connected, "...)
	} else {
		b = append(b, "collector away, "...)
	}
	b = append(b, "every "...)
	b = append(b, h.Interval.String()...)
	b = append(b, ", "...)
	b = strconv.AppendInt(b, int64(h.Waiting), 10)
	b = append(b, " readings wait"...)
	if h.Watchers > 0 {
		b = append(b, ", watched live by "...)
		b = strconv.AppendUint(b, h.Watchers, 10)
	}
	return b
}

// Close ends the way to the manager.
func (s *supervisor) Close() error {
	if s == nil {
		return nil
	}
	return s.manager.Close()
}

// spoolName is the name of the spool's file in the manager's store.
const spoolName = "spool"

// spool restores the spool that the previous process left with the service manager, else begins one
// that the manager keeps. It is nil where neither works: the sensor's own spool then ends with the
// process.
func (s *supervisor) spool(board string) *spool.Spool {
	if s == nil {
		return nil
	}
	var found *spool.Spool
	refused := false
	for _, f := range systemd.Files(os.Getenv) {
		if found == nil && f.Name() == spoolName {
			var err error
			if found, err = spool.Restore(f, sensor.DefaultSpoolBytes, board, sensor.Uptime().Milliseconds()); err != nil {
				s.log.Warn("what the last process left cannot be used, so its readings are lost", "err", err)
				refused = true
			}
		}
		if err := f.Close(); err != nil {
			s.log.Warn("close an inherited file", "err", err)
		}
	}
	if found != nil {
		return found
	}
	found, err := s.begin(board, refused)
	if err != nil {
		s.log.Warn("readings that wait will not outlive this process", "err", err)
		return nil
	}
	if refused {
		found.Refuse()
	}
	return found
}

// begin makes a spool and hands its file to the manager.
func (s *supervisor) begin(board string, discard bool) (*spool.Spool, error) {
	if discard {
		if err := s.manager.Discard(spoolName); err != nil {
			return nil, err
		}
	}
	made, f, err := spool.Create(sensor.DefaultSpoolBytes, board)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.manager.Store(spoolName, f), f.Close()); err != nil {
		return nil, errors.Join(err, made.Unmap())
	}
	return made, nil
}
