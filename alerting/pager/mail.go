package pager

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

// CanMail says why no mail can be sent to an address that no receiver names; nil where it can.
func (p *Pager) CanMail() error {
	return p.routing.Load().set.CanMail()
}

// SendMail sends a mail once, as receivers.Set.SendMail does.
func (p *Pager) SendMail(ctx context.Context, to, receiver string, m receivers.Mail) error {
	return p.routing.Load().set.SendMail(ctx, to, receiver, m)
}

// PostToCustomers journals mails, together with the writes of also, and returns once both are on disk; the mails follow from
// there. also may run more than once.
func (p *Pager) PostToCustomers(mails []alert.CustomerMail, also func(*sql.Conn) error) error {
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
	err := p.commits.Do(func(c *sql.Conn) error {
		for _, l := range messages {
			if err := l.Insert(context.Background(), c, "waiting"); err != nil {
				return err
			}
		}
		return also(c)
	})
	if err == nil {
		p.customerOutbox.Add(messages)
	}
	return err
}

// takeCustomerMail finds the customers' mails among the messages that waited when an earlier pager ended.
func (p *Pager) takeCustomerMail(messages []*outbox.Message) (operator []*outbox.Message) {
	var customers []*outbox.Message
	for _, l := range messages {
		if l.Receiver == alert.Customers {
			customers = append(customers, l)
		} else {
			operator = append(operator, l)
		}
	}
	p.customerOutbox.Add(customers)
	return operator
}

// tryCustomer sends a mail once and records the outcome, as try does for pages.
func (p *Pager) tryCustomer(ctx context.Context, l *outbox.Message) {
	err := errFault
	p.faults.guard("send mail to a customer", func() { err = p.sendToCustomer(ctx, l) })
	if err != nil && ctx.Err() != nil {
		p.customerOutbox.Settle(l, false)
		return
	}
	l.Attempts++
	now := time.Now()
	state, answer, leftAt := "delivered", "accepted", now.UnixMilli()
	if err != nil {
		state, answer, leftAt = "waiting", err.Error(), 0
		l.NextAt = now.Add(outbox.Backoff(l.Attempts, outbox.MaxBackoff)).UnixMilli()
		if refusedForGood(err) && l.Attempts >= addressRefusals || now.Sub(time.UnixMilli(l.CreatedAt)) > giveUpAfter {
			state = "failed"
			p.log.Warn("mail to a customer given up", "page", l.ID, "contact", l.GroupKey, "attempts", l.Attempts, "err", err)
		}
	}
	p.metrics.tries.WithLabelValues(alert.Customers, state).Inc()
	for range 3 {
		err = p.commits.Do(func(c *sql.Conn) error {
			_, err := c.ExecContext(context.Background(), `UPDATE page SET state = ?, attempts = ?, next_at = ?, answer = ?, left_at = ? WHERE id = ?`,
				state, l.Attempts, l.NextAt, answer[:min(len(answer), outbox.MaxAnswer)], leftAt, l.ID)
			return err
		})
		if err == nil {
			break
		}
		p.log.Error("record a mail to a customer", "page", l.ID, "state", state, "err", err)
	}
	p.customerOutbox.Settle(l, state != "waiting")
}

// addressRefusals is how many answers that say "never" end a mail to a customer: more to an address that is gone would harm the
// operator's name as a sender.
const addressRefusals = 5

// refusedForGood reports an answer of the mail server's that says "never" (5xx), but for a refusal of the operator's own login
// (RFC 4954: 530 to 538), which is mended some time.
func refusedForGood(err error) bool {
	var reply *textproto.Error
	return errors.As(err, &reply) && reply.Code >= 500 && (reply.Code < 530 || reply.Code > 538)
}

func (p *Pager) sendToCustomer(ctx context.Context, l *outbox.Message) error {
	var m alert.CustomerMail
	if err := json.Unmarshal(l.Payload, &m); err != nil {
		return fmt.Errorf("decode mail %s: %w", l.ID, err)
	}
	host := p.externalURL.Hostname()
	if host == "" {
		host = "bramble.invalid"
	}
	return p.SendMail(ctx, m.To, "", receivers.Mail{Subject: m.Subject, Text: m.Text, ID: "<" + l.ID + "@" + host + ">"})
}

// CustomerMailState is how the last mail to a contact stands: a state of Page, "" where there was none.
func (p *Pager) CustomerMailState(ctx context.Context, contact string) (state, answer string, err error) {
	row := p.db.QueryRowContext(ctx, `SELECT state, answer FROM page WHERE receiver = '(customers)' AND group_key = ? ORDER BY seq DESC LIMIT 1`, contact)
	if err = row.Scan(&state, &answer); errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, answer, err
}
