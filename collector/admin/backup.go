package admin

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bramble/collector/backup"
)

// RestoreRequest holds the arguments of `backup restore`.
type RestoreRequest struct {
	Name        string    // a name or a folder's path; "" = the newest good one
	Target      string    // "" = the configured one
	At          time.Time // not later than; zero = no limit
	Key         string    // age identity file; "" = where a collector keeps it
	WithoutKeys bool
	ConfigTo    []string // directories that files of the configuration are put back into; none = it stays in a folder of the data directory
	Aside       bool
	SeriesOnly  bool
}

type backupCreate struct {
	Target string `placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX of the backups, instead of the configured one."`
}

func (a *backupCreate) run(c *call) error {
	keeper := c.Backups.Into(a.Target)
	m, err := keeper.Create(c.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, m.Name)
	c.say("%s: %s in %.1f s; restored in a test in %.1f s", contents(m), bytesText(m.Bytes), m.Seconds, m.Test.Seconds)
	for _, text := range m.Missing() {
		c.say("the configuration names a file that is not in it: %s", text)
	}
	c.say("CA and configuration in it are encrypted; %s opens them: keep a copy of that file away from this machine", keeper.Key())
	return nil
}

type backupList struct {
	Target string `placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX of the backups, instead of the configured one."`
}

func (a *backupList) run(c *call) error {
	entries, err := c.Backups.Into(a.Target).List(c.ctx)
	if err != nil {
		return err
	}
	var lines [][]string
	for _, e := range entries {
		line := []string{e.Name, "-", "-", "-", "-", e.Result()}
		if m := e.Manifest; m != nil {
			line = []string{e.Name, bytesText(m.Bytes), fmt.Sprint(m.Rows), fmt.Sprint(m.Series), fmt.Sprint(m.State.Boards), e.Result()}
		}
		lines = append(lines, line)
	}
	return c.table([]string{"NAME", "SIZE", "ROWS", "SERIES", "BOARDS", "RESULT"}, lines)
}

type backupVerify struct {
	Name   string `arg:"" optional:"" help:"The backup; the newest good one if not given."`
	Target string `placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX of the backups, instead of the configured one."`
}

func (a *backupVerify) run(c *call) error {
	keeper, name := c.Backups.Into(a.Target), a.Name
	if target, base, located := backup.SplitLocation(name); located {
		keeper, name = c.Backups.Into(target), base
	}
	m, err := keeper.Verify(c.ctx, name)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, m.Name)
	c.say("%s: restored in a test in %.1f s, all of it as it was", contents(m), m.Test.Seconds)
	return nil
}

type backupRestore struct {
	Name        string `arg:"" optional:"" help:"The backup's name, or the path of its folder; the newest good one if not given."`
	Target      string `placeholder:"DIR" help:"Directory of the backups, instead of the configured one."`
	At          string `placeholder:"TIME" help:"The newest good one taken by then, such as 2026-11-24T03:30:00Z."`
	Key         string `placeholder:"FILE" help:"The key that opens its secrets; backup.key in the data directory or beside the backups if not given."`
	WithoutKeys bool   `help:"Leave CA and configuration behind: every board must enrol again."`

	ConfigTo []string `sep:"none" placeholder:"DIR" help:"Put the configuration back into this directory, and files that it had elsewhere where they were, if that is in a directory given again."`

	Aside      bool `help:"Move what is in the way into a folder of the data directory, and files of a configuration to other names beside them."`
	SeriesOnly bool `help:"Bring back the series alone; boards, people and incidents stay as they are."`
}

func (a *backupRestore) run(c *call) error {
	if c.Restore == nil {
		return errors.New("restore: a collector runs on this data directory: stop it first, or name another --data-dir")
	}
	q := RestoreRequest{Name: a.Name, Target: a.Target, Key: a.Key, WithoutKeys: a.WithoutKeys, ConfigTo: a.ConfigTo, Aside: a.Aside, SeriesOnly: a.SeriesOnly}
	if a.At != "" {
		at, err := time.Parse(time.RFC3339, a.At)
		if err != nil || a.Name != "" {
			return fmt.Errorf("restore: --at %q: give a time such as 2026-11-24T03:30:00Z, and no name beside it", a.At)
		}
		q.At = at
	}
	r, err := c.Restore(c.ctx, q)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, r.Name)
	c.say("restored as of %s: %s", r.Taken.Format(time.RFC3339), contents(r.Manifest))
	if r.Aside != "" {
		c.say("what was there before is in %s: delete it when all is well", r.Aside)
	}
	for _, path := range r.ConfigAside {
		c.say("a file of the configuration that was there before is now %s", path)
	}
	for _, name := range r.Unread {
		c.say("the list of revoked keys of the newer backup %s cannot be read: keys that were revoked by then may be in force again", name)
	}
	if r.Config != "" {
		c.say("the configuration is back where it was: collector serve --config %s", r.Config)
	}
	if r.Settings != "" {
		c.say("configuration and rule files are in %s", r.Settings)
	}
	if a.WithoutKeys && !a.SeriesOnly {
		c.say("the CA is not restored: the collector makes a new one, and every board must enrol again")
	}
	return nil
}

// contents counts the content of a backup for people.
func contents(m *backup.Manifest) string {
	return fmt.Sprintf("%d rows of %d series, %d boards (%d enrolled), %d users, %d API tokens",
		m.Rows, m.Series, m.State.Boards, m.State.Enrolled, m.State.Users, m.State.Tokens)
}

func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// pathFlags are flags of the backup commands whose values are paths.
var pathFlags = []string{"--target", "--key", "--config-to"}

// Absolute makes the paths in a backup command's arguments absolute: the collector that runs the command works in
// another directory than the person who types it.
func Absolute(args []string) ([]string, error) {
	out := make([]string, len(args))
	for i, a := range args {
		prefix := ""
		switch flag, value, joined := strings.Cut(a, "="); {
		case joined && isPathFlag(flag):
			prefix, a = flag+"=", value
		case i > 0 && isPathFlag(args[i-1]):
		case backup.InBucket(a) || strings.HasPrefix(a, "-") || !strings.ContainsRune(a, filepath.Separator):
			out[i] = a
			continue
		}
		if backup.InBucket(a) {
			out[i] = prefix + a
			continue
		}
		abs, err := filepath.Abs(a)
		if err != nil {
			return nil, err
		}
		out[i] = prefix + abs
	}
	return out, nil
}

func isPathFlag(s string) bool { return slices.Contains(pathFlags, s) }
