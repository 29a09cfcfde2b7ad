package receivers

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/config"

	"bramble/alerting/namedfile"
)

// notPaths are settings that sound like paths and are none.
var notPaths = []string{
	"template",                             // of jira_configs: a template's name
	"profile",                              // of sigv4: an account's name
	"path",                                 // of a URL
	"ca", "cert", "client_certificate_key", // PEM text
	"cert_ref", "client_certificate_key_ref", "client_certificate_key_id", // names in a store of secrets, which there is none of
}

// soundsLikePath is how settings are called that name files.
var soundsLikePath = regexp.MustCompile(`file|path|dir|cert|template|^ca$|keystore`)

// fill makes every setting below a value one that can be found again, and lists those that may be paths.
func fill(v reflect.Value, key string, depth int, paths map[string]string) {
	if depth > 12 {
		return // routes hold routes
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), key, depth+1, paths)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "-" || name == "" && !strings.Contains(f.Tag.Get("yaml"), "inline") {
				continue
			}
			fill(v.Field(i), name, depth+1, paths)
		}
	case reflect.Slice:
		if v.Type().Elem() == v.Type() || v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), key, depth+1, paths)
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return
		}
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, key, depth+1, paths)
		m := reflect.MakeMap(v.Type())
		m.SetMapIndex(reflect.ValueOf("x").Convert(v.Type().Key()), value)
		v.Set(m)
	case reflect.String:
		v.SetString("marked/" + key)
		if soundsLikePath.MatchString(key) && !slices.Contains(notPaths, key) {
			paths[v.String()] = key
		}
	}
}

// TestEveryPathOfTheRoutesIsKnown fails where Alertmanager, or a receiver of ours, gets a setting that sounds like a path and
// that no rule of package namedfile covers: backups would lack the file.
func TestEveryPathOfTheRoutesIsKnown(t *testing.T) {
	for _, c := range []any{new(config.Config), new(Own)} {
		want := map[string]string{}
		fill(reflect.ValueOf(c).Elem(), "", 0, want)
		if len(want) == 0 {
			t.Errorf("%T: no path at all", c)
		}
		for _, p := range namedfile.Files(c) {
			delete(want, p.Value)
		}
		for _, key := range want {
			t.Errorf("%T: setting %s is not known as a path", c, key)
		}
	}
}

// TestFilesOfTheRoutes finds files wherever they are named, beside the file that names them.
func TestFilesOfTheRoutes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	alertmanager := write("alertmanager.yml", `
global:
  smtp_smarthost: mail.example.org:25
  smtp_from: bramble@example.org
  smtp_auth_username: bramble
  smtp_auth_password_file: smtp.password
  http_config: {tls_config: {ca_file: ca.pem}}
templates: ['templates/*.tmpl', /srv/own.tmpl]
route: {receiver: a}
receivers:
- name: a
  webhook_configs:
  - url_file: hook.url
    http_config:
      authorization: {credentials_file: hook.token}
      http_headers: {X-Key: {files: [header.key]}}
  pushover_configs:
  - {token_file: push.token, user_key_file: /run/secrets/push.user}
`)
	receivers := write("receivers.yml", `
receivers:
  a:
    ntfy: [{url: "https://ntfy.example.org", topic: t, http_config: {basic_auth: {username: u, password_file: ntfy.password}}}]
    http: [{url: "https://sms.example.org", secrets: {key: sms.key}}]
`)
	all, err := Files(alertmanager, receivers)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all {
		got = append(got, strings.TrimPrefix(p.Value, dir+"/"))
	}
	slices.Sort(got)
	want := []string{
		"/run/secrets/push.user", "/srv/own.tmpl", "ca.pem", "header.key", "hook.token", "hook.url", "ntfy.password", "push.token", "sms.key", "smtp.password", "templates/*.tmpl",
	}
	// Receivers take the global settings over.
	if d := cmp.Diff(want, slices.Compact(got)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}
