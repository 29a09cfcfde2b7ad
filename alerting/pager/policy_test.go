package pager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
)

// BenchmarkFiveHundred is the time from 500 crossings at once to the first request, for a receiver that sends by itself and
// for one that stands for a policy.
func BenchmarkFiveHundred(b *testing.B) {
	for _, onCall := range []string{"", oneAda} {
		b.Run(fmt.Sprintf("policy=%t", onCall != ""), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := newSink(b, nil)
				config := oneSink(s.URL, "")
				if onCall != "" {
					config = channelsTo(s.URL, "ada-ntfy")
				}
				p := startOnCall(b, config, onCall)
				var ts []alert.Transition
				for i := range 500 {
					ts = append(ts, alerttest.Fire(fmt.Sprintf("b%03d", i), time.Now()))
				}
				b.StartTimer()
				p.Deliver(ts)
				s.next(b)
				b.StopTimer()
				p.stop()
				b.StartTimer()
			}
		})
	}
}

// channelsTo is an alertmanager.yml with receivers that post to url/NAME, and one, oncall, that a policy stands for.
func channelsTo(url string, names ...string) []byte {
	var b strings.Builder
	b.WriteString("route: {receiver: oncall, group_by: [alertname, board], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}\nreceivers:\n- name: oncall\n")
	for _, n := range names {
		fmt.Fprintf(&b, "- name: %s\n  webhook_configs: [{url: %q}]\n", n, url+"/"+n)
	}
	return []byte(b.String())
}
