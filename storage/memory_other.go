//go:build !linux

package storage

import "math"

// machineMemory is not known here; the engine finds out by itself.
func machineMemory() int64 { return math.MaxInt64 }

func groupMemory() int64 { return math.MaxInt64 }
