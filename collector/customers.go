package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/pager"
	"bramble/alerting/rules"
	"bramble/collector/customers"
	"bramble/collector/registry"
	"bramble/dashboards"
	"bramble/storage"
)

// openCustomers puts the settings of customers in force, before the journal is replayed.
func (a *app) openCustomers(ctx context.Context) (err error) {
	a.customers, err = customers.Open(ctx, customers.Options{
		DB: a.db, SetThresholds: a.engine.SetThresholds, EndStrayed: a.engine.EndStrayed,
		Commit: func(ts []alert.Transition) error { return a.ingest.Commit(ts) },
		Post:   a.pager.CustomerMails().Post, CanMail: a.pager.CustomerMails().CanMail, MailState: a.pager.CustomerMails().State,
		Owner: a.owner, URL: strings.TrimSuffix(a.url(), "/") + "/", Limits: a.config.Customers, Log: a.log,
	})
	return err
}

func (a *app) owner(board string, at int64) string {
	customer, _ := a.tenancy(board, at)
	return customer
}

// deliver splits the transitions for customers from those for operators.
func (a *app) deliver(ts []alert.Transition) {
	operator, theirs := rules.SplitCustomers(ts)
	a.domains.Deliver(operator)
	a.customers.Deliver(theirs)
}

// settleAlerts returns when all that was delivered is in the database.
func (a *app) settleAlerts() error { return errors.Join(a.domains.Settle(), a.customers.Settle()) }

// settingPart is the settings of customers.
type settingPart struct {
	customers *customers.Store
	pager     *pager.Pager
	limits    customers.Limits
}

// SetThreshold sets one.
func (s *settingPart) SetThreshold(ctx context.Context, customer, who string, t rules.Threshold) error {
	return ownError(s.customers.SetThreshold(ctx, customer, who, t))
}

// RemoveThreshold removes one.
func (s *settingPart) RemoveThreshold(ctx context.Context, customer, who, kind, board string) error {
	return ownError(s.customers.RemoveThreshold(ctx, customer, who, kind, board))
}

// AddContact adds an address, which is asked first.
func (s *settingPart) AddContact(ctx context.Context, customer, who, address string) error {
	_, err := s.customers.AddContact(ctx, customer, who, address)
	return ownError(err)
}

// AskContact asks an address again.
func (s *settingPart) AskContact(ctx context.Context, customer, who, id string) error {
	return ownError(s.customers.AskAgain(ctx, customer, who, id))
}

// RemoveContact removes one.
func (s *settingPart) RemoveContact(ctx context.Context, customer, who, id string) error {
	return ownError(s.customers.RemoveContact(ctx, customer, who, id))
}

// Linked is the contact that a link in a mail is about.
func (s *settingPart) Linked(ctx context.Context, link string) (dashboards.OwnContact, error) {
	c, err := s.customers.Linked(ctx, link)
	return contactView(c), ownError(err)
}

// Answer records whether the reader of a mail wants more.
func (s *settingPart) Answer(ctx context.Context, link string, want bool) error {
	if want {
		return ownError(s.customers.Confirm(ctx, link))
	}
	return ownError(s.customers.Refuse(ctx, link))
}

// ownError names errors of the customers' package as the pages know them.
func ownError(err error) error {
	for of, is := range map[error]error{
		customers.ErrBad: dashboards.ErrBadRequest, customers.ErrTooOften: dashboards.ErrTooOften, customers.ErrNotFound: dashboards.ErrUnknownOwn,
	} {
		if errors.Is(err, of) {
			return fmt.Errorf("%w: %s", is, strings.TrimPrefix(err.Error(), of.Error()+": "))
		}
	}
	return err
}

func contactView(c customers.Contact) dashboards.OwnContact {
	return dashboards.OwnContact{ID: c.ID, Address: c.Address, Customer: c.Customer, Confirmed: c.Confirmed, AskedAt: c.AskedAt.UnixMilli(), LastMail: c.MailState}
}

// Get returns all that a customer has set.
func (s *settingPart) Get(ctx context.Context, customer string) (dashboards.OwnBook, error) {
	l := s.limits
	book := dashboards.OwnBook{
		Customer: customer, Thresholds: []dashboards.OwnThreshold{}, Contacts: []dashboards.OwnContact{}, Mail: s.pager.CustomerMails().CanMail() == nil,
		Limits: map[string]int{"contacts": l.Contacts, "thresholds": l.Thresholds, "changesAnHour": l.Changes, "confirmationsAnHour": l.Confirmations, "mailsAnHour": l.Hourly, "mailsADay": l.Daily},
	}
	for _, k := range rules.ThresholdKinds {
		book.Kinds = append(book.Kinds, dashboards.OwnKind{Name: k.Name, Fixed: k.Fixed, Min: k.Min, Max: k.Max, MaxHysteresis: k.MaxHysteresis})
	}
	set, err := s.customers.Thresholds(ctx, customer)
	if err != nil {
		return book, err
	}
	for _, t := range set {
		book.Thresholds = append(book.Thresholds, dashboards.OwnThresholdOf(t))
	}
	contacts, err := s.customers.Contacts(ctx, customer)
	if err != nil {
		return book, err
	}
	for _, c := range contacts {
		book.Contacts = append(book.Contacts, contactView(c))
	}
	n, until, err := s.customers.Waiting(ctx, customer)
	if book.Waiting = n; !until.IsZero() {
		book.WaitingUntil = until.UnixMilli()
	}
	return book, err
}

// thresholdAlerts are the alerts of a customer's thresholds, of the time in which the boards are theirs.
func (o *ownPart) thresholdAlerts(ctx context.Context, customer string, now time.Time) (out []dashboards.OwnAlert, err error) {
	all, err := o.customers.Alerts(ctx, customer, now.Add(-ownAlertsBack))
	for _, one := range all {
		if c, since := o.tenancy(one.Board, now.UnixMilli()); c == customer && one.FiredAt >= since {
			out = append(out, dashboards.OwnAlert{Board: one.Board, Name: one.Kind, Since: one.FiredAt, Until: one.EndedAt, Threshold: true})
		}
	}
	return out, err
}

// Counts lists the customers who have boards or settings.
func (o *ownPart) Counts(ctx context.Context) ([]dashboards.OwnCount, error) {
	set, err := customers.Counts(ctx, o.db)
	if err != nil {
		return nil, err
	}
	boards := o.registry.CustomerNames(time.Now().UnixMilli())
	names := slices.Collect(maps.Keys(set))
	for name := range boards {
		if _, ok := set[name]; !ok {
			names = append(names, name)
		}
	}
	var all []dashboards.OwnCount
	for _, name := range slices.Sorted(slices.Values(names)) {
		n := set[name]
		all = append(all, dashboards.OwnCount{Customer: name, Boards: boards[name], Thresholds: n.Thresholds, Contacts: n.Contacts, Confirmed: n.Confirmed, Waiting: n.Waiting})
	}
	return all, nil
}

// ownSources are those of the customers' view.
type ownSources struct {
	registry  *registry.Registry
	db        *sql.DB
	customers *customers.Store
	engine    *rules.Engine
	pager     *pager.Pager
	tenancy   func(board string, at int64) (customer string, since int64)
}

// ownPart is the customers' view of their own boards.
type ownPart struct {
	ownSources
	histories *historyPart

	mu   sync.Mutex
	made time.Time
	all  []dashboards.OwnAlert // of single boards; the failure of a switch or a rack is in it as each board's own
}

func (o *ownPart) connect(s ownSources, h *historyPart) { o.ownSources, o.histories = s, h }

// Tenancy returns the customer of a board at a time.
func (o *ownPart) Tenancy(board string, at int64) (customer string, since int64) {
	return o.tenancy(board, at)
}

// tenancy says whose a board in service is at a time and since when without a break.
func (a *app) tenancy(board string, at int64) (customer string, since int64) {
	b, ok := a.registry.Board(board)
	if !ok || b.Retired {
		return "", 0
	}
	return b.Tenancy(at)
}

// History answers a customer from series that carry the customer's label: it was in force when they were read.
func (o *ownPart) History(ctx context.Context, customer string, q dashboards.HistoryQuery) ([]dashboards.Span, error) {
	of := storage.HistoryQuery{
		Metric: q.Metric, Match: []storage.Label{{Name: "board", Value: q.Board}, {Name: "customer", Value: customer}},
		By: q.By, Start: q.Start, End: q.End, Step: q.Step,
	}
	var spans []storage.Span
	var err error
	if q.Step < storage.Bucket {
		spans, err = storage.QueryReadings(ctx, o.histories.store, differences, of)
	} else {
		spans, err = o.histories.spans(ctx, of)
	}
	if errors.Is(err, storage.ErrHistoryQuery) {
		return nil, fmt.Errorf("%w: %w", dashboards.ErrBadHistory, err)
	}
	return spanViews(spans), err
}

const (
	// ownAlertsAge is how old the list of alerts may be that customers see: it is made once for all of them.
	ownAlertsAge = 5 * time.Second
	// ownAlertsBack is how far back it goes, and ownAlertsRead how many incidents it looks at.
	ownAlertsBack = 7 * 24 * time.Hour
	ownAlertsRead = 1000
)

// shownRules are the rules whose alerts customers see: the default ones. A rule that an operator adds may be
// about a customer rather than for one.
var shownRules = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for r := range rules.Default().All() {
		all[r.Name] = true
	}
	return all
})

// Alerts lists the alerts of the boards that are a customer's now, since they are.
func (o *ownPart) Alerts(ctx context.Context, customer string) ([]dashboards.OwnAlert, error) {
	all, err := o.list(ctx)
	if err != nil {
		return nil, err
	}
	out, err := o.thresholdAlerts(ctx, customer, time.Now())
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	for _, alert := range all {
		if c, since := o.tenancy(alert.Board, now); c == customer && alert.Since >= since {
			out = append(out, alert)
		}
	}
	newestFirst(out)
	return out, nil
}

func newestFirst(all []dashboards.OwnAlert) {
	slices.SortStableFunc(all, func(a, b dashboards.OwnAlert) int {
		return cmp.Or(cmp.Compare(b.Since, a.Since), cmp.Compare(a.Board, b.Board), cmp.Compare(a.Name, b.Name))
	})
}

func (o *ownPart) list(ctx context.Context) ([]dashboards.OwnAlert, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.made) < ownAlertsAge {
		return o.all, nil
	}
	var all []dashboards.OwnAlert
	for _, t := range o.engine.Firing() {
		all = append(all, dashboards.OwnAlert{Board: t.Labels["board"], Name: t.Labels["alertname"], Severity: t.Labels["severity"], Since: t.FiredAt})
		if !shownToCustomers(t.Rule, t.Labels) {
			all = all[:len(all)-1]
		}
	}
	ended, err := o.ended(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, ended...)
	o.all, o.made = all, time.Now()
	return all, nil
}

// ended are the alerts of single boards that are over. The alert of a switch or a rack is none: its times are not the board's.
func (o *ownPart) ended(ctx context.Context) (out []dashboards.OwnAlert, err error) {
	from := time.Now().Add(-ownAlertsBack).UnixMilli()
	found, err := o.pager.Incidents(ctx, incident.Query{Limit: ownAlertsRead})
	for _, in := range found {
		for _, alert := range in.Alerts {
			if alert.EndsAt == 0 || alert.StartsAt < from || !shownToCustomers(alert.Rule, alert.Labels) {
				continue
			}
			out = append(out, dashboards.OwnAlert{
				Board: alert.Labels["board"], Name: alert.Labels["alertname"], Severity: alert.Labels["severity"], Since: alert.StartsAt, Until: alert.EndsAt,
			})
		}
	}
	return out, err
}

// shownToCustomers picks alerts of single boards by rules that are not tried out.
func shownToCustomers(rule string, labels map[string]string) bool {
	return rule != "" && labels["board"] != "" && labels["domain"] == "" && shownRules()[labels["alertname"]] && !alert.InShadow(labels)
}
