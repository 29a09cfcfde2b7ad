package alert

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// Kinds of Off.
const (
	OffSilence     = "silence"
	OffMaintenance = "maintenance"
	OffReceiver    = "receiver"
	OffRota        = "rota"
)

// Off is one reason why alerts can page nobody now. A lone board of a customer's is none: nobody was to be paged.
type Off struct {
	Kind string `json:"kind"`
	// What names the suppressed alerts in words, Why the reason; both are sentences without a full stop.
	What string `json:"what"`
	Why  string `json:"why"`
	By   string `json:"by,omitempty"`
	// Since and Until are Unix milliseconds; an Until of 0 means that nothing ends it by itself.
	Since int64 `json:"since,omitempty"`
	Until int64 `json:"until,omitempty"`
	// Boards are those whose alerts are off, in order; Rules the alerts, none for all of them.
	Boards []string `json:"boards,omitempty"`
	Rules  []string `json:"rules,omitempty"`
	// Everything is set where no alert at all can page.
	Everything bool `json:"everything,omitempty"`
	// ID is the silence's, or the number of the maintenance.
	ID string `json:"id,omitempty"`
}

// OffSource lists the suppressions that it knows. It must be safe for concurrent use.
type OffSource func(now time.Time) []Off

// OffReport is all that is off.
type OffReport struct {
	Now int64 `json:"now"`
	// Boards counts the boards with alerts that can page nobody, Rules the rules that can page nobody on any board.
	Boards     int   `json:"boards"`
	Rules      int   `json:"rules"`
	Everything bool  `json:"everything"`
	Items      []Off `json:"items"`
	// Firing are alerts that fire and page nobody now, some of FiringCount.
	Firing      []Suppressed `json:"firing"`
	FiringCount int          `json:"firingCount"`
}

// WhatIsOff asks all sources and counts. fleet is how many boards there are.
func WhatIsOff(now time.Time, fleet int, sources ...OffSource) OffReport {
	r := OffReport{Now: now.UnixMilli(), Items: []Off{}, Firing: []Suppressed{}}
	boards, rules := map[string]bool{}, map[string]bool{}
	for _, source := range sources {
		for _, o := range source(now) {
			r.Items = append(r.Items, o)
			r.Everything = r.Everything || o.Everything
			if len(o.Rules) > 0 && len(o.Boards) >= fleet || len(o.Boards) == 0 {
				for _, name := range o.Rules {
					rules[name] = true
				}
				continue
			}
			for _, b := range o.Boards {
				boards[b] = true
			}
		}
	}
	r.Boards, r.Rules = len(boards), len(rules)
	slices.SortStableFunc(r.Items, func(a, b Off) int {
		if a.Everything != b.Everything {
			return cmp.Compare(b2i(b.Everything), b2i(a.Everything))
		}
		return cmp.Compare(len(b.Boards), len(a.Boards))
	})
	return r
}

// ErrBadTest is wrapped where a test page cannot be sent as it was asked for.
var ErrBadTest = errors.New("test page")

// PageTest is a page that was sent to see whether it arrives. Times are Unix milliseconds.
type PageTest struct {
	Number       int64  `json:"number"`
	Receiver     string `json:"receiver"`
	At           int64  `json:"at"`
	By           string `json:"by"`
	ScheduledFor int64  `json:"scheduledFor,omitempty"` // 0: on demand
	// State is waiting, delivered (the provider took it, as far as the collector can see) or failed.
	State     string `json:"state"`
	DecidedAt int64  `json:"decidedAt,omitempty"`
	LatencyMs int64  `json:"latencyMs"` // from the reading to the provider's answer
	Answer    string `json:"answer,omitempty"`

	// AfterPage is the last page before it.
	AfterPage int64 `json:"-"`
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// CustomerMail is one mail to one address of a customer's.
type CustomerMail struct {
	ID      string // of the page in the journal, unlike any other
	Contact string // mails to one contact leave in order
	To      string // an address alone; no template, and nothing that one could be made of
	Subject string
	Text    string
}

// Kinds of Suppression, in their order of precedence; docs/alerting.md has them as a table.
const (
	ByMaintenance = "maintenance"
	BySilence     = "silence"
	// ByStillFiring is the one alert for all that still fired when a maintenance or a silence ended.
	ByStillFiring = "still_firing"
	// ByRepresentative is the alert of a failure that explains this one, or another bit with the same cause.
	ByRepresentative = "representative"
	// ByInhibition is an inhibit_rule of the alertmanager.yml, ByInterval one of its time intervals.
	ByInhibition = "inhibition"
	ByInterval   = "interval"
	// ByEnd is the end of the alert's condition: it fires by keep_firing_for alone, and was suppressed until then.
	ByEnd = "condition_over"
)

// Suppression is one reason for which an alert that fires pages nobody now.
type Suppression struct {
	Kind string `json:"kind"`
	// By is the author of the maintenance or silence, or the text of the alert that stands for this one.
	By string `json:"by,omitempty"`
	// ID is the silence's, the number of the maintenance, or the fingerprint of the alert that stands for this one.
	ID string `json:"id,omitempty"`
	// Until is when it ends, in Unix milliseconds; 0 where nobody knows.
	Until int64 `json:"until,omitempty"`
}

// Suppressed is an alert that fires and pages nobody now, with all that suppresses it.
type Suppressed struct {
	Labels       map[string]string `json:"labels"`
	FiredAt      int64             `json:"firedAt"` // Unix milliseconds
	Suppressions []Suppression     `json:"suppressions"`
}
