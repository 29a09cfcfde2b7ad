package receivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/pushover"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/client_golang/prometheus"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/maintenance"
	"bramble/alerting/namedfile"
)

// pushoverName is the integration's name, as Alertmanager has it.
const pushoverName = "pushover"

// Parts are shared by the receivers of a pager. DB, ExternalURL, Log and AMLog are required.
type Parts struct {
	// DB holds the incidents that pages are about.
	DB database.Querier
	// ExternalURL is the start of links in pages, LinkKey signs them; see the function of that name.
	ExternalURL *url.URL
	LinkKey     []byte
	// Pictures draws incidents; nil draws none.
	Pictures *Pictures
	// Drawn counts the pictures that mails waited for, by result.
	Drawn *prometheus.CounterVec
	// AMLog is for Alertmanager's own integrations.
	Log, AMLog *slog.Logger
}

// Set holds the receivers of an alertmanager.yml and a receivers.yml. It is immutable once Integrations is complete.
type Set struct {
	Config    *config.Config
	Templates *template.Template
	// Integrations are those of each receiver, by its name.
	Integrations map[string][]notify.Integration

	own   map[string]*ownReceiver
	parts *Parts
}

// Build makes the integrations of a configuration. The error names the receiver.
func Build(conf *config.Config, own *Own, p *Parts) (*Set, error) {
	s := &Set{Config: conf, Integrations: map[string][]notify.Integration{}, own: map[string]*ownReceiver{}, parts: p}
	var err error
	if s.Templates, err = pageTemplates(conf.Templates); err != nil {
		return nil, fmt.Errorf("alertmanager.yml: templates: %w", err)
	}
	s.Templates.ExternalURL = p.ExternalURL
	for _, rcv := range conf.Receivers {
		showPictures(rcv)
		built, err := receiver.BuildReceiverIntegrations(rcv, s.Templates, p.AMLog)
		if err != nil {
			return nil, fmt.Errorf("alertmanager.yml: receiver %q: %w", rcv.Name, err)
		}
		p.ownMailers(rcv, s.Templates, built)
		p.trimPushoverKeys(rcv, s.Templates, built)
		for i := range built {
			noteRetryAfter(reflect.ValueOf(&built[i]).Elem().FieldByName("notifier"))
		}
		s.Integrations[rcv.Name] = built
	}
	if err := own.add(p, s); err != nil {
		return nil, fmt.Errorf("%s: %w", own.file, err)
	}
	return s, nil
}

// Of are the integrations of a receiver.
func (s *Set) Of(receiver string) []notify.Integration { return s.Integrations[receiver] }

// Only returns the integration of a receiver that has one, nil for any other.
func (s *Set) Only(receiver string) *notify.Integration {
	if list := s.Integrations[receiver]; len(list) == 1 {
		return &list[0]
	}
	return nil
}

// Integrates reports whether a receiver has an integration of a name.
func (s *Set) Integrates(receiver, name string) bool {
	return slices.ContainsFunc(s.Integrations[receiver], func(in notify.Integration) bool { return in.Name() == name })
}

// ownReceiver has the settings of a receiver of alertmanager.yml beyond Alertmanager's own, which refuse unknown keys.
type ownReceiver struct {
	// Plain leaves pages as their rules wrote them, for programs that compare annotations.
	Plain bool `yaml:"plain"`
	// Links is false for receivers whose readers must not acknowledge, such as a public room; absent means true.
	Links *bool            `yaml:"links"`
	Ntfy  []*ntfyConfig    `yaml:"ntfy"`
	HTTP  []*gatewayConfig `yaml:"http"`
}

func (o *ownReceiver) links() bool { return o.Links == nil || *o.Links }

// Own is a parsed receivers.yml: settings of receivers beyond Alertmanager\'s. The zero value has none.
type Own struct {
	Receivers map[string]*ownReceiver `yaml:"receivers"`
	doc       yaml.Node
	file      string
}

var goType = regexp.MustCompile(` (in|into) type \S+|yaml: |unmarshal errors:\s*`)

// parseReceivers decodes a receivers.yml strictly. Its errors begin with the line.
func parseReceivers(text []byte) (*Own, error) {
	o := &Own{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(o); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimSpace(goType.ReplaceAllString(err.Error(), "")))
	}
	if err := yaml.Unmarshal(text, &o.doc); err != nil {
		return nil, err
	}
	for name, r := range o.Receivers {
		if r == nil {
			return nil, fmt.Errorf("line %d: receiver %q is empty", o.line("receivers", name), name)
		}
	}
	return o, nil
}

// ReadOwn reads a receivers.yml; it has nothing where file is "". Relative paths in it start beside the file.
func ReadOwn(file string) (*Own, error) {
	if file == "" {
		return &Own{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read receivers: %w", err)
	}
	own, err := parseReceivers(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	own.file = file
	namedfile.Each(own, namedfile.In(filepath.Dir(file)))
	return own, nil
}

// Sends reports whether a receiver has an integration of ours.
func (o *Own) Sends(name string) bool {
	r := o.Receivers[name]
	return r != nil && len(r.Ntfy)+len(r.HTTP) > 0
}

// line is where the value at a path of keys and indices stands, 0 where there is none.
func (o *Own) line(path ...any) int {
	if len(o.doc.Content) == 0 {
		return 0
	}
	n := o.doc.Content[0]
	for _, step := range path {
		next := (*yaml.Node)(nil)
		switch key := step.(type) {
		case int:
			if key < len(n.Content) {
				next = n.Content[key]
			}
		case string:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == key {
					next = n.Content[i+1]
				}
			}
		}
		if next == nil {
			return n.Line
		}
		n = next
	}
	return n.Line
}

// add builds the integrations of a receivers.yml and adds them to the receivers that it names. The error holds
// every problem.
func (o *Own) add(p *Parts, r *Set) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Receivers)) {
		own := o.Receivers[name]
		if _, ok := r.Integrations[name]; !ok || alert.KindOf(name) == alert.ToNobody {
			known := slices.DeleteFunc(slices.Sorted(maps.Keys(r.Integrations)), func(n string) bool { return alert.KindOf(n) == alert.ToNobody })
			errs = append(errs, fmt.Errorf("line %d: no receiver %q in the alertmanager.yml; it has %s", o.line("receivers", name), name, strings.Join(known, ", ")))
			continue
		}
		for i, c := range own.Ntfy {
			n, err := newNtfy(p, c, r.Templates)
			if err != nil {
				errs = append(errs, fmt.Errorf("line %d: receiver %q: ntfy: %w", o.line("receivers", name, "ntfy", i), name, err))
				continue
			}
			r.Integrations[name] = append(r.Integrations[name], notify.NewIntegration(n, n, ntfyName, i, name))
		}
		for i, c := range own.HTTP {
			g, err := newGateway(p, c, r.Templates)
			if err != nil {
				errs = append(errs, fmt.Errorf("line %d: receiver %q: http: %w", o.line("receivers", name, "http", i), name, err))
				continue
			}
			r.Integrations[name] = append(r.Integrations[name], notify.NewIntegration(g, g, gatewayName, i, name))
		}
		r.own[name] = own
	}
	return errors.Join(errs...)
}

// pushoverSender reads the key files of a Pushover receiver before each page. Alertmanager's own integration keeps the line end
// of these files in the keys; those of the other receivers drop it.
type pushoverSender struct {
	conf *config.PushoverConfig
	tmpl *template.Template
	log  *slog.Logger
}

// trimPushoverKeys puts pushoverSender in the place of Alertmanager's integrations.
func (p *Parts) trimPushoverKeys(rcv config.Receiver, tmpl *template.Template, built []notify.Integration) {
	for i := range built {
		if built[i].Name() == pushoverName {
			s := &pushoverSender{rcv.PushoverConfigs[built[i].Index()], tmpl, p.AMLog}
			built[i] = notify.NewIntegration(s, s.conf, pushoverName, built[i].Index(), rcv.Name)
		}
	}
}

// Notify implements notify.Notifier.
func (s *pushoverSender) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	conf := *s.conf
	token, err := secret(string(conf.Token), conf.TokenFile)
	if err != nil {
		return false, fmt.Errorf("token_file: %w", err)
	}
	user, err := secret(string(conf.UserKey), conf.UserKeyFile)
	if err != nil {
		return false, fmt.Errorf("user_key_file: %w", err)
	}
	conf.Token, conf.TokenFile, conf.UserKey, conf.UserKeyFile = commoncfg.Secret(token), "", commoncfg.Secret(user), ""
	// The client lives for this page alone, so its connection must not outlive it.
	n, err := pushover.New(&conf, s.tmpl, s.log, commoncfg.WithKeepAlivesDisabled())
	if err != nil {
		return false, err
	}
	noteRetryAfter(reflect.ValueOf(n))
	return n.Notify(ctx, alerts...)
}

// pageData is the data for the templates of a receivers.yml: all that Alertmanager's templates get, and more.
type pageData struct {
	*template.Data
	// Subject and Text are the page in words; PageID is the same in every try.
	Subject, Text, PageID string

	secrets map[string]string // files, by name
}

// Secret reads a secret's file anew, so that it can be changed without a reload.
func (d *pageData) Secret(name string) (string, error) {
	file, ok := d.secrets[name]
	if !ok {
		return "", fmt.Errorf("no secret %q: name it under `secrets`", name)
	}
	s, err := secret("", file)
	if err == nil && s == "" {
		err = fmt.Errorf("secret %q: %s is empty", name, file)
	}
	return s, err
}

const (
	ntfyName = "ntfy"
	// mostNtfy is how long a message may be, in characters; ntfy makes a file of a message of more than 4,096 bytes.
	mostNtfy = 1300
)

// exampleAlerts are a page to try templates on.
func exampleAlerts(resolved bool) []*amalert.Alert {
	a := &amalert.Alert{}
	a.Labels = model.LabelSet{"alertname": "SocHot", "board": "r1-a-03", "rack": "r1", "switch": "r1-a", "severity": "critical"}
	a.Annotations = model.LabelSet{
		"summary": `r1-a-03: SoC at 84.2 °C`, "description": `It says "hot".`, PageSubject: `r1-a-03: SoC at 84.2 °C (rack r1, switch r1-a) since 03:12:44 UTC`,
		PageNumber: "12", PageReason: "It crossed 80 °C.", PageRunbook: "Look at the fan.", PageURL: "https://bramble.example.org/incidents?id=0",
		PageBoardURL: "https://bramble.example.org/board/r1-a-03", PageAckURL: "https://bramble.example.org/ack/0", PagePictureURL: "https://bramble.example.org/picture/0",
	}
	a.StartsAt = time.Now().Add(-time.Minute)
	if resolved {
		a.EndsAt = time.Now().Add(-time.Second)
	}
	return []*amalert.Alert{a}
}

func exampleContext() context.Context {
	ctx := notify.WithReceiverName(context.Background(), "example")
	ctx = notify.WithGroupLabels(ctx, model.LabelSet{"alertname": "SocHot"})
	ctx = notify.WithGroupKey(ctx, "{}:{alertname=\"SocHot\"}")
	ctx = notify.WithNotificationReason(ctx, notify.ReasonFirstNotification)
	return withPageID(ctx, "example-1")
}

// Sends reports whether a receiver of an alertmanager.yml has an integration of Alertmanager\'s.
func Sends(c *config.Config, name string) bool {
	for _, rcv := range c.Receivers {
		fields := reflect.ValueOf(rcv)
		for i := range fields.NumField() {
			if list := fields.Field(i); rcv.Name == name && list.Kind() == reflect.Slice && list.Len() > 0 {
				return true
			}
		}
	}
	return false
}

// Files lists the files that an alertmanager.yml and a receivers.yml name, with the patterns of templates as they are
// written. Relative paths start beside each file; the receivers.yml may be "". With an error it lists those that it could read.
func Files(alertmanager, receivers string) (all []namedfile.Path, err error) {
	maintenance.InitMatchers()
	var errs []error
	if alertmanager != "" {
		if conf, err := config.LoadFile(alertmanager); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", alertmanager, err))
		} else {
			namedfile.Each(conf, namedfile.In(filepath.Dir(alertmanager)))
			all = namedfile.Files(conf)
		}
	}
	if receivers != "" {
		if own, err := ReadOwn(receivers); err != nil {
			errs = append(errs, err)
		} else {
			all = append(all, namedfile.Files(own)...)
		}
	}
	return all, errors.Join(errs...)
}

// Find returns an integration, nil where the configuration has none such.
func (s *Set) Find(receiver, name string, idx int) *notify.Integration {
	for i := range s.Integrations[receiver] {
		if in := &s.Integrations[receiver][i]; in.Name() == name && in.Index() == idx {
			return in
		}
	}
	return nil
}
