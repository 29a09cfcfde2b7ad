package alerting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
)

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

// gatewayAnswer is what a gateway says where it took the page.
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

// pageData prepares what the templates of a receivers.yml get.
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
