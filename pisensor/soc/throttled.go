package soc

import "path/filepath"

// nowBits are the throttle bits that say what is now; bits 16–19 say what has
// been since boot (raspberrypi/firmware, tag GET_THROTTLED).
const nowBits = 0xf

// throttledPaths is the firmware driver's cached copy of the throttle bits,
// for boards whose mailbox cannot be opened. The kernel calls it deprecated
// with one line in its log.
func throttledPaths(r Roots) func() []string {
	paths := []string{filepath.Join(r.Sysfs, "devices/platform/soc/soc:firmware/get_throttled")}
	return func() []string { return paths }
}

// parseThrottled reads hexadecimal bits and keeps those of now.
func parseThrottled(b []byte) (int64, error) {
	v, err := parseHex(b)
	return int64(v & nowBits), err
}
