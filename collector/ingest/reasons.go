package ingest

import (
	"fmt"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/collector/presence"
)

// reasons are the annotations of a silent board's alerts: why the collector believes that it is silent.
func (p *presenceLoop) reasons(b *board, v presence.Verdict, now time.Time) map[string]string {
	notes := map[string]string{}
	var text []string
	if !v.Last.IsZero() {
		notes[alert.LastReportNote] = v.Last.UTC().Format(alert.NoteTime)
		came := fmt.Sprintf("Its last report came at %s, %s ago", v.Last.UTC().Format("15:04:05 UTC"), seconds(now.Sub(v.Last)))
		if v.Due > 0 {
			came += "; the next was due within " + seconds(v.Due)
		}
		text = append(text, came+".")
	}
	switch v.Answer {
	case presence.Answers:
		notes[alert.ProbeNote] = alert.ProbeAnswers
		text = append(text, b.address.String()+" answers: the sensor stopped, or cannot reach the collector; the board lives.")
	case presence.NoAnswer:
		notes[alert.ProbeNote] = alert.ProbeSilence
		text = append(text, b.address.String()+" does not answer either.")
	}
	if name := p.domains[v.Domain]; name != "" {
		text = append(text, peers(v, name))
	}
	if e := b.expected; e != nil && now.Before(e.Until) {
		notes[alert.ExpectedNote] = e.What
		text = append(text, e.String())
	}
	notes[alert.ReasonNote] = strings.Join(text, " ")
	return notes
}

// remembered are the reasons that are left of a board's silence after a restart.
func (p *presenceLoop) remembered(b *board, now time.Time) map[string]string {
	state, last := p.fleet.State(b.name)
	if state != presence.Silent || last.IsZero() {
		return nil
	}
	return p.reasons(b, presence.Verdict{Board: b.name, Last: last}, now)
}

// peers says of the other boards of a domain whether they report. A sensor that ended properly is named apart: its
// board neither reports nor is silent.
func peers(v presence.Verdict, domain string) string {
	text := reporting(v, domain)
	switch {
	case v.Stopped == 1:
		text += " The sensor of one more was stopped."
	case v.Stopped > 1:
		text += fmt.Sprintf(" The sensors of %d more were stopped.", v.Stopped)
	}
	return text
}

func reporting(v presence.Verdict, domain string) string {
	switch {
	case v.Peers == 1 && v.Reports == 1:
		return fmt.Sprintf("The other board of %s reports.", domain)
	case v.Reports == v.Peers:
		return fmt.Sprintf("The %d other boards of %s report.", v.Peers, domain)
	case v.Reports == 0:
		return fmt.Sprintf("No other board of %s reports.", domain)
	}
	return fmt.Sprintf("%d of the %d other boards of %s report.", v.Reports, v.Peers, domain)
}

// seconds is a duration as people read it: whole seconds.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
