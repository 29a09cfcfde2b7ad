package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// receivers returns the receivers.yml in force, empty where none is configured.
func (a *app) receivers() ([]byte, error) {
	if a.config.Receivers == "" {
		return nil, nil
	}
	b, err := os.ReadFile(a.config.Receivers)
	if err != nil {
		return nil, fmt.Errorf("read receivers file: %w", err)
	}
	return b, nil
}

// nameRoutes says by its path which file of routes, receivers or people is wrong.
func (a *app) nameRoutes(err error) error {
	for name, file := range map[string]string{"alertmanager.yml: ": a.config.Alertmanager, "receivers.yml: ": a.config.Receivers} {
		if text, ok := strings.CutPrefix(err.Error(), name); ok && file != "" {
			return fmt.Errorf("%s: %s", file, strings.TrimPrefix(text, "yaml: "))
		}
	}
	if text := err.Error(); strings.HasPrefix(text, "oncall.yml:") && a.config.OnCall != "" {
		return errors.New(oneLine(errors.New(strings.ReplaceAll(text, "oncall.yml:", a.config.OnCall+":"))))
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
