package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/alerting/namedfile"
	"bramble/collector/registry"
)

// noPaths are the settings of the collector that are text and name no file.
var noPaths = []string{
	"HTTP", "NATS", "NATSWebSocket", "NATSNames", "ExternalURL",
	"Store.Write", "Store.Read", "Store.Nodes", "Store.Username",
	"Backups.S3.Endpoint", "Backups.S3.Region", "Watchdog.URL", "TestPage.Receiver", "Digest.To", "Digest.Receiver",
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
	c := DefaultConfig
	if err := c.read(filepath.Join(dir, "collector.yml")); err != nil {
		t.Fatal(err)
	}
	if c.Backups.Target != "s3://racks/site" || c.Backups.Key != "keys/own.key" || c.DataDir != filepath.Join(dir, "data") {
		t.Errorf("target %q, key %q, data %q", c.Backups.Target, c.Backups.Key, c.DataDir)
	}
	f := c.files()
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

// plain are columns of the state whose bytes a backup may show: hashes, Alertmanager's records, and what stands in files.
var plain = []string{
	"enrol_token.secret", "api_token.secret", "session.id", "customer_refusal.address",
	"alert_notified.entry", "alert_thread.entry", "alert_silence.entry", "oncall_file.text",
}

// TestEveryKeyOfTheStateIsSealed fails for a new column of bytes until it is one that copies leave out, as they do all
// keys, or stands among the others.
func TestEveryKeyOfTheStateIsSealed(t *testing.T) {
	db, err := registry.OpenDB(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := registry.Migrate(t.Context(), db, schemas(), registry.Upgrade{}); err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), `SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.type = 'BLOB'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(name, ".key"):
			keys = append(keys, strings.TrimSuffix(name, ".key"))
		case !slices.Contains(plain, name):
			t.Errorf("column %s holds bytes: is it a secret? Then name it key, and a backup encrypts it; else list it in plain", name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, table := range keys {
		if _, err := db.ExecContext(context.Background(), `INSERT INTO `+table+` (id, key) VALUES (1, ?)`, []byte("the key of "+table)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	got, err := registry.CopyDB(t.Context(), db, path)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) < 2 || len(got) != len(keys) {
		t.Errorf("copied apart: %v, tables of keys: %v", got, keys)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "the key of ") {
		t.Errorf("the copy holds a key in the clear (%v)", err)
	}
}
