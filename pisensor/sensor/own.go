package sensor

import (
	"math"
	"time"

	"bramble/pisensor/report"
)

// ownGap is how often a tick says how far the system clock is off.
const ownGap = time.Minute

// minHeartbeat keeps a supervisor from keeping the loop awake.
const minHeartbeat = 100 * time.Millisecond

// addOwn adds the sensor's series about itself.
func (c *core) addOwn(now time.Duration, wall int64) {
	for kind, n := range c.refused {
		if n > 0 {
			c.tick.AddInstance(report.SensorReadErrors, refusedNames[kind], n)
		}
	}
	if !c.o.OwnSeries {
		return
	}
	c.tick.Add(report.SensorSpool, int64(c.spool.Readings()))
	c.tick.Add(report.SensorDropped, int64(c.spool.Dropped()))
	if c.ownAt != 0 && now-c.ownAt < ownGap {
		return
	}
	if offset, ok := c.eras.offset(now.Milliseconds(), wall); ok {
		c.ownAt = now
		c.tick.Add(report.ClockOffset, offset)
	}
}

func (c *core) logDropped() {
	dropped := c.spool.Dropped()
	if c.dropped == 0 && dropped > 0 && c.spool.Full() {
		c.log.Warn("spool is full, oldest readings are dropped and counted", "bytes", c.o.SpoolBytes)
	}
	c.dropped = dropped
}

// logBudget says once that the budget holds the sensor back, and once that it
// no longer does. Memory beyond the budget is said once and for all.
func (c *core) logBudget() {
	b := &c.sampler.budget
	if b.memory > budgetMemory && !c.heavy {
		c.heavy = true
		c.log.Warn("this sensor takes more memory than its budget", "bytes", b.memory, "budget", budgetMemory)
	}
	if b.over() == c.tight {
		return
	}
	if c.tight = b.over(); !c.tight {
		c.log.Info("within the budget again, sampling as before")
		return
	}
	c.log.Warn("this sensor costs more than its budget, so it samples less often where it may",
		"cpu_percent", math.Round(b.share*1e4)/100, "wakeups_per_second", math.Round(b.wakeups*100)/100)
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
