package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"bramble/alerting/rehearse"
)

// RehearseRequest holds the arguments of `rules rehearse`.
type RehearseRequest struct {
	Files map[string][]byte // rule files by name
	Since time.Duration     // how far it goes back
	Zone  *time.Location
}

type rulesGrammar struct {
	Rehearse rulesRehearse `cmd:"" help:"Count the pages that rules would have caused."`
}

// rulesRehearse gets the text of the rule files: the collector may not be able to read the person's
// files.
type rulesRehearse struct {
	Since string   `default:"30d" help:"How far to go back."`
	Zone  string   `default:"UTC" help:"Time zone of the nights."`
	JSON  bool     `name:"json" help:"Print JSON."`
	Files []string `arg:"" help:"Name and text of each rule file, a line break between them."`
}

func (a *rulesRehearse) run(c *call) error {
	if c.Rehearse == nil {
		return errors.New("rehearse rules: there is no store here")
	}
	q := RehearseRequest{Files: map[string][]byte{}}
	since, err := model.ParseDuration(a.Since)
	if err != nil || since <= 0 {
		return fmt.Errorf("--since %q: write it like 30d or 12h", a.Since)
	}
	q.Since = time.Duration(since)
	if q.Zone, err = time.LoadLocation(a.Zone); err != nil {
		return fmt.Errorf("--zone %q: write it like Europe/Berlin: %w", a.Zone, err)
	}
	for _, f := range a.Files {
		name, text, _ := strings.Cut(f, "\n")
		q.Files[name] = []byte(text)
	}
	r, err := c.Rehearse(c.ctx, q)
	if err != nil {
		return err
	}
	if a.JSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return c.showRehearsal(r)
}

const (
	// shownSubjects and shownPages are how many are printed for a person; --json has more.
	shownSubjects, shownPages = 10, 20
)

func (c *call) showRehearsal(r *rehearse.Rehearsal) error {
	fmt.Fprintf(c.stdout, "%s to %s: %d pages, %d of them between 22:00 and 07:00 (%s), in %d nights\n\n",
		when(r.From), when(r.To), r.Pages, r.AtNight, r.Zone, r.Nights)
	var lines [][]string
	for _, x := range r.Rules {
		name := x.Name
		if x.Shadow {
			name += " (shadow)"
		}
		lines = append(lines, []string{name, fmt.Sprint(x.Pages), fmt.Sprint(x.AtNight), fmt.Sprint(x.Domains), fmt.Sprint(x.Explained), fmt.Sprint(x.Recorded), fmt.Sprint(x.Boards)})
	}
	if err := c.table([]string{"RULE", "PAGES", "AT NIGHT", "FOR DOMAINS", "EXPLAINED BY THEM", "RECORDED ONLY", "BOARDS"}, lines); err != nil {
		return err
	}
	if r.Pages == 0 {
		return nil
	}
	lines = nil
	for _, s := range r.Subjects[:min(len(r.Subjects), shownSubjects)] {
		lines = append(lines, []string{s.Subject, fmt.Sprint(s.Pages)})
	}
	fmt.Fprintln(c.stdout)
	if err := c.table([]string{"BOARD OR DOMAIN", "PAGES"}, lines); err != nil {
		return err
	}
	lines = nil
	for _, p := range r.FirstPages[:min(len(r.FirstPages), shownPages)] {
		lines = append(lines, []string{p.At.Format("2006-01-02 15:04 MST"), p.Rule, p.Summary})
	}
	fmt.Fprintln(c.stdout)
	return c.table([]string{"FIRST PAGES", "RULE", "SUMMARY"}, lines)
}
