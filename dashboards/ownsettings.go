package dashboards

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"bramble/alerting/rules"
	"bramble/dashboards/live"
)

// Errors of what a customer sets, beside ErrBadRequest; the rest of the text is for the person.
var (
	ErrTooOften   = errors.New("too often")
	ErrUnknownOwn = errors.New("not found")
)

// OwnSettings holds the settings of customers, and their limits. Its methods must be safe for concurrent
// use; the errors of all may wrap ErrBadRequest, ErrTooOften and ErrUnknownOwn.
type OwnSettings interface {
	Get(ctx context.Context, customer string) (OwnBook, error)
	SetThreshold(ctx context.Context, customer, who string, t rules.Threshold) error
	RemoveThreshold(ctx context.Context, customer, who, kind, board string) error
	AddContact(ctx context.Context, customer, who, address string) error
	AskContact(ctx context.Context, customer, who, id string) error
	RemoveContact(ctx context.Context, customer, who, id string) error
	// Linked is the contact that a link in a mail is about; Answer records whether its reader wants mails.
	Linked(ctx context.Context, link string) (OwnContact, error)
	Answer(ctx context.Context, link string, want bool) error
}

// OwnBook is all settings of a customer.
type OwnBook struct {
	Customer   string         `json:"customer"`
	Thresholds []OwnThreshold `json:"thresholds"`
	Contacts   []OwnContact   `json:"contacts"`
	Kinds      []OwnKind      `json:"kinds"`
	Mail       bool           `json:"mail"` // false: this collector sends none
	// Waiting alerts are told later, when the limit lets a mail leave at WaitingUntil.
	Waiting      int            `json:"waiting"`
	WaitingUntil int64          `json:"waitingUntil,omitempty"`
	Limits       map[string]int `json:"limits"`
}

// OwnThreshold is a threshold as JSON: base units, durations such as 30s.
type OwnThreshold struct {
	Kind          string  `json:"kind"`
	Board         string  `json:"board,omitempty"` // "" for all
	Value         float64 `json:"value"`
	Hysteresis    float64 `json:"hysteresis"`
	For           string  `json:"for"`
	KeepFiringFor string  `json:"keepFiringFor"`
}

// OwnContact is an address; its link is of whoever reads mail there and stands nowhere else.
type OwnContact struct {
	ID        string `json:"id"`
	Address   string `json:"address"`
	Customer  string `json:"-"`
	Confirmed bool   `json:"confirmed"`
	AskedAt   int64  `json:"askedAt"`
	LastMail  string `json:"lastMail,omitempty"` // waiting, delivered or failed
}

// OwnKind is a kind of threshold, with its bounds in base units.
type OwnKind struct {
	Name          string  `json:"name"`
	Fixed         bool    `json:"fixed"` // nothing to set
	Min           float64 `json:"min"`
	Max           float64 `json:"max"`
	MaxHysteresis float64 `json:"maxHysteresis"`
}

// OwnThresholdOf writes a threshold as JSON has it.
func OwnThresholdOf(t rules.Threshold) OwnThreshold {
	return OwnThreshold{t.Kind, t.Board, t.Value, t.Hysteresis, model.Duration(t.For).String(), model.Duration(t.KeepFiringFor).String()}
}

// decodeThreshold reads one. Where there is nothing to set, the value is the kind's.
func decodeThreshold(b []byte) (t rules.Threshold, err error) {
	var body struct {
		OwnThreshold
		Value *float64 `json:"value"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return t, fmt.Errorf(`decode threshold: %w; write it like {"kind":"hot","board":"r1-01","value":75,"hysteresis":3,"for":"30s","keepFiringFor":"2m"}`, err)
	}
	t = rules.Threshold{Kind: body.Kind, Board: body.Board, Hysteresis: body.Hysteresis}
	if t.Board != "" && !live.ValidBoard(t.Board) {
		return t, fmt.Errorf("board %.64q is not a board's name", t.Board)
	}
	if t.For, err = span(body.For); err != nil {
		return t, fmt.Errorf("for: %q: want a duration such as 30s", body.For)
	}
	if t.KeepFiringFor, err = span(cmp.Or(body.KeepFiringFor, "2m")); err != nil {
		return t, fmt.Errorf("keepFiringFor: %q: want a duration such as 2m", body.KeepFiringFor)
	}
	kind, ok := rules.KindOf(t.Kind)
	switch {
	case body.Value != nil:
		t.Value = *body.Value
	case ok && kind.Fixed:
		t.Value = kind.Min
	default:
		return t, errors.New("value is missing")
	}
	return t, nil
}

func decodeContact(b []byte) (string, error) {
	var body struct {
		Address string `json:"address"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return "", fmt.Errorf(`decode contact: %w; write it like {"address":"ops@example.org"}`, err)
	}
	return body.Address, nil
}

func (p *customerPages) ownSettings(w http.ResponseWriter, r *http.Request) {
	if p.settings == nil {
		noSuchRoute(w, r)
		return
	}
	book, err := p.settings.Get(r.Context(), customerIn(r))
	if err != nil {
		p.ownFault(w, r, err)
		return
	}
	reply(w, book)
}

// ownFault answers an error of OwnSettings.
func (p *customerPages) ownFault(w http.ResponseWriter, r *http.Request, err error) {
	for of, code := range map[error]int{ErrBadRequest: http.StatusBadRequest, ErrTooOften: http.StatusTooManyRequests, ErrUnknownOwn: http.StatusNotFound} {
		if errors.Is(err, of) {
			fail(w, code, strings.TrimPrefix(err.Error(), of.Error()+": "))
			return
		}
	}
	p.access.fault(w, r, err)
}

// changeOwn changes a setting and answers with all of them.
func (p *customerPages) changeOwn(w http.ResponseWriter, r *http.Request, do func(of OwnSettings, customer, who string) error) {
	if p.settings == nil {
		noSuchRoute(w, r)
		return
	}
	if err := do(p.settings, customerIn(r), userOf(r).Name); err != nil {
		p.ownFault(w, r, err)
		return
	}
	p.ownSettings(w, r)
}

func (p *customerPages) setThreshold(w http.ResponseWriter, r *http.Request) {
	if t, ok := take(w, r, "threshold", decodeThreshold); ok {
		p.changeOwn(w, r, func(of OwnSettings, customer, who string) error {
			return of.SetThreshold(r.Context(), customer, who, t)
		})
	}
}

func (p *customerPages) removeThreshold(w http.ResponseWriter, r *http.Request) {
	p.changeOwn(w, r, func(of OwnSettings, customer, who string) error {
		return of.RemoveThreshold(r.Context(), customer, who, r.PathValue("kind"), r.URL.Query().Get("board"))
	})
}

func (p *customerPages) addContact(w http.ResponseWriter, r *http.Request) {
	if address, ok := take(w, r, "contact", decodeContact); ok {
		p.changeOwn(w, r, func(of OwnSettings, customer, who string) error {
			return of.AddContact(r.Context(), customer, who, address)
		})
	}
}

func (p *customerPages) askContact(w http.ResponseWriter, r *http.Request) {
	p.changeOwn(w, r, func(of OwnSettings, customer, who string) error {
		return of.AskContact(r.Context(), customer, who, r.PathValue("id"))
	})
}

func (p *customerPages) removeContact(w http.ResponseWriter, r *http.Request) {
	p.changeOwn(w, r, func(of OwnSettings, customer, who string) error {
		return of.RemoveContact(r.Context(), customer, who, r.PathValue("id"))
	})
}

// contactView is the page of a link that stands in a customer's mails.
type contactView struct {
	view
	Contact OwnContact
	Link    string // "" where it does not hold
	Done    bool
}

// contactPage shows the contact of a link, and answers its buttons. Opening it changes nothing: mail scanners open every link.
func (p *customerPages) contactPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Robots-Tag", "noindex")
	if p.settings == nil {
		noSuchRoute(w, r)
		return
	}
	from, link := addressOf(r), r.PathValue("link")
	if wait := p.links.wait(from); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.pages.render(w, http.StatusTooManyRequests, "owncontact.html", &contactView{view: view{Title: "Too many wrong links", Message: "Try again in " + wait.Round(time.Second).String() + "."}})
		return
	}
	c, err := p.settings.Linked(r.Context(), link)
	if errors.Is(err, ErrUnknownOwn) {
		p.links.attempt(from)
		p.pages.render(w, http.StatusNotFound, "owncontact.html", &contactView{view: view{Title: "This link does not hold", Message: "It has expired, the address was removed, or a part of the link is missing: some mail programs break long lines."}})
		return
	}
	if err == nil && r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		want := r.PostFormValue("want")
		if want != "yes" && want != "no" {
			fail(w, http.StatusBadRequest, "want: yes or no")
			return
		}
		if err = p.settings.Answer(r.Context(), link, want == "yes"); err == nil {
			said := "Alerts of " + c.Customer + " come to " + c.Address + " from now on."
			if want == "no" {
				said = "No mail comes to " + c.Address + " any more."
			}
			p.pages.render(w, http.StatusOK, "owncontact.html", &contactView{view: view{Title: "Done", Message: said}, Done: true})
			return
		}
	}
	if err != nil {
		p.access.fault(w, r, err)
		return
	}
	p.pages.render(w, http.StatusOK, "owncontact.html", &contactView{view: view{Title: "Alerts of " + c.Customer}, Contact: c, Link: "/own/contact/" + link})
}
