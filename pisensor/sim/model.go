package sim

// Model describes one Raspberry Pi model: its names, its clocks, its sensor, and the constants of
// its heat. The thermal constants, powers and clock steps are fitted to recordings of real boards;
// docs/simulation.md says how well.
type Model struct {
	Name     string // short name, such as 3B+
	Board    string // as in /proc/device-tree/model
	Revision string // board revision code
	Cores    int
	MemoryKB int64 // MemTotal

	MinMHz, MaxMHz float64   // cpufreq limits
	Volts          []Voltage // core voltage by clock, ascending
	Register       Register  // how the SoC's sensor counts

	// SoftLimit is the temperature in °C above which the firmware caps the
	// clock at SoftMHz (3B+ only: temp_soft_limit=60). 0 = none.
	SoftLimit, SoftMHz float64

	IdleWatts   float64 // the SoC with all cores asleep
	OtherWatts  float64 // heat of the rest of the board
	WattsPerGHz float64 // one busy core at 1 V and 1 GHz
	Vector      float64 // power of vector code relative to integer code

	SoC, Plate Mass // the SoC, warming the plate; the plate (board, heat sink), warming the air
	Fan        bool // the active cooler of the Pi 5
}

// Voltage is the core voltage up to a clock.
type Voltage struct{ MHz, Volts float64 }

// Mass is a thermal mass and the resistance towards the next colder one.
type Mass struct {
	Joules  float64 // J/K
	Kelvins float64 // K/W
}

// Register says how a SoC's temperature sensor counts, as in the device tree's
// thermal coefficients: temperature = Offset − Step × n, both in m°C.
type Register struct{ Offset, Step int64 }

// The sensors' coefficients in raspberrypi/linux (bcm283x.dtsi, bcm2837.dtsi,
// bcm2711.dtsi, bcm2712.dtsi).
var (
	bcm2835 = Register{407000, 538}
	bcm2837 = Register{412000, 538}
	bcm2711 = Register{410040, 487}
	bcm2712 = Register{450000, 550}
)

// quantise returns the sensor's value at a temperature in °C: the nearest one that the register can
// hold, in m°C.
func (r Register) quantise(celsius float64) int64 {
	n := (float64(r.Offset)-celsius*1000)/float64(r.Step) + 0.5
	return r.Offset - r.Step*int64(n)
}

// volts returns the core voltage at a clock.
func (m *Model) volts(mhz float64) float64 {
	for _, v := range m.Volts {
		if mhz <= v.MHz {
			return v.Volts
		}
	}
	return m.Volts[len(m.Volts)-1].Volts
}

// Models are the models that can be simulated. They are shared and must not be changed.
var Models = []*Model{
	{
		Name: "Zero W", Board: "Raspberry Pi Zero W Rev 1.1", Revision: "9000c1", Cores: 1, MemoryKB: 443_080,
		MinMHz: 700, MaxMHz: 1000, Volts: []Voltage{{700, 1.2}, {1000, 1.35}}, Register: bcm2835,
		IdleWatts: 0.35, OtherWatts: 0.15, WattsPerGHz: 0.28, Vector: 1,
		SoC: Mass{1.77, 1.80}, Plate: Mass{46.5, 39},
	},
	{
		Name: "1B", Board: "Raspberry Pi Model B Rev 2", Revision: "000e", Cores: 1, MemoryKB: 443_080,
		MinMHz: 700, MaxMHz: 700, Volts: []Voltage{{700, 1.2}}, Register: bcm2835,
		IdleWatts: 0.5, OtherWatts: 1.2, WattsPerGHz: 0.3, Vector: 1,
		SoC: Mass{7.84, 5.92}, Plate: Mass{50.8, 12},
	},
	{
		Name: "2B", Board: "Raspberry Pi 2 Model B Rev 1.1", Revision: "a01041", Cores: 4, MemoryKB: 944_264,
		MinMHz: 600, MaxMHz: 900, Volts: []Voltage{{600, 1.2}, {900, 1.3125}}, Register: bcm2835,
		IdleWatts: 0.6, OtherWatts: 0.7, WattsPerGHz: 0.2, Vector: 1.57,
		SoC: Mass{2.22, 12.27}, Plate: Mass{126, 15},
	},
	{
		Name: "3B", Board: "Raspberry Pi 3 Model B Rev 1.2", Revision: "a02082", Cores: 4, MemoryKB: 944_264,
		MinMHz: 600, MaxMHz: 1200, Volts: []Voltage{{600, 1.2}, {1200, 1.3188}}, Register: bcm2837,
		IdleWatts: 0.7, OtherWatts: 0.8, WattsPerGHz: 0.375, Vector: 1.06,
		SoC: Mass{2.48, 5.36}, Plate: Mass{27.6, 8},
	},
	{
		Name: "3B+", Board: "Raspberry Pi 3 Model B Plus Rev 1.3", Revision: "a020d3", Cores: 4, MemoryKB: 944_264,
		MinMHz: 600, MaxMHz: 1400, Volts: []Voltage{{600, 1.2}, {1200, 1.2313}, {1400, 1.3250}}, Register: bcm2837,
		SoftLimit: 60, SoftMHz: 1200,
		IdleWatts: 0.9, OtherWatts: 1.2, WattsPerGHz: 0.35, Vector: 1.23,
		SoC: Mass{4.40, 3.43}, Plate: Mass{48.3, 9},
	},
	{
		Name: "Zero 2 W", Board: "Raspberry Pi Zero 2 W Rev 1.0", Revision: "902120", Cores: 4, MemoryKB: 437_560,
		MinMHz: 600, MaxMHz: 1000, Volts: []Voltage{{600, 1.2}, {1000, 1.2188}}, Register: bcm2837,
		IdleWatts: 0.5, OtherWatts: 0.2, WattsPerGHz: 0.325, Vector: 1.22,
		SoC: Mass{1.30, 4.90}, Plate: Mass{16.5, 17},
	},
	{
		Name: "4B", Board: "Raspberry Pi 4 Model B Rev 1.4", Revision: "c03114", Cores: 4, MemoryKB: 3_885_396,
		MinMHz: 600, MaxMHz: 1800, Volts: []Voltage{{600, 0.8375}, {1500, 0.8438}, {1800, 0.8938}}, Register: bcm2711,
		IdleWatts: 1.5, OtherWatts: 1.2, WattsPerGHz: 0.75, Vector: 1.53,
		SoC: Mass{0.97, 0.87}, Plate: Mass{123, 6.5},
	},
	{
		Name: "400", Board: "Raspberry Pi 400 Rev 1.0", Revision: "c03130", Cores: 4, MemoryKB: 3_885_396,
		MinMHz: 600, MaxMHz: 1800, Volts: []Voltage{{600, 0.8600}, {1800, 0.9200}}, Register: bcm2711,
		IdleWatts: 1.5, OtherWatts: 1.2, WattsPerGHz: 0.75, Vector: 1.22,
		SoC: Mass{1.61, 1.01}, Plate: Mass{23.7, 1.6},
	},
	{
		Name: "CM4", Board: "Raspberry Pi Compute Module 4 Rev 1.1", Revision: "b03141", Cores: 4, MemoryKB: 1_937_768,
		MinMHz: 600, MaxMHz: 1500, Volts: []Voltage{{600, 0.8375}, {1500, 0.8438}}, Register: bcm2711,
		IdleWatts: 1.5, OtherWatts: 0.8, WattsPerGHz: 0.75, Vector: 1.53,
		SoC: Mass{0.97, 0.87}, Plate: Mass{80, 7},
	},
	{
		Name: "5", Board: "Raspberry Pi 5 Model B Rev 1.0", Revision: "c04170", Cores: 4, MemoryKB: 4_148_800,
		MinMHz: 1500, MaxMHz: 2400, Volts: []Voltage{{1500, 0.7200}, {2400, 0.8738}}, Register: bcm2712,
		IdleWatts: 2.2, OtherWatts: 1.0, WattsPerGHz: 0.4375, Vector: 1,
		SoC: Mass{3.45, 1.85}, Plate: Mass{46.5, 7}, Fan: true,
	},
}

// ModelNamed returns the model of that short name, or nil.
func ModelNamed(name string) *Model {
	for _, m := range Models {
		if m.Name == name {
			return m
		}
	}
	return nil
}
