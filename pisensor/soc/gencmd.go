package soc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/source"
)

// tagCommand has the firmware carry out one of vcgencmd's text commands. The
// shape of its message is vcgencmd's (raspberrypi/utils, vcgencmd/vcgencmd.c):
// a result code, then commandSize bytes for the command and its answer.
const (
	tagCommand  = 0x00030080
	commandSize = 1024
	commandText = 6 // the word where the text begins
)

// command is a property call with one text command.
type command [commandText + commandSize/4 + 1]uint32

// question is a command and the parser of its answer.
type question struct {
	text string
	take func(*answer, []byte) error
}

// questions are the commands that return the values of one call of the mailbox. get_throttled
// without an argument clears nothing.
var (
	measureClock = question{"measure_clock arm", (*answer).clockText}
	questions    = [...]question{
		measureClock,
		{"get_throttled", (*answer).throttledText},
		{"measure_volts core", (*answer).voltageText},
	}
)

// ask puts the questions one after another. One without an answer does not
// stop the others.
func (c *command) ask(fd int) (a answer, err error) {
	for _, q := range questions {
		err = errors.Join(err, c.put(fd, q, &a))
	}
	return a, err
}

// put puts one question.
func (c *command) put(fd int, q question, a *answer) error {
	c.set(q.text)
	if err := ask(fd, &c[0]); err != nil {
		return &fs.PathError{Op: "ask", Path: q.text, Err: err}
	}
	return c.take(a, q.take)
}

func (c *command) set(text string) {
	*c = command{uint32(len(c) * 4), codeRequest, tagCommand, commandSize}
	copy(c.text(), text)
}

// text is the part of the message that holds the command, then its answer.
func (c *command) text() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&c[commandText])), commandSize)
}

func (c *command) take(a *answer, take func(*answer, []byte) error) error {
	if c[1] != codeSuccess || c[2] != tagCommand || c[4]&codeAnswered == 0 {
		return fmt.Errorf("%w to a command with code 0x%08x", errAnswer, c[1])
	}
	text, _, ok := bytes.Cut(c.text(), []byte{0})
	if !ok || c[5] != 0 {
		return fmt.Errorf("%w to a command: result %d, %.60q", errAnswer, c[5], text)
	}
	return take(a, bytes.TrimSpace(text))
}

// clockText takes "frequency(48)=600117184"; the number in brackets is the
// firmware's own and differs between models.
func (a *answer) clockText(b []byte) error {
	_, number, _ := bytes.Cut(b, []byte(")="))
	v, err := source.Integer(number)
	if !bytes.HasPrefix(b, []byte("frequency(")) || err != nil || v <= 0 || v > 1<<32 {
		return wrongText(b)
	}
	a.clock, a.hasClock = physic.Frequency(v)*physic.Hertz, true
	return nil
}

// throttledText takes "throttled=0x50005".
func (a *answer) throttledText(b []byte) error {
	number, ok := bytes.CutPrefix(b, []byte("throttled="))
	v, err := source.Hex(number)
	if !ok || err != nil {
		return wrongText(b)
	}
	a.throttled, a.hasThrottled = v, true
	return nil
}

// voltageText takes "volt=1.3188V".
func (a *answer) voltageText(b []byte) error {
	number, ok := bytes.CutPrefix(b, []byte("volt="))
	number, unit := bytes.CutSuffix(number, []byte("V"))
	v, err := source.Decimal(number, 6)
	if !ok || !unit || err != nil || v <= 0 || v > 1e9 {
		return wrongText(b)
	}
	a.voltage, a.hasVoltage = physic.ElectricPotential(v)*physic.MicroVolt, true
	return nil
}

func wrongText(b []byte) error { return fmt.Errorf("%w to a command: %.60q", errAnswer, b) }
