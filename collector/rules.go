package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"bramble/alerting/rules"
	"bramble/alerting/ruletest"
	"bramble/collector/admin"
	"bramble/collector/config"
	"bramble/storage"
)

const (
	// testMemory is what the store of a rules test may use for its caches.
	testMemory = 64 << 20
	// testRetention lets tests begin in 1970, as promtool's do.
	testRetention = 99 * 365 * 24 * 60 * 60 * 1e9
)

// rulesGrammar is what can be typed behind `collector rules`.
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
