package report

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// tokenVersion starts every enrolment token.
const tokenVersion = "brm1"

// Token lets a board, or a rack's worth of boards, enrol. It carries the pin
// of the collector's CA, so that already the first connection is safe.
type Token struct {
	ID     string // public: names the token
	Secret string // proves possession
	Pin    string // Pin of the collector's CA certificate
}

// NewToken draws a token with 128 bits of secret.
func NewToken(pin string) Token {
	return Token{ID: random(6), Secret: random(16), Pin: pin}
}

// random returns n random bytes as lower-case text without dots.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return fmt.Sprintf("%x", b)
}

// String is the token as people copy it: brm1.<id>.<secret>.<pin>.
func (t Token) String() string {
	return strings.Join([]string{tokenVersion, t.ID, t.Secret, t.Pin}, ".")
}

// ParseToken reads a token as String writes it. Its errors never show the secret.
func ParseToken(s string) (Token, error) {
	p := strings.Split(strings.TrimSpace(s), ".")
	if len(p) != 4 || p[0] != tokenVersion {
		return Token{}, errors.New("enrolment token: want brm1.<id>.<secret>.<pin>, as `collector board token` prints it")
	}
	t := Token{ID: p[1], Secret: p[2], Pin: p[3]}
	if !validBoard(t.ID) || t.Secret == "" {
		return Token{}, fmt.Errorf("enrolment token: id %q or its secret is damaged; copy it again", p[1])
	}
	if raw, err := base64.RawURLEncoding.DecodeString(t.Pin); err != nil || len(raw) != sha256.Size {
		return Token{}, fmt.Errorf("enrolment token: pin %q is cut off or damaged; copy it again", t.Pin)
	}
	return t, nil
}

// Credentials is the auth token that the holder shows at its first NATS connection.
func (t Token) Credentials() string { return t.ID + "." + t.Secret }

// Pin names a certificate by its public key (RFC 7469: SHA-256 over the
// SubjectPublicKeyInfo), as base64url. It outlives a renewal of the certificate.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ErrPin is wrapped where a server is not the one that the pin names.
var ErrPin = errors.New("the server is not the pinned collector")

// VerifyPinned checks a server's certificate chain, leaf first: one certificate
// must be the CA that the pin names, and it must vouch for the leaf as a
// server. The name in the leaf does not count: boards reach a collector
// under any address, and the CA signs for nobody else. Nor do its dates: a
// board without a real-time clock may wake up in 1970.
func VerifyPinned(chain []*x509.Certificate, pin string) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it showed no certificate", ErrPin)
	}
	for _, c := range chain {
		if subtle.ConstantTimeCompare([]byte(Pin(c)), []byte(pin)) != 1 {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		at := chain[0].NotBefore // an instant at which both are valid
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			CurrentTime: at,
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrPin, err)
		}
		return nil
	}
	return fmt.Errorf("%w: pin %s is not in its chain (it shows %s)", ErrPin, pin, Pin(chain[len(chain)-1]))
}

// EnrolRequest is a board's request on EnrolSubject, as JSON.
type EnrolRequest struct {
	Token string `json:"token"`           // Token.Credentials: a publisher is invisible to subscribers, so the request proves itself inside the pinned TLS connection
	Key   string `json:"key"`             // the board's public nkey, U…
	Name  string `json:"name"`            // the name that the board would like; used with a rack's token alone
	Renew bool   `json:"renew,omitempty"` // the board's old key shall be void for good, used with a board's token alone
}

// EnrolAnswer is the collector's answer on EnrolAnswerSubject, as JSON. Key identifies the board:
// collectors before v0.1.0 gave all holders of a rack's token each other's answers.
type EnrolAnswer struct {
	Key   string `json:"key"`
	Board string `json:"board,omitempty"`
	Error string `json:"error,omitempty"` // for people: the cause and the next step
}

// maxEnrol is the largest enrolment message, in bytes.
const maxEnrol = 4 << 10

// DecodeEnrolRequest reads a request. Its error wraps ErrMalformed.
func DecodeEnrolRequest(b []byte) (EnrolRequest, error) {
	var q EnrolRequest
	err := decodeJSON(b, &q)
	return q, err
}

// DecodeEnrolAnswer reads an answer. Its error wraps ErrMalformed.
func DecodeEnrolAnswer(b []byte) (EnrolAnswer, error) {
	var a EnrolAnswer
	if err := decodeJSON(b, &a); err != nil {
		return a, err
	}
	if a.Error == "" && !validBoard(a.Board) {
		return a, malformed("board name %q", a.Board)
	}
	return a, nil
}

func decodeJSON(b []byte, v any) error {
	if len(b) > maxEnrol {
		return malformed("%d bytes exceed %d", len(b), maxEnrol)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return malformed("%v", err)
	}
	return nil
}
