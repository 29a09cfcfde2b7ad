package live

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// maxSeries bounds the series that are kept of one board. A report carries at most 64.
const maxSeries = 256

// Value is one reading. Series is the name with its own labels, such as `pi_cpu_clock_hertz{source="measured"}`; the value is
// in base units. A pi_board_up of NaN says that the board's sensor was stopped properly.
type Value struct {
	Series string
	Value  float64
}

// Latest is the newest reading of a series; At is in Unix milliseconds.
type Latest struct {
	Series string  `json:"series"`
	At     int64   `json:"at"`
	Value  float64 `json:"value"`
}

// State is how a board fares by its newest readings. Absent values are not known.
type State struct {
	LastReport  int64    `json:"lastReport,omitempty"` // the newest reading that the board itself sent, Unix milliseconds
	Up          *bool    `json:"up,omitempty"`
	Stopped     bool     `json:"stopped,omitempty"` // its sensor ended properly: neither up nor silent
	Temperature *float64 `json:"temperature,omitempty"`
	Requested   *float64 `json:"requested,omitempty"`
	Measured    *float64 `json:"measured,omitempty"`
	Throttled   []string `json:"throttled"` // null when the board does not report it
}

// The series that the fleet page shows, as fields of a cell.
type field int8

const (
	otherField field = iota
	temperature
	requested
	measured
	underVoltage
	capped
	throttled
	softLimit
	up
	fields
)

var fieldOf = map[string]field{
	`pi_soc_temperature_celsius`:                    temperature,
	`pi_cpu_clock_hertz{source="requested"}`:        requested,
	`pi_cpu_clock_hertz{source="measured"}`:         measured,
	`pi_throttled{reason="under_voltage"}`:          underVoltage,
	`pi_throttled{reason="frequency_capped"}`:       capped,
	`pi_throttled{reason="throttled"}`:              throttled,
	`pi_throttled{reason="soft_temperature_limit"}`: softLimit,
	`pi_board_up`: up,
}

// throttleNames are the reasons in the order in which a lost second is counted.
var throttleNames = [...]struct {
	field field
	name  string
}{
	{underVoltage, "under_voltage"}, {throttled, "throttled"},
	{softLimit, "soft_temperature_limit"}, {capped, "frequency_capped"},
}

// cell is a board on the fleet page. has tells which fields have a value.
type cell struct {
	at     int64 // the last reading that the board itself sent
	values [fields]float64
	has    uint16
	// stopped says that the board's sensor ended properly: it is neither up nor silent.
	stopped bool
}

func (c *cell) set(f field, v float64, ok bool) {
	c.values[f] = v
	if ok {
		c.has |= 1 << f
	} else {
		c.has &^= 1 << f
	}
}

func (c *cell) get(f field) (float64, bool) { return c.values[f], c.has&(1<<f) != 0 }

func (c *cell) pointer(f field) *float64 {
	if v, ok := c.get(f); ok {
		return &v
	}
	return nil
}

func (c *cell) state() State {
	s := State{LastReport: c.at, Stopped: c.stopped, Temperature: c.pointer(temperature), Requested: c.pointer(requested), Measured: c.pointer(measured)}
	if v, ok := c.get(up); ok {
		is := v != 0
		s.Up = &is
	}
	if names, known := c.reasons(); known {
		s.Throttled = append([]string{}, names...)
	}
	return s
}

type namedCell struct {
	quoted []byte
	cell
}

type latest struct {
	series string
	quoted string
	field  field
	at     int64
	value  float64
	ok     bool
	fresh  bool // part of the reading being published
}

type boardState struct {
	name     string
	quoted   []byte
	cell     cell
	latest   []latest
	dirty    bool
	watchers []*client
}

// since is the board's state and its readings from a time on, in no order. Whether it reports or was stopped is of now,
// however long it has been so.
func (b *boardState) since(from int64) (State, []Latest) {
	c := cell{stopped: b.cell.stopped}
	var readings []Latest
	for i := range b.latest {
		l := &b.latest[i]
		if l.field == up {
			c.set(up, l.value, l.ok)
		}
		if !l.ok || l.field == up || l.at < from {
			continue
		}
		c.at = max(c.at, l.at)
		if l.field != otherField {
			c.set(l.field, l.value, true)
		}
		readings = append(readings, Latest{Series: l.series, At: l.at, Value: l.value})
	}
	return c.state(), readings
}

func newBoardState(name string) *boardState {
	name = strings.Clone(name)
	return &boardState{name: name, quoted: quote(name)}
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string always encodes
	return b
}

// store keeps the readings that are newer than the known ones; false when none is.
func (b *boardState) store(at int64, values []Value) bool {
	for i := range b.latest {
		b.latest[i].fresh = false
	}
	changed := false
	for i, v := range values {
		if l := b.find(i, v.Series); l != nil && at > l.at {
			b.keep(l, at, v.Value)
			changed = true
		}
	}
	return changed
}

func (b *boardState) keep(l *latest, at int64, v float64) {
	l.at, l.value, l.fresh = at, v, true
	l.ok = !math.IsNaN(v) && !math.IsInf(v, 0)
	if l.field != otherField {
		b.cell.set(l.field, v, l.ok)
	}
	if l.field == up {
		b.cell.stopped = math.IsNaN(v)
	} else if at > b.cell.at {
		b.cell.at = at
	}
}

// find returns the place of a series, which is most often where it was last time.
func (b *boardState) find(hint int, series string) *latest {
	if hint < len(b.latest) && b.latest[hint].series == series {
		return &b.latest[hint]
	}
	for i := range b.latest {
		if b.latest[i].series == series {
			return &b.latest[i]
		}
	}
	if len(b.latest) >= maxSeries {
		return nil
	}
	series = strings.Clone(series)
	b.latest = append(b.latest, latest{
		series: series, quoted: string(quote(series)), field: fieldOf[series], at: math.MinInt64,
	})
	return &b.latest[len(b.latest)-1]
}

// appendReading encodes the readings of the last store call.
func (b *boardState) appendReading(dst []byte, at int64) []byte {
	dst = append(append(dst, `{"type":"reading","board":`...), b.quoted...)
	dst = strconv.AppendInt(append(dst, `,"at":`...), at, 10)
	dst = append(dst, `,"values":{`...)
	first := true
	for i := range b.latest {
		l := &b.latest[i]
		if !l.fresh {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, l.quoted...), ':')
		if l.ok {
			dst = strconv.AppendFloat(dst, l.value, 'g', -1, 64)
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, "}}"...)
}

func appendFleet(dst []byte, now int64, full bool, cells []namedCell) []byte {
	dst = strconv.AppendInt(append(dst, `{"type":"fleet","now":`...), now, 10)
	dst = strconv.AppendBool(append(dst, `,"full":`...), full)
	dst = append(dst, `,"boards":[`...)
	for i := range cells {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"board":`...), cells[i].quoted...)
		dst = append(cells[i].cell.appendFields(dst), '}')
	}
	return append(dst, "]}"...)
}

func (c *cell) appendFields(dst []byte) []byte {
	if c.at != 0 {
		dst = strconv.AppendInt(append(dst, `,"at":`...), c.at, 10)
	}
	dst = c.appendNumber(dst, `,"up":`, up)
	if c.stopped {
		dst = append(dst, `,"stopped":true`...)
	}
	dst = c.appendNumber(dst, `,"temperature":`, temperature)
	dst = c.appendNumber(dst, `,"requested":`, requested)
	dst = c.appendNumber(dst, `,"measured":`, measured)
	return c.appendThrottled(dst)
}

func (c *cell) appendNumber(dst []byte, key string, f field) []byte {
	if v, ok := c.get(f); ok {
		dst = strconv.AppendFloat(append(dst, key...), v, 'g', -1, 64)
	}
	return dst
}

func (c *cell) appendThrottled(dst []byte) []byte {
	names, known := c.reasons()
	if !known {
		return dst
	}
	dst = append(dst, `,"throttled":[`...)
	for i, n := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), n...), '"')
	}
	return append(dst, ']')
}

// reasons names the throttle bits that are set; known is false when the board reports none of them.
func (c *cell) reasons() (names []string, known bool) {
	for _, t := range throttleNames {
		v, ok := c.get(t.field)
		known = known || ok
		if ok && v != 0 {
			names = append(names, t.name)
		}
	}
	return names, known
}
