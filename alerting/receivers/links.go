package receivers

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

	"bramble/alerting/incident"
)

const (
	// linkLife is how long a link in a page is good, from the time of the page on.
	linkLife = 7 * 24 * time.Hour
	// linkMAC is how much of the HMAC-SHA256 a link carries, in bytes: nobody guesses 128 bits.
	linkMAC = 16
	// longestLink bounds a link that is looked at, in bytes.
	longestLink = 1024
)

// ErrLink is returned for a link that this collector did not sign, ErrLinkExpired for one that is too old.
var (
	ErrLink        = errors.New("the link is not one of this collector's, or not complete")
	ErrLinkExpired = errors.New("the link has expired")
)

// LinkKind is the act that a link allows.
type LinkKind byte

// The kinds of links. The letter stands in the link, so that one cannot stand in for the other.
const (
	// AckLink shows one incident and acknowledges it.
	AckLink LinkKind = 'a'
	// PictureLink shows the picture of one incident.
	PictureLink LinkKind = 'p'
)

// Link is the content of a signed link. Its holder may do the act that it names, without a login, until it expires.
type Link struct {
	Kind     LinkKind
	Incident string // its ID
	Receiver string // whom it was sent to
	At       time.Time
}

// Expires is when the link ends.
func (l Link) Expires() time.Time { return l.At.Add(linkLife) }

// LinkKey reads the key of the links, and makes it the first time.
func LinkKey(ctx context.Context, db *sql.DB) ([]byte, error) {
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

// Sign writes a link as it stands in a URL.
func (p *Parts) Sign(l Link) string { return signLink(p.LinkKey, l) }

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

// PictureLink is the link to an incident's picture for the holder of a link, as it stands in a URL; "" where there is nothing to draw.
func (p *Parts) PictureLink(in *incident.Incident, l Link) string {
	if !p.Pictures.drawable(in) {
		return ""
	}
	return p.Sign(Link{PictureLink, in.ID, l.Receiver, l.At})
}

// ReadLink checks the signature and the age of a link of a kind. The error is ErrLink or ErrLinkExpired; with the latter the link is
// returned.
func (p *Parts) ReadLink(kind LinkKind, text string, now time.Time) (Link, error) {
	return readLink(p.LinkKey, kind, text, now)
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
