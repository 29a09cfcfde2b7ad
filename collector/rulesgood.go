package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/rules"
)

// goodRules is the file in the data directory that holds the rule files which were in force last: a file that somebody
// broke must not keep the collector from starting after a power cut.
const goodRules = "rules.json"

// startRules loads the rule files, or what was in force last where one of them is broken.
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
