package receivers

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
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
	parts  *Parts
	conf   *ntfyConfig
	tmpl   *template.Template
	client *http.Client
}

// NtfyMessage is a message in ntfy's format: https://docs.ntfy.sh/publish/#publish-as-json.
type NtfyMessage struct {
	Topic    string       `json:"topic"`
	Title    string       `json:"title"`
	Message  string       `json:"message"`
	Priority int          `json:"priority"`
	Tags     []string     `json:"tags"`
	Click    string       `json:"click,omitempty"`
	Attach   string       `json:"attach,omitempty"`
	Filename string       `json:"filename,omitempty"`
	Actions  []NtfyAction `json:"actions,omitempty"`
}

// NtfyAction is a button of a NtfyMessage.
type NtfyAction struct {
	Action string `json:"action"`
	Label  string `json:"label"`
	URL    string `json:"url"`
	Method string `json:"method,omitempty"`
	Clear  bool   `json:"clear,omitempty"`
}

func newNtfy(p *Parts, c *ntfyConfig, tmpl *template.Template) (*ntfy, error) {
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
	n := &ntfy{parts: p, conf: c, tmpl: tmpl}
	if n.client, err = httpClient(c.HTTPConfig, ntfyName); err != nil {
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
	if id, ok := PageID(ctx); ok {
		r.Header.Set(IdempotencyHeader, id)
	}
	return send(n.client, r, func(status int, body []byte) error {
		if status/100 != 2 {
			return fmt.Errorf("answered %d: %s", status, alert.Short(200, string(body)))
		}
		return nil
	})
}

func (n *ntfy) write(ctx context.Context, alerts []*amalert.Alert) (*NtfyMessage, error) {
	data, err := n.parts.pageData(ctx, n.tmpl, alerts)
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
	m := &NtfyMessage{
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
		m.Actions = append(m.Actions, NtfyAction{Action: "http", Label: "Acknowledge", URL: ack, Method: http.MethodPost, Clear: true})
	}
	if board := data.CommonAnnotations[PageBoardURL]; board != "" {
		m.Actions = append(m.Actions, NtfyAction{Action: "view", Label: "Board", URL: board})
	}
	return m, errors.Join(errs...)
}

const (
	gatewayName = "http"
	// maxAnswer is how much of a gateway's answer is looked at, in bytes.
	maxAnswer = 64 << 10
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
	parts  *Parts
	conf   *gatewayConfig
	tmpl   *template.Template
	client *http.Client
	answer *regexp.Regexp
}

// newGateway checks all that can be checked before a page: templates are tried on an example.
func newGateway(p *Parts, c *gatewayConfig, tmpl *template.Template) (*gateway, error) {
	g := &gateway{parts: p, conf: c, tmpl: tmpl}
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
	if g.client, err = httpClient(c.HTTPConfig, gatewayName); err != nil {
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
	data, err := g.parts.pageData(ctx, g.tmpl, alerts)
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
	r.Header.Set(IdempotencyHeader, data.PageID)
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
func (p *Parts) pageData(ctx context.Context, tmpl *template.Template, alerts []*amalert.Alert) (*pageData, error) {
	d := &pageData{Data: notify.GetTemplateData(ctx, tmpl, alerts, p.AMLog)}
	d.PageID, _ = PageID(ctx)
	var errs [2]error
	d.Subject, errs[0] = tmpl.ExecuteTextString(`{{ template "__subject" . }}`, d.Data)
	d.Text, errs[1] = tmpl.ExecuteTextString(`{{ template "page.text" . }}`, d.Data)
	return d, errors.Join(errs[:]...)
}

// httpClient makes a client as prometheus/common's settings say; nil means its defaults.
func httpClient(c *commoncfg.HTTPClientConfig, name string) (*http.Client, error) {
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
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return true, fmt.Errorf("read the answer of %s: %w", r.URL.Host, err)
	}
	if err := took(answer.StatusCode, body); err != nil {
		never := answer.StatusCode/100 == 4 && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusRequestTimeout
		return !never, fmt.Errorf("%s %w", r.URL.Host, err)
	}
	return false, nil
}
