package rack

import (
	"fmt"
	"math/rand/v2"

	"bramble/pisensor/sim"
)

// Placement is one simulated board and its place. Names are fixed by the
// number of boards and the seed.
type Placement struct {
	Board    string // r1-a-03: rack r1, switch a, third port
	Rack     string // r1
	Switch   string // r1-a
	Customer string
	Model    string // short name of a model of package sim

	seed             uint64
	ambient, cooling float64
}

// Labels are the board's labels in the registry.
func (p Placement) Labels() map[string]string {
	return map[string]string{"rack": p.Rack, "switch": p.Switch, "customer": p.Customer, "model": p.Model}
}

// mix is the models in the racks of a hosting operator: most are newer models, and one of each of
// the others.
var mix = []string{"4B", "3B", "3B+", "5", "CM4", "3B", "4B", "Zero 2 W", "5", "2B", "3B+", "4B", "400", "3B", "5", "Zero W", "CM4", "4B", "1B", "3B"}

var customers = []string{"alder", "birch", "cedar", "dogwood", "elder", "fir"}

// switches returns how many boards hang on a switch and how many switches are
// in a rack: small ones for a room that fits a page, the published racks'
// (48 ports, 400 boards) for a large one.
func switches(boards int) (ports, perRack int) {
	switch {
	case boards <= 48:
		return 4, 2
	case boards <= 240:
		return 12, 4
	}
	return 48, 8
}

// Plan places n boards, filling one switch after the other. The same n and
// seed give the same plan; n below 1 gives none.
func Plan(n int, seed uint64) []Placement {
	ports, perRack := switches(n)
	dice := rand.New(rand.NewPCG(seed, uint64(n)))
	plan := make([]Placement, max(n, 0))
	for i := range plan {
		sw := i / ports
		rack, port := sw/perRack, i%ports
		p := Placement{Rack: fmt.Sprintf("r%d", rack+1), Model: mix[i%len(mix)], seed: dice.Uint64()}
		p.Switch = fmt.Sprintf("%s-%c", p.Rack, 'a'+sw%perRack)
		p.Board = fmt.Sprintf("%s-%02d", p.Switch, port+1)
		p.Customer = customers[(sw+port/2)%len(customers)]
		p.ambient = ambient(rack, float64(i%(ports*perRack))/float64(ports*perRack))
		p.cooling = 0.55 + 0.15*dice.Float64()
		plan[i] = p
	}
	return plan
}

// ambient is the air at a place: racks stand further from the cooling one
// after the other, and a rack is 3 °C warmer at its top.
func ambient(rack int, height float64) float64 {
	return 20.5 + 0.8*float64(rack%4) + 3*height
}

// load returns the load that the board's customer puts on it.
func (p Placement) load(m *sim.Model) sim.Load {
	cores := float64(m.Cores)
	switch p.seed % 8 {
	case 0, 1:
		return sim.Cron(p.seed)
	case 2, 3, 4:
		return sim.Bursts(p.seed, cores)
	case 5:
		return sim.Builds(p.seed, cores*0.8)
	case 6:
		return sim.Steady(p.seed, cores*0.4)
	}
	return sim.Idle(p.seed)
}

func (p Placement) board(o *Options) *sim.Board {
	m := sim.ModelNamed(p.Model)
	return sim.New(sim.Options{
		Model: m, Seed: p.seed, Start: o.Start.Add(-max(o.Past, warmUp)), Load: p.load(m),
		Ambient: p.ambient, Cooling: p.cooling,
	})
}
