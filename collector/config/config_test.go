package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/alerting/namedfile"
	"bramble/collector/backup"
)

// noPaths are the settings of the collector that are text and name no file.
var noPaths = []string{
	"HTTP", "NATS", "NATSWebSocket", "NATSNames", "ExternalURL",
	"Store.Write", "Store.Read", "Store.Nodes", "Store.Username",
	"Backups.S3.Endpoint", "Backups.S3.Region", "Watchdog.URL", "TestPage.At", "TestPage.Zone", "TestPage.Receiver", "Digest.At", "Digest.Zone", "Digest.To", "Digest.Receiver",
}

// textSettings lists the settings below a type that are text, and how a backup keeps the files that they name.
func textSettings(of reflect.Type, key string, all map[string]namedfile.Kind) {
	for i := range of.NumField() {
		f := of.Field(i)
		if !f.IsExported() {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Map {
			inner = inner.Elem()
		}
		switch name := strings.TrimPrefix(key+"."+f.Name, "."); inner.Kind() {
		case reflect.String:
			all[name] = namedfile.Kind(f.Tag.Get("file"))
		case reflect.Struct:
			textSettings(inner, name, all)
		}
	}
}

// TestEverySettingIsAPathOrNot fails for a new setting that is text until it says, by a tag, how a backup keeps the file
// that it names, or stands among those that name none.
func TestEverySettingIsAPathOrNot(t *testing.T) {
	all := map[string]namedfile.Kind{}
	textSettings(reflect.TypeFor[Config](), "", all)
	for key, kind := range all {
		switch {
		case slices.Contains(noPaths, key) && kind != "":
			t.Errorf("%s: %q: it is listed as none", key, kind)
		case slices.Contains(noPaths, key):
		case !slices.Contains([]namedfile.Kind{namedfile.Secret, namedfile.Rules, namedfile.Not}, kind):
			t.Errorf("setting %s: give it a tag `file` that says how a backup keeps what it names (%q), or list it in noPaths", key, kind)
		}
	}
	if all["TLSKey"] != namedfile.Secret || all["Backups.S3.Credentials"] != namedfile.Secret {
		t.Errorf("settings: %v", all)
	}
}

// TestFilesOfTheConfiguration writes a configuration that names a file wherever one can be named.
func TestFilesOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"collector.yml": `
data_dir: data
rules: [rules/*.yml]
alertmanager: alertmanager.yml
receivers: receivers.yml
oncall: oncall.yml
tls_cert: tls/pages.pem
tls_key: tls/pages.key
watchdog: {url: "https://other.example.org/beat", token_file: watchdog.token}
store: {write: "https://store.example.org/", username: u, password_file: store.password, ca_file: store.ca, cert_file: store.pem, key_file: store.key}
backups:
  target: s3://racks/site
  key: keys/own.key
  s3: {credentials: s3.keys, ca: s3.ca}
`,
		"alertmanager.yml": `
templates: [templates/*.tmpl, none/*.tmpl]
route: {receiver: a}
receivers: [{name: a, webhook_configs: [{url_file: hook.url}]}]
`,
		"receivers.yml": `{receivers: {a: {http: [{url: "https://sms.example.org", secrets: {key: sms.key}}]}}}`,
		"rules/a.yml":   "", "rules/b.yml": "", "templates/a.tmpl": "", "oncall.yml": "", "tls/pages.pem": "", "tls/pages.key": "", "watchdog.token": "",
		"store.password": "", "store.ca": "", "store.pem": "", "store.key": "", "s3.keys": "", "s3.ca": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Read(filepath.Join(dir, "collector.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Backups.Target != "s3://racks/site" || c.Backups.Key != "keys/own.key" || c.DataDir != filepath.Join(dir, "data") {
		t.Errorf("target %q, key %q, data %q", c.Backups.Target, c.Backups.Key, c.DataDir)
	}
	f := c.Files()
	below := func(paths []string) (all []string) {
		for _, p := range paths {
			all = append(all, strings.TrimPrefix(p, dir+"/"))
		}
		slices.Sort(all)
		return all
	}
	if d := cmp.Diff([]string{"rules/a.yml", "rules/b.yml"}, below(f.Rules)); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
	want := []string{
		"alertmanager.yml", "collector.yml", "hook.url", "oncall.yml", "receivers.yml", "s3.ca", "s3.keys", "sms.key", "store.ca", "store.key", "store.password",
		"store.pem", "templates/a.tmpl", "tls/pages.key", "tls/pages.pem", "watchdog.token",
	}
	if d := cmp.Diff(want, below(f.Secret)); d != "" || f.Config != c.file || len(f.Unknown) > 0 {
		t.Errorf("config %s, unknown %v, secret (-want +got):\n%s", f.Config, f.Unknown, d)
	}
}

// TestProblems: a file's problems are reported together, in the order of their lines, each with its key, value and next step.
func TestProblems(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		c, err := parse("c.yml", []byte(text), func(c *Config) problems { return append(c.checkKeys(), c.checkTogether()...) })
		var got []string
		if err != nil {
			got = strings.Split(strings.ReplaceAll(err.Error(), "config c.yml", ""), "\n")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s\n(-want +got):\n%s", text, d)
		}
		if err == nil && c.Validate() != nil {
			t.Errorf("%s: validated: %v", text, c.Validate())
		}
	}
	f("")
	f("retention: 30d\nmemory: 512MiB\nrollup_retention: 1y\nnats_names: [a, b]\nbackups:\ndigest: {to: ada@example.org}", ":5: backups: has no value")
	f("http: nowhere\ncolour: red\nretention: soon\nmemory: lots\nstart_delay: 1h\nbackups:\n  every: never\n  keep: {daily: some, hourly: 3}\n  rate: 1KiB\n",
		`:1: http: "nowhere" is not an address such as 127.0.0.1:8314 or [::]:8314`,
		`:2: unknown key "colour"; known are `+strings.Join(blocks["config.Config"].keys, ", "),
		`:3: retention: not a valid duration string: "soon": write it like 30s, 12h or 90d`,
		`:4: memory: "lots": units: invalid lots: write it like 512MiB`,
		`:5: start_delay: 1h0m0s is longer than 1m0s: nobody is paged for so long`,
		`:7: backups: every: not a valid duration string: "never": write it like 30s, 12h or 90d`,
		`:8: backups: keep: unknown key "hourly"; known are daily, monthly, weekly`,
		`:8: backups: keep: daily: "some": want a whole number`,
		`:9: backups: rate: 1024 bytes a second are less than 1MiB`)
	f("backups: daily\nrules: one.rules\nhttp: [a]\nnats_names: {a: b}\nwatchdog: {url: nowhere, every: 1s}\n",
		":1: backups: \"daily\": want `key: value` lines",
		`:2: rules: "one.rules": want a list such as [a, b]`,
		":3: http: want a text",
		":4: nats_names: want a list such as [a, b]",
		":5: watchdog: every: 1s is not between 10s and 1h",
		":5: watchdog: url: want a URL that takes a POST, such as https://other.example.org/api/heartbeats/east")
	f("http: 127.0.0.1:0\nwatchdog: {url: \"http://a/\", url: \"http://b/\"}\nhttp: 127.0.0.1:1\n",
		`:2: watchdog: key "url" stands twice`, `:3: key "http" stands twice`)
	f("customers: {contacts: 0, hourly: 20000}\ntls_cert: read.go\nrollup_retention: 30d\noncall: read.go\n",
		":1: customers: contacts (0) may not exceed hourly (20000), nor that daily (100): each alert is a mail to each contact",
		":1: customers: contacts: 0 is not between 1 and 10000", ":1: customers: hourly: 20000 is not between 1 and 10000",
		":2: tls_cert and tls_key: set both or neither", ":3: rollup_retention: 30d is less than the 90d of retention",
		":4: oncall: its channels are receivers of an alertmanager.yml: set alertmanager, too")
	f("- http", ":1: want `key: value` lines")
	f("http: 127.0.0.1:0\n---\ncolour: red", ":2: a second document begins: want one")
	f("a: &a [*a]", `:1: unknown key "a"; known are `+strings.Join(blocks["config.Config"].keys, ", "))
}

// TestBlocksThatSayNothingElse: a block that is in the file has its own defaults.
func TestBlocksThatSayNothingElse(t *testing.T) {
	c, err := parse("c.yml", []byte("backups: {target: \"s3://a\", keep: {daily: 3}}\nwatchdog: {url: \"http://a/\"}\ndigest: {to: a@b}\n"), (*Config).checkKeys)
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Backups; b.Every.Seconds() != 86400 || b.Keep != (backup.Keep{Daily: 3, Weekly: 4, Monthly: 12}) {
		t.Errorf("backups: %+v", b)
	}
	if c.Watchdog.Every.Seconds() != 60 || !c.Digest.Schedule().Set() || c.TestPage.Schedule().Set() {
		t.Errorf("%+v", c)
	}
	if Default.Backups.Every != 0 || Default.Watchdog.Every != 0 || Default.Digest.At != "" {
		t.Errorf("the defaults have changed: %+v", Default)
	}
}

// FuzzParse: a file of any content is refused or read, and a problem's line is one of the file's.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "http: 127.0.0.1:0\n", "backups: {every: 1m, keep: {hourly: 3}}\n", "a: &a [*a]", "<<: {http: a}", "retention: 90d\nretention: 1d\n",
		"? {a: b}\n: c\n", "store:\n  nodes: [a, {b: c}]\n", "watchdog: !!binary aGk=\n", "digest: {at: 08:00, zone: x}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := parse("c.yml", text, func(c *Config) problems { return append(c.checkKeys(), c.checkTogether()...) })
		if err == nil {
			return
		}
		for line := range strings.Lines(err.Error()) {
			where, ok := strings.CutPrefix(line, "config c.yml")
			if !ok {
				t.Fatalf("%q names no file", line)
			}
			number, _, _ := strings.Cut(strings.TrimPrefix(where, ":"), ":")
			if n, err := strconv.Atoi(number); err == nil && (n < 1 || n > 1+len(text)) {
				t.Errorf("%q: line %d of %d bytes", line, n, len(text))
			}
		}
	})
}
