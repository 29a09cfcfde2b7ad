package sensor

import "time"

// minBeat keeps a supervisor from keeping the loop awake.
const minBeat = 100 * time.Millisecond

// alarm returns one that fits the clock.
func (c *core) alarm() alarm {
	if c.o.boottime {
		return newAlarm()
	}
	return newGoAlarm()
}

// beat tells the supervisor that the loop runs, and returns when it must hear
// so again.
func (c *core) beat(now time.Duration) time.Duration {
	if c.o.Beat == nil {
		return never
	}
	h := Health{Connected: c.epoch != 0, Waiting: c.spool.Readings(), Stopping: c.stopping}
	if c.sampler != nil {
		h.Interval = c.sampler.current(now)
		if c.live.on {
			h.Watchers = c.live.watchers
		}
	}
	return now + max(c.o.Beat(h), minBeat)
}
