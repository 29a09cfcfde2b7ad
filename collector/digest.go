package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/receivers"
	"bramble/collector/digest"
	"bramble/collector/presence"
	"bramble/dashboards"
)

// dailyMail collects and sends the digest.
type dailyMail struct{ app *app }

// sendDigests writes and sends the daily mail until ctx ends, where one is configured.
func (m dailyMail) sendDigests(ctx context.Context) error {
	d := m.app.config.Digest
	at := d.Schedule()
	if !at.Set() {
		return nil
	}
	return digest.New(digest.Options{
		DB: m.app.db, Schedule: at, Report: m.report, Log: m.app.log,
		Send: func(ctx context.Context, mail digest.Mail) error {
			return m.app.pager.SendMail(ctx, d.To, d.Receiver, receivers.Mail{Subject: mail.Subject, Text: mail.Text, HTML: mail.HTML, ID: mail.ID})
		},
	}).Run(ctx)
}

// maxNamed is how many boards a line of the digest names.
const maxNamed = 5

// report collects the lines of the digest.
func (m dailyMail) report(ctx context.Context, from, to time.Time) (digest.Report, error) {
	r := digest.Report{From: from, To: to, Link: m.app.url(), Version: version()}
	for _, p := range m.ingestStates() {
		r.Boards++
		switch p {
		case presence.Up:
			r.Reporting++
		case presence.Silent:
			r.Silent++
		case presence.Stopped:
			r.Stopped++
		}
	}
	counts, err := m.app.pager.CountPages(ctx, from, to)
	if err != nil {
		return r, err
	}
	for _, c := range counts {
		r.Rules = append(r.Rules, digest.Rule{Name: c.Rule, Pages: c.Pages, Incidents: c.Incidents, Boards: len(c.Boards)})
	}
	if r.Late, err = m.lateCrossings(ctx, from, to, counts); err != nil {
		return r, err
	}
	for _, o := range m.app.whatIsOff().Items {
		until := "until somebody mends it"
		if o.Until != 0 {
			until = "until " + time.UnixMilli(o.Until).In(to.Location()).Format("Mon 15:04 MST")
		}
		r.Off = append(r.Off, digest.Line{What: o.What, Text: o.Why + by(o.By) + ", " + until, Bad: o.Everything || o.Kind == alert.OffReceiver})
	}
	r.Backups = m.backupLines(to)
	for _, h := range m.app.heartbeats.List() {
		state := fmt.Sprintf("last %s ago", time.Since(time.UnixMilli(h.LastAt)).Round(time.Minute))
		r.Heartbeats = append(r.Heartbeats, digest.Line{What: h.Name, Text: state, Bad: h.Overdue})
	}
	if r.Tests, err = m.testLines(ctx, from, to); err != nil {
		return r, err
	}
	r.Newest, r.Outdated = m.outdated()
	return r, nil
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return ", by " + who
}

// ingestStates are the states of all registered boards, "" where one was never heard of.
func (m dailyMail) ingestStates() map[string]presence.State {
	status, all := m.app.ingest.Status(), map[string]presence.State{}
	for board := range m.app.fleet.of(m.app.registry) {
		all[board] = presence.State(status[board].State)
	}
	return all
}

// lateCrossings are the boards whose readings crossed a line in the time without an incident of that rule: what came in
// a backlog is older than what the rule has seen already.
func (m dailyMail) lateCrossings(ctx context.Context, from, to time.Time, counts []escalation.RuleCount) ([]digest.Line, error) {
	crossings, err := m.app.engine.Crossings(ctx, m.app.store, from, to)
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	for _, c := range counts {
		for _, b := range c.Boards {
			told[c.Rule+"\x00"+b] = true
		}
	}
	boards := map[string][]string{}
	var rules []string
	for _, c := range crossings {
		if told[c.Rule+"\x00"+c.Board] {
			continue
		}
		if boards[c.Rule] == nil {
			rules = append(rules, c.Rule)
		}
		boards[c.Rule] = append(boards[c.Rule], fmt.Sprintf("%s (%.4g)", c.Board, c.Extreme))
	}
	var out []digest.Line
	for _, rule := range rules {
		out = append(out, digest.Line{What: rule, Text: named(boards[rule]), Bad: true})
	}
	return out, nil
}

// named lists the first few.
func named(all []string) string {
	if more := len(all) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNamed], ", "), more)
	}
	return strings.Join(all, ", ")
}

// backupLines say how the backups stand.
func (m dailyMail) backupLines(now time.Time) (out []digest.Line) {
	b := backupStatus(m.app.backups)
	if b.Target == "" {
		return nil
	}
	if b.Error != "" {
		out = append(out, digest.Line{What: "The last attempt failed", Text: b.Error, Bad: true})
	}
	i := slices.IndexFunc(b.Kept, func(one dashboards.Backup) bool { return one.Good })
	if i < 0 {
		return append(out, digest.Line{What: "No backup is known to restore", Text: fmt.Sprintf("%d in %s", len(b.Kept), b.Target), Bad: b.EverySeconds > 0})
	}
	good := b.Kept[i]
	age := now.Sub(time.UnixMilli(good.Taken))
	return append(out, digest.Line{
		What: good.Name, Bad: b.EverySeconds > 0 && age.Seconds() > 1.5*float64(b.EverySeconds),
		Text: fmt.Sprintf("%s old, %d rows of %d series, restored in a test at %s", age.Round(time.Minute), good.Rows, good.Series,
			time.UnixMilli(good.TestedAt).In(now.Location()).Format("Mon 15:04 MST")),
	})
}

// testLines are the test pages of the time.
func (m dailyMail) testLines(ctx context.Context, from, to time.Time) (out []digest.Line, err error) {
	tests, err := m.app.pager.Tests().List(ctx)
	for _, t := range tests {
		if t.At < from.UnixMilli() || t.At >= to.UnixMilli() {
			continue
		}
		l := digest.Line{What: fmt.Sprintf("%d to %s", t.Number, t.Receiver), Text: t.State, Bad: t.State == "failed"}
		if l.Bad {
			l.Text += ": " + t.Answer
		}
		out = append(out, l)
	}
	return out, err
}

// outdated finds the newest version of the sensor that a board runs, and the boards that run older ones.
func (m dailyMail) outdated() (newest string, out []digest.Line) {
	boards := map[string][]string{}
	for board, s := range m.app.ingest.Status() {
		if v := s.Info["sensor"]; v != "" {
			boards[v] = append(boards[v], board)
			if newest == "" || semver.Compare(canonical(v), canonical(newest)) > 0 {
				newest = v
			}
		}
	}
	for v, names := range boards {
		if v == newest || !semver.IsValid(canonical(v)) || semver.Compare(canonical(v), canonical(newest)) == 0 {
			continue
		}
		slices.Sort(names)
		out = append(out, digest.Line{What: v, Text: fmt.Sprintf("%d boards: %s", len(names), named(names))})
	}
	slices.SortFunc(out, func(x, y digest.Line) int {
		return cmp.Or(semver.Compare(canonical(x.What), canonical(y.What)), cmp.Compare(x.What, y.What))
	})
	return newest, out
}

// canonical writes a version as semver wants it; what is none, such as a development build, is the oldest.
func canonical(v string) string { return "v" + strings.TrimPrefix(v, "v") }
