package alerting

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"time"

	"bramble/alerting/alert"
)

// customerSchema finds the mails of one contact.
const customerSchema = `
CREATE INDEX IF NOT EXISTS page_customer ON page (group_key, seq) WHERE receiver = '(customers)';
`

// CustomerMail is one mail to one address of a customer's.
type CustomerMail struct {
	ID      string // of the page in the journal, unlike any other
	Contact string // mails to one contact leave in order
	To      string // an address alone; no template, and nothing that one could be made of
	Subject string
	Text    string
}

// CanMail says why no mail can be sent to an address that no receiver names; nil where it can.
func (p *Pager) CanMail() error {
	_, err := p.mailConfigs("nobody@example.org", "")
	return err
}

// PostToCustomers journals mails, together with what also writes, and returns once both are on disk; the mails follow from
// there. also may run more than once.
func (p *Pager) PostToCustomers(mails []CustomerMail, also func(*sql.Conn) error) error {
	now := time.Now().UnixMilli()
	var letters []*letter
	for _, m := range mails {
		payload, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode mail to a customer: %w", err)
		}
		letters = append(letters, &letter{
			id: m.ID, receiver: alert.Customers, integration: mailName, groupKey: m.Contact, payload: payload, createdAt: now, nextAt: now,
		})
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		for _, l := range letters {
			if err := l.insert(context.Background(), c, "waiting"); err != nil {
				return err
			}
		}
		return also(c)
	})
	if err == nil {
		p.customerMail.add(letters)
	}
	return err
}

// takeCustomerMail parts what waited when an earlier pager ended.
func (p *Pager) takeCustomerMail(letters []*letter) (operator []*letter) {
	var customers []*letter
	for _, l := range letters {
		if l.receiver == alert.Customers {
			customers = append(customers, l)
		} else {
			operator = append(operator, l)
		}
	}
	p.customerMail.add(customers)
	return operator
}

// tryCustomer sends a mail once and records what came of it, as try does for pages.
func (p *Pager) tryCustomer(ctx context.Context, l *letter) {
	err := errFault
	p.faults.guard("send mail to a customer", func() { err = p.sendToCustomer(ctx, l) })
	if err != nil && ctx.Err() != nil {
		p.customerMail.settle(l, false)
		return
	}
	l.attempts++
	now := time.Now()
	state, answer, leftAt := "delivered", "accepted", now.UnixMilli()
	if err != nil {
		state, answer, leftAt = "waiting", err.Error(), 0
		l.nextAt = now.Add(backoff(l.attempts, maxBackoff)).UnixMilli()
		if refusedForGood(err) && l.attempts >= addressRefusals || now.Sub(time.UnixMilli(l.createdAt)) > giveUpAfter {
			state = "failed"
			p.log.Warn("mail to a customer given up", "page", l.id, "contact", l.groupKey, "attempts", l.attempts, "err", err)
		}
	}
	p.metrics.tries.WithLabelValues(alert.Customers, state).Inc()
	for range 3 {
		err = p.commits.Do(func(c *sql.Conn) error {
			_, err := c.ExecContext(context.Background(), `UPDATE page SET state = ?, attempts = ?, next_at = ?, answer = ?, left_at = ? WHERE id = ?`,
				state, l.attempts, l.nextAt, answer[:min(len(answer), maxAnswer)], leftAt, l.id)
			return err
		})
		if err == nil {
			break
		}
		p.log.Error("record a mail to a customer", "page", l.id, "state", state, "err", err)
	}
	p.customerMail.settle(l, state != "waiting")
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

func (p *Pager) sendToCustomer(ctx context.Context, l *letter) error {
	var m CustomerMail
	if err := json.Unmarshal(l.payload, &m); err != nil {
		return fmt.Errorf("decode mail %s: %w", l.id, err)
	}
	host := p.externalURL.Hostname()
	if host == "" {
		host = "bramble.invalid"
	}
	return p.SendMail(ctx, m.To, "", Mail{Subject: m.Subject, Text: m.Text, ID: "<" + l.id + "@" + host + ">"})
}

// CustomerMailState is how the last mail to a contact stands: a state of Page, "" where there was none.
func (p *Pager) CustomerMailState(ctx context.Context, contact string) (state, answer string, err error) {
	row := p.db.QueryRowContext(ctx, `SELECT state, answer FROM page WHERE receiver = '(customers)' AND group_key = ? ORDER BY seq DESC LIMIT 1`, contact)
	if err = row.Scan(&state, &answer); errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, answer, err
}
