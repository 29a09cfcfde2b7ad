package soc

import (
	"errors"
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// nowBits are the throttle bits of the present; bits 16–19 hold events since boot
// (raspberrypi/firmware, tag GET_THROTTLED).
const nowBits = 0xf

// underVoltageBit is the first of them.
const underVoltageBit = 1

// throttled is the firmware driver's copy of the throttle bits, which anybody may read. The driver
// refreshes it only when somebody in the kernel asks the firmware, and in practice that is
// raspberrypi-hwmon's poll every 2 s (drivers/firmware/raspberrypi.c, rpi_firmware_get_throttled;
// public report raspberrypi/linux#2367): without an rpi_volt device the copy holds the state at
// boot for ever, and is no reading. The kernel calls the file deprecated and warns once in its log
// when it is first read, so it is read only where the mailbox has not answered.
type throttled struct {
	*source.Value
	poll    *source.Value // rpi_volt's alarm: the copy is fresh while it can be read
	skipped bool          // the last read was not needed
}

func newThrottled(r source.Roots) *throttled {
	return &throttled{poll: newAlarm(r), Value: source.NewValue(report.Throttled, parseThrottled, func() []string {
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
func (f *throttled) Prompt() bool { return f.skipped || f.poll.Prompt() && f.Value.Prompt() }

func (f *throttled) Read(t *report.Tick, scratch []byte) error {
	if f.skipped = source.Has(t, report.Throttled); f.skipped {
		return nil
	}
	if _, err := f.poll.Get(scratch); err != nil {
		return source.ErrAbsent // a failure of the alarm is counted where it is read for itself
	}
	return f.Value.Read(t, scratch)
}

// Close closes both files.
func (f *throttled) Close() error { return errors.Join(f.poll.Close(), f.Value.Close()) }

// parseThrottled reads hexadecimal bits and keeps those of now.
func parseThrottled(b []byte) (int64, error) {
	v, err := source.Hex(b)
	return int64(v & nowBits), err
}
