package live

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bramble/dashboards/live/livetest"
)

func reading(i int) []Value {
	return []Value{
		{"pi_soc_temperature_celsius", 50 + float64(i%100)/10},
		{`pi_cpu_clock_hertz{source="requested"}`, 1.2e9},
		{`pi_cpu_clock_hertz{source="measured"}`, 1.2e9 - float64(i%7)*1e6},
		{`pi_throttled{reason="under_voltage"}`, 0},
		{`pi_throttled{reason="frequency_capped"}`, 0},
		{`pi_throttled{reason="throttled"}`, 0},
		{`pi_throttled{reason="soft_temperature_limit"}`, 0},
	}
}

// BenchmarkPublishUnwatched is the cost of a report while nobody looks.
func BenchmarkPublishUnwatched(b *testing.B) {
	hub, _ := start(b, Options{})
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("r%d-%03d", i/100, i%100)
	}
	values := reading(1)
	for _, n := range names {
		hub.Publish(n, 1, values)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		hub.Publish(names[i%len(names)], int64(i+2), values)
	}
}

// BenchmarkLive is one reading from Publish to the websocket frame in a browser's hands,
// beside nine other browsers that look at the same board.
func BenchmarkLive(b *testing.B) {
	hub, web := start(b, Options{})
	watchers := make([]*livetest.Browser, 10)
	for i := range watchers {
		watchers[i] = livetest.Dial(b, web.URL, nil)
		watchers[i].Send(`{"type":"subscribe","board":"r1-01"}`)
		watchers[i].Send(`{`)
		watchers[i].Next("error")
	}
	took := make([]time.Duration, 0, b.N)
	at := int64(0)
	for b.Loop() {
		at++
		began := time.Now()
		hub.Publish("r1-01", at, reading(int(at)))
		watchers[len(watchers)-1].Next("reading")
		took = append(took, time.Since(began))
		for _, w := range watchers[:len(watchers)-1] {
			w.Next("reading")
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkFleetMessage is one fleet message of 1500 changed boards, however many browsers get it.
func BenchmarkFleetMessage(b *testing.B) {
	hub, _ := start(b, Options{})
	for i := range 1500 {
		hub.Publish(fmt.Sprintf("r%d-%03d", i/100, i%100), 1, reading(i))
	}
	hub.mu.Lock()
	cells := hub.allCells()
	hub.mu.Unlock()
	b.ReportAllocs()
	var n int
	for b.Loop() {
		n = len(appendFleet(nil, 1, true, cells))
	}
	b.ReportMetric(float64(n), "bytes")
}
