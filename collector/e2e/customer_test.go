package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/dashboards"
	"bramble/pisensor/report"
)

// as asks with another token.
func (s *server) as(token, method, path, body string) (int, string) {
	s.t.Helper()
	mine := *s
	mine.bearer = token
	code, b, err := mine.request(method, path, []byte(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return code, string(b)
}

// ownTemperatures are the readings that a customer gets of a board.
func (s *server) ownTemperatures(token, board string, step int) (values []float64, err error) {
	s.t.Helper()
	now := time.Now()
	code, body := s.as(token, http.MethodGet, fmt.Sprintf("api/own/boards/%s/history?metric=pi_soc_temperature_celsius&start=%d&end=%d&step=%d",
		board, now.Add(-3*time.Hour).UnixMilli(), now.Add(time.Minute).UnixMilli(), step), "")
	var got struct{ Spans []dashboards.Span }
	if err := json.Unmarshal([]byte(body), &got); code != http.StatusOK || err != nil {
		return nil, fmt.Errorf("history of %s: %d %s", board, code, body)
	}
	for _, span := range got.Spans {
		values = append(values, span.Min...)
		values = append(values, span.Max...)
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}

// TestAReRentedBoardHidesItsEarlierHistory gives a board from one customer to another, readings of both being in the store.
func TestAReRentedBoardHidesItsEarlierHistory(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	const odd = `A"l\der {}`
	board, other := s.enrol("r1", s.nats, "rack=secret-rack", "customer="+odd), s.enrol("r2", s.nats, "customer=birch")
	if a := s.try("long enough\n", "user", "add", "al", "--role", "customer"); a.code != 1 || !strings.Contains(a.errs, "--customer NAME") {
		t.Errorf("a customer's login without a customer: %+v", a)
	}
	if a := s.try("", "token", "create", "--role", "viewer", "--customer", odd); a.code != 1 || !strings.Contains(a.errs, "belong together") {
		t.Errorf("a viewer's token with a customer: %+v", a)
	}
	s.do("long enough\n", "user", "add", "al", "--role", "customer", "--customer", odd)
	if list := s.do("", "user", "list"); !strings.Contains(list, "customer "+odd) {
		t.Errorf("users: %s", list)
	}
	alder := s.do("", "token", "create", "--role", "customer", "--customer", odd)
	birch := s.do("", "token", "create", "--role", "customer", "--customer", "birch")
	a, b := s.attack(board), s.attack(other)
	subject := report.TelemetrySubject("r1")
	a.send(t, subject, warmReport(1, time.Now().Add(-2*time.Hour), 41)) // of a backlog
	a.send(t, subject, warmReport(2, time.Now(), 42.5))
	b.send(t, report.TelemetrySubject("r2"), warmReport(1, time.Now(), 71))
	sees := func(token, board string, want ...float64) {
		t.Helper()
		for _, step := range []int{60, 900} {
			eventually(t, patience, func() error {
				got, err := s.ownTemperatures(token, board, step)
				if err == nil && !slices.Equal(got, want) {
					err = fmt.Errorf("%s in steps of %d: %v, want %v", board, step, got, want)
				}
				return err
			})
		}
	}
	sees(alder, "r1", 41, 42.5)
	sees(birch, "r2", 71)
	if code, body := s.as(birch, "GET", "api/own/boards/r1", ""); code != 404 {
		t.Errorf("another's board: %d %s", code, body)
	}
	if code, body := s.as(alder, "GET", "api/boards", ""); code != 403 || strings.Contains(body, "r2") {
		t.Errorf("the fleet as a customer: %d %s", code, body)
	}
	s.do("", "board", "label", "r1", "customer=birch")
	eventually(t, patience, func() error { // the labels hold from a moment on that the collector chose
		a.send(t, subject, warmReport(3, time.Now(), 61))
		got, err := s.ownTemperatures(birch, "r1", 60)
		if err == nil && !slices.Contains(got, 61) {
			err = fmt.Errorf("readings %v", got)
		}
		return err
	})
	sees(birch, "r1", 61)
	a.send(t, subject, warmReport(4, time.Now().Add(-time.Hour), 43)) // late, of the former customer's time
	s.holdsAlso("r1", 43)
	sees(birch, "r1", 61)
	for _, path := range []string{"api/own/boards", "api/own/boards/r1", "api/own/alerts"} {
		if code, body := s.as(birch, "GET", path, ""); code != 200 || strings.Contains(body, "42.5") || strings.Contains(body, "secret-rack") {
			t.Errorf("%s as the new customer: %d %s", path, code, body)
		}
	}
	if code, _ := s.as(alder, "GET", "api/own/boards/r1", ""); code != 404 {
		t.Errorf("the board as the former customer: %d", code)
	}
}

// holdsAlso waits until the store has a temperature of a board.
func (s *server) holdsAlso(name string, want float64) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		series, err := s.export(fmt.Sprintf("pi_soc_temperature_celsius{board=%q}", name), false)
		for _, one := range series {
			if slices.Contains(one.Values, want) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("board %s: %v has not come", name, want))
	})
}

// sent is the decoded text of the next mail, and its recipient's header.
func (b *mailbox) next(t *testing.T) (header mail.Header, text string) {
	t.Helper()
	select {
	case raw := <-b.got:
		m, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		return m.Header, parts(t, m)["text/plain"]
	case <-time.After(2 * patience):
		t.Fatal("no mail came")
	}
	return nil, ""
}

func (b *mailbox) quiet(t *testing.T, what string) {
	t.Helper()
	select {
	case raw := <-b.got:
		t.Errorf("%s: a mail came: %s", what, raw)
	default:
	}
}

var ownLink = regexp.MustCompile(`own/contact/\S+`)

// TestACustomersThreshold goes from a login to a mail: set, confirm, cross, kill -9, end. The operator's receiver hears
// nothing of it.
func TestACustomersThreshold(t *testing.T) {
	t.Parallel()
	box, operator, dir := newMailbox(t), newMailbox(t), t.TempDir()
	for name, text := range map[string]string{
		"alertmanager.yml": fmt.Sprintf(`global: {smtp_from: bramble@example.org, smtp_smarthost: %q, smtp_require_tls: false}
route: {receiver: oncall, group_wait: 0s}
receivers: [{name: oncall, email_configs: [{to: oncall@example.org, smarthost: %q}]}]
`, box.address, operator.address),
		"collector.yml": "alertmanager: alertmanager.yml\ncustomers: {hourly: 4, contacts: 2}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
	mine, other := s.enrol("r1", s.nats, "customer=alder"), s.enrol("r2", s.nats, "customer=birch")
	alder := s.do("", "token", "create", "--role", "customer", "--customer", "alder")
	do := func(method, path, body string, want int) string {
		t.Helper()
		code, answer := s.as(alder, method, path, body)
		if code != want {
			t.Errorf("%s %s %s: %d %s, want %d", method, path, body, code, answer, want)
		}
		return answer
	}
	for body, why := range map[string]string{
		`{"kind":"hot","value":20}`: "30 to 110", `{"kind":"hot"}`: "value", `{"kind":"root","value":1}`: "use hot", `{"kind":"silent","value":1}`: "has none",
		`{"kind":"hot","value":60,"hysteresis":-1}`: "hysteresis", `{"kind":"hot","value":60,"for":"25h"}`: "for", `{"kind":"hot","value":60,"expr":"up"}`: "expr", `[`: "write it like",
	} {
		if answer := do("POST", "api/own/thresholds", body, 400); !strings.Contains(answer, why) {
			t.Errorf("%s: %s", body, answer)
		}
	}
	do("POST", "api/own/thresholds", `{"kind":"hot","board":"r2","value":60}`, 404)
	do("POST", "api/own/thresholds", `{"kind":"hot","value":60,"hysteresis":5,"keepFiringFor":"10s"}`, 200)
	for _, bad := range []string{"x", "a@b", "a@example.org,b@example.org", "{{.ExternalURL}}@example.org", "A <a@example.org>", "a@example.org\\r\\nBcc: b@example.org", "http://10.0.0.1/"} {
		do("POST", "api/own/contacts", `{"address":"`+bad+`"}`, 400)
	}
	do("POST", "api/own/contacts", `{"address":"ops@alder.example"}`, 200)
	header, text := box.next(t)
	if header.Get("To") != "ops@alder.example" || !strings.Contains(text, "boards of alder") {
		t.Errorf("to %s: %s", header.Get("To"), text)
	}
	link := ownLink.FindString(text)

	a, b := s.attack(mine), s.attack(other)
	session, at := uint32(0), time.Now().Add(-10*time.Minute) // the readings' own time counts
	heat := func(celsius ...float64) {
		for _, v := range celsius {
			session, at = session+1, at.Add(11*time.Second)
			a.send(t, report.TelemetrySubject("r1"), warmReport(session, at, v))
			b.send(t, report.TelemetrySubject("r2"), warmReport(session, at, v))
		}
	}
	firing := func(n int) {
		t.Helper()
		eventually(t, patience, func() error {
			var got struct{ Alerts []dashboards.OwnAlert }
			if _, body := s.as(alder, "GET", "api/own/alerts", ""); json.Unmarshal([]byte(body), &got) != nil {
				return errors.New(body)
			}
			open := 0
			for _, alert := range got.Alerts {
				if alert.Board != "r1" {
					return fmt.Errorf("sees %+v", alert)
				}
				if alert.Until == 0 && alert.Threshold {
					open++
				}
			}
			if open != n {
				return fmt.Errorf("%d thresholds fire: %+v", open, got.Alerts)
			}
			return nil
		})
	}
	heat(61) // nobody has confirmed
	firing(1)
	heat(50, 50)
	firing(0)
	box.quiet(t, "nobody has confirmed")
	if code, body := s.as("", "GET", link, ""); code != 200 || !strings.Contains(body, "ops@alder.example") {
		t.Errorf("link %s: %d %s", link, code, body)
	}
	if answer := do("GET", "api/own/settings", "", 200); strings.Contains(answer, `"confirmed":true`) || strings.Contains(answer, strings.TrimPrefix(link, "own/contact/")) {
		t.Errorf("opening the link confirms, or the customer sees it: %s", answer)
	}
	if code, _ := s.as("", "POST", link[:len(link)-2]+"xx?want=yes", ""); code != 404 {
		t.Errorf("a forged link: %d", code)
	}
	answerLink := func(link, want string) {
		t.Helper()
		response, err := http.PostForm(s.url()+link, url.Values{"want": {want}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("%s to %s: %d", want, link, response.StatusCode)
		}
	}
	answerLink(link, "yes")
	heat(72.5)
	if _, text := box.next(t); !strings.Contains(text, "r1: SoC at 72.5 °C since") || strings.Contains(text, "r2") {
		t.Errorf("mail: %s", text)
	}
	eventually(t, patience, func() error { // a mail that a kill cuts off between its answer and its record leaves again
		if answer := do("GET", "api/own/settings", "", 200); !strings.Contains(answer, `"lastMail":"delivered"`) {
			return errors.New(answer)
		}
		return nil
	})
	s.kill()
	s.start()
	firing(1)
	a, b = s.attack(mine), s.attack(other)
	heat(58) // above 60 less 5
	heat(54, 54)
	if _, text := box.next(t); !strings.Contains(text, "over at") {
		t.Errorf("mail: %s", text)
	}
	// Two mails are left of this hour's four, the rest waits and is shown.
	for range 3 {
		heat(65)
		firing(1)
		heat(40, 40)
		firing(0)
	}
	box.next(t)
	box.next(t)
	eventually(t, patience, func() error {
		var book dashboards.OwnBook
		if err := json.Unmarshal([]byte(do("GET", "api/own/settings", "", 200)), &book); err != nil {
			return err
		}
		if book.Waiting == 0 || book.WaitingUntil < time.Now().UnixMilli() {
			return fmt.Errorf("%+v", book)
		}
		return nil
	})
	box.quiet(t, "beyond the limit")
	operator.quiet(t, "the operator")
	if n := s.metric(`bramble_page_tries_total{integration="email",state="delivered"}`); n != 0 {
		t.Errorf("%v pages of the operator's", n)
	}
	var alerts struct{ Data struct{ Alerts []any } }
	if err := s.json("api/v1/alerts", &alerts); err != nil || len(alerts.Data.Alerts) != 0 {
		t.Errorf("the operator's alerts: %v, %v", alerts, err)
	}
	if list := s.do("", "customer", "list"); !regexp.MustCompile(`(?m)^alder +1 +0 +1 +1 +1 of 1 +[1-9]`).MatchString(list) || !regexp.MustCompile(`(?m)^birch +1 +0 +0 +0 +0 of 0 +0$`).MatchString(list) {
		t.Errorf("customers:\n%s", list)
	}
	if b, err := s.get("api/customers"); err != nil || !strings.Contains(string(b), `"customer":"alder","boards":1,"thresholds":1,"contacts":1,"confirmed":1`) {
		t.Errorf("customers: %s, %v", b, err)
	}
	answerLink(link, "no")
	if answer := do("GET", "api/own/settings", "", 200); strings.Contains(answer, "ops@") {
		t.Errorf("the contact is still there: %s", answer)
	}
}
