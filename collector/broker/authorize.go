package broker

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
	user, password  string
	address         net.Addr // as the server sees it; nil when the connection has ended
	inProcess       bool     // it did not come over the network
}

// grant is a client's permissions.
type grant struct {
	role        string // "board", "enrolment" or "collector"
	name        string // the board or the token's id
	permissions *server.Permissions
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
	errGone          = errors.New("gone")     // it ended, or was displaced, before it was let in
)

// authorize decides a client's permissions. It changes nothing. own is the secret of the
// collector's in-process connection.
func authorize(c credentials, known identities, own string) (grant, error) {
	switch {
	case c.inProcess:
		if subtle.ConstantTimeCompare([]byte(c.password), []byte(own)) != 1 {
			return grant{}, errNoCredentials
		}
		return grant{role: "collector", name: "collector"}, nil
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
	return grant{role: "board", name: b.Name, permissions: only(
		report.TelemetrySubject(b.Name), report.AckSubject(b.Name), report.ControlSubject(b.Name))}, nil
}

func authorizeToken(c credentials, known identities) (grant, error) {
	id, ok := known.TokenID(c.token)
	if !ok {
		return grant{}, errToken
	}
	return grant{role: "enrolment", name: id, permissions: only(report.EnrolSubject, report.EnrolAnswerSubject(id))}, nil
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

// only allows one subject to publish and some to subscribe, and nothing else:
// where a list of allowed subjects is given, the server refuses the rest.
func only(publish string, subscribe ...string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{publish}},
		Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
}
