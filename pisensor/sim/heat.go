package sim

// second is the model's step. The fastest time constant of a board, SoC to
// plate, is about a second; the step is implicit, so that it is stable anyway.
const second = 1.0

// heat holds the two temperatures of a board, in °C, and the coefficients of
// one implicit Euler step of one second.
type heat struct {
	soc, plate float64

	resistance         float64 // plate → air, for which the coefficients hold
	a11, a12, a22, air float64
	socMass, plateMass float64
}

// settle puts the temperatures where they stay at constant powers.
func (h *heat) settle(m *Model, socWatts, air, cooling float64) {
	h.plate = air + (socWatts+m.OtherWatts)*m.Plate.Kelvins*cooling
	h.soc = h.plate + socWatts*m.SoC.Kelvins
}

// prepare inverts the step's matrix for a resistance between plate and air.
func (h *heat) prepare(m *Model, resistance float64) {
	h.resistance = resistance
	h.socMass, h.plateMass, h.air = m.SoC.Joules/second, m.Plate.Joules/second, 1/resistance
	between := 1 / m.SoC.Kelvins
	m11, m22 := h.socMass+between, h.plateMass+between+h.air
	det := m11*m22 - between*between
	h.a11, h.a12, h.a22 = m22/det, between/det, m11/det
}

// step advances one second: the SoC's power flows into the SoC, from there
// into the plate, which has its own power, and from there into the air.
func (h *heat) step(m *Model, socWatts, air, cooling float64) {
	if r := m.Plate.Kelvins * cooling; r != h.resistance {
		h.prepare(m, r)
	}
	x1 := h.socMass*h.soc + socWatts
	x2 := h.plateMass*h.plate + m.OtherWatts + air*h.air
	h.soc, h.plate = h.a11*x1+h.a12*x2, h.a12*x1+h.a22*x2
}
