package report

// Reading is one value of one series, in the metric's wire unit.
type Reading struct {
	Series Series
	Value  int64
}

// Tick holds a sensor's readings of one instant. Sources fill it; a source that cannot read adds
// nothing. The zero value is empty and ready for use; a Tick is not safe for concurrent use.
type Tick struct {
	Readings []Reading
}

// Add adds a reading of a metric that has no instances.
func (t *Tick) Add(m Metric, v int64) { t.AddInstance(m, "", v) }

// AddInstance adds a reading of one device or operation.
func (t *Tick) AddInstance(m Metric, instance string, v int64) {
	t.Readings = append(t.Readings, Reading{Series{m, instance}, v})
}

// Reset empties the tick and keeps its memory.
func (t *Tick) Reset() { t.Readings = t.Readings[:0] }
