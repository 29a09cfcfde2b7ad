package admin

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"bramble/collector/registry"
)

type boardAdd struct {
	Name    string   `arg:"" help:"The board's name: a-z, 0-9 and -."`
	Label   []string `sep:"none" placeholder:"NAME=VALUE" help:"A label, such as rack=r1. Can be given several times."`
	Unusual unusual  `embed:""`
}

func (a *boardAdd) run(c *call) error {
	labels, err := registry.ParseLabels(a.Label)
	if err != nil {
		return err
	}
	if err := c.Registry.AddBoard(c.ctx, a.Name, labels); err != nil {
		return err
	}
	c.say("board %s added", a.Name)
	return c.boardToken(a.Name)
}

// boardToken prints a board's new token.
func (c *call) boardToken(name string) error {
	token, err := c.Registry.NewBoardToken(c.ctx, name, c.Pin)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	c.say("this token enrols board %s; use it within 30 days. From then on it lets the board back in after a new OS or a lost key, "+
		"so keep it as safe as the board: who has it can take this board's place. `collector board token %s` and `collector board revoke %s` withdraw it. On the board:\n  pisensor enrol nats://COLLECTOR:4222 TOKEN", name, name, name)
	return nil
}

type boardToken struct {
	Name    string   `arg:"" optional:"" help:"The board that the token is for."`
	Rack    string   `help:"Make a token for new boards in this rack instead." placeholder:"RACK"`
	Count   int      `help:"How many boards the rack's token enrols; their names are the rack's numbers." placeholder:"N" default:"1"`
	Names   string   `help:"The names of the boards that the rack's token enrols, such as r1-a-01..48, with commas between several." placeholder:"NAMES"`
	Label   []string `sep:"none" placeholder:"NAME=VALUE" help:"A further label of the rack's boards. Can be given several times."`
	Unusual unusual  `embed:""`
}

func (a *boardToken) run(c *call) error {
	switch {
	case (a.Name == "") == (a.Rack == ""):
		return errors.New("board token: name either a board, or a rack with --rack RACK --count N")
	case a.Name != "" && (len(a.Label) > 0 || a.Count != 1 || a.Names != ""):
		return fmt.Errorf("board token: --label, --count and --names go with --rack only: `collector board label %s …` changes the board's labels", a.Name)
	case a.Names != "" && a.Count != 1:
		return errors.New("board token: --count and --names: give one of them; the names say how many they are")
	case a.Name != "":
		return c.boardToken(a.Name)
	}
	labels, err := registry.ParseLabels(a.Label)
	if err != nil {
		return err
	}
	if a.Names != "" {
		return c.namesToken(a, labels)
	}
	token, err := c.Registry.NewRackToken(c.ctx, a.Rack, labels, a.Count, c.Pin)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	c.say("this token enrols %d boards in rack %s, within 30 days. On each:\n  pisensor enrol nats://COLLECTOR:4222 TOKEN", a.Count, a.Rack)
	return nil
}

// namesToken prints a token for boards whose names are known.
func (c *call) namesToken(a *boardToken, labels map[string]string) error {
	token, count, err := c.Registry.NewNamesToken(c.ctx, a.Names, a.Rack, labels, c.Pin)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	c.say("this token enrols boards in rack %s, within 30 days, under the names %s, of which %d are free; an earlier token with one of these names is void. On each, whose host name is the wish unless --name says another:\n  pisensor enrol nats://COLLECTOR:4222 TOKEN", a.Rack, a.Names, count)
	return nil
}

type boardList struct{}

func (*boardList) run(c *call) error {
	var rows [][]string
	for _, b := range c.Registry.Boards() {
		enrolled := when(b.Enrolled)
		switch {
		case b.Retired:
			enrolled = "retired"
		case b.Key == "" && !b.Enrolled.IsZero():
			enrolled = "revoked"
		}
		row := []string{b.Name, labelText(b), enrolled, when(b.KeyChanged)}
		if c.Report != nil {
			state, last := c.Report(b.Name)
			row = append(row, cmp.Or(state, "-"), whenReported(last))
		}
		rows = append(rows, row)
	}
	head := []string{"NAME", "LABELS", "ENROLLED", "KEY CHANGED"}
	if c.Report != nil {
		head = append(head, "STATE", "LAST REPORT")
	}
	return c.table(head, rows)
}

// whenReported shows the time of a report to the second, or a dash for the zero time.
func whenReported(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}

// labelText shows the newest labels: those that a change has just given count
// as the board's, even where they begin in a few seconds.
func labelText(b *registry.Board) string {
	var parts []string
	for _, l := range b.Versions[len(b.Versions)-1].Labels {
		parts = append(parts, l.Name+"="+l.Value)
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}

type boardLabel struct {
	Name    string   `arg:"" help:"The board."`
	Labels  []string `arg:"" name:"label" sep:"none" help:"NAME=VALUE; NAME= deletes."`
	Unusual unusual  `embed:""`
}

func (a *boardLabel) run(c *call) error {
	labels, err := registry.ParseLabels(a.Labels)
	if err != nil {
		return err
	}
	if err := c.relabel(a.Name, labels); err != nil {
		return err
	}
	c.say("board %s relabelled; readings taken before keep their labels", a.Name)
	return nil
}

type boardMove struct {
	Name   string `arg:"" help:"The board."`
	Rack   string `required:"" help:"The rack where it stands now." placeholder:"RACK"`
	Switch string `help:"The switch that it hangs on now." placeholder:"SWITCH"`
}

func (a *boardMove) run(c *call) error {
	labels := map[string]string{"rack": a.Rack, "switch": a.Switch}
	if err := c.relabel(a.Name, labels); err != nil {
		return err
	}
	c.say("board %s moved to rack %s", a.Name, a.Rack)
	if a.Switch == "" {
		c.say("its switch is not known now: `collector board label %s switch=NAME` states it", a.Name)
	}
	return nil
}

type boardRevoke struct {
	Name string `arg:"" help:"The board."`
}

func (a *boardRevoke) run(c *call) error {
	if err := c.Registry.Revoke(c.ctx, a.Name); err != nil {
		return err
	}
	c.disconnect(a.Name)
	c.say("board %s revoked: its key and its token are void for good. `collector board token %s`, then `pisensor enrol --new-key` on the board, lets it enrol again", a.Name, a.Name)
	return nil
}

type boardRetire struct {
	Name string `arg:"" help:"The board."`
}

func (a *boardRetire) run(c *call) error {
	if err := c.Registry.Retire(c.ctx, a.Name); err != nil {
		return err
	}
	c.disconnect(a.Name)
	c.say("board %s retired: its history stays under this name", a.Name)
	return nil
}
