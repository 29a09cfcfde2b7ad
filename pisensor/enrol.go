package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

const (
	// enrolTime bounds the whole enrolment.
	enrolTime = 30 * time.Second
	// askAgain is when an unanswered request is repeated; it is idempotent.
	askAgain = 5 * time.Second
)

// enrol is `pisensor enrol URL TOKEN`.
func enrol(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	f := c.flags("enrol", " URL TOKEN", stderr)
	f.StringVar(&c.name, "name", hostName(), "`name` that this board would like; only a rack's token heeds it")
	found, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	token, err := report.ParseToken(found[1])
	if err != nil {
		return err
	}
	key, err := ensureKey(c.stateDir)
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("read the board's key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	url := found[0]
	board, err := register(ctx, url, token, report.EnrolRequest{Token: token.ID, Key: public, Name: c.name})
	if err != nil {
		return fmt.Errorf("enrol at %s: %w", url, err)
	}
	if err := (enrolment{URL: url, Board: board, Pin: token.Pin}).save(c.stateDir); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, board)
	return err
}

// register asks the collector to accept the key, and returns the board's name.
func register(ctx context.Context, url string, token report.Token, q report.EnrolRequest) (string, error) {
	if err := sensor.CheckURL(url, token.Pin); err != nil {
		return "", err
	}
	conn, err := dial(url, token)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	answers, err := conn.SubscribeSync(report.EnrolAnswerSubject(token.ID))
	if err != nil {
		return "", fmt.Errorf("subscribe: %w", err)
	}
	b, err := json.Marshal(q)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	for {
		if err := conn.Publish(report.EnrolSubject, b); err != nil {
			return "", fmt.Errorf("ask: %w", err)
		}
		a, err := await(ctx, answers, q.Key)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			continue
		case errors.Is(err, context.DeadlineExceeded):
			return "", fmt.Errorf("no answer in %v: is the collector running?", enrolTime)
		case err != nil:
			return "", err
		case a.Error != "":
			return "", errors.New(a.Error)
		}
		return a.Board, nil
	}
}

// await waits for the answer that is meant for the key. Boards that enrol with
// the same rack token hear each other's.
func await(ctx context.Context, answers *nats.Subscription, key string) (report.EnrolAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	for {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return report.EnrolAnswer{}, refusal(fmt.Errorf("wait for the answer: %w", err))
		}
		a, err := report.DecodeEnrolAnswer(m.Data)
		if err != nil {
			return a, fmt.Errorf("read the answer: %w", err)
		}
		if a.Key == key {
			return a, nil
		}
	}
}

// dial connects with the token's credentials, to the pinned collector only.
func dial(url string, token report.Token) (*nats.Conn, error) {
	var unpinned atomic.Pointer[error]
	conn, err := nats.Connect(url,
		nats.Name("pisensor enrol"), nats.Token(token.Credentials()), nats.NoReconnect(), nats.Timeout(10*time.Second),
		nats.Secure(sensor.PinnedTLS(token.Pin, func(err error) { unpinned.Store(&err) })))
	if why := unpinned.Load(); why != nil {
		return nil, fmt.Errorf("%w: check the URL, or ask this collector's operator for a token", *why)
	}
	switch {
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("no collector answers there (%w): check the URL, the network and that the collector runs", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return nil, fmt.Errorf("the server there offers no TLS, so it is not the pinned collector (%w)", err)
	}
	return conn, refusal(err)
}

// refusal adds the next step where the collector does not accept the token.
func refusal(err error) error {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) ||
		errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("the collector does not accept this token: it is used, expired or unknown; ask for a new one (`collector board token`): %w", err)
	}
	return err
}

// hostName is the host's name as far as it can be a board's, else empty.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if report.ValidateBoard(name) != nil {
		return ""
	}
	return name
}
