package pager

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/textproto"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

// CustomerMails are the mails to customers. They leave beside the pages and never before them. All methods are safe for concurrent use.
type CustomerMails struct {
	db      *sql.DB
	commits *database.Writer
	log     *slog.Logger
	tries   *prometheus.CounterVec
	host    string // for the mails' IDs
	outbox  *outbox.Queue
	routing func() *routing
}

// CanMail says why no mail can be sent to an address that no receiver names; nil where it can.
func (c *CustomerMails) CanMail() error { return c.routing().set.CanMail() }

// Post journals mails, together with the writes of also, and returns once both are on disk; the mails follow from there. also may run
// more than once.
func (c *CustomerMails) Post(mails []alert.CustomerMail, also func(*sql.Conn) error) error {
	now := time.Now().UnixMilli()
	var messages []*outbox.Message
	for _, m := range mails {
		payload, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode mail to a customer: %w", err)
		}
		messages = append(messages, &outbox.Message{
			ID: m.ID, Receiver: alert.Customers, Integration: receivers.MailName, GroupKey: m.Contact, Payload: payload, CreatedAt: now, NextAt: now,
		})
	}
	err := c.commits.Do(func(conn *sql.Conn) error {
		for _, l := range messages {
			if err := l.Insert(context.Background(), conn, "waiting"); err != nil {
				return err
			}
		}
		return also(conn)
	})
	if err == nil {
		c.outbox.Add(messages)
	}
	return err
}

// take takes the customers' mails out of the messages that waited when an earlier pager ended.
func (c *CustomerMails) take(messages []*outbox.Message) (others []*outbox.Message) {
	var mails []*outbox.Message
	for _, l := range messages {
		if l.Kind() == alert.ToCustomers {
			mails = append(mails, l)
		} else {
			others = append(others, l)
		}
	}
	c.outbox.Add(mails)
	return others
}

// over holds for no mail: each is about the past.
func (c *CustomerMails) over(context.Context, *outbox.Message) bool { return false }

func (c *CustomerMails) backoff(l *outbox.Message) time.Duration {
	return outbox.Backoff(l.Attempts, outbox.MaxBackoff)
}

func (c *CustomerMails) givenUp(_ context.Context, l *outbox.Message, err error, now time.Time) bool {
	return refusedForGood(err) && l.Attempts >= addressRefusals || now.Sub(time.UnixMilli(l.CreatedAt)) > giveUpAfter
}

func (c *CustomerMails) tried(l *outbox.Message, state, _ string, err error, _ time.Time) {
	c.tries.WithLabelValues(alert.Customers, state).Inc()
	if state == "failed" {
		c.log.Warn("mail to a customer given up", "page", l.ID, "contact", l.GroupKey, "attempts", l.Attempts, "err", err)
	}
}

func (c *CustomerMails) settled(*outbox.Message, string) {}

// addressRefusals is how many answers that say "never" end a mail to a customer: more to an address that is gone would harm the
// operator's name as a sender.
const addressRefusals = 5

// refusedForGood reports an answer of the mail server's that says "never" (5xx), but for a refusal of the operator's own login
// (RFC 4954: 530 to 538), which is mended some time.
func refusedForGood(err error) bool {
	var reply *textproto.Error
	return errors.As(err, &reply) && reply.Code >= 500 && (reply.Code < 530 || reply.Code > 538)
}

func (c *CustomerMails) send(ctx context.Context, l *outbox.Message) (retry bool, err error) {
	var m alert.CustomerMail
	if err := json.Unmarshal(l.Payload, &m); err != nil {
		return false, fmt.Errorf("decode mail %s: %w", l.ID, err)
	}
	return true, c.routing().set.SendMail(ctx, m.To, "", receivers.Mail{Subject: m.Subject, Text: m.Text, ID: "<" + l.ID + "@" + c.host + ">"})
}

// State is how the last mail to a contact stands: a state of Page, "" where there was none.
func (c *CustomerMails) State(ctx context.Context, contact string) (state, answer string, err error) {
	row := c.db.QueryRowContext(ctx, `SELECT state, answer FROM page WHERE receiver = '(customers)' AND group_key = ? ORDER BY seq DESC LIMIT 1`, contact)
	if err = row.Scan(&state, &answer); errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, answer, err
}
