package dashboards

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bramble/dashboards/live"
)

// Own is the customers' view of the fleet: their own boards, as long as they are theirs. Its methods must
// be safe for concurrent use.
type Own interface {
	// Tenancy returns the customer of a board at a time (Unix ms) and since when without a break; "" where
	// it is nobody's. It must be fast and must not call the hub.
	Tenancy(board string, at int64) (customer string, since int64)
	// History returns a metric of a board under one customer: readings of another time are not in it.
	History(ctx context.Context, customer string, q HistoryQuery) ([]Span, error)
	// Alerts lists those that fired on boards that are the customer's now, since they are, newest first.
	Alerts(ctx context.Context, customer string) ([]OwnAlert, error)
	// Counts lists all customers, for operators.
	Counts(ctx context.Context) ([]OwnCount, error)
}

// customerPages are the pages and routes of customers.
type customerPages struct {
	access   *access
	pages    *renderer
	fleet    Fleet
	of       Own
	settings OwnSettings
	hub      *live.Hub
	live     http.HandlerFunc
	busy     busy     // requests of customers under way
	links    *limiter // of links that do not hold
}

// OwnCount is how much one customer has.
type OwnCount struct {
	Customer   string `json:"customer"`
	Boards     int    `json:"boards"`
	Thresholds int    `json:"thresholds"`
	Contacts   int    `json:"contacts"`
	Confirmed  int    `json:"confirmed"` // of the contacts
	Waiting    int    `json:"waiting"`   // alerts that a limit holds back
}

// OwnAlert is one alert of one board, without a word on any other. Times are Unix milliseconds.
type OwnAlert struct {
	Board    string `json:"board"`
	Name     string `json:"name"` // of the rule
	Severity string `json:"severity,omitempty"`
	Since    int64  `json:"since"`
	Until    int64  `json:"until,omitempty"` // 0: it still fires
	// Threshold says that it is one of the customer's own thresholds, of which the operator is not told.
	Threshold bool `json:"threshold,omitempty"`
}

type customerKey struct{}

// customerIn is whose boards a request is about.
func customerIn(r *http.Request) string {
	c, _ := r.Context().Value(customerKey{}).(string)
	return c
}

// own lets in a customer, and for a look at what a customer sees whoever may see the fleet, with ?customer=NAME.
func (p *customerPages) own(next http.HandlerFunc) http.Handler {
	return p.ownFor(Viewer, next)
}

// ownFor is own for what needs another role of those who are no customers.
func (p *customerPages) ownFor(need Role, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := p.access.authenticate(r)
		asked := r.URL.Query().Get("customer")
		switch {
		case err != nil || u.Role != Customer && !u.Role.allows(need):
			p.access.api(need, next).ServeHTTP(w, r) // which refuses it
		case p.of == nil:
			noSuchRoute(w, r)
		case u.Role == Customer && (u.Customer == "" || asked != "" && asked != u.Customer):
			fail(w, http.StatusForbidden, "customer is not for you to choose: leave it out")
		case u.Role != Customer && asked == "":
			fail(w, http.StatusBadRequest, "customer: name the one whose boards are meant, as in ?customer=alder")
		case u.Role != Customer:
			p.serveOwn(w, r, u, asked, next)
		case !p.busy.begin(r.Context(), u.Customer):
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, fmt.Sprintf("too many requests of yours wait already: %d are answered at a time", busyAtOnce))
		default:
			defer p.busy.end(u.Customer)
			p.serveOwn(w, r, u, u.Customer, next)
		}
	})
}

func (p *customerPages) serveOwn(w http.ResponseWriter, r *http.Request, u User, customer string, next http.HandlerFunc) {
	ctx := context.WithValue(r.Context(), userKey{}, u)
	next(w, r.WithContext(context.WithValue(ctx, customerKey{}, customer)))
}

// ownBoardAnswer is the part of a board that its customer sees: nothing of where it stands, nothing from before it was theirs.
type ownBoardAnswer struct {
	Name       string `json:"name"`
	Model      string `json:"model,omitempty"`
	Since      int64  `json:"since,omitempty"` // since when it is theirs, 0 for always
	EnrolledAt int64  `json:"enrolledAt,omitempty"`
	live.State
	Latest []live.Latest `json:"latest,omitempty"`
}

// ownAnswer describes a board under one tenancy.
func (p *customerPages) ownAnswer(b Board, since int64, latest bool) ownBoardAnswer {
	a := ownBoardAnswer{Name: b.Name, Model: b.Labels["model"], Since: since, EnrolledAt: b.EnrolledAt}
	a.State, a.Latest = p.hub.Since(b.Name, since)
	if at := b.LastReport.UnixMilli(); !b.LastReport.IsZero() && at >= since {
		a.LastReport = max(a.LastReport, at)
	}
	if !latest {
		a.Latest = nil
	}
	slices.SortFunc(a.Latest, func(x, y live.Latest) int { return strings.Compare(x.Series, y.Series) })
	return a
}

func (p *customerPages) ownBoards(w http.ResponseWriter, r *http.Request) {
	now := time.Now().UnixMilli()
	out := []ownBoardAnswer{}
	for _, b := range p.fleet.Boards() {
		if c, since := p.of.Tenancy(b.Name, now); c == customerIn(r) {
			out = append(out, p.ownAnswer(b, since, false))
		}
	}
	slices.SortFunc(out, func(a, b ownBoardAnswer) int { return strings.Compare(a.Name, b.Name) })
	reply(w, map[string]any{"now": now, "customer": customerIn(r), "boards": out})
}

// findOwn returns a board of the customer's and since when it is theirs. Of a board of somebody else's the answer is that of
// one that is not there.
func (p *customerPages) findOwn(r *http.Request) (Board, int64, bool) {
	name := r.PathValue("name")
	if !live.ValidBoard(name) {
		return Board{}, 0, false
	}
	c, since := p.of.Tenancy(name, time.Now().UnixMilli())
	if c == "" || c != customerIn(r) {
		return Board{}, 0, false
	}
	b, ok := find(p.fleet.Boards(), name)
	return b, since, ok
}

func noOwnBoard(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, fmt.Sprintf("no board of yours is named %.64q", r.PathValue("name")))
}

func (p *customerPages) ownBoard(w http.ResponseWriter, r *http.Request) {
	b, since, ok := p.findOwn(r)
	if !ok {
		noOwnBoard(w, r)
		return
	}
	reply(w, p.ownAnswer(b, since, true))
}

// ownMetrics are the beginnings of the names of what sensors measure and the collector says of a board.
var ownMetrics = []string{"pi_", "pisensor_"}

func (p *customerPages) ownHistory(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := p.findOwn(r); !ok {
		noOwnBoard(w, r)
		return
	}
	q, err := parseOwnHistory(r.PathValue("name"), r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	spans, err := p.of.History(r.Context(), customerIn(r), q)
	switch {
	case errors.Is(err, ErrBadHistory):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		p.access.fault(w, r, err)
	default:
		if spans == nil {
			spans = []Span{}
		}
		reply(w, map[string]any{"stepSeconds": int64(q.Step.Seconds()), "spans": spans})
	}
}

// maxOwnSteps is how many steps a customer's question may have: more than a screen has pixels.
const maxOwnSteps = 4000

// parseOwnHistory takes the questions of boardHistory about what sensors measure, told apart by a series' own labels alone.
func parseOwnHistory(board string, form url.Values) (HistoryQuery, error) {
	q, err := parseHistory(board, form)
	if err != nil {
		return q, err
	}
	if !slices.ContainsFunc(ownMetrics, func(p string) bool { return strings.HasPrefix(q.Metric, p) }) {
		return q, fmt.Errorf("metric %q is none of a board's: those begin with %s", q.Metric, strings.Join(ownMetrics, " or "))
	}
	for _, l := range q.By {
		if !slices.Contains([]string{"source", "reason", "device", "op"}, l) {
			return q, fmt.Errorf("by %q: use source, reason, device or op", l)
		}
	}
	if n := q.End.Sub(q.Start) / q.Step; n > maxOwnSteps {
		return q, fmt.Errorf("%s in steps of %s are %d of them, and %d are the most: use longer steps", q.End.Sub(q.Start), q.Step, n, maxOwnSteps)
	}
	return q, nil
}

func (p *customerPages) ownAlerts(w http.ResponseWriter, r *http.Request) {
	found, err := p.of.Alerts(r.Context(), customerIn(r))
	if err != nil {
		p.access.fault(w, r, err)
		return
	}
	list := append([]OwnAlert{}, found...)
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "alerts": list})
}

// ownPage lets customers in alone: others have the whole fleet.
func (p *customerPages) ownPage(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := p.access.authenticate(r)
		switch {
		case err != nil:
			p.access.page(next).ServeHTTP(w, r) // which leads to the login
		case u.Role != Customer:
			http.Redirect(w, r, "/", http.StatusSeeOther)
		case p.of == nil || u.Customer == "":
			noSuchRoute(w, r)
		default:
			p.serveOwn(w, r, u, u.Customer, next)
		}
	})
}

func (p *customerPages) ownHome(w http.ResponseWriter, r *http.Request) {
	p.pages.renderFor(w, r, http.StatusOK, "own.html", view{Title: "Your boards", Script: "own/own", Nav: "own"})
}

func (p *customerPages) ownBoardPage(w http.ResponseWriter, r *http.Request) {
	b, _, ok := p.findOwn(r)
	if !ok {
		p.pages.renderFor(w, r, http.StatusNotFound, "ownmessage.html", view{Title: "No such board", Message: "No board of yours has this name."})
		return
	}
	p.pages.renderFor(w, r, http.StatusOK, "ownboard.html", view{Title: b.Name, Script: "own/board", Nav: "own", Board: b.Name})
}

// ownLive is the websocket of customers.
func (p *customerPages) ownLive() http.Handler {
	page := p.ownPage(p.live)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.access.authenticate(r); err != nil {
			p.access.api(Viewer, p.live).ServeHTTP(w, r) // which refuses it
			return
		}
		page.ServeHTTP(w, r)
	})
}

// listCustomers is for operators.
func (p *customerPages) listCustomers(w http.ResponseWriter, r *http.Request) {
	list := []OwnCount{}
	if p.of != nil {
		found, err := p.of.Counts(r.Context())
		if err != nil {
			p.access.fault(w, r, err)
			return
		}
		list = append(list, found...)
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "customers": list})
}
