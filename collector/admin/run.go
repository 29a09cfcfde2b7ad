package admin

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"bramble/alerting/maintenance"
	"bramble/alerting/rehearse"
	"bramble/collector/backup"
	"bramble/collector/registry"
)

// offlineLead is how far ahead of now new labels begin where no collector
// knows which readings it has labelled already: none that was accepted is
// further ahead.
const offlineLead = 10 * time.Second

// State holds the commands' dependencies. Registry and Pin are required, but for the backup commands.
type State struct {
	Registry *registry.Registry
	// DB is the state's database; the customer commands alone need it.
	DB    *sql.DB
	Pin   string // of the collector's CA, for enrolment tokens
	Actor string // the name in the audit table
	// Disconnect drops a board's live connection; nil where none can be.
	Disconnect func(board string)
	// Relabel changes labels from an instant that it chooses; nil: 10 s from now.
	Relabel func(ctx context.Context, board string, labels map[string]string) error
	// Maintenances is used by the maintenance commands alone.
	Maintenances *maintenance.Store
	// Report says whether a board reports, "" before its first report, and when it last did; nil while no collector runs.
	Report func(board string) (state string, last time.Time)
	// Backups is used by the backup commands alone.
	Backups *backup.Keeper
	// Restore brings a backup back; nil while a collector runs.
	Restore func(context.Context, RestoreRequest) (backup.Result, error)
	// Rehearse runs rules over the stored readings; nil where there is no store.
	Rehearse func(context.Context, RehearseRequest) (*rehearse.Rehearsal, error)
}

// call is one run of a command.
type call struct {
	State
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
}

// Run executes one command, such as ["board", "list"], on a state. A password
// is one line on stdin.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, s State) error {
	c, err := parse(args, stdout, stderr)
	if err != nil || c == nil {
		return err
	}
	return c.run(&call{State: s, ctx: registry.WithActor(ctx, s.Actor), stdin: stdin, stdout: stdout, stderr: stderr})
}

// say explains something to a person.
func (c *call) say(format string, args ...any) { fmt.Fprintf(c.stderr, format+"\n", args...) }

// table prints aligned columns.
func (c *call) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// when shows a time, or a dash for the zero time.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04 MST")
}

func (c *call) relabel(board string, labels map[string]string) error {
	if c.Relabel != nil {
		return c.Relabel(c.ctx, board, labels)
	}
	return c.Registry.Relabel(c.ctx, board, labels, time.Now().Add(offlineLead).UnixMilli())
}

func (c *call) disconnect(board string) {
	if c.Disconnect != nil {
		c.Disconnect(board)
	}
}

// maxLine bounds a password's line.
const maxLine = 4096

// line reads the first line of stdin, without its end.
func line(stdin io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(stdin, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return "", errors.New("read password: none on stdin: type it when asked, or pipe it in as one line")
	}
	return text, nil
}
