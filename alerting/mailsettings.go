package alerting

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/mail"
	"path/filepath"

	"github.com/prometheus/alertmanager/config"
	commoncfg "github.com/prometheus/common/config"

	"bramble/alerting/maintenance"
	"bramble/alerting/namedfile"
)

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

// MailSenders returns what an alertmanager.yml sends mail by, none where it sends none. Relative paths in it start at
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
