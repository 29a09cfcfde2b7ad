package config

import (
	"net/mail"
	"net/url"
	"time"

	promconfig "github.com/prometheus/common/config"

	"bramble/collector/backup"
	"bramble/collector/config/unit"
	"bramble/collector/customers"
	"bramble/collector/schedule"
	"bramble/storage/remote"
)

// Store is a store elsewhere. The zero value is the embedded one.
type Store struct {
	Write       string        `yaml:"write"` // base URL that takes rows
	Read        string        `yaml:"read"`  // base URL that answers queries
	Nodes       []string      `yaml:"nodes"`
	Keep        unit.Duration `yaml:"keep"`
	Username    string        `yaml:"username"`
	Password    string        `yaml:"password_file" file:"secret"`
	Token       string        `yaml:"token_file" file:"secret"`
	CA          string        `yaml:"ca_file" file:"secret"`
	Certificate string        `yaml:"cert_file" file:"secret"`
	Key         string        `yaml:"key_file" file:"secret"`
}

func (s Store) check() (found problems) {
	for key, path := range map[string]string{
		"password_file": s.Password, "token_file": s.Token, "ca_file": s.CA, "cert_file": s.Certificate, "key_file": s.Key,
	} {
		found.add("store: "+key, CheckFile(path))
	}
	if s.Write == "" {
		if s.Read != "" || s.Nodes != nil || s.Keep != 0 || s.Username != "" {
			found.addf("store", "write is missing: it is the base URL that rows are sent to")
		}
		return found
	}
	if (s.Username == "") != (s.Password == "") {
		found.addf("store", "username and password_file: set both or neither")
	}
	if s.Username != "" && s.Token != "" {
		found.addf("store", "username and token_file exclude each other")
	}
	if (s.Certificate == "") != (s.Key == "") {
		found.addf("store", "cert_file and key_file: set both or neither")
	}
	_, err := s.Options().Check()
	found.add("store", err)
	return found
}

// Options returns the settings of a client of the store.
func (s Store) Options() remote.Options {
	client := promconfig.HTTPClientConfig{
		EnableHTTP2: true,
		TLSConfig:   promconfig.TLSConfig{CAFile: s.CA, CertFile: s.Certificate, KeyFile: s.Key},
	}
	if s.Username != "" {
		client.BasicAuth = &promconfig.BasicAuth{Username: s.Username, PasswordFile: s.Password}
	}
	if s.Token != "" {
		client.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: s.Token}
	}
	return remote.Options{Write: s.Write, Read: s.Read, Nodes: s.Nodes, Keep: time.Duration(s.Keep), Client: client}
}

func checkBackups(b backup.Config) (found problems) {
	if b.Every != 0 && (b.Every < unit.Duration(5*time.Minute) || b.Every > unit.Duration(31*24*time.Hour)) {
		found.addf("backups: every", "%s is not between 5m and 31d", b.Every)
	}
	if k := b.Keep; k.Daily < 0 || k.Weekly < 0 || k.Monthly < 0 {
		found.addf("backups: keep", "a number is negative")
	}
	if b.Rate > 0 && b.Rate < 1<<20 {
		found.addf("backups: rate", "%d bytes a second are less than 1MiB", b.Rate)
	}
	switch {
	case backup.InBucket(b.Target):
		found.add("backups", b.S3.Check(b.Target))
	case b.S3 != (backup.S3{}) && b.Target != "":
		found.addf("backups: s3", "the target %s is a directory: write target: s3://BUCKET/PREFIX", b.Target)
	}
	return found
}

// Watchdog says where the collector shows that its alerting works.
type Watchdog struct {
	URL       string        `yaml:"url"`                      // takes a POST for each heartbeat; "" for none
	TokenFile string        `yaml:"token_file" file:"secret"` // holds a token for it; "" for none
	Every     unit.Duration `yaml:"every"`                    // between heartbeats
}

func (w Watchdog) check() (found problems) {
	if w == (Watchdog{}) {
		return nil
	}
	if u, err := url.Parse(w.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		found.addf("watchdog: url", "want a URL that takes a POST, such as https://other.example.org/api/heartbeats/east")
	}
	if w.Every < unit.Duration(10*time.Second) || w.Every > unit.Duration(time.Hour) {
		found.addf("watchdog: every", "%s is not between 10s and 1h", w.Every)
	}
	found.add("watchdog: token_file", CheckFile(w.TokenFile))
	return found
}

// TestPage sends test pages on a schedule.
type TestPage struct {
	At       string `yaml:"at"`       // as package schedule reads it; "": none is sent by itself
	Zone     string `yaml:"zone"`     // "" is UTC
	Receiver string `yaml:"receiver"` // "" for the first
}

// Schedule is when they are sent. It is not set where none is configured.
func (t TestPage) Schedule() schedule.Schedule { return scheduled(t.At, t.Zone) }

func (t TestPage) check() (found problems) {
	if t != (TestPage{}) {
		_, err := schedule.Parse(t.At, t.Zone)
		found.add("test_page", err)
	}
	return found
}

// Digest says when and to whom the daily mail goes.
type Digest struct {
	At       string `yaml:"at"` // as package schedule reads it; "": none is sent
	Zone     string `yaml:"zone"`
	To       string `yaml:"to"`       // addresses, by the alertmanager.yml's global mail settings; or
	Receiver string `yaml:"receiver"` // whom the email_configs of this receiver name
}

// Schedule is when it is sent. It is not set where none is configured.
func (d Digest) Schedule() schedule.Schedule { return scheduled(d.At, d.Zone) }

func (d Digest) check() (found problems) {
	if d == (Digest{}) {
		return nil
	}
	_, err := schedule.Parse(d.At, d.Zone)
	found.add("digest", err)
	if (d.To == "") == (d.Receiver == "") {
		found.addf("digest", "set one of to (addresses) and receiver (one with email_configs)")
	}
	if _, err := mail.ParseAddressList(d.To); d.To != "" && err != nil {
		found.addf("digest: to", "%q: %w", d.To, err)
	}
	return found
}

// scheduled parses a schedule that was checked before.
func scheduled(at, zone string) schedule.Schedule {
	s, err := schedule.Parse(at, zone)
	if err != nil {
		return schedule.Schedule{}
	}
	return s
}

func checkCustomers(l customers.Limits) (found problems) {
	for key, n := range map[string]int{
		"contacts": l.Contacts, "thresholds": l.Thresholds, "changes": l.Changes, "confirmations": l.Confirmations, "hourly": l.Hourly, "daily": l.Daily,
	} {
		if n < 1 || n > 10_000 {
			found.addf("customers: "+key, "%d is not between 1 and 10000", n)
		}
	}
	if l.Contacts > l.Hourly || l.Hourly > l.Daily {
		found.addf("customers", "contacts (%d) may not exceed hourly (%d), nor that daily (%d): each alert is a mail to each contact", l.Contacts, l.Hourly, l.Daily)
	}
	return found
}
