package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Config is all that an operator can set. A flag wins over the file.
type Config struct {
	DataDir      string        // everything that the collector keeps
	HTTP         string        // address of the pages and the API
	NATS         string        // address that the boards connect to
	NATSNames    []string      // further names of this host, for the boards' certificate
	ExternalURL  string        // what links in pages begin with
	TLSCert      string        // certificate file of the pages, PEM
	TLSKey       string        // its key
	Retention    time.Duration // how long readings are kept
	Memory       int64         // bytes for the store's caches; 0 = a share of the machine's
	Rules        []string      // rule files; none = the default rules
	Alertmanager string        // alertmanager.yml; none = incidents are recorded and nobody is told
}

// DefaultConfig speaks on loopback and keeps readings for 13 months, so that a
// month can be compared with the same one a year before.
var DefaultConfig = Config{
	DataDir: "/var/lib/bramble", HTTP: "127.0.0.1:8314", NATS: "127.0.0.1:4222",
	Retention: 396 * 24 * time.Hour,
}

// keys maps each key of the file to what reads it.
func (c *Config) keys() map[string]func(*yaml.Node) error {
	text := func(to *string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
	list := func(to *[]string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
	return map[string]func(*yaml.Node) error{
		"data_dir": text(&c.DataDir), "http": text(&c.HTTP), "nats": text(&c.NATS), "nats_names": list(&c.NATSNames),
		"external_url": text(&c.ExternalURL), "tls_cert": text(&c.TLSCert), "tls_key": text(&c.TLSKey),
		"rules": list(&c.Rules), "alertmanager": text(&c.Alertmanager),
		"retention": func(n *yaml.Node) error {
			d, err := model.ParseDuration(n.Value)
			c.Retention = time.Duration(d)
			return err
		},
		"memory": func(n *yaml.Node) error {
			b, err := units.ParseStrictBytes(n.Value)
			c.Memory = b
			return err
		},
	}
}

// read takes over a YAML file. Paths in it are relative to the file.
func (c *Config) read(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("config %s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil // an empty file changes nothing
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
		if err := errors.Join(set(value), c.check(key.Value)); err != nil {
			return fmt.Errorf("config %s:%d: %s: %s", file, value.Line, key.Value, oneLine(err))
		}
	}
	c.resolve(filepath.Dir(file))
	return nil
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
}

// resolve makes paths relative to dir absolute.
func (c *Config) resolve(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	for _, p := range []*string{&c.DataDir, &c.TLSCert, &c.TLSKey, &c.Alertmanager} {
		abs(p)
	}
	for i := range c.Rules {
		abs(&c.Rules[i])
	}
}

// check validates the value of one key.
func (c *Config) check(key string) error {
	switch key {
	case "http":
		return checkAddress(c.HTTP)
	case "nats":
		return checkAddress(c.NATS)
	case "external_url":
		if u, err := url.Parse(c.ExternalURL); c.ExternalURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%q is not a URL such as https://bramble.example.org", c.ExternalURL)
		}
	case "retention":
		if c.Retention < 24*time.Hour || c.Retention > 100*365*24*time.Hour {
			return fmt.Errorf("%s is not between 1d and 100y", c.Retention)
		}
	case "memory":
		if c.Memory < 0 {
			return errors.New("is negative")
		}
	case "data_dir":
		if c.DataDir == "" {
			return errors.New("is empty")
		}
	}
	return nil
}

func checkAddress(a string) error {
	if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
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
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: set both or neither"))
	}
	return errors.Join(errs...)
}

// parse reads flags into grammar. help is true when the person asked for help
// and got it.
func parse(name, description string, grammar any, args []string, stdout, stderr io.Writer) (help bool, err error) {
	p, err := kong.New(grammar, kong.Name("collector "+name), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { help = true }))
	if err != nil {
		return false, err
	}
	if _, err := p.Parse(args); err != nil && !help {
		return false, fmt.Errorf("%w; see `collector %s --help`", err, name)
	}
	return help, nil
}
