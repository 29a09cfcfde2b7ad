package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/alerting"
	"bramble/alerting/namedfile"
	"bramble/collector/backup"
	"bramble/collector/customers"
)

// Config is all that an operator can set. A flag wins over the file. Fields that hold paths have a tag `file`, as package
// namedfile has it: by it they are resolved and backed up.
type Config struct {
	DataDir         string        `file:"not in backups"` // everything that the collector keeps
	HTTP            string        // address of the pages and the API
	NATS            string        // address that the boards connect to
	NATSWebSocket   string        // address for boards that reach port 443 only, as wss://; empty = none
	NATSNames       []string      // further names of this host, for the boards' certificate
	ExternalURL     string        // what links in pages begin with
	TLSCert         string        `file:"secret"` // certificate file of the pages, PEM
	TLSKey          string        `file:"secret"` // its key
	Retention       time.Duration // how long readings are kept
	RollupRetention time.Duration // how long their rollups are
	Memory          int64         // bytes for the store's caches; 0 = a share of the machine's
	Rules           []string      `file:"rules"`  // rule files; none = the default rules
	Alertmanager    string        `file:"secret"` // alertmanager.yml; none = incidents are recorded and nobody is told
	StartDelay      time.Duration // how long after a start the first page may leave
	Store           remoteConfig  // a store elsewhere, by URL
	OnCall          string        `file:"secret"` // oncall.yml; none = receivers send by themselves and nothing escalates
	Receivers       string        `file:"secret"` // receivers.yml: what receivers have beyond Alertmanager's; none = nothing
	Backups         backup.Config // on a schedule where the file has the block
	Watchdog        WatchdogConfig
	TestPage        TestPageConfig
	Digest          DigestConfig
	Customers       customers.Limits // what one customer may set and be sent

	// UpgradeWithoutBackup lets a start upgrade an older collector's data without a way back. A flag, never in the file.
	UpgradeWithoutBackup bool

	file string // what was read, if any
}

// maxStartDelay bounds what an operator may lose of a page's speed by StartDelay: Prometheus sends what fires once a minute
// (rule evaluation's resend delay).
const maxStartDelay = time.Minute

// longestRetention is the store's own limit.
const longestRetention = 100 * 365 * 24 * time.Hour

// DefaultConfig speaks on loopback and keeps readings for 90 days, and their
// rollups for as long as the store can.
var DefaultConfig = Config{
	DataDir: "/var/lib/bramble", HTTP: "127.0.0.1:8314", NATS: "127.0.0.1:4222",
	Retention: 90 * 24 * time.Hour, RollupRetention: longestRetention, Customers: customers.DefaultLimits,
}

// keys maps each key of the file to what reads it.
func (c *Config) keys() map[string]func(*yaml.Node) error {
	text := func(to *string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
	duration := func(to *time.Duration) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			d, err := model.ParseDuration(n.Value)
			*to = time.Duration(d)
			return err
		}
	}
	list := func(to *[]string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
	return map[string]func(*yaml.Node) error{
		"data_dir": text(&c.DataDir), "http": text(&c.HTTP), "nats": text(&c.NATS),
		"nats_websocket": text(&c.NATSWebSocket), "nats_names": list(&c.NATSNames),
		"external_url": text(&c.ExternalURL), "tls_cert": text(&c.TLSCert), "tls_key": text(&c.TLSKey),
		"rules": list(&c.Rules), "alertmanager": text(&c.Alertmanager), "oncall": text(&c.OnCall), "receivers": text(&c.Receivers),
		"backups": c.readBackups, "store": c.readStore, "watchdog": c.readWatchdog, "test_page": c.readTestPage, "digest": c.readDigest, "customers": c.readCustomers,
		"start_delay": duration(&c.StartDelay), "retention": duration(&c.Retention), "rollup_retention": duration(&c.RollupRetention),
		"memory": func(n *yaml.Node) error {
			b, err := units.ParseStrictBytes(n.Value)
			c.Memory = b
			return err
		},
	}
}

// read takes over a YAML file. Paths in it are relative to the file.
func (c *Config) read(file string) error {
	if abs, err := filepath.Abs(file); err == nil {
		c.file = abs
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // an empty file changes nothing
	case err != nil:
		return fmt.Errorf("config %s: %s", file, oneLine(err))
	}
	if err := d.Decode(&second); err == nil {
		return fmt.Errorf("config %s:%d: a second document begins: want one", file, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("config %s: %s", file, oneLine(err))
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("config %s:%d: want `key: value` lines", file, top.Line)
	}
	keys, seen := c.keys(), map[string]bool{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		set := keys[key.Value]
		switch {
		case set == nil:
			return fmt.Errorf("config %s:%d: unknown key %q; known are %s", file, key.Line, key.Value, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		case seen[key.Value]:
			return fmt.Errorf("config %s:%d: key %q stands twice", file, key.Line, key.Value)
		}
		seen[key.Value] = true
		if err := c.take(key.Value, value, set, filepath.Dir(file)); err != nil {
			return fmt.Errorf("config %s:%d: %s: %s", file, value.Line, key.Value, oneLine(err))
		}
	}
	return nil
}

// eachKey sets the keys of a block inside the file.
func eachKey(block *yaml.Node, keys map[string]func(*yaml.Node) error) error {
	if block.Kind != yaml.MappingNode {
		return errors.New("want `key: value` lines")
	}
	seen := map[string]bool{}
	for i := 0; i < len(block.Content); i += 2 {
		key, value := block.Content[i], block.Content[i+1]
		set := keys[key.Value]
		switch {
		case set == nil:
			return fmt.Errorf("line %d: unknown key %q; known are %s", key.Line, key.Value, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		case seen[key.Value]:
			return fmt.Errorf("line %d: key %q stands twice", key.Line, key.Value)
		case value.Tag == "!!null":
			return fmt.Errorf("line %d: %s has no value", value.Line, key.Value)
		}
		seen[key.Value] = true
		if err := set(value); err != nil {
			return fmt.Errorf("line %d: %s: %w", value.Line, key.Value, err)
		}
	}
	return nil
}

// take sets one key of a file in dir.
func (c *Config) take(key string, value *yaml.Node, set func(*yaml.Node) error, dir string) error {
	if value.Tag == "!!null" {
		return errors.New("has no value")
	}
	if err := set(value); err != nil {
		return err
	}
	c.resolve(dir)
	return c.check(key)
}

// oneLine joins the lines of an error.
func oneLine(err error) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(err.Error(), "yaml: ")) {
		switch line = strings.TrimSpace(line); {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteByte(' ')
		case b.Len() > 0:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// resolve makes paths, which are relative to dir, absolute. A key for the backups that is not there yet stays relative to
// the data directory: a service cannot write beside its configuration.
func (c *Config) resolve(dir string) {
	namedfile.Each(c, func(p namedfile.Path) string {
		beside := namedfile.In(dir)(p)
		if backup.InBucket(p.Value) || p.Key == "Backups.Key" && checkFile(beside) != nil {
			return p.Value
		}
		return beside
	})
}

// files are all files that the configuration names, in itself and in the files that it names.
func (c *Config) files() backup.Files {
	f := backup.Files{Config: c.file}
	all, err := alerting.Files(c.Alertmanager, c.Receivers)
	if err != nil {
		f.Unknown = append(f.Unknown, "files that alertmanager.yml or receivers.yml name: "+oneLine(err))
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

// check validates the value of one key.
func (c *Config) check(key string) error {
	switch key {
	case "http":
		return checkAddress(c.HTTP)
	case "nats":
		return checkAddress(c.NATS)
	case "nats_websocket":
		if c.NATSWebSocket != "" {
			return checkAddress(c.NATSWebSocket)
		}
	case "external_url":
		if u, err := url.Parse(c.ExternalURL); c.ExternalURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%q is not a URL such as https://bramble.example.org", c.ExternalURL)
		}
	case "retention":
		return checkRetention(c.Retention)
	case "rollup_retention":
		return checkRetention(c.RollupRetention)
	case "start_delay":
		if c.StartDelay > maxStartDelay {
			return fmt.Errorf("%s is longer than %s: nobody is paged for so long", c.StartDelay, maxStartDelay)
		}
	case "memory":
		if c.Memory < 0 {
			return errors.New("is negative")
		}
	case "data_dir":
		if c.DataDir == "" {
			return errors.New("is empty")
		}
	case "rules":
		for _, p := range c.Rules {
			if names, err := filepath.Glob(p); err != nil || len(names) == 0 {
				return fmt.Errorf("no file matches %q", p)
			}
		}
	case "backups":
		return checkBackups(c.Backups)
	case "store":
		return checkStore(c.Store)
	case "digest":
		return checkDigest(c.Digest)
	case "customers":
		return checkCustomers(c.Customers)
	case "watchdog":
		return checkWatchdog(c.Watchdog)
	case "alertmanager":
		return checkFile(c.Alertmanager)
	case "oncall":
		return checkFile(c.OnCall)
	case "receivers":
		return checkFile(c.Receivers)
	case "tls_cert":
		return checkFile(c.TLSCert)
	case "tls_key":
		return checkFile(c.TLSKey)
	}
	return nil
}

// checkFile refuses the name of a file that is not there. Empty names none.
func checkFile(name string) error {
	if name == "" {
		return nil
	}
	_, err := os.Stat(name)
	return err
}

func checkAddress(a string) error {
	_, port, err := net.SplitHostPort(a)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8314 or [::]:8314", a)
	}
	return nil
}

// Validate reports every problem of the configuration.
func (c *Config) Validate() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(c.keys())) {
		if err := c.check(key); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if err := c.rollupsOutlive(); err != nil {
		errs = append(errs, err)
	}
	if c.OnCall != "" && c.Alertmanager == "" {
		errs = append(errs, errors.New("oncall: its channels are receivers of an alertmanager.yml: set alertmanager, too"))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: set both or neither"))
	} else if c.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			errs = append(errs, fmt.Errorf("tls_cert and tls_key: %w", err))
		}
	}
	return errors.Join(errs...)
}

// parse reads flags into grammar. help is true when the person asked for help
// and got it.
func parse(name, description string, grammar any, args []string, stdout, stderr io.Writer) (help bool, err error) {
	k, err := parseCommand(name, description, grammar, args, stdout, stderr)
	return k == nil && err == nil, err
}

// parseCommand is parse for a grammar with commands: it returns which was
// typed, nil when the person asked for help and got it.
func parseCommand(name, description string, grammar any, args []string, stdout, stderr io.Writer) (*kong.Context, error) {
	help := false
	p, err := kong.New(grammar, kong.Name("collector "+name), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { help = true }))
	if err != nil {
		return nil, err
	}
	k, err := p.Parse(args)
	if help {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; see `collector %s --help`", err, name)
	}
	return k, nil
}
