package report_test

import (
	"fmt"
	"time"

	"bramble/pisensor/report"
)

// A sensor packs two ticks into a report; the collector takes the bytes apart.
func Example() {
	booted := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sent := report.Report{
		Session: 7,
		Anchor:  booted.UnixMilli(),
		Due:     10_000,
		First:   41,
		Elapsed: []int64{20_000, 30_000},
	}
	copy(sent.Column(report.Series{Metric: report.SOCTemperature}), []int64{48_700, report.Missing})
	b := sent.Append(nil)

	var got report.Report
	if err := got.Decode(b); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got.Ticks(), "ticks,", got.Readings(), "reading")
	for i := range got.Ticks() {
		at := time.UnixMilli(got.At(i)).UTC()
		if v := got.Columns[0].Values[i]; v != report.Missing {
			fmt.Printf("tick %d at %s: %d m°C\n", got.First+uint64(i), at.Format(time.TimeOnly), v)
		} else {
			fmt.Printf("tick %d at %s: not read\n", got.First+uint64(i), at.Format(time.TimeOnly))
		}
	}
	// Output:
	// 2 ticks, 1 reading
	// tick 41 at 12:00:20: 48700 m°C
	// tick 42 at 12:00:30: not read
}

// Bytes of a stranger are refused as a whole.
func ExampleReport_Decode() {
	var r report.Report
	fmt.Println(r.Decode([]byte("GET / HTTP/1.1")) != nil, r.Ticks())
	// Output: true 0
}
