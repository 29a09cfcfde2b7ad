package soc

import (
	"errors"
	"fmt"

	"periph.io/x/conn/v3/physic"
)

// The firmware's property tags and the ids that go with them (raspberrypi/firmware
// wiki, "Mailbox property interface"; raspberrypi/linux, soc/bcm2835/raspberrypi-firmware.h).
const (
	tagRevision      = 0x00000001
	tagVoltage       = 0x00030003
	tagThrottled     = 0x00030046
	tagMeasuredClock = 0x00030047

	clockARM    = 3
	voltageCore = 1

	codeRequest  = 0
	codeSuccess  = 0x80000000
	codeAnswered = 0x80000000 // in a tag's code, beside the answer's length in bytes
	tagEnd       = 0
)

// message is one property call: total bytes, code, tags, end.
type message [17]uint32

// ask writes the request for measured clock, throttle bits and core voltage
// into the message. The throttle tag carries 0: any other value would clear
// bits that the kernel and everybody else on the board share.
func (m *message) ask() {
	*m = message{
		uint32(len(m) * 4), codeRequest,
		tagMeasuredClock, 8, 0, clockARM, 0,
		tagThrottled, 4, 0, 0,
		tagVoltage, 8, 0, voltageCore, 0,
		tagEnd,
	}
}

// askRevision writes the request for the firmware's revision into the message.
func (m *message) askRevision() {
	*m = message{uint32(len(m) * 4), codeRequest, tagRevision, 4, 0, 0, tagEnd}
}

// answer is the firmware's answer; a tag that it does not know is absent.
type answer struct {
	clock        physic.Frequency
	voltage      physic.ElectricPotential
	throttled    uint32
	revision     uint32
	hasClock     bool
	hasVoltage   bool
	hasThrottled bool
	hasRevision  bool
}

var errAnswer = errors.New("mailbox answer")

// parse takes an answered message apart. It trusts no length in it.
func parse(words []uint32) (answer, error) {
	var a answer
	if len(words) < 3 {
		return a, fmt.Errorf("%w of %d words", errAnswer, len(words))
	}
	if words[1] != codeSuccess {
		return a, fmt.Errorf("%w with code 0x%08x", errAnswer, words[1])
	}
	for rest := words[2:]; len(rest) > 0; {
		if rest[0] == tagEnd {
			return a, nil
		}
		if len(rest) < 3 || rest[1]%4 != 0 || uint64(rest[1]/4) > uint64(len(rest)-3) {
			break
		}
		n := 3 + rest[1]/4
		a.tag(rest[0], rest[2], rest[3:n])
		rest = rest[n:]
	}
	return a, fmt.Errorf("%w ends within a tag", errAnswer)
}

// tag takes one tag's answer.
func (a *answer) tag(tag, code uint32, values []uint32) {
	if code&codeAnswered == 0 {
		return
	}
	have := min(int(code&^codeAnswered)/4, len(values))
	switch {
	case tag == tagMeasuredClock && have >= 2 && values[0] == clockARM && values[1] > 0:
		a.clock, a.hasClock = physic.Frequency(values[1])*physic.Hertz, true
	case tag == tagVoltage && have >= 2 && values[0] == voltageCore && values[1]&0x80000000 == 0 && values[1] > 0:
		a.voltage, a.hasVoltage = physic.ElectricPotential(values[1])*physic.MicroVolt, true
	case tag == tagThrottled && have >= 1:
		a.throttled, a.hasThrottled = values[0], true
	case tag == tagRevision && have >= 1:
		a.revision, a.hasRevision = values[0], true
	}
}
