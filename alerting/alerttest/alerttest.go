// Package alerttest holds alerts and fleets for the tests of alerting's packages.
package alerttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
)

// Fire is the alert of a board that began to fire at a time.
func Fire(board string, at time.Time) alert.Transition {
	ms := at.UnixMilli()
	return alert.Transition{
		Rule: "board/SocHot", Series: `board="` + board + `"`, From: alert.Inactive, State: alert.Firing, At: ms, Since: ms, FiredAt: ms, Received: ms, Value: 81,
		Labels:      map[string]string{"alertname": "SocHot", "board": board, "severity": "critical", "rack": "r1"},
		Annotations: map[string]string{"summary": board + ": SoC at 81.0 °C"},
	}
}

// Resolve is the end of an alert at a time.
func Resolve(t alert.Transition, at time.Time) alert.Transition {
	t.From, t.State, t.At, t.Value = alert.Firing, alert.Inactive, at.UnixMilli(), 60
	return t
}

// Fleet places boards named like r1-a-03 in rack r1 and switch r1-a; more labels a board by its name.
func Fleet(racks, switches, ports int, more func(board string, labels map[string]string)) map[string]alert.Place {
	out := map[string]alert.Place{}
	for r := 1; r <= racks; r++ {
		for s := range switches {
			for p := 1; p <= ports; p++ {
				rack := fmt.Sprintf("r%d", r)
				sw := fmt.Sprintf("%s-%c", rack, 'a'+s)
				board := fmt.Sprintf("%s-%02d", sw, p)
				labels := map[string]string{"rack": rack, "switch": sw, "customer": "alder"}
				if more != nil {
					more(board, labels)
				}
				out[board] = alert.Place{Labels: labels, Watched: true}
			}
		}
	}
	return out
}

// BoardsIn returns the boards whose names begin with one of the prefixes, in order.
func BoardsIn(places map[string]alert.Place, prefixes ...string) (out []string) {
	for _, b := range slices.Sorted(maps.Keys(places)) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(b, p) }) {
			out = append(out, b)
		}
	}
	return out
}

// Silent is the alert of a board of places that fell silent at a time; notes are names and values of annotations.
func Silent(places map[string]alert.Place, board string, at time.Time, notes ...string) alert.Transition {
	t := Fire(board, at)
	t.Rule = "board/BoardSilent"
	t.Labels = map[string]string{"alertname": "BoardSilent", "board": board, "severity": "critical", "pages": "domains"}
	maps.Copy(t.Labels, places[board].Labels)
	t.Annotations = map[string]string{"what": "silent", "summary": board + ": no reports", "runbook": "lone", "runbook_domain": "domain",
		alert.LastReportNote: at.Format(alert.NoteTime)}
	for i := 0; i < len(notes); i += 2 {
		t.Annotations[notes[i]] = notes[i+1]
	}
	return t
}

// Hot is the alert of a board of places that got hot at a time.
func Hot(places map[string]alert.Place, board string, at time.Time) alert.Transition {
	t := Fire(board, at)
	maps.Copy(t.Labels, places[board].Labels)
	t.Annotations["what"] = "at 80 °C or more"
	return t
}
