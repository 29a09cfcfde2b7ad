package admin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"bramble/alerting/maintenance"
)

type maintenanceGrammar struct {
	Start maintenanceStart `cmd:"" help:"Page nobody for some boards for a time; print its number."`
	List  maintenanceList  `cmd:"" help:"List what is planned, running and over."`
	End   maintenanceEnd   `cmd:"" help:"End one before its time."`
}

type maintenanceStart struct {
	Board   string   `placeholder:"NAME" help:"One board."`
	Switch  string   `placeholder:"NAME" help:"The boards of a switch."`
	Rack    string   `placeholder:"NAME" help:"The boards of a rack."`
	NFS     string   `name:"nfs" placeholder:"NAME" help:"The boards of an NFS server."`
	Site    string   `placeholder:"NAME" help:"The boards of a site."`
	Label   []string `sep:"none" placeholder:"K=V" help:"The boards with a label of the registry's; may be given again."`
	Match   []string `sep:"none" placeholder:"MATCHER" help:"A matcher as in alertmanager.yml, such as model=~\"4.*\"; may be given again."`
	For     string   `required:"" placeholder:"DURATION" help:"How long, such as 2h."`
	From    string   `placeholder:"TIME" help:"When it begins, such as 2026-11-24T22:00:00Z; now if not given."`
	Grace   string   `placeholder:"DURATION" help:"How long boards have afterwards to report; 1m if not given."`
	Comment string   `placeholder:"TEXT" help:"What is done; it stands on the page of what did not come back."`
	Confirm int      `placeholder:"N" help:"That it covers N boards; needed above 5 % of the fleet."`
}

func (a *maintenanceStart) run(c *call) error {
	q := maintenance.Request{Matchers: a.Match, Comment: a.Comment, Confirm: a.Confirm, By: c.Actor}
	for _, l := range [][2]string{{"board", a.Board}, {"switch", a.Switch}, {"rack", a.Rack}, {"nfs", a.NFS}, {"site", a.Site}} {
		if l[1] != "" {
			q.Matchers = append(q.Matchers, equals(l[0], l[1]))
		}
	}
	for _, l := range a.Label {
		name, value, ok := strings.Cut(l, "=")
		if !ok || value == "" {
			return fmt.Errorf("start maintenance: --label %q: write it like customer=alder", l)
		}
		q.Matchers = append(q.Matchers, equals(name, value))
	}
	var err error
	if q.For, err = span("--for", a.For); err != nil {
		return err
	}
	if a.Grace != "" {
		if q.Grace, err = span("--grace", a.Grace); err != nil {
			return err
		}
	}
	if a.From != "" {
		if q.From, err = time.Parse(time.RFC3339, a.From); err != nil {
			return fmt.Errorf("start maintenance: --from %q: give a time such as 2026-11-24T22:00:00Z", a.From)
		}
	}
	m, err := c.Maintenances.Start(c.ctx, q)
	var much *maintenance.ConfirmError
	if errors.As(err, &much) {
		return fmt.Errorf("%s covers %d of %d boards, more than 5 %% of the fleet: if that is meant, add --confirm %d", strings.Join(q.Matchers, ", "), much.Boards, much.Of, much.Boards)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, m.Number)
	c.say("maintenance %d: %s, %d boards, until %s; boards then have %s to report", m.Number, strings.Join(m.Matchers, ", "), m.Boards,
		zones(m.EndsAt), time.Duration(m.ReturnBy-m.EndsAt)*time.Millisecond)
	return nil
}

// equals is a matcher for one value.
func equals(name, value string) string { return name + "=" + strconv.Quote(value) }

func span(flag, text string) (time.Duration, error) {
	d, err := model.ParseDuration(text)
	if err != nil || d == 0 {
		return 0, fmt.Errorf("start maintenance: %s %q: give a duration such as 30m or 2h", flag, text)
	}
	return time.Duration(d), nil
}

// zones shows a time in UTC and in the collector's own zone.
func zones(ms int64) string {
	at := time.UnixMilli(ms)
	text := at.UTC().Format("2006-01-02 15:04 MST")
	if _, offset := at.Local().Zone(); offset != 0 {
		text += " (" + at.Local().Format("15:04 MST") + ")"
	}
	return text
}

type maintenanceList struct{}

func (*maintenanceList) run(c *call) error {
	list, err := c.Maintenances.List(c.ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, m := range list {
		state := m.State
		switch {
		case m.State == maintenance.Over && len(m.NotBack) > 0:
			state = fmt.Sprintf("over, %d not back", len(m.NotBack))
		case m.State == maintenance.Returning:
			state = "returning until " + time.UnixMilli(m.ReturnBy).UTC().Format("15:04:05 UTC")
		}
		rows = append(rows, []string{strconv.FormatInt(m.Number, 10), state, strings.Join(m.Matchers, ", "), strconv.Itoa(m.Boards),
			zones(m.StartsAt), zones(m.EndsAt), m.By, m.Comment})
	}
	return c.table([]string{"NUMBER", "STATE", "COVERS", "BOARDS", "FROM", "UNTIL", "BY", "COMMENT"}, rows)
}

type maintenanceEnd struct {
	Number int64 `arg:"" help:"Its number; list shows them."`
}

func (a *maintenanceEnd) run(c *call) error {
	m, err := c.Maintenances.End(c.ctx, a.Number, c.Actor)
	if err != nil {
		return err
	}
	if m.State == maintenance.Over {
		c.say("maintenance %d is called off", m.Number)
		return nil
	}
	c.say("maintenance %d has ended; boards have until %s to report", m.Number, zones(m.ReturnBy))
	return nil
}
