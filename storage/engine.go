package storage

import (
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/netstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/memory"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"

	_ "bramble/storage/stdlog" // initialised before the engine's metrics
)

const (
	// maxRequests and maxQueue bound the HTTP queries that run and wait at one time in the process.
	maxRequests = 8
	maxQueue    = 10 * time.Second

	// dedupInterval makes redelivery idempotent: one value a series and millisecond.
	dedupInterval = time.Millisecond

	// diskFlushInterval is when the engine writes rows to disk by itself. Durability comes from Barrier, so
	// this only bounds memory; the engine's own 5 s would write six times as many small files.
	diskFlushInterval = 30 * time.Second

	// engineMinFree is the engine's own process-wide guard, below that of any store, so that background
	// merges stop before the disk is full.
	engineMinFree = 10 << 20

	// seldomTSIDs and seldomNames bound the caches of a store that is seldom written, in bytes.
	seldomTSIDs = 32 << 20
	seldomNames = 8 << 20

	// bytesPerSeries is the memory that one matched series costs a query, by VictoriaMetrics' own estimate.
	bytesPerSeries = 200
)

// engine holds VictoriaMetrics' state of the process: flags, caches, the query layer's hooks.
var engine process

type process struct {
	mu         sync.Mutex
	started    bool
	inspecting bool // it counts rather than serves
	stores     int
	maxSeries  int // how many series one query may match
}

// acquire sets the engine up for the process's first store, and gives queries a directory for temporary
// files: that of the store which was opened first among those that are open.
func (p *process) acquire(dir string, o Options) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	engineLog.use(o.Log)
	if !p.started {
		if err := p.start(dir, o.MemoryBytes); err != nil {
			return err
		}
		p.started = true
	} else if p.stores == 0 {
		netstorage.InitTmpBlocksDir(filepath.Join(dir, "tmp"))
	}
	p.stores++
	return nil
}

// open turns the engine's panic into an error. A panic in one of its goroutines cannot be caught; checkFiles has ruled
// out the known causes before.
func (p *process) open(dir string, retention time.Duration, seldomWritten bool) (db *vm.Storage, err error) {
	p.mu.Lock() // the sizes of caches are the process's, and in force at the time of opening
	defer p.mu.Unlock()
	defer func() {
		p := recover()
		switch text := fmt.Sprint(p); {
		case p == nil:
		case IsWant([]byte(text)):
			err = fmt.Errorf("%w: %s", ErrWant, text)
		default:
			err = fmt.Errorf("%w: %v; restore it from a backup", ErrDamaged, p)
		}
	}()
	tsids, names := 0, 0 // shares of the memory limit
	if seldomWritten {
		tsids, names = seldomTSIDs, seldomNames
	}
	vm.SetTSIDCacheSize(tsids)
	vm.SetMetricNameCacheSize(names)
	return vm.MustOpenStorage(dir, vm.OpenOptions{Retention: retention}), nil
}

func (p *process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stores--
}

func (p *process) start(dir string, memoryBytes int64) error {
	if err := setFlags(dir, memoryBytes); err != nil {
		return err
	}
	logger.InitNoLogFlags()
	logger.SetOutputForTests(engineLog)
	vm.SetDedupInterval(dedupInterval)
	vm.SetDataFlushInterval(diskFlushInterval)
	vm.SetFreeDiskSpaceLimit(engineMinFree)
	p.maxSeries = memory.Remaining() / bytesPerSeries / maxRequests
	vmstorage.VMSelectAPI = selectAPI{}
	vmstorage.GetSearch = getSearch
	vmstorage.PutSearch = putSearch
	vmselect.Init(maxRequests, maxQueue)
	return nil
}

// serveExplorer prepares the process for vmui's files, which need the engine's flags and nothing else.
func (p *process) serveExplorer(dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return nil
	}
	return setFlags(dir, 0)
}

// setFlags configures the engine through the only way it offers: its flags on flag.CommandLine. Programs
// that embed this package parse their command lines with a FlagSet of their own.
func setFlags(dir string, memoryBytes int64) error {
	flags := map[string]string{
		"storageDataPath":         dir, // of the query layer's temporary files only
		"loggerLevel":             "WARN",
		"loggerDisableTimestamps": "true",
		// The default hides the last 30 s from queries.
		"search.latencyOffset": "0s",
		// The default has the step that has just begun repeat the value of the one before it.
		"search.maxStepForPointsAdjustment": "0s",
		// Late rows are the rule here: boards deliver their backlog. The cache would answer without them.
		"search.disableCache": "true",
		// The query API is used by our own origin and with tokens, not from foreign pages.
		"http.disableCORS": "true",
	}
	name, value := memoryFlag(memoryBytes)
	flags[name] = value
	for name, value := range flags {
		if err := flag.Set(name, value); err != nil {
			return fmt.Errorf("set engine flag %s=%s: %w", name, value, err)
		}
	}
	if !flag.Parsed() { // the engine panics on unparsed flags
		return flag.CommandLine.Parse(nil)
	}
	return nil
}
