package customers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/registry"
	"bramble/storage/statedb"
)

// house is a Book on a real database, with an engine, whose mails are kept instead of sent.
type house struct {
	*Store
	t         *testing.T
	engine    *rules.Engine
	committed []alert.Transition
	mails     []alert.CustomerMail
	owners    map[string]string
}

func open(t *testing.T, limits Limits) *house {
	t.Helper()
	db, err := registry.OpenDB(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := statedb.Ready(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return openOn(t, db, limits)
}

func openOn(t *testing.T, db *sql.DB, limits Limits) *house {
	t.Helper()
	h := &house{t: t, engine: rules.NewEngine(nil), owners: map[string]string{"b1": "alder", "b2": "birch"}}
	var err error
	h.Store, err = Open(t.Context(), Options{
		DB: db, SetThresholds: h.engine.SetThresholds, EndStrayed: h.engine.EndStrayed,
		Commit: func(ts []alert.Transition) error {
			h.committed = append(h.committed, ts...)
			h.Deliver(ts)
			return nil
		},
		Post: h.post, CanMail: func() error { return nil },
		MailState: func(context.Context, string) (string, string, error) { return "", "", nil },
		Owner:     func(board string, _ int64) string { return h.owners[board] },
		URL:       "https://bramble.example.org/", Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) post(mails []alert.CustomerMail, also func(*sql.Conn) error) error {
	c, err := h.DB.Conn(context.Background())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	end := "COMMIT"
	if err = also(c); err != nil {
		end = "ROLLBACK"
	} else {
		h.mails = append(h.mails, mails...)
	}
	_, ended := c.ExecContext(context.Background(), end)
	return errors.Join(err, ended)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// refused wants an error of a kind with a text in it.
func (h *house) refused(err, kind error, text string) {
	h.t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
		h.t.Errorf("error %v, want %v with %q", err, kind, text)
	}
}

func (h *house) link(n int) string {
	h.t.Helper()
	_, rest, _ := strings.Cut(h.mails[n].Text, "own/contact/")
	link, _, _ := strings.Cut(rest, "\n")
	return link
}

// confirmed adds a contact that wants mails.
func (h *house) confirmed(customer, address string) {
	h.t.Helper()
	_, err := h.AddContact(h.t.Context(), customer, "kim", address)
	h.must(err)
	h.must(h.Confirm(h.t.Context(), h.link(len(h.mails)-1)))
}

func crossing(board, customer string, at int64, state alert.State) alert.Transition {
	t := alert.Transition{
		Rule: "r", Series: board, Customer: customer, Labels: map[string]string{"board": board, "alertname": "hot"},
		State: state, At: at, FiredAt: at, Value: 70,
	}
	if state == alert.Inactive {
		t.From, t.FiredAt, t.At = alert.Firing, at, at+1000
	}
	return t
}

var silent = rules.Threshold{Kind: "silent", KeepFiringFor: minKeep}

func TestThresholdsAreBoundedAndKept(t *testing.T) {
	ctx := t.Context()
	h := open(t, Limits{Contacts: 1, Thresholds: 2, Changes: 6, Confirmations: 1, Hourly: 1, Daily: 1})
	h.refused(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 29}), ErrBad, "30 to 110")
	h.refused(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 60}), ErrBad, "10s to 24h")
	h.refused(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 60, Board: "b2", KeepFiringFor: minKeep}), ErrNotFound, "no board of yours")
	h.must(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 60, Hysteresis: 2, For: time.Second, KeepFiringFor: time.Minute}))
	h.must(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 70, Board: "b1", KeepFiringFor: minKeep}))
	h.must(h.SetThreshold(ctx, "alder", "kim", rules.Threshold{Kind: "hot", Value: 71, Board: "b1", KeepFiringFor: minKeep})) // replaces it
	h.refused(h.SetThreshold(ctx, "alder", "kim", silent), ErrBad, "2 thresholds are the most")
	h.refused(h.RemoveThreshold(ctx, "birch", "bea", "hot", "b1"), ErrNotFound, "no threshold")
	again := openOn(t, h.DB, h.Limits)
	for _, h := range []*house{h, again} {
		all, err := h.Thresholds(ctx, "alder")
		if want := "[{hot  60 2 1s 1m0s} {hot b1 71 0 0s 10s}]"; err != nil || fmt.Sprint(all) != want {
			t.Errorf("%v, %v; want %s", all, err, want)
		}
	}
	h.must(h.RemoveThreshold(ctx, "alder", "kim", "hot", "b1"))
	h.must(h.RemoveThreshold(ctx, "alder", "kim", "hot", ""))
	h.must(h.SetThreshold(ctx, "alder", "kim", silent))
	h.refused(h.SetThreshold(ctx, "alder", "kim", silent), ErrTooOften, "next is possible at")
	h.must(h.SetThreshold(ctx, "birch", "bea", silent)) // birch has a count of its own
	reg, err := registry.Open(ctx, h.DB)
	h.must(err)
	events, err := reg.Events(ctx, 100)
	if err != nil || len(events) != 7 || events[0].Actor != "bea" || events[0].Action != "set threshold" {
		t.Errorf("audit: %+v, %v", events, err)
	}
}

func TestAnAddressIsAskedAndNotPestered(t *testing.T) {
	ctx := t.Context()
	h := open(t, Limits{Contacts: 2, Thresholds: 1, Changes: 100, Confirmations: 4, Hourly: 9, Daily: 9})
	c, err := h.AddContact(ctx, "alder", "kim", " ops@Example.ORG ")
	h.must(err)
	if c.Address != "ops@example.org" || len(h.mails) != 1 || h.mails[0].To != c.Address {
		t.Fatalf("%+v, %+v", c, h.mails)
	}
	_, err = h.AddContact(ctx, "alder", "kim", "ops@example.org")
	h.refused(err, ErrBad, "already")
	h.refused(h.AskAgain(ctx, "birch", "bea", c.ID), ErrNotFound, "of yours")
	h.refused(h.RemoveContact(ctx, "birch", "bea", c.ID), ErrNotFound, "of yours")
	h.must(h.AskAgain(ctx, "alder", "kim", c.ID))
	_, err = h.AddContact(ctx, "birch", "bea", "OPS@example.org") // the same mailbox, asked by another
	h.must(err)
	_, err = h.AddContact(ctx, "cedar", "cy", "ops@example.org")
	h.refused(err, ErrTooOften, "within 24h0m0s")
	_, err = h.AddContact(ctx, "alder", "kim", "b@example.org")
	h.must(err)
	_, err = h.AddContact(ctx, "alder", "kim", "c@example.org")
	h.refused(err, ErrBad, "2 contacts are the most")
	for _, forged := range []string{"", c.ID, c.ID + ".", c.ID + ".AAAA", h.link(0) + "x", strings.ToUpper(h.link(0)), h.link(0)[1:], strings.Repeat("a.", 200)} {
		if _, err := h.Linked(ctx, forged); !errors.Is(err, ErrNotFound) {
			t.Errorf("link %.40q holds: %v", forged, err)
		}
	}
	h.must(h.Refuse(ctx, h.link(0)))
	_, err = h.AddContact(ctx, "dogwood", "di", "Ops@example.org")
	h.refused(err, ErrBad, "wants no mail")
	h.must(Allow(ctx, h.DB, "operator", "ops@example.org"))
	h.refused(Allow(ctx, h.DB, "operator", "ops@example.org"), ErrNotFound, "has not refused")
	if _, err := h.Linked(ctx, h.link(0)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the link of a contact that is gone: %v", err)
	}
	_, err = h.DB.Exec(`UPDATE customer_contact SET asked_at = asked_at - ?`, (confirmWithin + hour).Milliseconds())
	h.must(err)
	h.refused(h.Confirm(ctx, h.link(2)), ErrNotFound, "expired")
	h.must(h.AskAgain(ctx, "alder", "kim", mustContacts(h, "alder")[0].ID)) // the fourth of the hour
	h.refused(h.AskAgain(ctx, "alder", "kim", mustContacts(h, "alder")[0].ID), ErrTooOften, "4 within 1h0m0s")
}

func mustContacts(h *house, customer string) []Contact {
	h.t.Helper()
	all, err := h.Contacts(h.t.Context(), customer)
	h.must(err)
	return all
}

// A replay of the journal notifies nobody twice, and each customer is notified of the own boards
// alone.
func TestAlertsAreNotifiedOnce(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	h := open(t, Limits{Contacts: 5, Thresholds: 5, Changes: 50, Confirmations: 50, Hourly: 50, Daily: 50})
	h.confirmed("alder", "a@example.org")
	h.confirmed("birch", "b@example.org")
	_, err := h.AddContact(ctx, "alder", "kim", "unasked@example.org")
	h.must(err)
	asked := len(h.mails)
	at := now.UnixMilli()
	fired := []alert.Transition{crossing("b1", "alder", at, alert.Firing), crossing("b2", "birch", at+1, alert.Firing)}
	h.Deliver(fired)
	h.must(h.Settle())
	again := openOn(t, h.DB, h.Limits) // killed before anybody was notified
	again.Deliver(fired)               // and the journal replayed
	again.must(again.Settle())
	again.must(again.notify(ctx, now))
	again.must(again.notify(ctx, now))
	if len(again.mails) != 2 || asked != 3 {
		t.Fatalf("mails %+v", again.mails)
	}
	for _, m := range again.mails {
		board := map[string]string{"a@example.org": "b1", "b@example.org": "b2"}[m.To]
		if board == "" || !strings.HasPrefix(m.Subject, board+": SoC at 70.0 °C") || strings.Contains(m.Text, "b1:") == (board == "b2") {
			t.Errorf("mail %+v", m)
		}
	}
	again.Deliver([]alert.Transition{crossing("b1", "alder", at, alert.Inactive), fired[0]})
	again.must(again.Settle())
	again.must(again.notify(ctx, now))
	if len(again.mails) != 3 || !strings.Contains(again.mails[2].Text, "over at") {
		t.Errorf("mails %+v", again.mails)
	}
}

// Alerts beyond the limits are counted, and one mail covers all of them.
func TestAlertsBeyondTheLimitAreBundled(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	h := open(t, Limits{Contacts: 1, Thresholds: 5, Changes: 50, Confirmations: 50, Hourly: 2, Daily: 3})
	h.confirmed("alder", "a@example.org")
	fire := func(at time.Time) {
		h.Deliver([]alert.Transition{crossing("b1", "alder", at.UnixMilli(), alert.Firing)})
		h.must(h.Settle())
		h.must(h.notify(ctx, at))
	}
	for i := range 5 {
		fire(now.Add(time.Duration(i) * time.Millisecond))
	}
	if len(h.mails) != 3 { // one to confirm, two alerts
		t.Fatalf("%d mails", len(h.mails))
	}
	n, until, err := h.Waiting(ctx, "alder")
	if err != nil || n != 3 || until.Before(now.Add(59*time.Minute)) || until.After(now.Add(61*time.Minute)) {
		t.Errorf("%d wait until %v, %v", n, until, err)
	}
	later := now.Add(time.Hour + time.Second)
	h.must(h.notify(ctx, later))
	if len(h.mails) != 4 || !strings.Contains(h.mails[3].Subject, "and 2 more") || strings.Count(h.mails[3].Text, "b1: SoC") != 3 {
		t.Errorf("mails %+v", h.mails[3:])
	}
	for i := range keepOfOne { // and the alerts of a hostile board have a bound
		at := later.Add(time.Duration(i+2) * time.Millisecond).UnixMilli()
		h.Deliver([]alert.Transition{crossing("b1", "alder", at, alert.Firing), crossing("b1", "alder", at, alert.Inactive)})
	}
	h.must(h.Settle())
	fire(later.Add(time.Minute)) // the day's limit
	if len(h.mails) != 4 {
		t.Errorf("beyond the day's limit: %+v", h.mails[4:])
	}
	h.must(h.notify(ctx, now.Add(day+time.Minute)))
	if len(h.mails) != 5 || !strings.Contains(h.mails[4].Text, "and 4951 more") || len(h.mails[4].Text) > 10_000 {
		t.Errorf("a day later %d mails, the last is %.400s", len(h.mails), h.mails[len(h.mails)-1].Text)
	}
	h.must(h.tidy(ctx, now))
	var left int
	h.must(h.DB.QueryRow(`SELECT count(*) FROM customer_alert`).Scan(&left))
	if left < keepOfOne || left > keepOfOne+10 {
		t.Errorf("%d alerts are kept", left)
	}
}

// A board that went to another customer causes no mail to the old one.
func TestAReRentedBoardNotifiesItsLastCustomerOfNothing(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	h := open(t, DefaultLimits)
	h.confirmed("alder", "a@example.org")
	h.Deliver([]alert.Transition{crossing("b1", "alder", now.UnixMilli(), alert.Firing)})
	h.must(h.Settle())
	h.must(h.notify(ctx, now))
	h.owners["b1"] = "birch"
	h.Deliver([]alert.Transition{crossing("b1", "alder", now.UnixMilli(), alert.Inactive), crossing("b1", "alder", now.UnixMilli()+5, alert.Firing)})
	h.must(h.Settle())
	h.must(h.notify(ctx, now))
	if len(h.mails) != 2 {
		t.Errorf("mails %+v", h.mails)
	}
	if n, _, err := h.Waiting(ctx, "alder"); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"ops@example.org", "a.b+c@x-y.example", "{{.X}}@example.org", "a@b", "a@example.org,b@example.org", "A <a@example.org>", "a@example.org\r\nBcc: b@example.org", `"a b"@example.org`, "a@[10.0.0.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAddress(s)
		if err == nil && (strings.ContainsAny(got, " \t\r\n{}<>,;:\"()[]\\`%|") || strings.Count(got, "@") != 1 || len(got) > 254) {
			t.Errorf("%q is taken as %q", s, got)
		}
	})
}
