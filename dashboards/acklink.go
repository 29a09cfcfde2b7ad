package dashboards

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bramble/dashboards/live"
)

// The errors of Links for a link that does not hold.
var (
	ErrLink        = errors.New("no link of this collector")
	ErrLinkExpired = errors.New("the link has expired")
	// ErrResolved is for an incident that is over: there is nothing to acknowledge.
	ErrResolved = errors.New("the incident is resolved")
)

// ackPrefix begins the paths of links to acknowledge.
const ackPrefix = "/ack/"

const (
	// freeAcks is how many acknowledgements by link an address may send at once, ackRefill how soon it gets another: a
	// bad night has a dozen incidents.
	freeAcks  = 20
	ackRefill = 3 * time.Second
	// maxName bounds who somebody says he is, in bytes.
	maxName = 64
)

// Links opens single incidents to the holder of a signed link from a page, without a login. Its methods
// must be safe for concurrent use and return ErrLink or ErrLinkExpired for a link that does not hold.
type Links interface {
	// Open returns the incident of a link to acknowledge.
	Open(ctx context.Context, link string) (Linked, error)
	// Acknowledge records that somebody, who may give a name, has the incident; ErrResolved where it is over.
	Acknowledge(ctx context.Context, link, name, comment string, from netip.Addr) error
	// Picture returns the PNG of a link to a picture; ErrUnknownIncident where there is none.
	Picture(ctx context.Context, link string) ([]byte, error)
}

// linkPages serve signed links.
type linkPages struct {
	access *access
	pages  *renderer
	of     Links
	hub    *live.Hub
	wrong  *limiter // of links that do not hold
	acks   *limiter // of acknowledgements by link
}

// Linked is an incident as a link shows it.
type Linked struct {
	Incident Incident
	Receiver string // whom the link was sent to
	Before   string // how the last one of its kind ended
	Picture  string // a link to its picture; empty where there is none
	Expires  time.Time
}

// linkedView is the data of a link's page.
type linkedView struct {
	view
	Linked
	Link                  string
	Since, Acked, Expires string
	Sent                  []sentLine
}

type sentLine struct{ At, Text string }

// openLink shows a link's incident and a button. It changes nothing: mail scanners follow links.
func (p *linkPages) openLink(w http.ResponseWriter, r *http.Request) {
	link := r.PathValue("link")
	in, ok := p.checkLink(w, r, link)
	if ok {
		p.renderLinked(w, r, http.StatusOK, in, "")
	}
}

// checkLink answers for a link that does not hold.
func (p *linkPages) checkLink(w http.ResponseWriter, r *http.Request, link string) (Linked, bool) {
	w.Header().Set("X-Robots-Tag", "noindex")
	if p.of == nil {
		p.linkRefused(w, r, http.StatusNotFound, "No such page", "This collector sends no links.")
		return Linked{}, false
	}
	from := addressOf(r)
	if wait := p.wrong.wait(from); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.linkRefused(w, r, http.StatusTooManyRequests, "Too many wrong links", "Try again in "+wait.Round(time.Second).String()+".")
		return Linked{}, false
	}
	in, err := p.of.Open(r.Context(), link)
	switch {
	case errors.Is(err, ErrLink):
		p.wrong.attempt(from)
		p.linkRefused(w, r, http.StatusForbidden, "This link does not hold",
			"It was not made by this collector, or a part of it is missing: some mail programs break long lines. Copy it whole, or log in and acknowledge there.")
	case errors.Is(err, ErrLinkExpired):
		p.linkRefused(w, r, http.StatusGone, "This link has expired", "Links in pages hold for 7 days. Log in to see the incident.")
	case errors.Is(err, ErrUnknownIncident):
		p.linkRefused(w, r, http.StatusNotFound, "No such incident", "The incident of this link is no longer kept.")
	case err != nil:
		p.access.fault(w, r, err)
	default:
		return in, true
	}
	return Linked{}, false
}

// followLink acknowledges. A phone's notification posts nothing but the address.
func (p *linkPages) followLink(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // the link is the permission; a web client of ntfy may post it
	link := r.PathValue("link")
	in, ok := p.checkLink(w, r, link)
	if !ok {
		return
	}
	from := addressOf(r)
	if wait := p.acks.wait(from); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.linkRefused(w, r, http.StatusTooManyRequests, "Too many acknowledgements", "Try again in "+wait.Round(time.Second).String()+".")
		return
	}
	p.acks.attempt(from)
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	name, comment := strings.TrimSpace(r.PostFormValue("name")), strings.TrimSpace(r.PostFormValue("comment"))
	if len(name) > maxName || len(comment) > maxComment {
		p.renderLinked(w, r, http.StatusBadRequest, in, "The name may have 64 bytes, the note 1000.")
		return
	}
	err := p.of.Acknowledge(r.Context(), link, name, comment, from.Addr())
	switch {
	case errors.Is(err, ErrResolved):
		p.renderLinked(w, r, http.StatusConflict, in, "The incident is resolved: there is nothing to acknowledge.")
	case err != nil:
		p.access.fault(w, r, err)
	case !wantsPage(r):
		p.hub.Alerts()
		reply(w, map[string]any{"id": in.Incident.ID, "acknowledged": true})
	default:
		p.hub.Alerts()
		http.Redirect(w, r, ackPrefix+link, http.StatusSeeOther)
	}
}

// wantsPage tells browsers from programs.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

func (p *linkPages) linkRefused(w http.ResponseWriter, r *http.Request, code int, title, why string) {
	if r.Method == http.MethodPost && !wantsPage(r) {
		fail(w, code, why)
		return
	}
	p.pages.render(w, code, "acklink.html", &linkedView{view: view{Title: title, Message: why}})
}

func (p *linkPages) renderLinked(w http.ResponseWriter, r *http.Request, code int, in Linked, message string) {
	if code != http.StatusOK && !wantsPage(r) {
		fail(w, code, message)
		return
	}
	i := in.Incident
	v := &linkedView{view: view{Title: i.Title, Message: message}, Linked: in, Link: ackPrefix + r.PathValue("link"), Since: utc(i.Since), Expires: in.Expires.UTC().Format("2 January 15:04 UTC")}
	if i.AcknowledgedAt != 0 {
		v.Acked = utc(i.AcknowledgedAt)
	}
	for _, p := range i.Pages {
		text := p.Integration + " to " + p.Receiver + ": " + p.State
		if p.Error != "" {
			text += ", " + p.Error
		}
		v.Sent = append(v.Sent, sentLine{time.UnixMilli(p.At).UTC().Format("15:04:05"), text})
	}
	p.pages.render(w, code, "acklink.html", v)
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05 UTC, 2 January") }

// linkedPicture shows a picture to chat rooms, phones and mail programs, none of which has a login.
func (p *linkPages) linkedPicture(w http.ResponseWriter, r *http.Request) {
	if p.of == nil {
		noSuchRoute(w, r)
		return
	}
	from := addressOf(r)
	if p.wrong.wait(from) > 0 {
		fail(w, http.StatusTooManyRequests, "too many wrong links")
		return
	}
	b, err := p.of.Picture(r.Context(), strings.TrimSuffix(r.PathValue("link"), ".png"))
	switch {
	case errors.Is(err, ErrLink):
		p.wrong.attempt(from)
		fail(w, http.StatusForbidden, "the link is not one of this collector's, or not complete")
	case errors.Is(err, ErrLinkExpired):
		fail(w, http.StatusGone, "the link has expired")
	case errors.Is(err, ErrUnknownIncident):
		fail(w, http.StatusNotFound, "there is no picture of this incident")
	case err != nil:
		p.access.fault(w, r, err)
	default:
		h := w.Header()
		h.Set("Content-Type", "image/png")
		h.Set("Cache-Control", "private, max-age=604800, immutable")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("X-Robots-Tag", "noindex")
		_, _ = w.Write(b) // the client has gone
	}
}
