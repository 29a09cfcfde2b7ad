package registry

import (
	"context"
	"errors"
	"slices"
)

// customerLabel is the board's label that says whose it is.
const customerLabel = "customer"

// AddCustomer makes a login that sees the boards of one customer and nothing else.
func (r *Registry) AddCustomer(ctx context.Context, name, password, customer string) error {
	if err := validateCustomer(customer); err != nil {
		return err
	}
	return r.addUser(ctx, User{Name: name, Role: Customer, Customer: customer}, password)
}

// CreateCustomerToken makes an API token that sees the boards of one customer and nothing else. It cannot be shown again.
func (r *Registry) CreateCustomerToken(ctx context.Context, name, customer string) (string, error) {
	if err := validateCustomer(customer); err != nil {
		return "", err
	}
	return r.createToken(ctx, APIToken{Name: name, Role: Customer, Customer: customer})
}

func validateCustomer(customer string) error {
	if customer == "" {
		return errors.New("customer: name the one whose boards are meant, as in their label customer=NAME")
	}
	return validateText("customer", customer)
}

// roleText is a role for people, with whom it is bound to.
func roleText(role Role, customer string) string {
	if customer == "" {
		return string(role)
	}
	return string(role) + " " + customer
}

// RoleText is the user's role, with whom it is bound to.
func (u *User) RoleText() string { return roleText(u.Role, u.Customer) }

// RoleText is the token's role, with whom it is bound to.
func (t *APIToken) RoleText() string { return roleText(t.Role, t.Customer) }

// Customer is whose the board is at an instant (Unix ms), "" where it is the operator's own.
func (b *Board) Customer(at int64) string { return customerOf(b.At(at)) }

func customerOf(labels []Label) string {
	i := slices.IndexFunc(labels, func(l Label) bool { return l.Name == customerLabel })
	if i < 0 {
		return ""
	}
	return labels[i].Value
}

// Tenancy is whose the board is at an instant and since when without a break, both Unix ms. Before the first version of
// its labels, that one counts: since is then 0.
func (b *Board) Tenancy(at int64) (customer string, since int64) {
	i := b.index(at)
	customer = customerOf(b.Versions[i].Labels)
	for i > 0 && customerOf(b.Versions[i-1].Labels) == customer {
		i--
	}
	if i == 0 {
		return customer, 0
	}
	return customer, b.Versions[i].From
}

// CustomerNames are the customers that boards in service have at an instant (Unix ms), with the number of their boards.
func (r *Registry) CustomerNames(at int64) map[string]int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := map[string]int{}
	for _, b := range r.boards {
		if c := b.Customer(at); c != "" && !b.Retired {
			all[c]++
		}
	}
	return all
}
