package report

import "encoding/binary"

// maxRanges bounds the ranges of one ack and the lines of one control message.
const maxRanges = 256

// maxMessage is the largest hello, ack or control message, in bytes.
const maxMessage = 8 << 10

// Hello is a sensor's message after it has connected, repeated until the collector answers: it asks
// for the collector's time and names its session.
type Hello struct {
	Session uint32
	Nonce   uint64 // comes back in the answer, so that the sensor knows its age
}

// Append encodes the hello behind dst.
func (h Hello) Append(dst []byte) []byte {
	dst = append(dst, lead(kindHello))
	dst = binary.LittleEndian.AppendUint32(dst, h.Session)
	return binary.AppendUvarint(dst, h.Nonce)
}

// DecodeHello takes a hello apart. Its error wraps ErrMalformed.
func DecodeHello(b []byte) (Hello, error) {
	d := open(b, kindHello, maxMessage)
	h := Hello{Session: d.uint32(), Nonce: d.uvarint()}
	return h, d.close()
}

// Range is Count ticks, numbered from First.
type Range struct{ First, Count uint64 }

// Ack names the ticks of a session that are on the collector's disk, and decided. The ranges of
// several acks add up; none takes anything back. An ack that answers a hello carries its nonce and
// usually no ranges.
type Ack struct {
	Session uint32
	Time    int64  // the collector's clock when the ack left, Unix ms
	Nonce   uint64 // of the hello that this answers, else 0
	Ranges  []Range
}

// Append encodes the ack behind dst.
func (a *Ack) Append(dst []byte) []byte {
	dst = append(dst, lead(kindAck))
	dst = binary.LittleEndian.AppendUint32(dst, a.Session)
	dst = binary.AppendVarint(dst, a.Time)
	dst = binary.AppendUvarint(dst, a.Nonce)
	dst = binary.AppendUvarint(dst, uint64(len(a.Ranges)))
	for _, r := range a.Ranges {
		dst = binary.AppendUvarint(dst, r.First)
		dst = binary.AppendUvarint(dst, r.Count)
	}
	return dst
}

// DecodeAck takes an ack apart. Its error wraps ErrMalformed.
func DecodeAck(b []byte) (Ack, error) {
	var a Ack
	err := a.Decode(b)
	return a, err
}

// Decode takes an ack apart into a, whose memory it uses again. Its error
// wraps ErrMalformed; a is then of no use.
func (a *Ack) Decode(b []byte) error {
	d := open(b, kindAck, maxMessage)
	*a = Ack{Session: d.uint32(), Time: d.varint(), Nonce: d.uvarint(), Ranges: a.Ranges[:0]}
	if a.Time < 0 || a.Time > maxTime {
		d.fail("time %d ms", a.Time)
	}
	for range d.limited("range count", maxRanges) {
		a.Ranges = append(a.Ranges, Range{First: d.limited("first tick", 1<<62), Count: d.limited("tick count", 1<<32)})
	}
	return d.close()
}
