package sensor

import (
	"time"

	"bramble/pisensor/report"
)

// part says goodbye, once on each connection, before the last acknowledgements
// are waited for: a board that is being halted may lose its network any moment.
// Reports that follow say it too.
func (c *core) part() {
	if c.parted == c.epoch || c.epoch == 0 {
		return
	}
	r := c.goodbye()
	c.parted = c.epoch
	c.publish(r.Append(c.delivery.buf[:0]))
}

// farewell ends the session. What still waits and has no store to go to will
// not arrive, so the collector is told how much that is: nobody else will know.
// Readings whose acknowledgement alone was lost are among them.
func (c *core) farewell(now time.Duration) {
	if c.epoch == 0 {
		return
	}
	waiting := c.spool.Readings()
	if c.o.Kept || waiting == 0 || !c.o.OwnSeries || c.eras.opened == 0 {
		c.part()
		return
	}
	r := c.goodbye()
	r.Elapsed = append(r.Elapsed, now.Milliseconds())
	r.Column(report.Series{Metric: report.SensorDropped})[0] = int64(c.spool.Dropped()) + int64(waiting)
	c.publish(r.Append(nil))
}

func (c *core) goodbye() report.Report {
	anchor, _ := c.eras.anchor()
	return report.Report{Session: c.spool.Session(), Anchor: anchor, Goodbye: true, First: c.spool.Next()}
}
