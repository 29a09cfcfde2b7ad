package report

// Metric is a metric's number on the wire. Numbers are never used again for
// another meaning; new ones are added at the end.
type Metric uint16

// The metrics, each with its wire unit: the unit that the source delivers, so
// that nothing is rounded on the board.
const (
	SOCTemperature     Metric = 1  // m°C, as in thermal_zone*/temp
	ClockRequested     Metric = 2  // kHz, as in cpufreq/scaling_cur_freq
	ClockMeasured      Metric = 3  // MHz, firmware tag 0x00030047 rounded: its last digits are noise
	Throttled          Metric = 4  // bits 0–3 of firmware tag 0x00030046
	CPUBusy            Metric = 5  // 10 ms, USER_HZ of /proc/stat
	CoreVolts          Metric = 6  // 100 µV, the four decimals of the firmware's answer
	FanSpeed           Metric = 7  // rpm
	Load1              Metric = 8  // 0.01, as in /proc/loadavg
	MemoryAvailable    Metric = 9  // KiB, as in /proc/meminfo
	BootTime           Metric = 10 // retired: ms since 1970 by the board's own clock, which a step moves; older sensors send it, the collector ignores it
	ClockOffset        Metric = 11 // ms, board's wall clock minus the collector's
	NetworkReceive     Metric = 12 // bytes, instance = device
	NetworkTransmit    Metric = 13 // bytes, instance = device
	NetworkErrors      Metric = 14 // count, instance = device
	NetworkCarrier     Metric = 15 // count, instance = device
	NFSRTT             Metric = 16 // µs, instance = operation
	NFSRetransmissions Metric = 17 // count
	SensorCPU          Metric = 18 // ms
	SensorMemory       Metric = 19 // KiB
	SensorWakeups      Metric = 20 // count
	SensorSpool        Metric = 21 // readings
	SensorDropped      Metric = 22 // readings that a full spool or a crash lost
	SensorReadErrors   Metric = 23 // count, instance = source
	ClockMaximum       Metric = 24 // kHz, as in cpufreq/scaling_max_freq
	// UnderVoltage is bit 0 of Throttled alone, 0 or 1, of a board whose kernel
	// watches the supply and whose firmware cannot be asked: as in rpi_volt's
	// in0_lcrit_alarm. The other bits are then not known. A board sends one of
	// the two, since both are the same series.
	UnderVoltage Metric = 25
	// SupplyFault is the state of the supply: 0 good, SupplyDipped a dip since the last reading,
	// SupplyLow too low a voltage now. A board sends none in the first minute after its boot, when
	// the supply dips by itself.
	SupplyFault Metric = 26
)

// Values of SupplyFault. A board whose firmware cannot be asked never says SupplyLow: its kernel
// reports dips alone.
const (
	SupplyDipped = 1
	SupplyLow    = 2
)

// Definition says how a metric becomes series in base units.
type Definition struct {
	Name          string   // the series' name
	Label, Value  string   // a fixed label, or empty
	InstanceLabel string   // the label that the instance becomes, or empty
	Bits          []string // where set, value bit i is a series of its own, 0 or 1, labelled reason=Bits[i]
	Retired       bool     // only older sensors send it, and no series is made of it

	// A wire value v is v × Multiply ÷ Divide base units. Division by a power
	// of ten keeps decimals exact: 46698 m°C is 46.698, not 46.69800000000001.
	Multiply, Divide float64
	Min, Max         int64 // plausible wire values; others are dropped and counted
}

// Base returns wire value v in base units (°C, Hz, V, s, bytes).
func (d *Definition) Base(v int64) float64 { return float64(v) * d.Multiply / d.Divide }

// Reasons are the throttle bits 0–3 in the firmware's order
// (raspberrypi/firmware, tag GET_THROTTLED).
var Reasons = []string{"under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"}

// counter is the range of a counter: it only has to fit a float64 exactly.
const counter = 1 << 53

// definitions is indexed by metric number. Ranges are wide: they refuse
// nonsense, not extremes. 10 GHz and 200 °C are beyond any Pi; the SoC's
// sensor register (bcm2835_thermal) cannot say less than −273 °C.
var definitions = []Definition{
	SOCTemperature:     {Name: "pi_soc_temperature_celsius", Divide: 1e3, Min: -100e3, Max: 200e3},
	ClockRequested:     {Name: "pi_cpu_clock_hertz", Label: "source", Value: "requested", Multiply: 1e3, Max: 10e6},
	ClockMeasured:      {Name: "pi_cpu_clock_hertz", Label: "source", Value: "measured", Multiply: 1e6, Max: 10e3},
	Throttled:          {Name: "pi_throttled", Bits: Reasons, Max: 15},
	CPUBusy:            {Name: "pi_cpu_busy_seconds_total", Divide: 100, Max: counter},
	CoreVolts:          {Name: "pi_core_volts", Divide: 1e4, Max: 10e4},
	FanSpeed:           {Name: "pi_fan_rpm", Max: 100e3},
	Load1:              {Name: "pi_load1", Divide: 100, Max: 1e9},
	MemoryAvailable:    {Name: "pi_memory_available_bytes", Multiply: 1024, Max: 1 << 40},
	BootTime:           {Name: "pi_boot_time_seconds", Divide: 1e3, Max: counter, Retired: true},
	ClockOffset:        {Name: "pi_clock_offset_seconds", Divide: 1e3, Min: -counter, Max: counter},
	NetworkReceive:     {Name: "pi_network_receive_bytes_total", InstanceLabel: "device", Max: counter},
	NetworkTransmit:    {Name: "pi_network_transmit_bytes_total", InstanceLabel: "device", Max: counter},
	NetworkErrors:      {Name: "pi_network_errors_total", InstanceLabel: "device", Max: counter},
	NetworkCarrier:     {Name: "pi_network_carrier_changes_total", InstanceLabel: "device", Max: counter},
	NFSRTT:             {Name: "pi_nfs_rtt_seconds", InstanceLabel: "op", Divide: 1e6, Max: counter},
	NFSRetransmissions: {Name: "pi_nfs_retransmissions_total", Max: counter},
	SensorCPU:          {Name: "pisensor_cpu_seconds_total", Divide: 1e3, Max: counter},
	SensorMemory:       {Name: "pisensor_resident_memory_bytes", Multiply: 1024, Max: 1 << 40},
	SensorWakeups:      {Name: "pisensor_wakeups_total", Max: counter},
	SensorSpool:        {Name: "pisensor_spool_readings", Max: counter},
	SensorDropped:      {Name: "pisensor_dropped_readings_total", Max: counter},
	SensorReadErrors:   {Name: "pisensor_read_errors_total", InstanceLabel: "source", Max: counter},
	ClockMaximum:       {Name: "pi_cpu_clock_hertz", Label: "source", Value: "maximum", Multiply: 1e3, Max: 10e6},
	UnderVoltage:       {Name: "pi_throttled", Label: "reason", Value: "under_voltage", Max: 1},
	SupplyFault:        {Name: "pi_supply_fault", Max: SupplyLow},
}

func init() {
	for i := range definitions {
		d := &definitions[i]
		d.Multiply, d.Divide = max(d.Multiply, 1), max(d.Divide, 1)
	}
}

// Define returns the metric's definition, or nil for a number that this build
// does not know. The result is shared and must not be changed.
func Define(m Metric) *Definition {
	if int(m) >= len(definitions) || definitions[m].Name == "" {
		return nil
	}
	return &definitions[m]
}

// AttributeKey is the number of a fact in the board's description, which
// becomes a label of pi_info.
type AttributeKey uint8

// The facts of a board's description.
const (
	AttributeModel    AttributeKey = 1
	AttributeRevision AttributeKey = 2
	AttributeKernel   AttributeKey = 3
	AttributeFirmware AttributeKey = 4
	AttributeOS       AttributeKey = 5
	AttributeSensor   AttributeKey = 6
	AttributeBootID   AttributeKey = 7
	AttributeSerial   AttributeKey = 8
)

var attributeNames = []string{
	AttributeModel: "model", AttributeRevision: "revision", AttributeKernel: "kernel", AttributeFirmware: "firmware",
	AttributeOS: "os", AttributeSensor: "sensor", AttributeBootID: "boot_id", AttributeSerial: "serial",
}

// String returns the label name of the fact, or an empty string for a number
// that this build does not know.
func (k AttributeKey) String() string {
	if int(k) < len(attributeNames) {
		return attributeNames[k]
	}
	return ""
}
