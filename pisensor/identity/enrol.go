package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// connectTime bounds the connection's part of it: a rack that enrols at once
	// makes the collector's handshakes wait for each other.
	connectTime = 10 * time.Second
)

// ErrUnreachable is wrapped where asking again later may help: the collector did not answer, or
// something else did. All other errors remain until somebody takes the step that they name.
var ErrUnreachable = errors.New("cannot reach the collector")

// errRefused is wrapped where the collector answered that it does not take the key.
var errRefused = errors.New("refused")

// refusedBy is the collector's answer.
type refusedBy string

func (r refusedBy) Error() string        { return string(r) }
func (r refusedBy) Is(target error) bool { return target == errRefused }

// Enrol registers the board whose state is in dir with the collector at url, and keeps its answer
// there. The key is made, and on disk, before the collector gets it; asking again with the same
// directory and token is harmless. name is the name that the board would like; the collector uses
// it for a rack's token alone.
//
// A renewal that was cut short is taken up again (Renew).
func Enrol(ctx context.Context, dir, url string, token report.Token, name string) (Enrolment, error) {
	return enrol(ctx, dir, url, token, name, false)
}

// Renew is Enrol with a new key, which takes the old one's place at the collector for good, and on the
// disk when the collector has answered. Killed at any moment, it goes on when it is called again, as
// Enrol does. The token must be the board's own. A board without a key gets its first one.
func Renew(ctx context.Context, dir, url string, token report.Token, name string) (Enrolment, error) {
	return enrol(ctx, dir, url, token, name, true)
}

func enrol(ctx context.Context, dir, url string, token report.Token, name string, renew bool) (Enrolment, error) {
	e := Enrolment{URL: url, Pin: token.Pin}
	key, step, err := keyToEnrol(dir, renew)
	if err != nil {
		return e, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return e, fmt.Errorf("read the board's key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	e.Board, err = register(ctx, url, token, report.EnrolRequest{Token: token.Credentials(), Key: public, Name: name, Renew: step != keyKept})
	switch {
	case errors.Is(err, errRefused) && step == keyMade:
		err = errors.Join(err, ignoreMissing(os.Remove(filepath.Join(dir, nextKeyFile)))) // the old one stays in force
	case err == nil && step != keyKept:
		err = os.Rename(filepath.Join(dir, nextKeyFile), filepath.Join(dir, KeyFile))
	}
	if err != nil {
		return e, fmt.Errorf("enrol at %s: %w", url, err)
	}
	return e, e.Save(dir)
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
	answers, err := conn.SubscribeSync(report.EnrolInbox(token.ID))
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
			return "", fmt.Errorf("%w: no answer in %v: check that it runs", ErrUnreachable, enrolTime)
		case err != nil:
			return "", err
		case a.Error != "":
			return "", refusedBy(a.Error)
		}
		return a.Board, nil
	}
}

// await waits for the answer that is meant for the key. Older collectors give boards that enrol with
// the same rack token each other's.
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
	options := append(sensor.Dialing(connectTime),
		nats.Name("pisensor enrol"), nats.Token(token.Credentials()), nats.NoReconnect(),
		nats.Secure(sensor.PinnedTLS(token.Pin, func(err error) { unpinned.Store(&err) })))
	conn, err := nats.Connect(url, options...)
	switch why := unpinned.Load(); {
	case why != nil:
		return nil, errors.New(sensor.Explain(*why))
	case err == nil || refused(err):
		return conn, refusal(err)
	}
	return nil, fmt.Errorf("%w: %s", ErrUnreachable, sensor.Explain(err))
}

// refused reports whether it was the collector who said no.
func refused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked)
}

// refusal adds the next step where the collector does not accept the token.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case refused(err):
		return fmt.Errorf("the collector does not accept this token: it does not know it; copy it again, or ask for a new one (`collector board token`): %w", err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: the connection was cut before it answered", ErrUnreachable)
	}
	return err
}
