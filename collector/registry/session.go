package registry

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// SessionLifetime is how long a login lasts: an engineer on call should not
// have to log in at night.
const SessionLifetime = 30 * 24 * time.Hour

// session is one login. Its key is the hash of the credential.
type session struct {
	user    string
	expires time.Time
}

// Identity is the user, program or customer that a credential identifies.
type Identity struct {
	Name     string
	Role     Role
	Customer string // of the role customer: whose boards it sees
}

// decoy takes the place of an unknown user's password, so that a login takes
// the same time whether the name exists or not.
const decoy = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// Login checks a password and returns a new session's credential. It wraps
// ErrDenied for a wrong name or password.
func (r *Registry) Login(ctx context.Context, name, password string) (string, error) {
	u, err := r.user(name)
	if err != nil {
		u.password = decoy
	}
	if !r.checkPassword(u.password, password) || err != nil {
		return "", fmt.Errorf("log in as %.64q: %w", name, ErrDenied)
	}
	r.write.Lock()
	defer r.write.Unlock()
	// The password may have changed while the hash was computed.
	if now, err := r.user(name); err != nil || now.password != u.password {
		return "", fmt.Errorf("log in as %.64q: %w", name, ErrDenied)
	}
	credential := random(20)
	key, s := hash(credential), session{user: name, expires: time.Now().Add(SessionLifetime).Truncate(time.Millisecond)}
	err = r.change(ctx, event{"log in", name, ""}, func() { r.sessions[key] = s; r.dropExpired() },
		exec(`DELETE FROM session WHERE expires <= ?`, time.Now().UnixMilli()),
		exec(`INSERT INTO session VALUES (?, ?, ?)`, key[:], s.user, s.expires.UnixMilli()))
	return credential, err
}

// Authenticate maps an API token or a session's credential to its holder. It wraps ErrDenied when
// the credential is not in force.
func (r *Registry) Authenticate(credential string) (Identity, error) {
	if token, ok := strings.CutPrefix(credential, apiTokenPrefix); ok {
		if who, ok := r.authenticateToken(token); ok {
			return who, nil
		}
		return Identity{}, fmt.Errorf("api token: %w", ErrDenied)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.sessions[hash(credential)]
	if u := r.users[s.user]; ok && u != nil && time.Now().Before(s.expires) {
		return Identity{Name: u.Name, Role: u.Role, Customer: u.Customer}, nil
	}
	return Identity{}, fmt.Errorf("session: %w", ErrDenied)
}

// Logout ends a session. An unknown one is no error.
func (r *Registry) Logout(ctx context.Context, credential string) error {
	r.write.Lock()
	defer r.write.Unlock()
	key := hash(credential)
	r.mu.RLock()
	s, ok := r.sessions[key]
	r.mu.RUnlock()
	if !ok {
		return nil
	}
	return r.change(ctx, event{"log out", s.user, ""}, func() { delete(r.sessions, key) },
		exec(`DELETE FROM session WHERE id = ?`, key[:]))
}

// dropSessions and dropExpired are called with r.mu held.
func (r *Registry) dropSessions(user string) {
	for key, s := range r.sessions {
		if s.user == user {
			delete(r.sessions, key)
		}
	}
}

func (r *Registry) dropExpired() {
	now := time.Now()
	for key, s := range r.sessions {
		if !now.Before(s.expires) {
			delete(r.sessions, key)
		}
	}
}

func (l loader) sessions(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT id, user, expires FROM session`, func(rows *sql.Rows) error {
		var id []byte
		var s session
		var expires int64
		if err := rows.Scan(&id, &s.user, &expires); err != nil {
			return err
		}
		var key digest
		copy(key[:], id)
		s.expires = moment(expires)
		r.sessions[key] = s
		return nil
	})
}
