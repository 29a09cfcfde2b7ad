package pager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/pushover"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/alerting/alert"
	"bramble/alerting/namedfile"
)

// pushoverName is the integration's name, as Alertmanager has it.
const pushoverName = "pushover"

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

// ownReceivers is a parsed receivers.yml.
type ownReceivers struct {
	Receivers map[string]*ownReceiver `yaml:"receivers"`
	doc       yaml.Node
}

var goType = regexp.MustCompile(` (in|into) type \S+|yaml: |unmarshal errors:\s*`)

// parseReceivers decodes a receivers.yml strictly. Its errors begin with the line.
func parseReceivers(text []byte) (*ownReceivers, error) {
	o := &ownReceivers{}
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

// readReceivers reads a receivers.yml; it has nothing where file is "". Relative paths in it start beside the file.
func readReceivers(file string) (*ownReceivers, error) {
	if file == "" {
		return &ownReceivers{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read receivers: %w", err)
	}
	own, err := parseReceivers(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	namedfile.Each(own, namedfile.In(filepath.Dir(file)))
	return own, nil
}

// send reports whether a receiver has an integration of ours.
func (o *ownReceivers) send(name string) bool {
	r := o.Receivers[name]
	return r != nil && len(r.Ntfy)+len(r.HTTP) > 0
}

// line is where the value at a path of keys and indices stands, 0 where there is none.
func (o *ownReceivers) line(path ...any) int {
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
func (o *ownReceivers) add(p *Pager, r *routing) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Receivers)) {
		own := o.Receivers[name]
		if _, ok := r.integrations[name]; !ok || name == alert.Nobody {
			known := slices.DeleteFunc(slices.Sorted(maps.Keys(r.integrations)), func(n string) bool { return n == alert.Nobody })
			errs = append(errs, fmt.Errorf("line %d: no receiver %q in the alertmanager.yml; it has %s", o.line("receivers", name), name, strings.Join(known, ", ")))
			continue
		}
		for i, c := range own.Ntfy {
			n, err := newNtfy(p, c, r.templates)
			if err != nil {
				errs = append(errs, fmt.Errorf("line %d: receiver %q: ntfy: %w", o.line("receivers", name, "ntfy", i), name, err))
				continue
			}
			r.integrations[name] = append(r.integrations[name], notify.NewIntegration(n, n, ntfyName, i, name))
		}
		for i, c := range own.HTTP {
			g, err := newGateway(p, c, r.templates)
			if err != nil {
				errs = append(errs, fmt.Errorf("line %d: receiver %q: http: %w", o.line("receivers", name, "http", i), name, err))
				continue
			}
			r.integrations[name] = append(r.integrations[name], notify.NewIntegration(g, g, gatewayName, i, name))
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
func (p *Pager) trimPushoverKeys(rcv config.Receiver, tmpl *template.Template, built []notify.Integration) {
	for i := range built {
		if built[i].Name() == pushoverName {
			s := &pushoverSender{rcv.PushoverConfigs[built[i].Index()], tmpl, p.amLog}
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
