package receivers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/alertmanager/notify/pagerduty"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
	"bramble/alerting/namedfile"
)

// mailTimeout is how long sending one mail may take.
const mailTimeout = 30 * time.Second

// Mail is one mail that is no page.
type Mail struct {
	Subject, Text, HTML string
	// ID is the Message-Id, the same in every try, so that a mailbox can tell a second copy.
	ID string
}

// ErrNoMail is returned where the configuration cannot send a mail.
var ErrNoMail = errors.New("no mail settings")

// SendMail sends a mail once, to an address by the alertmanager.yml's global mail settings, or to whom a receiver's
// email_configs name. An error may mean that some of several have it already.
func (s *Set) SendMail(ctx context.Context, to, receiver string, m Mail) error {
	configs, err := s.mailConfigs(to, receiver)
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
		if m.HTML == "" { // people would see a part without a word
			c.HTML = ""
		}
		sender := email.New(&c, s.Templates, s.parts.AMLog)
		if _, err := sender.Notify(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("mail to %s: %w", c.To, err))
		}
	}
	return errors.Join(errs...)
}

// CanMail says why no mail can be sent to an address that no receiver names; nil where it can.
func (s *Set) CanMail() error {
	_, err := s.mailConfigs("nobody@example.org", "")
	return err
}

func (s *Set) mailConfigs(to, receiver string) (out []config.EmailConfig, err error) {
	conf := s.Config
	if to != "" {
		if conf.Global.SMTPSmarthost.Host == "" || conf.Global.SMTPFrom == "" {
			return nil, fmt.Errorf("%w: the alertmanager.yml has no smtp_smarthost and smtp_from", ErrNoMail)
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
		return nil, fmt.Errorf("%w: receiver %q has no email_configs; those that have are %v", ErrNoMail, receiver, slices.Sorted(maps.Keys(names)))
	}
	return out, nil
}

const (
	// MailName is the integration's name, as Alertmanager has it.
	MailName = "email"
	// pageContentID is the picture's address in a mail's HTML: <img src="cid:page-picture">.
	pageContentID = "page-picture"
	// pagePicture is the annotation that says that the mail has a picture.
	pagePicture = "page_picture"
)

// mailer sends pages by mail. It takes the settings of Alertmanager's own integration, whose mails cannot hold a picture.
type mailer struct {
	parts *Parts
	conf  *config.EmailConfig
	tmpl  *template.Template
}

// ownMailers puts mailers in the place of Alertmanager's.
func (p *Parts) ownMailers(rcv config.Receiver, tmpl *template.Template, built []notify.Integration) {
	for i := range built {
		if built[i].Name() == MailName {
			m := &mailer{p, rcv.EmailConfigs[built[i].Index()], tmpl}
			built[i] = notify.NewIntegration(m, m.conf, MailName, built[i].Index(), rcv.Name)
		}
	}
}

// Notify implements notify.Notifier.
func (m *mailer) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	picture := m.picture(ctx)
	if picture != nil {
		alerts = (&facts{notes: map[string]string{pagePicture: pageContentID}}).enrich(alerts)
	}
	msg, err := m.write(ctx, alerts, picture)
	if err != nil {
		return false, err
	}
	client, err := m.client()
	if err != nil {
		return false, err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return true, fmt.Errorf("send mail by %s: %w", m.conf.Smarthost, err)
	}
	return false, nil
}

// picture draws the incident, or gives up in time: a page never waits long for its picture.
func (m *mailer) picture(ctx context.Context) []byte {
	f := factsIn(ctx)
	if f == nil || f.notes[PagePictureURL] == "" {
		return nil
	}
	now, ok := notify.Now(ctx)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.parts.Pictures.Budget)
	defer cancel()
	start := time.Now()
	b, err := m.parts.Pictures.Draw(ctx, &f.incident, now)
	f.drew = time.Since(start)
	m.parts.Drawn.WithLabelValues(drawnWord(err)).Inc()
	if err != nil {
		m.parts.Log.Warn("mail leaves without its picture", "incident", f.incident.ID, "after", time.Since(start), "err", err)
		return nil
	}
	return b
}

func drawnWord(err error) string {
	switch {
	case err == nil:
		return "drawn"
	case errors.Is(err, context.DeadlineExceeded):
		return "late"
	}
	return "failed"
}

// write makes the message: text, HTML, and the picture beside the HTML that shows it.
func (m *mailer) write(ctx context.Context, alerts []*amalert.Alert, picture []byte) (*gomail.Msg, error) {
	var errs []error
	data := notify.GetTemplateData(ctx, m.tmpl, alerts, m.parts.AMLog)
	text := func(what, tmpl string) string {
		s, err := m.tmpl.ExecuteTextString(tmpl, data)
		if err != nil {
			errs = append(errs, fmt.Errorf("execute %q template: %w", what, err))
		}
		return s
	}
	msg := gomail.NewMsg()
	from, to := text("from", m.conf.From), text("to", m.conf.To)
	for name, value := range m.conf.Headers {
		if name != "From" {
			msg.SetGenHeader(gomail.Header(name), alert.OneLine(text(name, value)))
		}
	}
	errs = append(errs, address(msg, from, cmp.Or(text("From", m.conf.Headers["From"]), from), to), m.thread(ctx, msg))
	if id, ok := PageID(ctx); ok && m.conf.Headers["Message-Id"] == "" {
		msg.SetMessageIDWithValue(id + "@" + cmp.Or(m.parts.ExternalURL.Hostname(), "bramble.invalid"))
	}
	html, err := m.tmpl.ExecuteHTMLString(m.conf.HTML, data)
	if err != nil {
		errs = append(errs, fmt.Errorf("execute HTML template: %w", err))
	}
	plain := text("text", m.conf.Text)
	if m.conf.Text == "" && m.conf.HTML == config.DefaultEmailConfig.HTML {
		plain = text("text", `{{ template "page.text" . }}`)
	}
	if plain != "" {
		msg.SetBodyString(gomail.TypeTextPlain, plain)
	}
	if html != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, html)
	}
	if picture != nil && strings.Contains(html, "cid:"+pageContentID) {
		errs = append(errs, msg.EmbedReader("page.png", bytes.NewReader(picture), gomail.WithFileContentID("<"+pageContentID+">"), gomail.WithFileContentType("image/png")))
	}
	return msg, errors.Join(errs...)
}

// address sets sender and recipients; the header To may name others.
func address(msg *gomail.Msg, from, shown, to string) error {
	sender, err := mail.ParseAddress(from)
	if err != nil {
		return fmt.Errorf("parse 'from' address %q: %w", from, err)
	}
	visible, err := mail.ParseAddress(shown)
	if err != nil {
		return fmt.Errorf("parse header From %q: %w", shown, err)
	}
	recipients, err := mail.ParseAddressList(to)
	if err != nil {
		return fmt.Errorf("parse 'to' addresses %q: %w", to, err)
	}
	msg.EnvelopeFromMailAddress(sender)
	msg.FromMailAddress(visible)
	msg.BccMailAddress(recipients...)
	return nil
}

// thread ties the mails of a group together, where the configuration wants that.
func (m *mailer) thread(ctx context.Context, msg *gomail.Msg) error {
	if !m.conf.Threading.Enabled {
		return nil
	}
	key, err := notify.ExtractGroupKey(ctx)
	if err != nil {
		return err
	}
	day := ""
	if m.conf.Threading.ThreadByDate != "none" {
		day = time.Now().Format(time.DateOnly)
	}
	root := fmt.Sprintf("<alert-%.16s-%s@bramble.invalid>", key.Hash(), day)
	msg.SetGenHeader(gomail.HeaderReferences, root)
	msg.SetGenHeader(gomail.HeaderInReplyTo, root)
	return nil
}

// client speaks to the smarthost as the configuration says.
func (m *mailer) client() (*gomail.Client, error) {
	port, err := strconv.Atoi(m.conf.Smarthost.Port)
	if err != nil {
		return nil, fmt.Errorf("smarthost %s: port: %w", m.conf.Smarthost, err)
	}
	tlsConfig, err := commoncfg.NewTLSConfig(cmp.Or(m.conf.TLSConfig, &commoncfg.TLSConfig{}))
	if err != nil {
		return nil, fmt.Errorf("parse TLS configuration: %w", err)
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = m.conf.Smarthost.Host
	}
	tlsConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
	policy := gomail.NoTLS
	if m.conf.RequireTLS == nil || *m.conf.RequireTLS {
		policy = gomail.TLSMandatory
	}
	options := []gomail.Option{
		gomail.WithPort(port), gomail.WithTimeout(TryTimeout), gomail.WithTLSConfig(tlsConfig), gomail.WithTLSPolicy(policy), gomail.WithoutNoop(),
	}
	if m.conf.Hello != "" {
		options = append(options, gomail.WithHELO(m.conf.Hello))
	}
	if implicit := m.conf.ForceImplicitTLS; implicit != nil && *implicit || implicit == nil && port == 465 {
		options = append(options, gomail.WithSSL())
	}
	auth, err := m.auth()
	if err != nil {
		return nil, err
	}
	return gomail.NewClient(m.conf.Smarthost.Host, append(options, auth...)...)
}

func (m *mailer) auth() ([]gomail.Option, error) {
	if m.conf.AuthUsername == "" {
		return nil, nil
	}
	password, err := secret(string(m.conf.AuthPassword), m.conf.AuthPasswordFile)
	if err != nil {
		return nil, err
	}
	key, err := secret(string(m.conf.AuthSecret), m.conf.AuthSecretFile)
	switch {
	case err != nil:
		return nil, err
	case password == "" && key == "":
		return nil, fmt.Errorf("mail by %s: auth_username is set, and neither auth_password nor auth_secret", m.conf.Smarthost)
	case password == "":
		return []gomail.Option{gomail.WithUsername(m.conf.AuthUsername), gomail.WithPassword(key), gomail.WithSMTPAuth(gomail.SMTPAuthCramMD5)}, nil
	case m.conf.AuthIdentity != "":
		plain := smtp.PlainAuth(m.conf.AuthIdentity, m.conf.AuthUsername, password, m.conf.Smarthost.Host, false)
		return []gomail.Option{gomail.WithSMTPAuthCustom(plain)}, nil
	}
	return []gomail.Option{
		gomail.WithUsername(m.conf.AuthUsername), gomail.WithPassword(password),
		gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin),
	}, nil
}

// secret is a value, or a file's content.
func secret(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// showPictures lets the chat receivers that show an image by its address show the page's picture, where the user's
// configuration shows none.
func showPictures(rcv config.Receiver) {
	const picture = "{{ .CommonAnnotations." + PagePictureURL + " }}"
	for _, c := range rcv.SlackConfigs {
		c.ImageURL = cmp.Or(c.ImageURL, picture)
	}
	for _, c := range rcv.RocketchatConfigs {
		c.ImageURL = cmp.Or(c.ImageURL, picture)
	}
	for _, c := range rcv.PagerdutyConfigs {
		if len(c.Images) == 0 {
			c.Images = []pagerduty.PagerdutyImage{{Src: picture, Alt: "{{ .CommonAnnotations." + PageSubject + " }}", Href: "{{ .CommonAnnotations." + PageURL + " }}"}}
		}
	}
}

// MailSender is one way in which an alertmanager.yml sends mail.
type MailSender struct {
	// Receivers use it; "(global)" stands for settings that no receiver uses.
	Receivers []string
	From      string // the address alone
	// Host and Port are the smarthost's.
	Host, Port string
	Hello      string
	// RequireTLS is set where nothing is sent without STARTTLS; Implicit where TLS begins at once.
	RequireTLS, Implicit bool
	TLS                  *tls.Config
}

// MailSenders returns the mail servers of an alertmanager.yml, none where it sends no mail. Relative paths in it start at
// dir.
func MailSenders(text []byte, dir string) ([]MailSender, error) {
	maintenance.InitMatchers()
	conf, err := config.Load(string(text))
	if err != nil {
		return nil, fmt.Errorf("alertmanager.yml: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("alertmanager.yml: %w", err)
	}
	namedfile.Each(conf, namedfile.In(dir))
	var out []MailSender
	add := func(receiver string, e *config.EmailConfig) error {
		s, err := mailSender(e)
		if err != nil {
			return fmt.Errorf("alertmanager.yml: receiver %q: %w", receiver, err)
		}
		for i := range out {
			if o := &out[i]; o.From == s.From && o.Host == s.Host && o.Port == s.Port {
				o.Receivers = append(o.Receivers, receiver)
				return nil
			}
		}
		s.Receivers = []string{receiver}
		out = append(out, s)
		return nil
	}
	for _, rcv := range conf.Receivers {
		for _, e := range rcv.EmailConfigs {
			if err := add(rcv.Name, e); err != nil {
				return nil, err
			}
		}
	}
	if len(out) == 0 && conf.Global.SMTPSmarthost.Host != "" && conf.Global.SMTPFrom != "" {
		err = add("(global)", globalMail(conf, ""))
	}
	return out, err
}

// globalMail is a mail by the global settings.
func globalMail(conf *config.Config, to string) *config.EmailConfig {
	g := conf.Global
	return &config.EmailConfig{
		To: to, From: g.SMTPFrom, Hello: g.SMTPHello, Smarthost: g.SMTPSmarthost, AuthUsername: g.SMTPAuthUsername, AuthPassword: g.SMTPAuthPassword,
		AuthPasswordFile: g.SMTPAuthPasswordFile, AuthSecret: g.SMTPAuthSecret, AuthSecretFile: g.SMTPAuthSecretFile, AuthIdentity: g.SMTPAuthIdentity,
		RequireTLS: &g.SMTPRequireTLS, TLSConfig: g.SMTPTLSConfig, ForceImplicitTLS: g.SMTPForceImplicitTLS,
	}
}

func mailSender(e *config.EmailConfig) (MailSender, error) {
	from, err := mail.ParseAddress(e.From)
	if err != nil {
		return MailSender{}, fmt.Errorf("sender %q: %w", e.From, err)
	}
	s := MailSender{From: from.Address, Host: e.Smarthost.Host, Port: e.Smarthost.Port, Hello: e.Hello, RequireTLS: e.RequireTLS == nil || *e.RequireTLS}
	s.Implicit = s.Port == "465"
	if e.ForceImplicitTLS != nil {
		s.Implicit = *e.ForceImplicitTLS
	}
	if s.TLS, err = commoncfg.NewTLSConfig(cmp.Or(e.TLSConfig, &commoncfg.TLSConfig{})); err != nil {
		return s, fmt.Errorf("tls_config: %w", err)
	}
	if s.TLS.ServerName == "" {
		s.TLS.ServerName = s.Host
	}
	return s, nil
}
