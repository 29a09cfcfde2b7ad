package sensor

import "time"

// minHeartbeat keeps a supervisor from keeping the loop awake.
const minHeartbeat = 100 * time.Millisecond

// alarm returns one that fits the clock.
func (c *core) alarm() alarm {
	if c.o.boottime {
		return newAlarm()
	}
	return newGoAlarm()
}

// heartbeat notifies the supervisor that the loop runs, and returns when the next heartbeat is due.
func (c *core) heartbeat(now time.Duration) time.Duration {
	if c.o.Heartbeat == nil {
		return never
	}
	h := Health{Connected: c.epoch != 0, Waiting: c.spool.Readings(), Stopping: c.stopping}
	if c.sampler != nil {
		h.Interval = c.sampler.current(now)
		if c.live.on {
			h.Watchers = c.live.watchers
		}
	}
	return now + max(c.o.Heartbeat(h), minHeartbeat)
}
