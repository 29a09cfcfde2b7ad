package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"

	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// absent is printed for a source that the board lacks.
const absent = "not on this board"

// once is `pisensor once`: one reading for a person, on one screen.
func once(_ context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	if _, err := parse(c.flags("once", "", stderr), args, 0); err != nil {
		return err
	}
	board := openBoard(c.roots, slog.New(slog.NewTextHandler(stderr, nil)))
	var tick report.Tick
	board.Read(&tick)
	var w bytes.Buffer
	describe(&w, board.Attributes())
	for _, l := range lines {
		row(&w, l.title, l.text(&tick))
	}
	row(&w, "booted", time.Now().Add(-sensor.Uptime()).UTC().Format("2006-01-02 15:04:05 UTC")+", by the board's clock")
	network(&w, &tick)
	if failed := instances(&tick, report.SensorReadErrors); len(failed) > 0 {
		row(&w, "could not read", strings.Join(failed, ", "))
	}
	if _, err := w.WriteTo(stdout); err != nil {
		return errors.Join(fmt.Errorf("print: %w", err), board.Close())
	}
	return board.Close()
}

// row writes a name and its value. The longest name has 16 characters.
func row(w io.Writer, name, text string) { fmt.Fprintf(w, "%-18s%s\n", name, text) }

// described are the facts of a board's description, in the order in which a
// person looks for them.
var described = []report.AttributeKey{
	report.AttributeModel, report.AttributeRevision, report.AttributeFirmware,
	report.AttributeKernel, report.AttributeOS, report.AttributeBootID,
}

func describe(w io.Writer, about []report.Attribute) {
	for _, k := range described {
		text := absent
		for _, a := range about {
			if a.Key == k {
				text = a.Value
			}
		}
		row(w, strings.ReplaceAll(k.String(), "_", " "), text)
	}
}

// line is one row for a person: metrics, of which the first that the board has
// is shown, and how its wire value reads.
type line struct {
	title   string
	formats []format
}

type format struct {
	metric report.Metric
	text   func(int64) string
}

var lines = []line{
	{"SoC temperature", []format{{report.SOCTemperature, func(v int64) string {
		return fmt.Sprintf("%.1f °C", float64(int64(math.Round(float64(v)/100)))/10) // m°C; an integer has no -0
	}}}},
	{"clock, measured", []format{{report.ClockMeasured, func(v int64) string { return megahertz(physic.Frequency(v) * physic.MegaHertz) }}}},
	{"clock, requested", []format{{report.ClockRequested, kilohertz}}},
	{"clock, maximum", []format{{report.ClockMaximum, kilohertz}}},
	{"throttled", []format{{report.Throttled, reasons}, {report.UnderVoltage, underVoltage}}},
	{"core voltage", []format{{report.CoreVolts, func(v int64) string {
		return fmt.Sprintf("%.4f V", float64(physic.ElectricPotential(v)*100*physic.MicroVolt)/float64(physic.Volt))
	}}}},
	{"fan", []format{{report.FanSpeed, func(v int64) string { return fmt.Sprintf("%d rpm", v) }}}},
	{"CPU busy", []format{{report.CPUBusy, func(v int64) string {
		return fmt.Sprintf("%v of all cores since boot", (time.Duration(v) * 10 * time.Millisecond).Round(time.Second))
	}}}},
	{"load, 1 min", []format{{report.Load1, func(v int64) string { return fmt.Sprintf("%.2f", float64(v)/100) }}}},
	{"memory available", []format{{report.MemoryAvailable, func(v int64) string { return fmt.Sprintf("%d MiB", v/1024) }}}},
	{"NFS", []format{{report.NFSRetransmissions, func(v int64) string {
		return fmt.Sprintf("%d retransmissions since mounting; its latency takes two readings", v)
	}}}},
}

func (l *line) text(t *report.Tick) string {
	for _, f := range l.formats {
		if v, ok := value(t, report.Series{Metric: f.metric}); ok {
			return f.text(v)
		}
	}
	return absent
}

// network prints a line for each device.
func network(w io.Writer, t *report.Tick) {
	devices := instances(t, report.NetworkReceive)
	if len(devices) == 0 {
		row(w, "network", absent)
	}
	for _, d := range devices {
		count := func(m report.Metric) int64 {
			v, _ := value(t, report.Series{Metric: m, Instance: d}) // they come together
			return v
		}
		text := fmt.Sprintf("%.1f MiB received, %.1f MiB sent, %d errors",
			mebibytes(count(report.NetworkReceive)), mebibytes(count(report.NetworkTransmit)), count(report.NetworkErrors))
		if v, ok := value(t, report.Series{Metric: report.NetworkCarrier, Instance: d}); ok {
			text += fmt.Sprintf(", %d carrier changes", v)
		}
		row(w, d, text)
	}
}

func value(t *report.Tick, s report.Series) (int64, bool) {
	for _, r := range t.Readings {
		if r.Series == s {
			return r.Value, true
		}
	}
	return 0, false
}

// instances returns the instances of which the tick has a reading of the metric.
func instances(t *report.Tick, m report.Metric) (found []string) {
	for _, r := range t.Readings {
		if r.Series.Metric == m {
			found = append(found, r.Series.Instance)
		}
	}
	return found
}

func kilohertz(v int64) string { return megahertz(physic.Frequency(v) * physic.KiloHertz) }

func megahertz(f physic.Frequency) string { return fmt.Sprintf("%d MHz", f/physic.MegaHertz) }

func mebibytes(v int64) float64 { return float64(v) / (1 << 20) }

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

// underVoltage stands for a board that knows only the first of the bits.
func underVoltage(v int64) string {
	if v != 0 {
		return "under voltage; the other reasons are not known"
	}
	return "no under voltage; the other reasons are not known"
}
