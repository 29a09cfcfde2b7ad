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

// requestedClock is the clock that the kernel has asked for, in kHz. Under
// throttling the true clock is lower: only the firmware knows it.
func requestedClock(r source.Roots) *source.Value {
	return cpufreq(r, report.ClockRequested, "scaling_cur_freq")
}

// maximumClock is the highest clock that the kernel may ask for, in kHz. An
// operator or a cooling device may lower it.
func maximumClock(r source.Roots) *source.Value {
	return cpufreq(r, report.ClockMaximum, "scaling_max_freq")
}

// cpufreq is a file of the first policy: on every Pi all cores have one clock.
// Kernels before 4.3 have it below each core only.
func cpufreq(r source.Roots, m report.Metric, file string) *source.Value {
	cpu := filepath.Join(r.Sysfs, "devices/system/cpu")
	return source.NewValue(m, source.Integer, source.At(
		filepath.Join(cpu, "cpufreq/policy0", file), filepath.Join(cpu, "cpu0/cpufreq", file)))
}

// fan is the speed of a fan that the kernel's pwm-fan driver can count, as on
// a Pi 5. The kernel says 0 also while the fan turns slowly
// (raspberrypi/linux#7556): 0 alone is no fault.
func fan(r source.Roots) *source.Value {
	return source.NewValue(report.FanSpeed, source.Integer, func() []string {
		return source.Labelled(hwmon(r), "name", []string{"pwmfan"}, "fan1_input")
	})
}
