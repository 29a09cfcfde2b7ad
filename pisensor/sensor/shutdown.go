package sensor

import (
	"time"

	"bramble/pisensor/report"
)

// sendGoodbye sends the goodbye, once on each connection, before the sensor waits for the last
// acknowledgements: a board that is being halted may lose its network any moment. Later reports
// carry the goodbye too. It asks for the acknowledgement of all ticks that the collector has, since
// most reports ask for none.
func (c *core) sendGoodbye() {
	if c.goodbyeEpoch == c.epoch || c.epoch == 0 {
		return
	}
	r := c.goodbye()
	c.goodbyeEpoch = c.epoch
	c.publish(r.Append(c.delivery.buf[:0]))
}

// shutdown ends the session. Waiting readings that no next process gets will not arrive, so they
// count as dropped. Readings kept for the next process arrive unless the board itself stops. This
// process cannot know that, so it reports only their number, as pisensor_spool_readings, which is
// then the last value of a session that does not go on. Readings of which only the acknowledgement
// was lost are among them.
func (c *core) shutdown(now time.Duration) {
	if c.epoch == 0 {
		return
	}
	waiting := int64(c.spool.Readings())
	if waiting == 0 || !c.o.OwnSeries || c.eras.opened == 0 {
		c.sendGoodbye()
		return
	}
	r := c.goodbye()
	r.Elapsed = append(r.Elapsed, now.Milliseconds())
	r.Column(report.Series{Metric: report.SensorSpool})[0] = waiting
	if !c.o.Kept {
		r.Column(report.Series{Metric: report.SensorDropped})[0] = int64(c.spool.Dropped()) + waiting
	}
	c.publish(r.Append(nil))
}

func (c *core) goodbye() report.Report {
	anchor, _ := c.eras.anchor()
	return report.Report{Session: c.spool.Session(), Anchor: anchor, Goodbye: true, First: c.spool.Next()}
}
