package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bramble/alerting/receivers"
	"bramble/collector/admin"
	"bramble/collector/config"
	"bramble/collector/mailcheck"
	"bramble/collector/registry"
)

// checkFlags are those of `collector check`.
type checkFlags struct {
	Config checkConfigFlags `cmd:"" help:"Reads a configuration as a start does, and reports every problem with its line. Starts nothing."`
	Mail   checkMailFlags   `cmd:"" help:"Asks whether mail of the alertmanager.yml would be taken: STARTTLS, SPF, DKIM, DMARC. Sends none."`
	State  checkStateFlags  `cmd:"" help:"Reads the whole state database, checks its integrity, and counts. Works while the collector runs. Changes nothing."`
}

type checkMailFlags struct {
	Config   string   `help:"The collector's configuration; its alertmanager.yml is looked at." placeholder:"FILE" required:""`
	Selector []string `help:"Selector of the smarthost's DKIM key; may be given again." placeholder:"NAME"`
	Resolver string   `help:"DNS server to ask, such as 127.0.0.1:53; this machine's if not given." placeholder:"ADDR"`
}

func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f checkFlags
	k, err := parseCommand("check", "Checks what pages depend on.", &f, args, stdout, stderr)
	if k == nil || err != nil {
		return err
	}
	switch k.Command() {
	case "config <file>":
		return runCheckConfig(f.Config.File, stdout)
	case "state":
		return runCheckState(ctx, f.State, stdout)
	}
	return runCheckMail(ctx, f.Mail, stdout)
}

type checkConfigFlags struct {
	File string `arg:"" help:"The collector's configuration."`
}

// runCheckConfig looks at a configuration as a start does, and whether the files that it names can be read for their own.
func runCheckConfig(file string, stdout io.Writer) error {
	c, err := config.ReadToServe(file)
	if err != nil {
		return err
	}
	if unknown := c.Files().Unknown; len(unknown) > 0 {
		return fmt.Errorf("config %s: %s", file, strings.Join(unknown, "; "))
	}
	fmt.Fprintf(stdout, "%s is right\n", file)
	return nil
}

func runCheckMail(ctx context.Context, f checkMailFlags, stdout io.Writer) error {
	c, err := config.Read(f.Config)
	if err != nil {
		return err
	}
	if c.Alertmanager == "" {
		return fmt.Errorf("config %s names no alertmanager.yml: there is no mail to check", f.Config)
	}
	a := app{config: c}
	text, err := a.routing(variant{})
	if err != nil {
		return err
	}
	senders, err := receivers.MailSenders(text, a.routesDir())
	if err != nil {
		return a.nameRoutes(err)
	}
	if len(senders) == 0 {
		return fmt.Errorf("%s sends no mail: it has no email_configs and no smtp_smarthost", c.Alertmanager)
	}
	checker := mailcheck.Checker{Selectors: f.Selector}
	if f.Resolver != "" {
		if err := config.CheckAddress(f.Resolver); err != nil {
			return fmt.Errorf("--resolver: %w", err)
		}
		checker.Resolver = mailcheck.NewResolver(f.Resolver)
	}
	return checkSenders(ctx, checker, senders, stdout)
}

func checkSenders(ctx context.Context, checker mailcheck.Checker, senders []receivers.MailSender, stdout io.Writer) error {
	bad := false
	for _, s := range senders {
		fmt.Fprintf(stdout, "%s through %s:%s (%s)\n", s.From, s.Host, s.Port, strings.Join(s.Receivers, ", "))
		found := checker.Check(ctx, mailcheck.Sender{
			From: s.From, Host: s.Host, Port: s.Port, Hello: s.Hello, RequireTLS: s.RequireTLS, Implicit: s.Implicit,
		}, s.TLS)
		for _, f := range found {
			fmt.Fprintf(stdout, "  %-5s  %-9s  %s\n", f.Grade, f.About, f.What)
			if f.Advice != "" {
				fmt.Fprintf(stdout, "                    %s\n", f.Advice)
			}
		}
		bad = bad || mailcheck.AnyBad(found)
	}
	if bad {
		return errors.New("pages by mail will not arrive, or land in spam: what is marked bad says why")
	}
	return nil
}

type checkStateFlags struct {
	Config  string `help:"The collector's configuration, which names the data directory and where backups are." placeholder:"FILE"`
	DataDir string `help:"The collector's data directory." placeholder:"DIR"`
}

// runCheckState checks the whole state database, however long that takes; a start has a second for it. Its log is looked
// at as well while nobody writes it.
func runCheckState(ctx context.Context, f checkStateFlags, stdout io.Writer) error {
	c := config.Default
	if f.Config != "" {
		var err error
		if c, err = config.Read(f.Config); err != nil {
			return err
		}
	}
	if f.DataDir != "" {
		c.DataDir = f.DataDir
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	found, err := checkState(ctx, c.DataDir)
	if err != nil {
		return explainDamage(ctx, c, err)
	}
	fmt.Fprintf(stdout, "%s is whole: boards %d, enrolled %d, users %d, API tokens %d\n", stateFile(c.DataDir), found.Boards, found.Enrolled, found.Users, found.Tokens)
	return nil
}

func checkState(ctx context.Context, dir string) (found registry.Contents, err error) {
	if err := lostState(dir); err != nil {
		return found, err
	}
	path := stateFile(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return found, fmt.Errorf("there is no collector's data in %s: name its directory with --data-dir DIR", dir)
	}
	release, err := admin.Lock(dir)
	if err == nil {
		defer func() { err = errors.Join(err, release()) }()
		err = registry.CheckLog(path)
	}
	if err != nil && !errors.Is(err, admin.ErrLocked) {
		return found, err
	}
	return registry.CheckDB(ctx, path)
}
