package host

import (
	"bytes"
	"fmt"

	"bramble/pisensor/source"
)

// maxLines is how many devices of /proc/net/dev are looked at, so that a board
// with hundreds of containers costs no more.
const maxLines = 64

// counters are the lines of /proc/net/dev.
type counters struct{ found []counter }

// counter holds a device's counters since it appeared.
type counter struct {
	name                   []byte // within the text that was parsed
	received, sent, errors int64
}

// of returns a device's line, or nil.
func (c *counters) of(name string) *counter {
	for i := range c.found {
		if string(c.found[i].name) == name {
			return &c.found[i]
		}
	}
	return nil
}

// parse takes the text apart: two lines of headings, then a device a line.
func (c *counters) parse(b []byte) error {
	c.found = c.found[:0]
	for i := 0; len(b) > 0; i++ {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		switch {
		case i == 0 && !bytes.HasPrefix(line, []byte("Inter-|")):
			return fmt.Errorf("%.32q is not the heading of network devices", line)
		case i < 2 || len(c.found) == maxLines:
			continue
		}
		n, err := parseCounter(line)
		if err != nil {
			return err
		}
		c.found = append(c.found, n)
	}
	return nil
}

// Columns of /proc/net/dev behind the name.
const (
	receivedBytes  = 0
	receivedErrors = 2
	sentBytes      = 8
	sentErrors     = 10
)

func parseCounter(line []byte) (c counter, err error) {
	name, rest, ok := bytes.Cut(line, []byte{':'})
	if c.name = bytes.TrimSpace(name); !ok || len(c.name) == 0 {
		return c, fmt.Errorf("%.32q names no network device", line)
	}
	var columns [sentErrors + 1]int64
	for i := range columns {
		var word []byte
		word, rest = source.Field(rest)
		if columns[i], err = source.Integer(word); err != nil {
			return c, fmt.Errorf("network device %s: %w", c.name, err)
		}
	}
	c.received, c.sent = columns[receivedBytes], columns[sentBytes]
	c.errors = columns[receivedErrors] + columns[sentErrors]
	return c, nil
}
