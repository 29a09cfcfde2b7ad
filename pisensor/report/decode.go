package report

import (
	"encoding/binary"
	"math/bits"
	"unicode"
	"unicode/utf8"
)

// maxTime bounds every time on the wire, in ms: the year 2286. It keeps sums
// of an anchor and an elapsed time far from overflow.
const maxTime = 1e13

// reader takes a message apart. After the first error every further call
// returns zero, so that a caller checks err once at the end of a section.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
		r.b = nil
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // most numbers are deltas of one byte
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("ends within a number or holds one beyond 64 bits")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// limited reads a number that must not exceed max.
func (r *reader) limited(what string, max uint64) uint64 {
	v := r.uvarint()
	if v > max {
		r.fail("%s %d exceeds %d", what, v, max)
		return 0
	}
	return v
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("ends early")
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// open checks a message's size and first byte.
func open(b []byte, k kind, max int) reader {
	r := reader{b: b}
	if len(b) > max {
		r.fail("%d bytes exceed %d", len(b), max)
		return r
	}
	if got := r.byte(); r.err == nil && got != lead(k) {
		r.fail("first byte 0x%02x, want 0x%02x", got, lead(k))
	}
	return r
}

func (r *reader) close() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes behind the end", len(r.b))
	}
	return r.err
}

// IsReport distinguishes a report from a hello by its first byte.
func IsReport(b []byte) bool { return len(b) > 0 && b[0] == lead(kindReport) }

// Decode takes a report apart into r, whose memory it uses again. Nothing in r
// refers to b afterwards. All bytes are validated here, once: on success every
// name, number and time is within its limits, readings that this build does
// not know or that are implausible have been dropped and counted. On an error,
// which wraps ErrMalformed, r is empty.
func (r *Report) Decode(b []byte) error {
	r.Reset()
	d := open(b, kindReport, MaxSize)
	flags := d.byte()
	if flags&^(flagGoodbye|flagInfo|flagAckLater) != 0 {
		d.fail("unknown flags 0x%02x", flags)
	}
	r.Goodbye = flags&flagGoodbye != 0
	r.AckLater = flags&flagAckLater != 0
	r.header(&d)
	r.times(&d)
	r.columns(&d)
	if flags&flagInfo != 0 {
		r.attributes(&d)
	}
	if err := d.close(); err != nil {
		r.Reset()
		return err
	}
	return nil
}

// Cells returns how many values an encoded report has, those that are missing included, without decoding them: its ticks
// times its columns, which a few bytes can name. It is 0 for any other message; a malformed one need not have as many.
func Cells(b []byte) int {
	d := open(b, kindReport, MaxSize)
	d.byte()
	var r Report
	r.header(&d)
	ticks := int(d.limited("tick count", MaxTicks))
	for range ticks {
		d.uvarint()
	}
	return ticks * int(d.limited("column count", MaxColumns))
}

func (r *Report) header(d *reader) {
	r.Session = d.uint32()
	r.Anchor = d.varint()
	if r.Anchor < -maxTime || r.Anchor > maxTime {
		d.fail("anchor %d ms is beyond the year 2286", r.Anchor)
	}
	r.Due = int64(d.limited("due", maxTime))
	r.First = d.limited("first tick", 1<<62)
}

func (r *Report) times(d *reader) {
	n := int(d.limited("tick count", MaxTicks))
	if cap(r.Elapsed) < n {
		r.Elapsed = make([]int64, 0, n)
	}
	var last, step int64
	for i := range n {
		switch i {
		case 0:
			last = int64(d.limited("elapsed time", maxTime))
		case 1:
			step = int64(d.limited("time step", maxTime))
		default:
			step += d.varint()
		}
		if i > 0 {
			if step <= 0 || step > maxTime {
				d.fail("time step %d ms at tick %d", step, i)
				return
			}
			last += step
		}
		if last > maxTime {
			d.fail("elapsed time %d ms at tick %d", last, i)
			return
		}
		r.Elapsed = append(r.Elapsed, last)
	}
}

func (r *Report) columns(d *reader) {
	n := int(d.limited("column count", MaxColumns))
	device := ""
	for range n {
		device = r.column(d, device)
		if d.err != nil {
			return
		}
	}
}

// column reads a column. It takes the instance of the last column that has one, and returns the instance for the next
// column.
func (r *Report) column(d *reader, device string) string {
	key := d.limited("metric", 1<<(16+columnShift)-1)
	s := Series{Metric: Metric(key >> columnShift)}
	if key&columnInstance != 0 {
		device = r.instance(d, device)
		s.Instance = device
	}
	var present []byte
	if key&columnSparse != 0 {
		present = d.take((len(r.Elapsed) + 7) / 8)
	}
	values := r.values(len(r.Elapsed))
	r.fill(d, values, present, key&columnConstant != 0)
	if d.err == nil {
		r.accept(d, s, values)
	}
	return device
}

// fill reads a column's values. It runs once a reading: the loop that matters.
func (r *Report) fill(d *reader, values []int64, present []byte, constant bool) {
	var last int64
	fresh := true
	for i := range values {
		if present != nil && present[i/8]&(1<<(i%8)) == 0 {
			values[i] = Missing
			continue
		}
		if fresh || !constant {
			last += d.varint()
			fresh = false
		}
		values[i] = last
	}
}

// accept appends the column, unless its metric is unknown here or it has none
// of the instance names that the metric needs.
func (r *Report) accept(d *reader, s Series, values []int64) {
	def := Define(s.Metric)
	if def == nil {
		r.Unknown += count(values)
		r.spare = append(r.spare, values)
		return
	}
	if (def.InstanceLabel != "") != (s.Instance != "") {
		d.fail("metric %d with instance %q", s.Metric, s.Instance)
		return
	}
	for _, c := range r.Columns {
		if c.Series == s {
			d.fail("metric %d %q stands twice", s.Metric, s.Instance)
			return
		}
	}
	for i, v := range values {
		if (v < def.Min || v > def.Max) && v != Missing {
			values[i] = Missing
			r.Implausible++
		}
	}
	r.Columns = append(r.Columns, Column{Series: s, Values: values})
}

func count(values []int64) (n int) {
	for _, v := range values {
		if v != Missing {
			n++
		}
	}
	return n
}

// instance reads an instance name, which may be the one before. A report's few
// names recur for ever, so strings are kept; the map is bounded against a board
// that invents names.
func (r *Report) instance(d *reader, before string) string {
	b := d.take(int(d.limited("instance length", MaxInstance)))
	if len(b) == 0 && before != "" {
		return before
	}
	if s, ok := r.instances[string(b)]; ok {
		return s
	}
	if !validInstance(b) {
		d.fail("instance name %q", b)
		return ""
	}
	if r.instances == nil || len(r.instances) >= 1024 {
		r.instances = make(map[string]string)
	}
	s := string(b)
	r.instances[s] = s
	return s
}

// validInstance accepts the characters of the kernel's names for devices and operations: letters, digits and . _ : @ -.
func validInstance[T string | []byte](b T) bool {
	for i := range len(b) {
		switch c := b[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '_', c == ':', c == '@', c == '-':
		default:
			return false
		}
	}
	return len(b) > 0
}

func (r *Report) attributes(d *reader) {
	n := int(d.limited("attribute count", MaxAttributes))
	var seen uint64
	for range n {
		key := AttributeKey(d.byte())
		b := d.take(int(d.limited("attribute length", MaxAttributeSize)))
		if d.err != nil {
			return
		}
		if key.String() == "" {
			r.Unknown++
			continue
		}
		if !printable(b) {
			d.fail("attribute %s %q is not printable text", key, b)
			return
		}
		seen |= 1 << key
		r.Info = append(r.Info, Attribute{Key: key, Value: string(b)})
	}
	if bits.OnesCount64(seen) != len(r.Info) {
		d.fail("an attribute stands twice")
	}
}

func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range string(b) {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}
