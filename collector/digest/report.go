package digest

import (
	"bytes"
	_ "embed"
	htmltemplate "html/template"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"
)

// Report holds the facts of a digest. Empty parts are shown as empty: that nothing happened is news
// too.
type Report struct {
	From, To time.Time // in the zone that they are shown in
	Link     string    // of the pages
	Version  string

	Boards, Reporting, Silent int
	Stopped                   int // boards whose sensor was stopped properly
	Rules                     []Rule
	Late                      []Line // crossings that raised no alert
	Off                       []Line
	Backups                   []Line
	Heartbeats                []Line
	Tests                     []Line
	// Outdated are sensors of an older version than Newest, by version.
	Newest   string
	Outdated []Line
}

// Rule counts the pages and incidents of a rule.
type Rule struct {
	Name                     string
	Pages, Incidents, Boards int
}

// Line is one subject and the text about it.
type Line struct {
	What, Text string
	Bad        bool
}

// Trouble counts the lines that somebody should look at.
func (r Report) Trouble() (n int) {
	for _, part := range [][]Line{r.Late, r.Off, r.Backups, r.Heartbeats, r.Tests} {
		for _, l := range part {
			if l.Bad {
				n++
			}
		}
	}
	return n
}

// Pages counts the pages of all rules.
func (r Report) Pages() (n int) {
	for _, rule := range r.Rules {
		n += rule.Pages
	}
	return n
}

// Subject says the most in a few words.
func (r Report) Subject() string {
	words := []string{count(r.Pages(), "page")}
	if r.Silent > 0 {
		words = append(words, count(r.Silent, "silent board"))
	}
	if n := r.Trouble(); n > 0 {
		words = append(words, count(n, "thing")+" to look at")
	}
	return "Bramble, " + r.To.Format("Mon 2 Jan") + ": " + strings.Join(words, ", ")
}

//go:embed digest.txt
var textSource string

//go:embed digest.html
var htmlSource string

var functions = map[string]any{
	"clock": func(t time.Time) string { return t.Format("Mon 2 Jan 15:04 MST") },
	"count": count,
}

var (
	textTemplate = texttemplate.Must(texttemplate.New("digest.txt").Funcs(functions).Parse(textSource))
	htmlTemplate = htmltemplate.Must(htmltemplate.New("digest.html").Funcs(functions).Parse(htmlSource))
)

// count writes a number with its noun.
func count(n int, noun string) string {
	switch {
	case n == 0:
		return "no " + noun + "s"
	case n == 1:
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func (r Report) mail(id string) (Mail, error) {
	var text, html bytes.Buffer
	if err := textTemplate.Execute(&text, r); err != nil {
		return Mail{}, err
	}
	if err := htmlTemplate.Execute(&html, r); err != nil {
		return Mail{}, err
	}
	return Mail{ID: id, Subject: r.Subject(), Text: text.String(), HTML: html.String()}, nil
}
