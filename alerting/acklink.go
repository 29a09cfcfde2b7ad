package alerting

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// linkLife is how long a link in a page is good, from the time of the page on.
	linkLife = 7 * 24 * time.Hour
	// linkMAC is how much of the HMAC-SHA256 a link carries, in bytes: nobody guesses 128 bits.
	linkMAC = 16
	// longestLink bounds what is looked at, in bytes.
	longestLink = 1024
)

// linkSchema holds the key of the links. Who deletes its row makes every link that was sent void, from the next start on.
const linkSchema = `
CREATE TABLE IF NOT EXISTS alert_link_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS incident_commented ON incident (resolved_at) WHERE ack_comment <> '';
`

// ErrLink is returned for a link that this collector did not sign, ErrLinkExpired for one that is too old.
var (
	ErrLink        = errors.New("the link is not one of this collector's, or not complete")
	ErrLinkExpired = errors.New("the link has expired")
)

// LinkKind is what a link allows.
type LinkKind byte

// The kinds of links. The letter stands in the link, so that one cannot stand in for the other.
const (
	// AckLink shows one incident and acknowledges it.
	AckLink LinkKind = 'a'
	// PictureLink shows the picture of one incident.
	PictureLink LinkKind = 'p'
)

// Link is what a signed link says. Whoever holds it may do what it says, without a login, until it expires.
type Link struct {
	Kind     LinkKind
	Incident string // its ID
	Receiver string // whom it was sent to
	At       time.Time
}

// Expires is when the link ends.
func (l Link) Expires() time.Time { return l.At.Add(linkLife) }

// linkKey reads the key of the links, and makes it the first time.
func linkKey(ctx context.Context, db *sql.DB) ([]byte, error) {
	fresh := make([]byte, sha256.Size)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make a key for links: %w", err)
	}
	if _, err := db.ExecContext(ctx, `INSERT OR IGNORE INTO alert_link_key (id, key) VALUES (1, ?)`, fresh); err != nil {
		return nil, fmt.Errorf("write the links' key: %w", err)
	}
	var key []byte
	if err := db.QueryRowContext(ctx, `SELECT key FROM alert_link_key`).Scan(&key); err != nil {
		return nil, fmt.Errorf("read the links' key: %w", err)
	}
	return key, nil
}

// signLink writes a link as it stands in a URL. The same link is always the same text, in each try of a page.
func signLink(key []byte, l Link) string {
	b := []byte{byte(l.Kind)}
	b = binary.AppendUvarint(b, uint64(max(0, l.At.UnixMilli())))
	b = append(b, l.Incident+"\x00"+l.Receiver...)
	return base64.RawURLEncoding.EncodeToString(append(b, mac(key, b)...))
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)[:linkMAC]
}

// readLink checks a link's signature and age.
func readLink(key []byte, kind LinkKind, text string, now time.Time) (Link, error) {
	if len(text) > longestLink {
		return Link{}, ErrLink
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= linkMAC {
		return Link{}, ErrLink
	}
	body, sum := b[:len(b)-linkMAC], b[len(b)-linkMAC:]
	if !hmac.Equal(sum, mac(key, body)) || body[0] != byte(kind) {
		return Link{}, ErrLink
	}
	at, n := binary.Uvarint(body[1:])
	if n <= 0 {
		return Link{}, ErrLink
	}
	incident, receiver, ok := strings.Cut(string(body[1+n:]), "\x00")
	if !ok {
		return Link{}, ErrLink
	}
	l := Link{Kind: kind, Incident: incident, Receiver: receiver, At: time.UnixMilli(int64(at))}
	if now.After(l.Expires()) {
		return l, ErrLinkExpired
	}
	return l, nil
}

// ReadLink checks the signature and the age of a link of a kind: the last element of its URL's path. The error is ErrLink
// or ErrLinkExpired; with the latter the link is returned.
func (p *Pager) ReadLink(kind LinkKind, text string) (Link, error) {
	return readLink(p.linkKey, kind, text, time.Now())
}

// Picture draws what a PictureLink shows: its incident as it was when the page was written.
func (p *Pager) Picture(ctx context.Context, l Link) ([]byte, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return nil, err
	}
	return p.pictures.Draw(ctx, &in, l.At)
}

// LinkedIncident is what an AckLink shows.
type LinkedIncident struct {
	Incident
	// Before is how the last incident of the same rule at the same place ended; empty where nobody wrote anything.
	Before string
	// Picture is a PictureLink, as it stands in a URL; empty where there is nothing to draw.
	Picture string
}

// Linked returns what an AckLink shows, or ErrNoIncident.
func (p *Pager) Linked(ctx context.Context, l Link) (LinkedIncident, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return LinkedIncident{}, err
	}
	out := LinkedIncident{Incident: in}
	if out.Before, err = p.before(ctx, &in); err != nil {
		return out, err
	}
	if p.pictures.drawable(&in) {
		out.Picture = signLink(p.linkKey, Link{PictureLink, l.Incident, l.Receiver, l.At})
	}
	return out, nil
}
