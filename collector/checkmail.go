package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bramble/alerting"
	"bramble/collector/mailcheck"
)

// checkFlags are those of `collector check`.
type checkFlags struct {
	Mail checkMailFlags `cmd:"" help:"Asks whether mail of the alertmanager.yml would be taken: STARTTLS, SPF, DKIM, DMARC. Sends none."`
}

type checkMailFlags struct {
	Config   string   `help:"The collector's configuration; its alertmanager.yml is looked at." placeholder:"FILE" required:""`
	Selector []string `help:"Selector of the smarthost's DKIM key; may be given again." placeholder:"NAME"`
	Resolver string   `help:"DNS server to ask, such as 127.0.0.1:53; this machine's if not given." placeholder:"ADDR"`
}

func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f checkFlags
	if help, err := parse("check", "Checks what pages depend on.", &f, args, stdout, stderr); help || err != nil {
		return err
	}
	c := DefaultConfig
	if err := c.read(f.Mail.Config); err != nil {
		return err
	}
	if c.Alertmanager == "" {
		return fmt.Errorf("config %s names no alertmanager.yml: there is no mail to check", f.Mail.Config)
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
	checker := mailcheck.Checker{Selectors: f.Mail.Selector}
	if f.Mail.Resolver != "" {
		if err := checkAddress(f.Mail.Resolver); err != nil {
			return fmt.Errorf("--resolver: %w", err)
		}
		checker.Resolver = mailcheck.NewResolver(f.Mail.Resolver)
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
