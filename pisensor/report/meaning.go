package report

import "strings"

// Meaning describes a series to people and programs.
type Meaning struct {
	Help string // one sentence
	Unit string // the base unit in the series' name, such as "celsius"; empty for a plain number
}

// meanings are those of all series that a board's metrics become, by name. A test compares them with the definitions.
var meanings = map[string]Meaning{
	"pi_soc_temperature_celsius":       {"Temperature of the SoC.", "celsius"},
	"pi_cpu_clock_hertz":               {"CPU clock by source: requested by the kernel, measured by the firmware (the true one under throttling), maximum of the board.", "hertz"},
	"pi_throttled":                     {"Whether the firmware acts now, 0 or 1, by reason.", ""},
	"pi_supply_fault":                  {"What is wrong with the supply: 0 nothing, 1 a dip since the last reading, 2 too low a voltage now; none in the first minute after a boot.", ""},
	"pi_cpu_busy_seconds_total":        {"CPU time of all cores that was not idle.", "seconds"},
	"pi_core_volts":                    {"Core voltage of the SoC.", "volts"},
	"pi_fan_rpm":                       {"Speed of the fan, in revolutions a minute.", "rpm"},
	"pi_load1":                         {"Load average of one minute.", ""},
	"pi_memory_available_bytes":        {"Memory that programs can still have without swapping.", "bytes"},
	"pi_clock_offset_seconds":          {"The board's wall clock minus the collector's.", "seconds"},
	"pi_network_receive_bytes_total":   {"Bytes received, by network device.", "bytes"},
	"pi_network_transmit_bytes_total":  {"Bytes sent, by network device.", "bytes"},
	"pi_network_errors_total":          {"Errors of receiving and sending, by network device.", ""},
	"pi_network_carrier_changes_total": {"How often the link came or went, by network device.", ""},
	"pi_nfs_rtt_seconds":               {"Mean round trip of the root file system's NFS operations, by operation.", "seconds"},
	"pi_nfs_retransmissions_total":     {"NFS requests that were sent again.", ""},
	"pisensor_cpu_seconds_total":       {"CPU time that the sensor has used.", "seconds"},
	"pisensor_resident_memory_bytes":   {"Resident memory of the sensor.", "bytes"},
	"pisensor_wakeups_total":           {"How often the sensor woke up.", ""},
	"pisensor_spool_readings":          {"Readings that wait for the collector's acknowledgement.", ""},
	"pisensor_dropped_readings_total":  {"Readings that a full spool or a crash lost.", ""},
	"pisensor_read_errors_total":       {"Readings that a source refused, by source.", ""},
}

// MeaningOf returns the meaning of a series by its name, such as pi_load1. It
// reports false for a name that no board's metric becomes.
func MeaningOf(series string) (Meaning, bool) {
	m, ok := meanings[series]
	return m, ok
}

// IsCounter reports whether a series only grows, but for restarts: its name
// says so.
func IsCounter(series string) bool { return strings.HasSuffix(series, "_total") }

// SeriesNames returns the names of all series that a board's metrics become,
// in the order of the metrics' numbers, each once.
func SeriesNames() []string {
	var names []string
	seen := map[string]bool{}
	for i := range definitions {
		if name := definitions[i].Name; name != "" && !definitions[i].Retired && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
