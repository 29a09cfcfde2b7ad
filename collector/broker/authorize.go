package broker

import (
	"encoding/base64"
	"errors"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/collector/registry"
	"bramble/pisensor/report"
)

// enrolTime is how long an enrolment connection lives. An enrolment takes three
// round trips and one commit.
const enrolTime = 30 * time.Second

// credentials are those of a connecting client.
type credentials struct {
	nkey, signature string // signature of the nonce, base64
	nonce           []byte
	token           string // of an enrolment, <id>.<secret>
}

// Roles of clients. They are values of a metric's label, too.
const (
	roleBoard     = "board"
	roleEnrolment = "enrolment"
)

// grant is a client's permissions: one subject to publish, and one or two to subscribe to. The zero
// value has none.
type grant struct {
	role    string
	name    string // the board or the token's id
	publish string
	hears   [2]string // a second one that is empty is none: no subject is
}

// identities looks keys and tokens up.
type identities interface {
	BoardOfKey(key string) (*registry.Board, bool)
	TokenID(credentials string) (string, bool)
}

// Reasons to refuse a client. They are the values of a metric's label.
var (
	errNoCredentials = errors.New("no_credentials")
	errUnknownKey    = errors.New("unknown_key")
	errSignature     = errors.New("bad_signature")
	errToken         = errors.New("unknown_token")
	errFull          = errors.New("no_place") // more boards than descriptors
)

// authorize decides a client's permissions. It changes nothing.
func authorize(c credentials, known identities) (grant, error) {
	switch {
	case c.nkey != "":
		return authorizeBoard(c, known)
	case c.token != "":
		return authorizeToken(c, known)
	}
	return grant{}, errNoCredentials
}

func authorizeBoard(c credentials, known identities) (grant, error) {
	b, ok := known.BoardOfKey(c.nkey)
	if !ok {
		return grant{}, errUnknownKey
	}
	if !signed(c) {
		return grant{}, errSignature
	}
	return grant{role: roleBoard, name: b.Name, publish: report.TelemetrySubject(b.Name),
		hears: [2]string{report.AckSubject(b.Name), report.ControlSubject(b.Name)}}, nil
}

func authorizeToken(c credentials, known identities) (grant, error) {
	id, ok := known.TokenID(c.token)
	if !ok {
		return grant{}, errToken
	}
	return grant{role: roleEnrolment, name: id, publish: report.EnrolSubject, hears: [2]string{report.EnrolInbox(id)}}, nil
}

// signed reports whether the nonce was signed with the key. An empty nonce
// would let a signature be used twice.
func signed(c credentials) bool {
	signature, err := base64.RawURLEncoding.DecodeString(c.signature)
	if err != nil {
		signature, err = base64.StdEncoding.DecodeString(c.signature)
	}
	if err != nil || len(c.nonce) == 0 {
		return false
	}
	key, err := nkeys.FromPublicKey(c.nkey)
	return err == nil && key.Verify(c.nonce, signature) == nil
}
