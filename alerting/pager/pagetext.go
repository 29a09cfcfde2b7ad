package pager

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"maps"
	"net/url"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

//go:embed page.tmpl
var pageTemplate []byte

// pageTemplates are Alertmanager's, with the words of ours in the place of its own, and the user's over both.
func pageTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil, func(text *texttemplate.Template, html *htmltemplate.Template) {
		own := map[string]any{"short": alert.Short, "alertTexts": alertTexts, "alertText": func(a template.Alert) string { return alert.Text(a.Labels, a.Annotations) }}
		text.Funcs(own)
		html.Funcs(own)
	})
	if err != nil {
		return nil, err
	}
	if err := t.Parse(bytes.NewReader(pageTemplate)); err != nil {
		return nil, fmt.Errorf("page.tmpl: %w", err) // a test sends with each
	}
	for _, g := range globs {
		if err := t.FromGlob(g); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// alertTexts is Text of each alert of a page. Where several would read the same, the labels in which they differ follow.
func alertTexts(alerts template.Alerts) []string {
	out, times := make([]string, len(alerts)), map[string]int{}
	for i, a := range alerts {
		out[i] = alert.Text(a.Labels, a.Annotations)
		times[out[i]]++
	}
	for i, a := range alerts {
		if times[out[i]] < 2 {
			continue
		}
		own := maps.Clone(map[string]string(a.Labels))
		maps.DeleteFunc(own, func(name, value string) bool {
			return !slices.ContainsFunc(alerts, func(o template.Alert) bool { return o.Labels[name] != value })
		})
		if board := own[alert.BoardLabel]; board != "" {
			out[i] += " (" + board + ")"
		} else if words := alert.LabelWords(own); words != "" {
			out[i] += " (" + words + ")"
		}
	}
	return out
}

// Annotations of a page beyond those of its rule. All alerts of a page have the same, so that templates find them in
// .CommonAnnotations.
const (
	// PageSubject names the failure, its place and its beginning.
	PageSubject = "page_subject"
	// PageNumber is the incident's number.
	PageNumber = "page_incident"
	// PageReason is the reason of the incident's leading alert, PageRunbook its runbook, PageDetail its description.
	PageReason  = "page_reason"
	PageRunbook = "page_runbook"
	PageDetail  = "page_detail"
	// PageBefore is how the last incident of this kind at this place ended.
	PageBefore = "page_before"
	// PageURL leads to the incident, PageBoardURL to its board.
	PageURL      = "page_url"
	PageBoardURL = "page_board_url"
	// PageAckURL is a signed link to acknowledge, PagePictureURL one to the picture.
	PageAckURL     = "page_ack_url"
	PagePictureURL = "page_picture_url"
)

// facts are a page's sentences on its incident.
type facts struct {
	incident incident.Incident
	notes    map[string]string
	drew     time.Duration // for how long the integration drew the picture
}

// factsOf reads the facts of the page for a receiver. links is false for receivers that must not be able to act.
func (p *Pager) factsOf(ctx context.Context, l *outbox.Message, links bool) (*facts, error) {
	in, err := incident.Get(ctx, p.often, l.Incident) // without its pages: a page's text does not grow with those before it
	if err != nil {
		return nil, err
	}
	f := &facts{incident: in, notes: map[string]string{}}
	lead := in.Lead()
	f.note(PageSubject, alert.OneLine(in.Subject()))
	f.note(PageNumber, fmt.Sprint(in.Number))
	part, err := mergedText(ctx, p.often, in.ID)
	if err != nil {
		return nil, err
	}
	f.note(PageReason, strings.TrimSpace(lead.Annotations[alert.ReasonNote]+" "+part))
	f.note(PageRunbook, cmp.Or(lead.Annotations["runbook"], lead.Annotations["runbook_url"]))
	f.note(PageDetail, cmp.Or(lead.Annotations["description"], lead.Annotations["message"]))
	before, err := p.before(ctx, &in)
	if err != nil {
		return nil, err
	}
	f.note(PageBefore, before)
	f.note(PageURL, p.link("incidents?id="+url.QueryEscape(in.ID)))
	if boards := in.Boards(); len(boards) == 1 {
		f.note(PageBoardURL, p.link("board/"+url.PathEscape(boards[0])))
	}
	if !links {
		return f, nil
	}
	at := time.UnixMilli(l.CreatedAt)
	if in.ResolvedAt == 0 {
		f.note(PageAckURL, p.link("ack/"+signLink(p.linkKey, Link{AckLink, in.ID, l.Receiver, at})))
	}
	if p.pictures.drawable(&in) {
		f.note(PagePictureURL, p.link("picture/"+signLink(p.linkKey, Link{PictureLink, in.ID, l.Receiver, at})))
	}
	return f, nil
}

func (f *facts) note(name, text string) {
	if text != "" {
		f.notes[name] = text
	}
}

// link is an absolute URL of the pages.
func (p *Pager) link(path string) string {
	return strings.TrimSuffix(p.externalURL.String(), "/") + "/" + path
}

// before says how the last incident of the same rule at the same place ended, from its people's comments.
func (p *Pager) before(ctx context.Context, in *incident.Incident) (string, error) {
	lead := in.Lead()
	if lead.Rule == "" {
		return "", nil
	}
	// Few incidents have a comment; the newest of them are enough.
	ended, err := incident.Find(ctx, p.often, `WHERE resolved_at > 0 AND id <> ?
		AND (ack_comment <> '' OR id IN (SELECT incident FROM incident_detail WHERE closing <> '')) ORDER BY resolved_at DESC LIMIT 200`, in.ID)
	if err != nil {
		return "", err
	}
	for _, old := range ended {
		if l := old.Lead(); l.Rule != lead.Rule || l.Series != lead.Series {
			continue
		}
		if err := old.LoadDetails(ctx, p.often); err != nil {
			return "", err
		}
		by, text := old.LastComment()
		if text == "" {
			continue
		}
		return fmt.Sprintf("#%d, resolved %s after %s: %q (%s)", old.Number, time.UnixMilli(old.ResolvedAt).UTC().Format("2 January 15:04 UTC"),
			lasted(old.ResolvedAt-old.StartedAt), text, by), nil
	}
	return "", nil
}

// lasted writes a length of time in milliseconds roughly.
func lasted(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 3*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
}

// enrich returns alerts with the page's facts on the incident. The alerts given stay as they are.
func (f *facts) enrich(alerts []*amalert.Alert) []*amalert.Alert {
	out := make([]*amalert.Alert, len(alerts))
	for i, a := range alerts {
		with := *a
		with.Annotations = a.Annotations.Clone()
		if with.Annotations == nil {
			with.Annotations = model.LabelSet{}
		}
		for name, text := range f.notes {
			with.Annotations[model.LabelName(name)] = model.LabelValue(text)
		}
		out[i] = &with
	}
	return out
}

type factsKey struct{}

// enriched gives a page its facts, for templates in its alerts and for integrations of our own in the context. A page whose
// facts cannot be read, or that is about no incident, leaves as it was written.
func (p *Pager) enriched(ctx context.Context, l *outbox.Message, alerts []*amalert.Alert) (context.Context, []*amalert.Alert) {
	own := p.routing.Load().own[l.Receiver]
	if l.Incident == "" || l.Receiver == alert.Watchdog || own != nil && own.Plain {
		return ctx, alerts
	}
	f, err := p.factsOf(ctx, l, own == nil || own.links())
	if err != nil {
		p.log.Error("read what a page says of its incident; it leaves without", "page", l.ID, "err", err)
		return ctx, alerts
	}
	if l.Reason == notify.ReasonUnknown && len(alerts) > 0 {
		// A message that the alerts' own life did not cause, such as word of an acknowledgement, has words of its own.
		f.note(PageSubject, alert.OneLine(string(alerts[0].Annotations["summary"])))
	}
	return context.WithValue(ctx, factsKey{}, f), f.enrich(alerts)
}

// factsIn returns the facts that enriched put into the context, nil where there are none.
func factsIn(ctx context.Context) *facts {
	f, _ := ctx.Value(factsKey{}).(*facts)
	return f
}

const (
	// linkLife is how long a link in a page is good, from the time of the page on.
	linkLife = 7 * 24 * time.Hour
	// linkMAC is how much of the HMAC-SHA256 a link carries, in bytes: nobody guesses 128 bits.
	linkMAC = 16
	// longestLink bounds a link that is looked at, in bytes.
	longestLink = 1024
)

// ErrLink is returned for a link that this collector did not sign, ErrLinkExpired for one that is too old.
var (
	ErrLink        = errors.New("the link is not one of this collector's, or not complete")
	ErrLinkExpired = errors.New("the link has expired")
)

// LinkKind is the act that a link allows.
type LinkKind byte

// The kinds of links. The letter stands in the link, so that one cannot stand in for the other.
const (
	// AckLink shows one incident and acknowledges it.
	AckLink LinkKind = 'a'
	// PictureLink shows the picture of one incident.
	PictureLink LinkKind = 'p'
)

// Link is the content of a signed link. Its holder may do the act that it names, without a login, until it expires.
type Link struct {
	Kind     LinkKind
	Incident string // its ID
	Receiver string // whom it was sent to
	At       time.Time
}

// Expires is when the link ends.
func (l Link) Expires() time.Time { return l.At.Add(linkLife) }

// linkKey reads the key of the links, and makes it the first time.
func linkKey(ctx context.Context, db *sql.DB) ([]byte, error) {
	fresh := make([]byte, sha256.Size)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make a key for links: %w", err)
	}
	if _, err := db.ExecContext(ctx, `INSERT OR IGNORE INTO alert_link_key (id, key) VALUES (1, ?)`, fresh); err != nil {
		return nil, fmt.Errorf("write the links' key: %w", err)
	}
	var key []byte
	if err := db.QueryRowContext(ctx, `SELECT key FROM alert_link_key`).Scan(&key); err != nil {
		return nil, fmt.Errorf("read the links' key: %w", err)
	}
	return key, nil
}

// signLink writes a link as it stands in a URL. The same link is always the same text, in each try of a page.
func signLink(key []byte, l Link) string {
	b := []byte{byte(l.Kind)}
	b = binary.AppendUvarint(b, uint64(max(0, l.At.UnixMilli())))
	b = append(b, l.Incident+"\x00"+l.Receiver...)
	return base64.RawURLEncoding.EncodeToString(append(b, mac(key, b)...))
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)[:linkMAC]
}

// readLink checks a link's signature and age.
func readLink(key []byte, kind LinkKind, text string, now time.Time) (Link, error) {
	if len(text) > longestLink {
		return Link{}, ErrLink
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= linkMAC {
		return Link{}, ErrLink
	}
	body, sum := b[:len(b)-linkMAC], b[len(b)-linkMAC:]
	if !hmac.Equal(sum, mac(key, body)) || body[0] != byte(kind) {
		return Link{}, ErrLink
	}
	at, n := binary.Uvarint(body[1:])
	if n <= 0 {
		return Link{}, ErrLink
	}
	incident, receiver, ok := strings.Cut(string(body[1+n:]), "\x00")
	if !ok {
		return Link{}, ErrLink
	}
	l := Link{Kind: kind, Incident: incident, Receiver: receiver, At: time.UnixMilli(int64(at))}
	if now.After(l.Expires()) {
		return l, ErrLinkExpired
	}
	return l, nil
}

// ReadLink checks the signature and the age of a link of a kind: the last element of its URL's path. The error is ErrLink
// or ErrLinkExpired; with the latter the link is returned.
func (p *Pager) ReadLink(kind LinkKind, text string) (Link, error) {
	return readLink(p.linkKey, kind, text, time.Now())
}

// Picture draws the incident of a PictureLink as it was when the page was written.
func (p *Pager) Picture(ctx context.Context, l Link) ([]byte, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return nil, err
	}
	return p.pictures.Draw(ctx, &in, l.At)
}

// LinkedIncident is the incident that an AckLink shows.
type LinkedIncident struct {
	incident.Incident
	// Before is how the last incident of the same rule at the same place ended; empty where nobody wrote anything.
	Before string
	// Picture is a PictureLink, as it stands in a URL; empty where there is nothing to draw.
	Picture string
}

// Linked returns the incident that an AckLink shows, or ErrNone.
func (p *Pager) Linked(ctx context.Context, l Link) (LinkedIncident, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return LinkedIncident{}, err
	}
	out := LinkedIncident{Incident: in}
	if out.Before, err = p.before(ctx, &in); err != nil {
		return out, err
	}
	if p.pictures.drawable(&in) {
		out.Picture = signLink(p.linkKey, Link{PictureLink, l.Incident, l.Receiver, l.At})
	}
	return out, nil
}
