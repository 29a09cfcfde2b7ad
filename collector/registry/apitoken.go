package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is the set of rights of a user or an API token; each includes those before it.
type Role string

// The roles of people and tokens, weakest first. A viewer changes nothing; an operator acknowledges
// and silences; an admin also changes boards, users and tokens.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
	// Importer is for API tokens alone: they may write foreign series and read nothing.
	Importer Role = "importer"
	// Heartbeats is for API tokens alone: they may send heartbeats and read nothing.
	Heartbeats Role = "heartbeat"
	// Customer stands beside the others: it sees the boards of one customer, and sets its thresholds and
	// contacts.
	Customer Role = "customer"
)

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Viewer, Operator, Admin:
		return r, nil
	case Customer:
		return "", errors.New("role \"customer\" belongs to one customer: add `--customer NAME`, as in the boards' label customer=NAME")
	case Heartbeats, Importer:
		return "", fmt.Errorf("role %q is for programs: `collector token create --role %s`", r, r)
	}
	return "", fmt.Errorf("role %q: use viewer, operator or admin, or customer with --customer", s)
}

// ParseTokenRole reads the name of a role that an API token may have.
func ParseTokenRole(s string) (Role, error) {
	if r := Role(s); r == Heartbeats || r == Importer {
		return r, nil
	}
	if r, err := ParseRole(s); err == nil || s == string(Customer) {
		return r, err
	}
	return "", fmt.Errorf("role %q: use heartbeat, importer, viewer, operator or admin", s)
}

// apiTokenPrefix starts every API token.
const apiTokenPrefix = "bra1."

// APIToken lets a program in as `Authorization: Bearer …`.
type APIToken struct {
	ID   string // public
	Name string // the purpose that its maker gave
	Role Role
	// Customer owns the boards that a token of the role customer sees; "" for any other role.
	Customer string
	Created  time.Time
	secret   digest
}

// CreateAPIToken makes an API token and returns it as its holder shows it. It
// cannot be shown again.
func (r *Registry) CreateAPIToken(ctx context.Context, name string, role Role) (string, error) {
	if _, err := ParseTokenRole(string(role)); err != nil {
		return "", err
	}
	return r.createToken(ctx, APIToken{Name: name, Role: role})
}

func (r *Registry) createToken(ctx context.Context, made APIToken) (string, error) {
	name := made.Name
	r.write.Lock()
	defer r.write.Unlock()
	if err := validateText("token name", name); err != nil {
		return "", err
	}
	secret := random(20)
	t := &made
	t.ID, t.Created, t.secret = random(4), time.Now().Truncate(time.Millisecond), hash(secret)
	err := r.change(ctx, event{"create api token", t.ID, strings.TrimSpace(roleText(t.Role, t.Customer) + " " + name)}, func() { r.api[t.ID] = t },
		exec(`INSERT INTO api_token (id, secret, name, role, created, customer) VALUES (?, ?, ?, ?, ?, ?)`,
			t.ID, t.secret[:], t.Name, string(t.Role), t.Created.UnixMilli(), t.Customer))
	if err != nil {
		return "", err
	}
	return apiTokenPrefix + t.ID + "." + secret, nil
}

// RevokeAPIToken ends an API token at once.
func (r *Registry) RevokeAPIToken(ctx context.Context, id string) error {
	r.write.Lock()
	defer r.write.Unlock()
	r.mu.RLock()
	_, ok := r.api[id]
	r.mu.RUnlock()
	if !ok {
		return fmt.Errorf("api token %q: %w: `collector token list` shows the ids", id, ErrNotFound)
	}
	return r.change(ctx, event{"revoke api token", id, ""}, func() { delete(r.api, id) },
		exec(`DELETE FROM api_token WHERE id = ?`, id))
}

// APITokens returns all API tokens, oldest first.
func (r *Registry) APITokens() []APIToken {
	r.mu.RLock()
	tokens := make([]APIToken, 0, len(r.api))
	for _, t := range r.api {
		tokens = append(tokens, *t)
	}
	r.mu.RUnlock()
	slices.SortFunc(tokens, func(a, b APIToken) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens
}

func (r *Registry) authenticateToken(credential string) (Identity, bool) {
	id, secret, _ := strings.Cut(credential, ".")
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.api[id]
	if t == nil || !t.secret.matches(secret) {
		return Identity{}, false
	}
	name := t.Name
	if name == "" {
		name = t.ID
	}
	return Identity{Name: "token " + name, Role: t.Role, Customer: t.Customer}, true
}

func (l loader) apiTokens(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT id, secret, name, role, created, customer FROM api_token`, func(rows *sql.Rows) error {
		var t APIToken
		var secret []byte
		var created int64
		if err := rows.Scan(&t.ID, &secret, &t.Name, &t.Role, &created, &t.Customer); err != nil {
			return err
		}
		copy(t.secret[:], secret)
		t.Created = moment(created)
		r.api[t.ID] = &t
		return nil
	})
}
