package customers

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/statedb"
)

// confirmWithin is how long a link to confirm holds.
const confirmWithin = 48 * hour

// mailAddress is an address that is nothing else: no name, no second one, no comment, and none of the characters of which
// templates and headers are made. RFC 5321 allows more; nobody has it.
var mailAddress = regexp.MustCompile(`^[A-Za-z0-9!#$&'*+/=?^_~-]+(\.[A-Za-z0-9!#$&'*+/=?^_~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]$`)

// ParseAddress returns an address in the form in which it is kept.
func ParseAddress(text string) (string, error) {
	text = strings.TrimSpace(text)
	local, host, _ := strings.Cut(text, "@")
	if len(text) > 254 || len(local) > 64 || !mailAddress.MatchString(text) {
		return "", fmt.Errorf("%w: address %.80q: write one mail address, such as ops@example.org", ErrBad, text)
	}
	return local + "@" + strings.ToLower(host), nil
}

// Contact is an address that gets mails about a customer's alerts, or was asked to confirm.
type Contact struct {
	ID, Customer, Address  string
	AddedAt, AskedAt       time.Time
	Confirmed              bool
	MailState, MailMessage string // of the last mail to it; see incident.Page
}

// AddContact asks an address whether it wants mails. None but that goes there before it says so.
func (b *Store) AddContact(ctx context.Context, customer, who, text string) (Contact, error) {
	address, err := ParseAddress(text)
	if err != nil {
		return Contact{}, err
	}
	b.change.Lock()
	defer b.change.Unlock()
	now := time.Now()
	c := Contact{ID: fresh(), Customer: customer, Address: address, AddedAt: now, AskedAt: now}
	all, err := b.Contacts(ctx, customer)
	if err != nil {
		return c, err
	}
	for _, have := range all {
		if have.Address == address {
			return c, fmt.Errorf("%w: %s is a contact of yours already", ErrBad, address)
		}
	}
	if len(all) >= b.Limits.Contacts {
		return c, fmt.Errorf("%w: %d contacts are the most: remove one", ErrBad, b.Limits.Contacts)
	}
	return c, b.ask(ctx, c, now, func(db execer) error {
		if err := spend(ctx, db, customer, aChange, b.Limits.Changes, hour, now); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, `INSERT INTO customer_contact (id, customer, address, added_by, added_at, asked_at) VALUES (?, ?, ?, ?, ?, ?)`,
			c.ID, customer, address, who, now.UnixMilli(), now.UnixMilli()); err != nil {
			return fmt.Errorf("write contact: %w", err)
		}
		return note(ctx, db, who, "add contact", customer, address)
	})
}

// AskAgain sends the mail to confirm once more.
func (b *Store) AskAgain(ctx context.Context, customer, who, id string) error {
	b.change.Lock()
	defer b.change.Unlock()
	c, err := b.contact(ctx, id)
	switch {
	case err != nil:
		return err
	case c.Customer != customer:
		return fmt.Errorf("%w: no contact %.40q of yours", ErrNotFound, id)
	case c.Confirmed:
		return fmt.Errorf("%w: %s has confirmed already", ErrBad, c.Address)
	}
	now := time.Now()
	return b.ask(ctx, c, now, func(db execer) error {
		_, err := db.ExecContext(ctx, `UPDATE customer_contact SET asked_at = ? WHERE id = ?`, now.UnixMilli(), id)
		return errors.Join(err, note(ctx, db, who, "ask contact again", customer, c.Address))
	})
}

// ask journals the mail to confirm, in one transaction with the writes of also. The caller holds b.change.
func (b *Store) ask(ctx context.Context, c Contact, now time.Time, also func(execer) error) error {
	if err := b.CanMail(); err != nil {
		return fmt.Errorf("%w: this collector sends no mail: ask its operator", ErrBad)
	}
	key := addressKey(c.Address)
	var refused bool
	if err := b.DB.QueryRowContext(ctx, `SELECT count(*) > 0 FROM customer_refusal WHERE address = ?`, key).Scan(&refused); err != nil {
		return fmt.Errorf("read refusals: %w", err)
	}
	if refused {
		return fmt.Errorf("%w: the reader of %s wants no mail of this collector: use another address, or ask the operator", ErrBad, c.Address)
	}
	mail := b.askMail(c)
	return b.Post([]alert.CustomerMail{mail}, func(conn *sql.Conn) error {
		err := spend(ctx, conn, c.Customer, anAsk, b.Limits.Confirmations, hour, now)
		if err == nil {
			err = spend(ctx, conn, "address "+hex.EncodeToString(key), anAsk, asksAnAddress, day, now)
		}
		if err == nil {
			err = also(conn)
		}
		return err
	})
}

// RemoveContact forgets an address; no mail leaves for it any more.
func (b *Store) RemoveContact(ctx context.Context, customer, who, id string) error {
	b.change.Lock()
	defer b.change.Unlock()
	return b.within(ctx, func(tx *sql.Tx) error {
		if err := spend(ctx, tx, customer, aChange, b.Limits.Changes, hour, time.Now()); err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `DELETE FROM customer_contact WHERE id = ? AND customer = ?`, id, customer)
		if err != nil {
			return fmt.Errorf("remove contact: %w", err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("%w: no contact %.40q of yours", ErrNotFound, id)
		}
		return note(ctx, tx, who, "remove contact", customer, id)
	})
}

const contactColumns = `SELECT id, customer, address, added_at, asked_at, confirmed_at > 0 FROM customer_contact `

func scanContact(scan func(...any) error) (c Contact, err error) {
	var added, asked int64
	err = scan(&c.ID, &c.Customer, &c.Address, &added, &asked, &c.Confirmed)
	c.AddedAt, c.AskedAt = time.UnixMilli(added), time.UnixMilli(asked)
	return c, err
}

func (b *Store) contact(ctx context.Context, id string) (Contact, error) {
	c, err := scanContact(b.DB.QueryRowContext(ctx, contactColumns+`WHERE id = ?`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("%w: no contact %.40q of yours", ErrNotFound, id)
	}
	return c, err
}

func (b *Store) contactsOf(ctx context.Context, customer string) ([]Contact, error) {
	all, err := statedb.All(ctx, b.DB, func(row *sql.Rows) (Contact, error) { return scanContact(row.Scan) },
		contactColumns+`WHERE customer = ? ORDER BY added_at, id`, customer)
	if err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	return all, nil
}

// Contacts lists those of a customer, with how the last mail to each stands.
func (b *Store) Contacts(ctx context.Context, customer string) ([]Contact, error) {
	all, err := b.contactsOf(ctx, customer)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].MailState, all[i].MailMessage, err = b.MailState(ctx, all[i].ID); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Linked returns the contact that a link in a mail is about. The error wraps ErrNotFound for a link that is not valid.
func (b *Store) Linked(ctx context.Context, link string) (Contact, error) {
	id, _, ok := strings.Cut(link, ".")
	if !ok || len(link) > 100 {
		return Contact{}, fmt.Errorf("%w: the link is not complete", ErrNotFound)
	}
	c, err := b.contact(ctx, id)
	if err != nil {
		return c, err
	}
	if !hmac.Equal([]byte(link), []byte(b.link(c))) {
		return Contact{}, fmt.Errorf("%w: the link is not one of this collector's", ErrNotFound)
	}
	if !c.Confirmed && time.Since(c.AskedAt) > confirmWithin {
		return Contact{}, fmt.Errorf("%w: the link has expired: it held for %s", ErrNotFound, confirmWithin)
	}
	return c, nil
}

// link is a contact's secret name: only the reader of its mails knows it.
func (b *Store) link(c Contact) string {
	mac := hmac.New(sha256.New, b.key)
	fmt.Fprintf(mac, "contact\x00%s\x00%s\x00%s", c.ID, c.Customer, c.Address)
	return c.ID + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// Confirm lets mails go to the contact of a link.
func (b *Store) Confirm(ctx context.Context, link string) error {
	b.change.Lock()
	defer b.change.Unlock()
	c, err := b.Linked(ctx, link)
	if err != nil || c.Confirmed {
		return err
	}
	return b.within(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE customer_contact SET confirmed_at = ? WHERE id = ?`, time.Now().UnixMilli(), c.ID)
		return errors.Join(err, note(ctx, tx, "link to "+c.Address, "confirm contact", c.Customer, c.Address))
	})
}

// Refuse removes the contact of a link. An address that never confirmed is not asked again, by no customer.
func (b *Store) Refuse(ctx context.Context, link string) error {
	b.change.Lock()
	defer b.change.Unlock()
	c, err := b.Linked(ctx, link)
	if err != nil {
		return err
	}
	return b.within(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM customer_contact WHERE id = ?`, c.ID)
		if err == nil && !c.Confirmed {
			_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO customer_refusal VALUES (?, ?)`, addressKey(c.Address), time.Now().UnixMilli())
		}
		return errors.Join(err, note(ctx, tx, "link to "+c.Address, "refuse mails", c.Customer, c.Address))
	})
}

func addressKey(address string) []byte {
	sum := sha256.Sum256([]byte(strings.ToLower(address)))
	return sum[:]
}

// fresh is an identifier that nobody guesses.
func fresh() string {
	b := make([]byte, 10)
	_, _ = rand.Read(b) // crypto/rand never fails
	return hex.EncodeToString(b)
}
