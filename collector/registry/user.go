package registry

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// User is a person who logs in.
type User struct {
	Name     string
	Role     Role
	Customer string // whose boards it sees, of the role customer; "" for any other
	Created  time.Time
	password string // PHC string
}

// AddUser makes a login.
func (r *Registry) AddUser(ctx context.Context, name, password string, role Role) error {
	if _, err := ParseRole(string(role)); err != nil {
		return err
	}
	return r.addUser(ctx, User{Name: name, Role: role}, password)
}

func (r *Registry) addUser(ctx context.Context, added User, password string) error {
	name := added.Name
	if err := validateUser(name); err != nil {
		return err
	}
	if err := validatePassword(password); err != nil {
		return err
	}
	u := &added
	u.Created, u.password = time.Now().Truncate(time.Millisecond), r.hashPassword(password)
	r.write.Lock()
	defer r.write.Unlock()
	if _, err := r.user(name); err == nil {
		return fmt.Errorf("user %s exists already: `collector user passwd %s` changes the password", name, name)
	}
	return r.change(ctx, event{"add user", name, roleText(u.Role, u.Customer)}, func() { r.users[name] = u },
		exec(`INSERT INTO user (name, password, role, created, customer) VALUES (?, ?, ?, ?, ?)`,
			u.Name, u.password, string(u.Role), u.Created.UnixMilli(), u.Customer))
}

// SetPassword changes a user's password and ends the user's sessions.
func (r *Registry) SetPassword(ctx context.Context, name, password string) error {
	if err := validatePassword(password); err != nil {
		return err
	}
	hashed := r.hashPassword(password)
	r.write.Lock()
	defer r.write.Unlock()
	u, err := r.user(name)
	if err != nil {
		return err
	}
	u.password = hashed
	return r.change(ctx, event{"change password", name, ""}, func() { r.users[name] = &u; r.dropSessions(name) },
		exec(`UPDATE user SET password = ? WHERE name = ?`, hashed, name), exec(`DELETE FROM session WHERE user = ?`, name))
}

// RemoveUser deletes a login and ends its sessions.
func (r *Registry) RemoveUser(ctx context.Context, name string) error {
	r.write.Lock()
	defer r.write.Unlock()
	if _, err := r.user(name); err != nil {
		return err
	}
	return r.change(ctx, event{"remove user", name, ""}, func() { delete(r.users, name); r.dropSessions(name) },
		exec(`DELETE FROM session WHERE user = ?`, name), exec(`DELETE FROM user WHERE name = ?`, name))
}

// Users returns all users, sorted by name.
func (r *Registry) Users() []User {
	r.mu.RLock()
	users := make([]User, 0, len(r.users))
	for _, u := range r.users {
		users = append(users, *u)
	}
	r.mu.RUnlock()
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return users
}

func (r *Registry) user(name string) (User, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if u, ok := r.users[name]; ok {
		return *u, nil
	}
	return User{}, fmt.Errorf("user %q: %w: `collector user list` shows the names", name, ErrNotFound)
}

func validateUser(name string) error {
	other := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._@-", c)
	}
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, other) {
		return fmt.Errorf("user name %q: use 1 to 64 of a-z, A-Z, 0-9 and . _ @ -", name)
	}
	return nil
}

func (l loader) users(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT name, password, role, created, customer FROM user`, func(rows *sql.Rows) error {
		var u User
		var created int64
		if err := rows.Scan(&u.Name, &u.password, &u.Role, &created, &u.Customer); err != nil {
			return err
		}
		u.Created = moment(created)
		r.users[u.Name] = &u
		return nil
	})
}
