package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bramble/alerting"
	"bramble/collector/config"
	"bramble/collector/mailcheck"
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
	senders, err := alerting.MailSenders(text, a.routesDir())
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

func checkSenders(ctx context.Context, checker mailcheck.Checker, senders []alerting.MailSender, stdout io.Writer) error {
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
