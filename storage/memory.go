package storage

import (
	"fmt"
	"math"
	"runtime/debug"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/cgroup"
)

// Caches take a quarter of the memory unless told otherwise, since the collector shares its machine; more
// than 60 % (the engine's own default) would leave too little for queries and the page cache.
const (
	defaultShare = 25
	maxShare     = 60
)

// memoryFlag returns the engine's flag for the wanted size of its caches; 0 wants the default. The engine
// ends the process when it is told more than the machine has.
func memoryFlag(want int64) (name, value string) {
	total := min(MachineMemory(), debug.SetMemoryLimit(-1))
	switch {
	case total == math.MaxInt64 && want == 0:
		return "memory.allowedPercent", fmt.Sprint(defaultShare)
	case total == math.MaxInt64: // the machine's memory is unknown here
		return "memory.allowedBytes", fmt.Sprint(want)
	case want == 0:
		return "memory.allowedBytes", fmt.Sprint(total / 100 * defaultShare)
	}
	return "memory.allowedBytes", fmt.Sprint(min(want, total/100*maxShare))
}

// MachineMemory returns how much memory this process may have, in bytes: the lesser of the machine's and the
// control group's limit, math.MaxInt64 when neither is known.
func MachineMemory() int64 {
	total := min(machineMemory(), groupMemory())
	if limit := cgroup.GetMemoryLimit(); limit > 0 {
		total = min(total, limit)
	}
	return total
}
