package soc

import (
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// zones are the types of thermal zone that measure the processor, by age: the
// Pi's device trees, the old bcm2835 driver, and the usual names elsewhere.
// Other zones (a graphics core, a radio, a battery) are not the SoC's.
var zones = []string{"cpu-thermal", "cpu_thermal", "bcm2835_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp"}

// temperature is the processor's thermal zone, and where there is none the
// same sensor under hwmon. Only the first is read: they are one sensor.
//
// The drivers answer EIO while the sensor's valid bit is clear. That tick has
// no temperature; the next one asks again.
func temperature(r source.Roots) *source.Value {
	return source.NewValue(report.SOCTemperature, source.Integer, func() []string { // m°C
		found := source.Labelled(filepath.Join(r.Sysfs, "class/thermal/thermal_zone*"), "type", zones, "temp")
		return append(found, source.Labelled(hwmon(r), "name", zones[:2], "temp1_input")...)
	})
}

// hwmon matches the directories of all hwmon devices.
func hwmon(r source.Roots) string { return filepath.Join(r.Sysfs, "class/hwmon/hwmon*") }
