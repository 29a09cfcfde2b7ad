package alerting

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"strconv"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/pagerduty"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"bramble/alerting/alert"
)

const (
	// mailName is the integration's name, as Alertmanager has it.
	mailName = "email"
	// pageContentID is what a mail's HTML shows the picture by: <img src="cid:page-picture">.
	pageContentID = "page-picture"
	// pagePicture is the annotation that says that the mail has a picture.
	pagePicture = "page_picture"
)

// mailer sends pages by mail. It takes the settings of Alertmanager's own integration, whose mails cannot hold a picture.
type mailer struct {
	pager *Pager
	conf  *config.EmailConfig
	tmpl  *template.Template
}

// ownMailers puts mailers in the place of Alertmanager's.
func (p *Pager) ownMailers(rcv config.Receiver, tmpl *template.Template, built []notify.Integration) {
	for i := range built {
		if built[i].Name() == mailName {
			m := &mailer{p, rcv.EmailConfigs[built[i].Index()], tmpl}
			built[i] = notify.NewIntegration(m, m.conf, mailName, built[i].Index(), rcv.Name)
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
	ctx, cancel := context.WithTimeout(ctx, m.pager.pictures.budget)
	defer cancel()
	start := time.Now()
	b, err := m.pager.pictures.Draw(ctx, &f.incident, now)
	f.drew = time.Since(start)
	m.pager.metrics.pictures.WithLabelValues(drawnWord(err)).Inc()
	if err != nil {
		m.pager.log.Warn("mail leaves without its picture", "incident", f.incident.ID, "after", time.Since(start), "err", err)
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
	data := notify.GetTemplateData(ctx, m.tmpl, alerts, m.pager.amLog)
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
	if id, ok := ctx.Value(pageIDKey{}).(string); ok && m.conf.Headers["Message-Id"] == "" {
		msg.SetMessageIDWithValue(id + "@" + cmp.Or(m.pager.externalURL.Hostname(), "bramble.invalid"))
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

// address sets sender and recipients; what the header To says may be something else.
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
		gomail.WithPort(port), gomail.WithTimeout(tryTimeout), gomail.WithTLSConfig(tlsConfig), gomail.WithTLSPolicy(policy), gomail.WithoutNoop(),
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

// secret is a value, or what a file holds.
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
