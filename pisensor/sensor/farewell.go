package sensor

import (
	"time"

	"bramble/pisensor/report"
)

// part says goodbye, once on each connection, before the last acknowledgements
// are waited for: a board that is being halted may lose its network any moment.
// Reports that follow say it too. A goodbye asks for the acknowledgement of all
// ticks that the collector has: of most reports none was asked for yet.
func (c *core) part() {
	if c.parted == c.epoch || c.epoch == 0 {
		return
	}
	r := c.goodbye()
	c.parted = c.epoch
	c.publish(r.Append(c.delivery.buf[:0]))
}

// farewell ends the session. What still waits and is kept nowhere will not
// arrive, so it counts as dropped. What is kept for the next process arrives
// unless the board itself stops: whether it does, this one cannot know, so the
// number alone is said, as pisensor_spool_readings. It then stands behind the last
// goodbye of a session that does not go on. Readings of which only the
// acknowledgement was lost are among them.
func (c *core) farewell(now time.Duration) {
	if c.epoch == 0 {
		return
	}
	waiting := int64(c.spool.Readings())
	if waiting == 0 || !c.o.OwnSeries || c.eras.opened == 0 {
		c.part()
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
