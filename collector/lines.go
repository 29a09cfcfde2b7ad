package main

import (
	"math"

	"bramble/alerting/rules"
	"bramble/pisensor/report"
)

// lines are the thresholds of the rules in force that a sensor can watch itself.
func lines(e *rules.Engine) []report.Line {
	var all []report.Line
	temperature := report.Define(report.SOCTemperature)
	for _, t := range e.Thresholds(temperature.Name) {
		all = append(all, report.Line{Metric: report.SOCTemperature, Level: int64(math.Round(t * temperature.Divide))})
	}
	return all
}
