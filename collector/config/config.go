// Package config owns the collector's configuration file: the settings, their defaults, and which values are
// refused. It reports all problems of a file at once, each with its line, the value and the next step, and looks whether the
// files are there that it names. It reads none of them but the certificate.
package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bramble/alerting/namedfile"
	"bramble/alerting/receivers"
	"bramble/collector/backup"
	"bramble/collector/config/unit"
	"bramble/collector/customers"
	"bramble/collector/ingest"
	"bramble/storage"
)

// Config is all that an operator can set. A flag wins over the file. Fields that hold paths have a tag `file`, as package
// namedfile has it: by it they are resolved and backed up.
type Config struct {
	DataDir         string           `yaml:"data_dir" file:"not in backups"` // everything that the collector keeps
	HTTP            string           `yaml:"http"`                           // address of the pages and the API
	NATS            string           `yaml:"nats"`                           // address that the boards connect to
	NATSWebSocket   string           `yaml:"nats_websocket"`                 // address for boards that reach port 443 only, as wss://; empty = none
	NATSNames       []string         `yaml:"nats_names"`                     // further names of this host, for the boards' certificate
	ExternalURL     string           `yaml:"external_url"`                   // beginning of links in pages
	TLSCert         string           `yaml:"tls_cert" file:"secret"`         // certificate file of the pages, PEM
	TLSKey          string           `yaml:"tls_key" file:"secret"`          // its key
	Retention       unit.Duration    `yaml:"retention"`                      // how long readings are kept
	RollupRetention unit.Duration    `yaml:"rollup_retention"`               // how long their rollups are
	Memory          unit.Size        `yaml:"memory"`                         // for the store's caches; 0 = a share of the machine's
	Rules           []string         `yaml:"rules" file:"rules"`             // rule files; none = the default rules
	Alertmanager    string           `yaml:"alertmanager" file:"secret"`     // alertmanager.yml; none = incidents are recorded and nobody is notified
	StartDelay      unit.Duration    `yaml:"start_delay"`                    // how long after a start the first page may leave
	Store           Store            `yaml:"store"`                          // a store elsewhere, by URL
	OnCall          string           `yaml:"oncall" file:"secret"`           // oncall.yml; none = receivers send by themselves and nothing escalates
	Receivers       string           `yaml:"receivers" file:"secret"`        // receivers.yml: receivers' settings beyond Alertmanager's; none = nothing
	Backups         backup.Config    `yaml:"backups"`                        // on a schedule where the file has the block
	Watchdog        Watchdog         `yaml:"watchdog"`
	TestPage        TestPage         `yaml:"test_page"`
	Digest          Digest           `yaml:"digest"`
	Customers       customers.Limits `yaml:"customers"` // bounds of one customer's settings and mails

	// UpgradeWithoutBackup lets a start upgrade an older collector's data without a way back. A flag, never in the file.
	UpgradeWithoutBackup bool `yaml:"-"`

	file string // the file that was read, if any
}

const (
	// maxStartDelay bounds the delay of a page by StartDelay: Prometheus sends its firing alerts once a
	// minute (rule evaluation's resend delay).
	maxStartDelay = time.Minute
	// MaxRetention is the store's own limit.
	MaxRetention = 100 * 365 * 24 * time.Hour
)

// minRetention leaves time to roll readings up before they expire.
var minRetention = storage.MinRollupRetention(ingest.Late)

// Default speaks on loopback and keeps readings for 90 days, and their rollups for as long as the store can.
var Default = Config{
	DataDir: "/var/lib/bramble", HTTP: "127.0.0.1:8314", NATS: "127.0.0.1:4222",
	Retention: unit.Duration(90 * 24 * time.Hour), RollupRetention: unit.Duration(MaxRetention), Customers: customers.DefaultLimits,
}

// File is the absolute path of the file that was read, "" for none.
func (c *Config) File() string { return c.file }

// BackupFlag is the part of a command line that finds the backups in a bucket.
func (c *Config) BackupFlag() string {
	if c.file == "" || !backup.InBucket(c.Backups.Target) {
		return ""
	}
	return " --config " + c.file
}

// BackupsAt is the configuration of the backups with another target; "" is the configured one.
func (c *Config) BackupsAt(target string) backup.Config {
	b := c.Backups
	if target != "" {
		b.Target = target
	}
	if b.Target == "" {
		b.Target = filepath.Join(c.DataDir, "backups")
	}
	return b
}

// Files are all files that the configuration names, in itself and in the files that it names.
func (c *Config) Files() backup.Files {
	f := backup.Files{Config: c.file}
	all, err := receivers.Files(c.Alertmanager, c.Receivers)
	if err != nil {
		f.Unknown = append(f.Unknown, "files that alertmanager.yml or receivers.yml name: "+OneLine(err))
	}
	if c.file != "" {
		all = append(all, namedfile.Path{Value: c.file, Kind: namedfile.Secret})
	}
	for _, p := range append(all, namedfile.Files(c)...) {
		found, err := filepath.Glob(p.Value)
		if err != nil || len(found) == 0 && !strings.ContainsAny(p.Value, `*?[`) {
			found = []string{p.Value}
		}
		for _, path := range found {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			if p.Kind == namedfile.Rules {
				f.Rules = append(f.Rules, path)
			} else {
				f.Secret = append(f.Secret, path)
			}
		}
	}
	return f
}

// resolve makes paths, which are relative to dir, absolute. A key for the backups that is not there yet stays relative to
// the data directory: a service cannot write beside its configuration.
func (c *Config) resolve(dir string) {
	namedfile.Each(c, func(p namedfile.Path) string {
		beside := namedfile.In(dir)(p)
		if backup.InBucket(p.Value) || p.Key == "backups.key" && CheckFile(beside) != nil {
			return p.Value
		}
		return beside
	})
}

// Validate reports every problem of the configuration as it is, after flags have changed it.
func (c *Config) Validate() error {
	var errs []error
	for _, p := range append(c.checkKeys(), c.checkTogether()...) {
		errs = append(errs, fmt.Errorf("%s: %w", p.key, p.err))
	}
	return errors.Join(errs...)
}

// checkKeys finds the problems of each key by itself.
func (c *Config) checkKeys() (found problems) {
	found.add("http", CheckAddress(c.HTTP))
	found.add("nats", CheckAddress(c.NATS))
	if c.NATSWebSocket != "" {
		found.add("nats_websocket", CheckAddress(c.NATSWebSocket))
	}
	if u, err := url.Parse(c.ExternalURL); c.ExternalURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		found.addf("external_url", "%q is not a URL such as https://bramble.example.org", c.ExternalURL)
	}
	found.add("retention", checkRetention(c.Retention))
	found.add("rollup_retention", checkRetention(c.RollupRetention))
	if c.StartDelay > unit.Duration(maxStartDelay) {
		found.addf("start_delay", "%s is longer than %s: nobody is paged for so long", c.StartDelay, maxStartDelay)
	}
	if c.DataDir == "" {
		found.addf("data_dir", "is empty: name a directory")
	}
	for _, p := range c.Rules {
		if names, err := filepath.Glob(p); err != nil || len(names) == 0 {
			found.addf("rules", "no file matches %q", p)
		}
	}
	for key, path := range map[string]string{
		"alertmanager": c.Alertmanager, "oncall": c.OnCall, "receivers": c.Receivers, "tls_cert": c.TLSCert, "tls_key": c.TLSKey,
	} {
		found.add(key, CheckFile(path))
	}
	found = append(found, c.Store.check()...)
	found = append(found, checkBackups(c.Backups)...)
	found = append(found, c.Watchdog.check()...)
	found = append(found, c.TestPage.check()...)
	found = append(found, c.Digest.check()...)
	return append(found, checkCustomers(c.Customers)...)
}

// checkTogether finds keys that do not fit each other.
func (c *Config) checkTogether() (found problems) {
	if c.RollupRetention < c.Retention {
		found.addf("rollup_retention", "%s is less than the %s of retention", days(c.RollupRetention), days(c.Retention))
	}
	if c.OnCall != "" && c.Alertmanager == "" {
		found.addf("oncall", "its channels are receivers of an alertmanager.yml: set alertmanager, too")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		found.addf("tls_cert and tls_key", "set both or neither")
	} else if c.TLSCert != "" {
		_, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		found.add("tls_cert and tls_key", err)
	}
	return found
}

// CheckFile refuses the name of a file that is not there. Empty names none.
func CheckFile(name string) error {
	if name == "" {
		return nil
	}
	_, err := os.Stat(name)
	return err
}

// CheckAddress refuses a text that is no host and port to listen on.
func CheckAddress(a string) error {
	_, port, err := net.SplitHostPort(a)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8314 or [::]:8314", a)
	}
	return nil
}

// checkRetention refuses times that would lose readings before they are rolled up.
func checkRetention(d unit.Duration) error {
	if d < unit.Duration(minRetention) || d > unit.Duration(MaxRetention) {
		return fmt.Errorf("%s is not between %s and 100y: a reading may arrive 8 days late and is rolled up within two days after that", days(d), days(unit.Duration(minRetention)))
	}
	return nil
}

// days shows a duration as it stands in a config file.
func days(d unit.Duration) string {
	const day = unit.Duration(24 * time.Hour)
	if d%day != 0 {
		return d.String()
	}
	return fmt.Sprintf("%dd", int64(d/day))
}
