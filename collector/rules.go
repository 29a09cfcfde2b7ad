package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/rehearse"
	"bramble/alerting/rules"
	"bramble/alerting/ruletest"
	"bramble/collector/admin"
	"bramble/collector/config"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	// testMemory bounds the caches of a rules test's store.
	testMemory = 64 << 20
	// testRetention lets tests begin in 1970, as promtool's do.
	testRetention = 99 * 365 * 24 * 60 * 60 * 1e9
)

// rulesGrammar is the commands behind `collector rules`.
type rulesGrammar struct {
	Check struct {
		Files []string `arg:"" name:"file" help:"Rule files, or patterns."`
	} `cmd:"" help:"Say what is wrong with rule files, and how their rules are decided."`
	Test struct {
		Files []string `arg:"" name:"file" help:"Tests in promtool's format."`
	} `cmd:"" help:"Run tests of rules, in promtool's format."`
	Rehearse rehearseGrammar `cmd:"" help:"Run rules over what is stored, and count the pages that they would have caused. Takes --data-dir DIR."`
}

func runRules(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	dir, args, err := admin.DataDir(args, config.Default.DataDir)
	if err != nil {
		return err
	}
	var g rulesGrammar
	k, err := parseCommand("rules", "Alerting rules.", &g, args, stdout, stderr)
	if k == nil || err != nil {
		return err
	}
	switch k.Command() {
	case "check <file>":
		return checkRules(g.Check.Files, stdout)
	case "rehearse <file>":
		return rehearseRules(ctx, dir, g.Rehearse, stdout, stderr)
	default:
		return ruletest.Run(ctx, g.Test.Files, stdout, openTestStore)
	}
}

func checkRules(files []string, stdout io.Writer) error {
	texts, err := readRules(files)
	if err != nil {
		return err
	}
	loaded, err := rules.Load(texts)
	if err != nil {
		return err
	}
	for _, w := range loaded.Warnings() {
		fmt.Fprintln(stdout, w)
	}
	onArrival, recording, all := 0, 0, 0
	for r := range loaded.All() {
		all++
		switch {
		case r.OnArrival():
			onArrival++
		case r.Record != "":
			recording++
		}
	}
	recorded := ""
	if recording > 0 {
		recorded = fmt.Sprintf(", %d recorded", recording)
	}
	_, err = fmt.Fprintf(stdout, "%d rules, %d of them decided on arrival of a reading%s\n", all, onArrival, recorded)
	return err
}

// openTestStore makes an empty store that its closer removes.
func openTestStore() (ruletest.Store, func() error, error) {
	dir, err := os.MkdirTemp("", "bramble-rules-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a directory for a rules test: %w", err)
	}
	store, err := storage.Open(dir, storage.Options{MemoryBytes: testMemory, Retention: testRetention})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return store, func() error { return errors.Join(store.Close(), os.RemoveAll(dir)) }, nil
}

// goodRules is the file in the data directory that holds the rule files which were in force last: a file that somebody
// broke must not keep the collector from starting after a power cut.
const goodRules = "rules.json"

// startRules loads the rule files, or the rules in force last where one of the files is broken.
func (a *app) startRules() (*rules.Rules, error) {
	broken := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "bramble_rules_broken", Help: "1 where the rule files were broken when they were last read: older rules are in force.",
	})
	a.rulesBroken = broken
	if err := a.metrics.Register(broken); err != nil {
		return nil, err
	}
	rules, err := a.takeRules()
	a.noteLoading(err == nil)
	if err == nil {
		return rules, nil
	}
	kept, keptErr := a.keptRules()
	if keptErr != nil {
		return nil, err
	}
	a.log.Error("rule files are broken: the rules that were in force last stay in force", "err", err)
	return kept, nil
}

// takeRules loads the rule files as they are now and keeps them for a start at which they are broken.
func (a *app) takeRules() (*rules.Rules, error) {
	a.rulesBroken.Set(0)
	if len(a.config.Rules) == 0 {
		return rules.Default(), nil
	}
	files, err := readRules(a.config.Rules)
	if err == nil {
		var loaded *rules.Rules
		if loaded, err = rules.Load(files); err == nil {
			a.keepRules(files)
			return loaded, nil
		}
	}
	a.rulesBroken.Set(1)
	return nil, err
}

// keepRules writes the files by rename. A disk that is full is no reason to refuse good rules.
func (a *app) keepRules(files map[string][]byte) {
	name := filepath.Join(a.config.DataDir, goodRules)
	b, err := json.Marshal(files)
	if err == nil {
		err = os.WriteFile(name+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		a.log.Warn("the rules in force are not kept for a start with broken files", "err", err)
	}
}

func (a *app) keptRules() (*rules.Rules, error) {
	b, err := os.ReadFile(filepath.Join(a.config.DataDir, goodRules))
	if err != nil {
		return nil, fmt.Errorf("read the rules that were in force last: %w", err)
	}
	var files map[string][]byte
	if err := json.Unmarshal(b, &files); err != nil {
		return nil, fmt.Errorf("decode the rules that were in force last: %w", err)
	}
	return rules.Load(files)
}

// lines are the thresholds of the rules in force that a sensor can watch itself.
func lines(e *rules.Engine) []report.Line {
	var all []report.Line
	temperature := report.Define(report.SOCTemperature)
	for _, t := range e.Thresholds(temperature.Name) {
		all = append(all, report.Line{Metric: report.SOCTemperature, Level: int64(math.Round(t * temperature.Divide))})
	}
	return all
}

const (
	// rehearseAtMost ends a rehearsal that asks for too much.
	rehearseAtMost = 15 * time.Minute
	// maxRehearsed bounds the rule files that go through the control socket, in bytes.
	maxRehearsed = 700_000
)

// rehearseGrammar is the command line of a person; admin's has the files' text in place of their names.
type rehearseGrammar struct {
	Since string   `default:"30d" help:"How far to go back, such as 30d or 12h."`
	Zone  string   `default:"UTC" help:"Time zone of the nights (22:00 to 07:00), such as Europe/Berlin."`
	JSON  bool     `name:"json" help:"Print JSON."`
	Files []string `arg:"" name:"file" help:"Rule files, or patterns."`
}

// rehearseRules sends rule files to the collector that holds the data directory, or runs them here while none does.
func rehearseRules(ctx context.Context, dir string, g rehearseGrammar, stdout, stderr io.Writer) error {
	files, err := readRules(g.Files)
	if err != nil {
		return err
	}
	if _, err := rules.Load(files); err != nil {
		return err
	}
	args, size := []string{"rules", "rehearse", "--since=" + g.Since, "--zone=" + g.Zone}, 0
	if g.JSON {
		args = append(args, "--json")
	}
	args = append(args, "--")
	for name, text := range files {
		args = append(args, name+"\n"+string(text))
		size += len(text)
	}
	if size > maxRehearsed {
		return fmt.Errorf("rehearse rules: the files have %d bytes, more than %d: give fewer", size, maxRehearsed)
	}
	return admin.Dispatch(ctx, dir, args, nil, stdout, stderr, func() (admin.State, func(), error) { return openRehearsal(ctx, dir) })
}

// openRehearsal opens registry and series. The caller holds the directory's lock.
func openRehearsal(ctx context.Context, dir string) (admin.State, func(), error) {
	s, done, err := openOffline(ctx, dir)
	if err != nil {
		return s, done, err
	}
	store, err := storage.Open(filepath.Join(dir, seriesDir), storage.Options{Retention: config.MaxRetention}) // opening drops nothing
	if err != nil {
		done()
		return s, nil, err
	}
	s.Rehearse = func(ctx context.Context, q admin.RehearseRequest) (*rehearse.Rehearsal, error) {
		return rehearseStored(ctx, store, placesOf(s.Registry), q)
	}
	return s, func() { store.Close(); done() }, nil
}

func rehearseStored(ctx context.Context, store rules.RangeQuerier, places map[string]alert.Place, q admin.RehearseRequest) (*rehearse.Rehearsal, error) {
	loaded, err := rules.Load(q.Files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rehearseAtMost, fmt.Errorf("took longer than %s: ask for less with --since, or fewer rules", rehearseAtMost))
	defer cancel()
	to := time.Now()
	r, err := rehearse.Run(ctx, rehearse.Options{
		Rules: loaded, Store: store, Fleet: places, From: to.Add(-q.Since), To: to, Zone: q.Zone,
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, fmt.Errorf("%w: %w", err, cause)
	}
	return r, err
}
