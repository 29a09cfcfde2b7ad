package soc

import (
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// nowBits are the throttle bits that say what is now; bits 16–19 say what has
// been since boot (raspberrypi/firmware, tag GET_THROTTLED).
const nowBits = 0xf

// throttled is the firmware driver's cached copy of the throttle bits, which
// anybody may read. The kernel calls it deprecated and warns once in its log
// when it is first read, so it is read only where the mailbox has not answered.
type throttled struct {
	*source.Value
	skipped bool // the last read was not needed
}

func newThrottled(r source.Roots) *throttled {
	return &throttled{Value: source.NewValue(report.Throttled, parseThrottled, func() []string {
		// soc/soc:firmware; where the device tree gives the bus an address, its
		// name carries that too.
		found, err := filepath.Glob(filepath.Join(r.Sysfs, "devices/platform/soc*/soc*:firmware/get_throttled"))
		if err != nil {
			return nil // a root with a broken pattern has none
		}
		return found
	})}
}

// Prompt is source.Prompt's.
func (f *throttled) Prompt() bool { return f.skipped || f.Value.Prompt() }

func (f *throttled) Read(t *report.Tick, scratch []byte) error {
	if f.skipped = source.Has(t, report.Throttled); f.skipped {
		return nil
	}
	return f.Value.Read(t, scratch)
}

// parseThrottled reads hexadecimal bits and keeps those of now.
func parseThrottled(b []byte) (int64, error) {
	v, err := source.Hex(b)
	return int64(v & nowBits), err
}
