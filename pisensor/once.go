package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/report"
	"bramble/pisensor/soc"
)

// once is `pisensor once`: one reading for a person.
func once(_ context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	if _, err := parse(c.flags("once", "", stderr), args, 0); err != nil {
		return err
	}
	board := soc.Open(c.roots, slog.New(slog.NewTextHandler(stderr, nil)))
	var tick report.Tick
	board.Read(&tick)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, a := range board.Attributes() {
		fmt.Fprintf(w, "%s\t%s\n", a.Key, a.Value)
	}
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\n", l.title, l.text(&tick))
	}
	for _, r := range tick.Readings {
		if r.Series.Metric == report.SensorReadErrors {
			fmt.Fprintf(w, "could not read\t%s\n", r.Series.Instance)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return board.Close()
}

// line is one row for a person: a metric and how its wire value reads.
type line struct {
	title  string
	metric report.Metric
	format func(int64) string
}

var lines = []line{
	{"SoC temperature", report.SOCTemperature, func(v int64) string {
		return fmt.Sprintf("%.1f °C", (physic.ZeroCelsius + physic.Temperature(v)*physic.MilliKelvin).Celsius())
	}},
	{"clock, requested", report.ClockRequested, func(v int64) string { return megahertz(physic.Frequency(v) * physic.KiloHertz) }},
	{"clock, measured", report.ClockMeasured, func(v int64) string { return megahertz(physic.Frequency(v) * physic.MegaHertz) }},
	{"throttled", report.Throttled, reasons},
	{"core voltage", report.CoreVolts, func(v int64) string {
		return fmt.Sprintf("%.4f V", float64(physic.ElectricPotential(v)*100*physic.MicroVolt)/float64(physic.Volt))
	}},
	{"load, 1 min", report.Load1, func(v int64) string { return fmt.Sprintf("%.2f", float64(v)/100) }},
}

func (l *line) text(t *report.Tick) string {
	for _, r := range t.Readings {
		if r.Series.Metric == l.metric {
			return l.format(r.Value)
		}
	}
	return "not on this board"
}

func megahertz(f physic.Frequency) string { return fmt.Sprintf("%d MHz", f/physic.MegaHertz) }

// reasons names the throttle bits that are set.
func reasons(bits int64) string {
	var set []string
	for i, name := range report.Reasons {
		if bits&(1<<i) != 0 {
			set = append(set, strings.ReplaceAll(name, "_", " "))
		}
	}
	if len(set) == 0 {
		return "no"
	}
	return strings.Join(set, ", ")
}
