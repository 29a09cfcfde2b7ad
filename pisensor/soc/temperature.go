package soc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
)

// zones are the types of thermal zone that measure the processor, by age: the
// Pi's device trees, the old bcm2835 driver, and the usual names elsewhere.
var zones = []string{"cpu-thermal", "cpu_thermal", "bcm2835_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp"}

// temperaturePaths finds the processor's thermal zone, and where there is none
// the same sensor under hwmon. Only the first is read: they are one sensor.
func temperaturePaths(r Roots) []string {
	found := named(filepath.Join(r.Sysfs, "class/thermal/thermal_zone*"), "type", zones, "temp")
	return append(found, named(filepath.Join(r.Sysfs, "class/hwmon/hwmon*"), "name", zones[:2], "temp1_input")...)
}

// named returns file in each directory whose label file holds one of the names,
// in the order of the names.
func named(pattern, label string, names []string, file string) []string {
	directories, err := filepath.Glob(pattern)
	if err != nil {
		return nil // a root with a broken pattern has no sensors
	}
	found := make([]string, len(names))
	for _, d := range directories {
		b, err := os.ReadFile(filepath.Join(d, label))
		if err != nil {
			continue
		}
		if i := slices.Index(names, string(bytes.TrimSpace(b))); i >= 0 && found[i] == "" {
			found[i] = filepath.Join(d, file)
		}
	}
	return slices.DeleteFunc(found, func(s string) bool { return s == "" })
}

// parseTemperature reads m°C.
func parseTemperature(b []byte) (int64, error) { return parseInteger(b) }
