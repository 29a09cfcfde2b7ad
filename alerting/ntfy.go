package alerting

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"

	"bramble/alerting/alert"
)

const (
	ntfyName = "ntfy"
	// mostNtfy is how long a message may be, in characters; ntfy makes a file of what has more than 4,096 bytes.
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

// ntfyMessageJSON is what ntfy takes: https://docs.ntfy.sh/publish/#publish-as-json.
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
		return nil, fmt.Errorf("topic %q: want 1 to 64 letters, digits, - or _", c.Topic)
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
		Topic: n.conf.Topic, Title: alert.Short(maxTitle, alert.OneLine(fill("title", n.conf.Title))), Message: alert.Short(mostNtfy, fill("message", n.conf.Message)),
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
