package pager

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
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
	"bramble/alerting/incident"
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

const (
	ntfyTitle    = `{{ .Subject }}`
	ntfyMessage  = `{{ template "ntfy.default.message" . }}`
	ntfyPriority = `{{ if eq .Status "resolved" }}2{{ else if eq .CommonLabels.severity "critical" }}5{{ else }}4{{ end }}`
)

var ntfyTopic = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

// ntfyConfig is a topic of a server of one's own, or of ntfy.sh. Title, Message and Priority are templates.
type ntfyConfig struct {
	URL          string                      `yaml:"url"`
	Topic        string                      `yaml:"topic"`
	Title        string                      `yaml:"title"`
	Message      string                      `yaml:"message"`
	Priority     string                      `yaml:"priority"`      // makes a number from 1 to 5
	SendResolved *bool                       `yaml:"send_resolved"` // absent means true
	HTTPConfig   *commoncfg.HTTPClientConfig `yaml:"http_config"`
}

// ntfy publishes pages. The notification has a button that acknowledges without opening anything.
type ntfy struct {
	pager  *Pager
	conf   *ntfyConfig
	tmpl   *template.Template
	client *http.Client
}

// ntfyMessageJSON is a message in ntfy's format: https://docs.ntfy.sh/publish/#publish-as-json.
type ntfyMessageJSON struct {
	Topic    string       `json:"topic"`
	Title    string       `json:"title"`
	Message  string       `json:"message"`
	Priority int          `json:"priority"`
	Tags     []string     `json:"tags"`
	Click    string       `json:"click,omitempty"`
	Attach   string       `json:"attach,omitempty"`
	Filename string       `json:"filename,omitempty"`
	Actions  []ntfyAction `json:"actions,omitempty"`
}

type ntfyAction struct {
	Action string `json:"action"`
	Label  string `json:"label"`
	URL    string `json:"url"`
	Method string `json:"method,omitempty"`
	Clear  bool   `json:"clear,omitempty"`
}

func newNtfy(p *Pager, c *ntfyConfig, tmpl *template.Template) (*ntfy, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("url %q: want the server's address, such as https://ntfy.example.org", c.URL)
	}
	if strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("url %q: want the server alone; name the topic under `topic`", c.URL)
	}
	if !ntfyTopic.MatchString(c.Topic) {
		return nil, fmt.Errorf("topic %q: want 1 to 64 messages, digits, - or _", c.Topic)
	}
	c.Title, c.Message, c.Priority = cmp.Or(c.Title, ntfyTitle), cmp.Or(c.Message, ntfyMessage), cmp.Or(c.Priority, ntfyPriority)
	n := &ntfy{pager: p, conf: c, tmpl: tmpl}
	if n.client, err = p.httpClient(c.HTTPConfig, ntfyName); err != nil {
		return nil, err
	}
	for _, alerts := range [][]*amalert.Alert{exampleAlerts(false), exampleAlerts(true)} {
		if _, err := n.write(exampleContext(), alerts); err != nil {
			return nil, fmt.Errorf("with an example page: %w", err)
		}
	}
	return n, nil
}

// SendResolved implements notify.ResolvedSender.
func (n *ntfy) SendResolved() bool { return n.conf.SendResolved == nil || *n.conf.SendResolved }

// Notify implements notify.Notifier.
func (n *ntfy) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	m, err := n.write(ctx, alerts)
	if err != nil {
		return false, err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return false, fmt.Errorf("encode notification: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.conf.URL, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	if id, ok := ctx.Value(pageIDKey{}).(string); ok {
		r.Header.Set(idempotencyHeader, id)
	}
	return send(n.client, r, func(status int, body []byte) error {
		if status/100 != 2 {
			return fmt.Errorf("answered %d: %s", status, alert.Short(200, string(body)))
		}
		return nil
	})
}

func (n *ntfy) write(ctx context.Context, alerts []*amalert.Alert) (*ntfyMessageJSON, error) {
	data, err := n.pager.pageData(ctx, n.tmpl, alerts)
	if err != nil {
		return nil, err
	}
	var errs []error
	fill := func(what, text string) string {
		s, err := n.tmpl.ExecuteTextString(text, data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return strings.TrimSpace(s)
	}
	m := &ntfyMessageJSON{
		Topic: n.conf.Topic, Title: alert.Short(incident.MaxTitle, alert.OneLine(fill("title", n.conf.Title))), Message: alert.Short(mostNtfy, fill("message", n.conf.Message)),
		Click: data.CommonAnnotations[PageURL], Attach: data.CommonAnnotations[PagePictureURL], Tags: []string{"rotating_light"},
	}
	priority := fill("priority", n.conf.Priority)
	if m.Priority, err = strconv.Atoi(priority); err != nil || m.Priority < 1 || m.Priority > 5 {
		errs = append(errs, fmt.Errorf("priority: the template makes %q: want a number from 1 to 5", priority))
	}
	if m.Attach != "" {
		m.Filename = "page.png"
	}
	if data.Status == "resolved" {
		m.Tags = []string{"white_check_mark"}
	}
	if ack := data.CommonAnnotations[PageAckURL]; ack != "" && data.Status != "resolved" {
		m.Click = ack
		m.Actions = append(m.Actions, ntfyAction{Action: "http", Label: "Acknowledge", URL: ack, Method: http.MethodPost, Clear: true})
	}
	if board := data.CommonAnnotations[PageBoardURL]; board != "" {
		m.Actions = append(m.Actions, ntfyAction{Action: "view", Label: "Board", URL: board})
	}
	return m, errors.Join(errs...)
}

const (
	gatewayName = "http"
	// mostAnswer is how much of a gateway's answer is looked at, in bytes.
	mostAnswer = 64 << 10
)

// gatewayConfig is a request to a gateway for SMS, voice calls or anything else that speaks HTTP. URL, the headers' values
// and Body are templates.
type gatewayConfig struct {
	Method       string                      `yaml:"method"` // POST where it is empty
	URL          string                      `yaml:"url"`
	Headers      map[string]string           `yaml:"headers"`
	Body         string                      `yaml:"body"`
	Secrets      map[string]string           `yaml:"secrets" file:"secret"` // files, by the name that templates use
	Expect       gatewayAnswer               `yaml:"expect"`
	SendResolved bool                        `yaml:"send_resolved"`
	HTTPConfig   *commoncfg.HTTPClientConfig `yaml:"http_config"`
}

// gatewayAnswer is a gateway's answer where it took the page.
type gatewayAnswer struct {
	Status []int  `yaml:"status"` // any 2xx where it is empty
	Body   string `yaml:"body"`   // a regular expression that the body matches somewhere
}

// gateway sends pages by a templated HTTP request.
type gateway struct {
	pager  *Pager
	conf   *gatewayConfig
	tmpl   *template.Template
	client *http.Client
	answer *regexp.Regexp
}

// newGateway checks all that can be checked before a page: templates are tried on an example.
func newGateway(p *Pager, c *gatewayConfig, tmpl *template.Template) (*gateway, error) {
	g := &gateway{pager: p, conf: c, tmpl: tmpl}
	c.Method = cmp.Or(strings.ToUpper(c.Method), http.MethodPost)
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodGet}, c.Method) {
		return nil, fmt.Errorf("method %q: want POST, PUT or GET", c.Method)
	}
	if c.URL == "" {
		return nil, errors.New("url is missing")
	}
	for _, status := range c.Expect.Status {
		if status < 100 || status > 599 {
			return nil, fmt.Errorf("expect: status %d: want a number from 100 to 599", status)
		}
	}
	var err error
	if g.answer, err = regexp.Compile(c.Expect.Body); err != nil {
		return nil, fmt.Errorf("expect: body: %w", err)
	}
	if g.client, err = p.httpClient(c.HTTPConfig, gatewayName); err != nil {
		return nil, err
	}
	for name := range c.Secrets {
		if _, err := (&pageData{secrets: c.Secrets}).Secret(name); err != nil {
			return nil, fmt.Errorf("secrets: %s: %w", name, err)
		}
	}
	for _, alerts := range [][]*amalert.Alert{exampleAlerts(false), exampleAlerts(true)} {
		if _, err := g.request(exampleContext(), alerts); err != nil {
			return nil, fmt.Errorf("with an example page: %w", err)
		}
	}
	return g, nil
}

// SendResolved implements notify.ResolvedSender.
func (g *gateway) SendResolved() bool { return g.conf.SendResolved }

// Notify implements notify.Notifier.
func (g *gateway) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	r, err := g.request(ctx, alerts)
	if err != nil {
		return false, err
	}
	return send(g.client, r, g.took)
}

// took reports whether an answer says that the page was taken.
func (g *gateway) took(status int, body []byte) error {
	if want := g.conf.Expect.Status; len(want) > 0 && !slices.Contains(want, status) || len(want) == 0 && status/100 != 2 {
		return fmt.Errorf("answered %d: %s", status, alert.Short(200, string(body)))
	}
	if !g.answer.Match(body) {
		return fmt.Errorf("answered %d, and its body does not match %q: %s", status, g.conf.Expect.Body, alert.Short(200, string(body)))
	}
	return nil
}

// request writes the page as the templates say.
func (g *gateway) request(ctx context.Context, alerts []*amalert.Alert) (*http.Request, error) {
	data, err := g.pager.pageData(ctx, g.tmpl, alerts)
	if err != nil {
		return nil, err
	}
	data.secrets = g.conf.Secrets
	address, err := g.fill("url", g.conf.URL, data)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(strings.TrimSpace(address)); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("url: the template does not make an address such as https://sms.example.org/send") // it may hold a secret
	}
	body, err := g.fill("body", g.conf.Body, data)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, g.conf.Method, strings.TrimSpace(address), strings.NewReader(body))
	if err != nil {
		return nil, errors.New("url: not usable")
	}
	r.Header.Set(idempotencyHeader, data.PageID)
	for name, text := range g.conf.Headers {
		value, err := g.fill("header "+name, text, data)
		if err != nil {
			return nil, err
		}
		r.Header.Set(name, alert.OneLine(value))
	}
	return r, nil
}

func (g *gateway) fill(what, text string, data *pageData) (string, error) {
	s, err := g.tmpl.ExecuteTextString(text, data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return s, nil
}

// pageData prepares the data for the templates of a receivers.yml.
func (p *Pager) pageData(ctx context.Context, tmpl *template.Template, alerts []*amalert.Alert) (*pageData, error) {
	d := &pageData{Data: notify.GetTemplateData(ctx, tmpl, alerts, p.amLog)}
	d.PageID, _ = ctx.Value(pageIDKey{}).(string)
	var errs [2]error
	d.Subject, errs[0] = tmpl.ExecuteTextString(`{{ template "__subject" . }}`, d.Data)
	d.Text, errs[1] = tmpl.ExecuteTextString(`{{ template "page.text" . }}`, d.Data)
	return d, errors.Join(errs[:]...)
}

// httpClient makes a client as prometheus/common's settings say; nil means its defaults.
func (p *Pager) httpClient(c *commoncfg.HTTPClientConfig, name string) (*http.Client, error) {
	if c == nil {
		c = &commoncfg.HTTPClientConfig{FollowRedirects: true, EnableHTTP2: true}
	}
	client, err := commoncfg.NewClientFromConfig(*c, name)
	if err != nil {
		return nil, fmt.Errorf("http_config: %w", err)
	}
	client.Transport = retryAfterTransport{client.Transport}
	return client, nil
}

// send makes a request whose answer took judges. retry is false for answers that say "never".
func send(client *http.Client, r *http.Request, took func(status int, body []byte) error) (retry bool, err error) {
	answer, err := client.Do(r)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // its text would name the URL, which may hold a secret
			err = fmt.Errorf("%s %s: %w", of.Op, r.URL.Host, of.Err)
		}
		return true, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer))
	if err != nil {
		return true, fmt.Errorf("read the answer of %s: %w", r.URL.Host, err)
	}
	if err := took(answer.StatusCode, body); err != nil {
		never := answer.StatusCode/100 == 4 && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusRequestTimeout
		return !never, fmt.Errorf("%s %w", r.URL.Host, err)
	}
	return false, nil
}

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
