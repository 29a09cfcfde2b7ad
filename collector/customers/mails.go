package customers

import (
	"fmt"
	"strings"
	"time"

	"bramble/alerting/alert"
)

// maxLines is how many alerts a mail names; the rest is a number.
const maxLines = 50

// askMail asks an address whether it wants mails. It has no word that a customer has chosen but the customer's name, which is
// the operator's.
func (b *Store) askMail(c Contact) alert.CustomerMail {
	text := fmt.Sprintf(`Somebody asked this collector to send alerts about the boards of %s to this address.

If you want them, open this page and press the button. It holds for %.0f hours:
%sown/contact/%s

If you do not, do nothing: no further mail comes. On the same page you can say that this address is never to be asked again.
`, c.Customer, confirmWithin.Hours(), b.URL, b.link(c))
	return alert.CustomerMail{ID: "customer-" + fresh(), Contact: c.ID, To: c.Address, Subject: "Confirm: alerts of " + c.Customer, Text: text}
}

// alertMail notifies a contact of alerts that fired or ended, and of the number of others.
func (b *Store) alertMail(c Contact, all []Alert, others int) alert.CustomerMail {
	var lines []string
	for _, a := range all {
		lines = append(lines, a.line())
	}
	subject := lines[0]
	if n := len(lines) + others; n > 1 {
		subject = fmt.Sprintf("%s, and %d more", lines[0], n-1)
	}
	more := ""
	if n := max(0, len(lines)-maxLines) + others; n > 0 {
		more = fmt.Sprintf("and %d more\n", n)
		lines = lines[:min(len(lines), maxLines)]
	}
	text := fmt.Sprintf("%s\n%s\nYour boards: %sown\nThese are thresholds that %s set. No more of these mails: %sown/contact/%s\n",
		strings.Join(lines, "\n"), more, b.URL, c.Customer, b.URL, b.link(c))
	return alert.CustomerMail{ID: "customer-" + fresh(), Contact: c.ID, To: c.Address, Subject: subject, Text: text}
}

// line is an alert in one line.
func (a Alert) line() string {
	what := map[string]string{
		"hot": fmt.Sprintf("SoC at %.1f °C", a.Value), "throttled": "the firmware throttles the clock", "under_voltage": "under-voltage",
		"silent": "no reports", "memory": fmt.Sprintf("%.0f MiB of memory available", a.Value/(1<<20)),
	}[a.Kind]
	line := fmt.Sprintf("%s: %s since %s", a.Board, what, utc(a.FiredAt))
	if a.EndedAt != 0 {
		line += ", over at " + utc(a.EndedAt)
	}
	return line
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05 UTC") }
