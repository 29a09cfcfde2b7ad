package alerting

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
)

// mailTimeout is how long sending one mail may take.
const mailTimeout = 30 * time.Second

// Mail is one mail that is no page.
type Mail struct {
	Subject, Text, HTML string
	// ID is the Message-Id, the same in every try, so that a mailbox can tell a second copy.
	ID string
}

// errNoMail is returned where the configuration cannot send a mail.
var errNoMail = errors.New("no mail settings")

// SendMail sends a mail once, to an address by the alertmanager.yml's global mail settings, or to whom a receiver's
// email_configs name. An error may mean that some of several have it already.
func (p *Pager) SendMail(ctx context.Context, to, receiver string, m Mail) error {
	configs, err := p.mailConfigs(to, receiver)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	ctx = notify.WithGroupKey(notify.WithReceiverName(notify.WithGroupLabels(ctx, model.LabelSet{}), "digest"), "digest")
	a := &amalert.Alert{Alert: model.Alert{
		Labels:      model.LabelSet{alert.NameLabel: "Digest"},
		Annotations: alert.LabelSet(map[string]string{"subject": m.Subject, "text": m.Text, "html": m.HTML, "id": m.ID}), StartsAt: time.Now(),
	}}
	var errs []error
	for _, c := range configs {
		// The mail's own text goes through the templates as data, never as a template.
		c.Headers = map[string]string{"Subject": "{{ .CommonAnnotations.subject }}", "Message-Id": "{{ .CommonAnnotations.id }}"}
		c.Text, c.HTML, c.Threading = "{{ .CommonAnnotations.text }}", "{{ .CommonAnnotations.html | safeHtml }}", config.ThreadingConfig{}
		if m.HTML == "" { // a part without a word would be what people see
			c.HTML = ""
		}
		sender := email.New(&c, p.routing.Load().templates, p.amLog)
		if _, err := sender.Notify(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("mail to %s: %w", c.To, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Pager) mailConfigs(to, receiver string) (out []config.EmailConfig, err error) {
	conf := p.routing.Load().config
	if to != "" {
		if conf.Global.SMTPSmarthost.Host == "" || conf.Global.SMTPFrom == "" {
			return nil, fmt.Errorf("%w: the alertmanager.yml has no smtp_smarthost and smtp_from", errNoMail)
		}
		return []config.EmailConfig{*globalMail(conf, to)}, nil
	}
	names := map[string]bool{}
	for _, rcv := range conf.Receivers {
		if len(rcv.EmailConfigs) > 0 {
			names[rcv.Name] = true
		}
		for _, e := range rcv.EmailConfigs {
			if rcv.Name == receiver {
				out = append(out, *e)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: receiver %q has no email_configs; those that have are %v", errNoMail, receiver, slices.Sorted(maps.Keys(names)))
	}
	return out, nil
}
