package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"

	"bramble/collector/config"
	"bramble/storage"
)

// serveFlags override the config file.
type serveFlags struct {
	Config  string `help:"YAML file with the settings; see docs/configuration.md." placeholder:"FILE"`
	DataDir string `help:"Where everything is kept." placeholder:"DIR"`
	HTTP    string `name:"http" help:"Address of the pages and the API." placeholder:"ADDR"`
	NATS    string `name:"nats" help:"Address that boards connect to." placeholder:"ADDR"`

	UpgradeWithoutBackup bool `help:"Upgrade an older collector's data although no backup of it could be made."`
}

// config joins defaults, file and flags, in this order.
func (f *serveFlags) config() (config.Config, error) {
	c := config.Default
	if f.Config != "" {
		var err error
		if c, err = config.ReadToServe(f.Config); err != nil {
			return c, err
		}
	}
	for to, flag := range map[*string]string{&c.DataDir: f.DataDir, &c.HTTP: f.HTTP, &c.NATS: f.NATS} {
		if flag != "" {
			*to = flag
		}
	}
	c.UpgradeWithoutBackup = f.UpgradeWithoutBackup
	return c, c.Validate()
}

func runServe(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f serveFlags
	if help, err := parse("serve", "Runs the collector.", &f, args, stdout, stderr); help || err != nil {
		return err
	}
	c, err := f.config()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	a, err := openApp(ctx, c, variant{}, log)
	if err != nil {
		return err
	}
	if len(a.registry.Users()) == 0 {
		log.Warn("nobody can log in yet: make a login with `collector user add NAME --role admin --data-dir " + c.DataDir + "`")
	}
	if c.Backups.Every == 0 {
		log.Warn("no backups are scheduled: the `backups` block of the config file does that; `collector backup create` makes one")
	}
	log.Info("boards connect here", "url", a.broker.URL(), "pin", a.broker.Pin())
	if url := a.broker.WebSocketURL(); url != "" {
		log.Info("boards connect here, too", "url", url)
	}
	return errors.Join(a.run(ctx, stdout), a.close())
}

// readRules reads rule files, by their patterns.
func readRules(patterns []string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, p := range patterns {
		names, err := filepath.Glob(p)
		if err != nil || len(names) == 0 {
			return nil, fmt.Errorf("rules: no file matches %q", p)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read rules: %w", err)
			}
			files[name] = b
		}
	}
	return files, nil
}

// routing returns the alertmanager.yml in force, empty for the built-in one.
func (a *app) routing(v variant) ([]byte, error) {
	if v.alertmanager != nil || a.config.Alertmanager == "" {
		return v.alertmanager, nil
	}
	b, err := os.ReadFile(a.config.Alertmanager)
	if err != nil {
		return nil, fmt.Errorf("read alertmanager file: %w", err)
	}
	return b, nil
}

// reloadOnHangup takes over changed rules and routing on SIGHUP. What is broken
// keeps the old ones in force.
func (a *app) reloadOnHangup(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if err := a.reload(); err != nil {
				a.log.Error("reload failed: of each file that is wrong, the old one stays in force", "err", err)
				continue
			}
			a.log.Info("rules and routes reloaded")
		}
	}
}

// reload takes over each of the files that is sound; what is broken keeps its old one in force, and spoils no other.
func (a *app) reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	err := a.reloadRoutes()
	rules, rulesErr := a.takeRules()
	if rulesErr == nil {
		rulesErr = a.ingest.Commit(a.engine.SetRules(rules.WithOwn()))
	}
	err = errors.Join(err, rulesErr)
	a.noteLoading(err == nil)
	return err
}

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
