package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/customers"
	"bramble/dashboards"
)

// openCustomers puts in force what customers have set, before the journal is replayed.
func (a *app) openCustomers(ctx context.Context) (err error) {
	a.customers, err = customers.Open(ctx, customers.Options{
		DB: a.db, SetThresholds: a.engine.SetThresholds, EndStrayed: a.engine.EndStrayed,
		Commit: func(ts []alert.Transition) error { return a.ingest.Commit(ts) },
		Post:   a.pager.PostToCustomers, CanMail: a.pager.CanMail, MailState: a.pager.CustomerMailState,
		Owner: a.owner, URL: strings.TrimSuffix(a.url(), "/") + "/", Limits: a.config.Customers, Log: a.log,
	})
	return err
}

func (a *app) owner(board string, at int64) string {
	customer, _ := a.tenancy(board, at)
	return customer
}

// deliver parts what customers hear of from what operators do.
func (a *app) deliver(ts []alert.Transition) {
	operator, theirs := rules.SplitCustomers(ts)
	a.domains.Deliver(operator)
	a.customers.Deliver(theirs)
}

// settleAlerts returns when all that was delivered is in the database.
func (a *app) settleAlerts() error { return errors.Join(a.domains.Settle(), a.customers.Settle()) }

// ownSettings lets customers set what they hear of.
func (a *app) ownSettings() *dashboards.OwnSettings {
	return &dashboards.OwnSettings{
		Get: a.ownBook,
		SetThreshold: func(ctx context.Context, customer, who string, t rules.Threshold) error {
			return ownError(a.customers.SetThreshold(ctx, customer, who, t))
		},
		RemoveThreshold: func(ctx context.Context, customer, who, kind, board string) error {
			return ownError(a.customers.RemoveThreshold(ctx, customer, who, kind, board))
		},
		AddContact: func(ctx context.Context, customer, who, address string) error {
			_, err := a.customers.AddContact(ctx, customer, who, address)
			return ownError(err)
		},
		AskContact: func(ctx context.Context, customer, who, id string) error {
			return ownError(a.customers.AskAgain(ctx, customer, who, id))
		},
		RemoveContact: func(ctx context.Context, customer, who, id string) error {
			return ownError(a.customers.RemoveContact(ctx, customer, who, id))
		},
		Linked: func(ctx context.Context, link string) (dashboards.OwnContact, error) {
			c, err := a.customers.Linked(ctx, link)
			return contactView(c), ownError(err)
		},
		Answer: func(ctx context.Context, link string, want bool) error {
			if want {
				return ownError(a.customers.Confirm(ctx, link))
			}
			return ownError(a.customers.Refuse(ctx, link))
		},
	}
}

// ownError names errors of the customers' room as the pages know them.
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

// ownBook is what a customer has set.
func (a *app) ownBook(ctx context.Context, customer string) (dashboards.OwnBook, error) {
	l := a.config.Customers
	book := dashboards.OwnBook{
		Customer: customer, Thresholds: []dashboards.OwnThreshold{}, Contacts: []dashboards.OwnContact{}, Mail: a.pager.CanMail() == nil,
		Limits: map[string]int{"contacts": l.Contacts, "thresholds": l.Thresholds, "changesAnHour": l.Changes, "confirmationsAnHour": l.Confirmations, "mailsAnHour": l.Hourly, "mailsADay": l.Daily},
	}
	for _, k := range rules.ThresholdKinds {
		book.Kinds = append(book.Kinds, dashboards.OwnKind{Name: k.Name, Fixed: k.Fixed, Min: k.Min, Max: k.Max, MaxHysteresis: k.MaxHysteresis})
	}
	set, err := a.customers.Thresholds(ctx, customer)
	if err != nil {
		return book, err
	}
	for _, t := range set {
		book.Thresholds = append(book.Thresholds, dashboards.OwnThresholdOf(t))
	}
	contacts, err := a.customers.Contacts(ctx, customer)
	if err != nil {
		return book, err
	}
	for _, c := range contacts {
		book.Contacts = append(book.Contacts, contactView(c))
	}
	n, until, err := a.customers.Waiting(ctx, customer)
	if book.Waiting = n; !until.IsZero() {
		book.WaitingUntil = until.UnixMilli()
	}
	return book, err
}

// ownThresholdAlerts are the alerts of a customer's thresholds, of the time in which the boards are theirs.
func (a *app) ownThresholdAlerts(ctx context.Context, customer string, now time.Time) (out []dashboards.OwnAlert, err error) {
	all, err := a.customers.Alerts(ctx, customer, now.Add(-ownAlertsBack))
	for _, one := range all {
		if c, since := a.tenancy(one.Board, now.UnixMilli()); c == customer && one.FiredAt >= since {
			out = append(out, dashboards.OwnAlert{Board: one.Board, Name: one.Kind, Since: one.FiredAt, Until: one.EndedAt, Threshold: true})
		}
	}
	return out, err
}

// customerCounts lists who has boards or has set something.
func (a *app) customerCounts(ctx context.Context) ([]dashboards.OwnCount, error) {
	set, err := customers.Counts(ctx, a.db)
	if err != nil {
		return nil, err
	}
	boards := a.registry.CustomerNames(time.Now().UnixMilli())
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
