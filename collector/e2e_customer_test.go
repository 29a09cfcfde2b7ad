package main

import (
	"encoding/json"
	"fmt"
	"net/http"
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

// TestAReRentedBoardHidesItsFormerHistory gives a board from one customer to another, readings of both being in the store.
func TestAReRentedBoardHidesItsFormerHistory(t *testing.T) {
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
		return fmt.Errorf("board %s: %v has not come (%v)", name, want, err)
	})
}
