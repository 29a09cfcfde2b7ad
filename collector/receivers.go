package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"bramble/collector/config"
)

// nameRoutes says by its path which alertmanager.yml or oncall.yml is wrong.
func (a *app) nameRoutes(err error) error {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "alertmanager.yml: "); ok && a.config.Alertmanager != "" {
		return fmt.Errorf("%s: %s", a.config.Alertmanager, strings.TrimPrefix(rest, "yaml: "))
	}
	if strings.HasPrefix(text, "oncall.yml:") && a.config.OnCall != "" {
		return errors.New(config.OneLine(errors.New(strings.ReplaceAll(text, "oncall.yml:", a.config.OnCall+":"))))
	}
	return err
}

// routesDir is where relative paths of an alertmanager.yml start, as Alertmanager has it: beside the file.
func (a *app) routesDir() string {
	if a.config.Alertmanager == "" {
		return a.config.DataDir
	}
	return filepath.Dir(a.config.Alertmanager)
}
