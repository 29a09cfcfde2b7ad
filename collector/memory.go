package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync"

	"bramble/storage"
)

// goShare is the percentage of the memory that Go's heap may take before the
// garbage collector works harder. The store's caches, of which a part is not
// Go's, have a quarter; SQLite and the page cache need the rest.
const goShare = 60

// gcPercent makes the collector small rather than fast once it has started: most of its memory is the store's caches, and it
// has CPU to spare. A start would spend a tenth of its time on it. GOGC in the environment wins.
const gcPercent = 40

func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// limitMemory tells Go how much memory there is, so that a small machine or a
// small container makes the collector slower rather than dead. It comes after
// the store was opened, which divides the same memory. GOMEMLIMIT in the
// environment wins.
func limitMemory(log *slog.Logger) {
	limitOnce.Do(func() {
		total := storage.MachineMemory()
		if os.Getenv("GOMEMLIMIT") != "" || total == math.MaxInt64 {
			return
		}
		limit := total / 100 * goShare
		debug.SetMemoryLimit(limit)
		log.Debug("memory limit", "machine_bytes", total, "go_bytes", limit)
	})
}

var limitOnce sync.Once
