package soc

import (
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

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
