package soc

import "path/filepath"

// clockPaths are where the kernel says which clock it has asked for. Under
// throttling the true clock is lower: only the firmware knows it.
func clockPaths(r Roots) func() []string {
	paths := []string{
		filepath.Join(r.Sysfs, "devices/system/cpu/cpufreq/policy0/scaling_cur_freq"),
		filepath.Join(r.Sysfs, "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
	}
	return func() []string { return paths }
}

// parseClock reads kHz.
func parseClock(b []byte) (int64, error) { return parseInteger(b) }
