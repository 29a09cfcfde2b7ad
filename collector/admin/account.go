package admin

import (
	"fmt"
	"time"

	"bramble/collector/registry"
)

type userAdd struct {
	Name string `arg:"" help:"The user's name."`
	Role string `default:"operator" placeholder:"ROLE" help:"viewer, operator or admin, or customer; operator if not given."`
	customerFlag
}

// customerFlag binds a login or a token to a customer.
type customerFlag struct {
	Customer string `placeholder:"NAME" help:"With the role customer: whose boards it sees, as in their label customer=NAME."`
}

// bound reports whether the role is a customer's. One without the other is a mistake that would let somebody see the fleet.
func (f *customerFlag) bound(role string) (bool, error) {
	if (role == string(registry.Customer)) != (f.Customer != "") {
		return false, fmt.Errorf("role %q with customer %q: `--role customer` and `--customer NAME` belong together", role, f.Customer)
	}
	return f.Customer != "", nil
}

func (a *userAdd) run(c *call) error {
	if is, err := a.bound(a.Role); is || err != nil {
		return a.addCustomer(c, err)
	}
	role, err := registry.ParseRole(a.Role)
	if err != nil {
		return err
	}
	password, err := line(c.stdin)
	if err != nil {
		return err
	}
	if err := c.Registry.AddUser(c.ctx, a.Name, password, role); err != nil {
		return err
	}
	c.say("user %s added as %s", a.Name, role)
	return nil
}

func (a *userAdd) addCustomer(c *call, err error) error {
	if err != nil {
		return err
	}
	password, err := line(c.stdin)
	if err != nil {
		return err
	}
	if err := c.Registry.AddCustomer(c.ctx, a.Name, password, a.Customer); err != nil {
		return err
	}
	c.say("user %s added as customer %s", a.Name, c.customer(a.Customer))
	return nil
}

// customer names a customer and how many boards that is now: a wrong name has none.
func (c *call) customer(name string) string {
	return fmt.Sprintf("%s, who has %d boards now", name, c.Registry.CustomerNames(time.Now().UnixMilli())[name])
}

type userPasswd struct {
	Name string `arg:"" help:"The user's name."`
}

func (a *userPasswd) run(c *call) error {
	password, err := line(c.stdin)
	if err != nil {
		return err
	}
	if err := c.Registry.SetPassword(c.ctx, a.Name, password); err != nil {
		return err
	}
	c.say("password of %s changed; open sessions have ended", a.Name)
	return nil
}

type userList struct{}

func (*userList) run(c *call) error {
	var rows [][]string
	for _, u := range c.Registry.Users() {
		rows = append(rows, []string{u.Name, u.RoleText(), when(u.Created)})
	}
	return c.table([]string{"NAME", "ROLE", "CREATED"}, rows)
}

type userRemove struct {
	Name string `arg:"" help:"The user's name."`
}

func (a *userRemove) run(c *call) error {
	if err := c.Registry.RemoveUser(c.ctx, a.Name); err != nil {
		return err
	}
	c.say("user %s removed", a.Name)
	return nil
}

type tokenCreate struct {
	Role string `required:"" placeholder:"ROLE" help:"heartbeat, importer, viewer, operator or admin, or customer."`
	Name string `placeholder:"NAME" help:"What the token is for."`
	customerFlag
}

func (a *tokenCreate) run(c *call) error {
	token, err := a.create(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	c.say("send it as `Authorization: Bearer TOKEN`; it is not shown again")
	return nil
}

func (a *tokenCreate) create(c *call) (string, error) {
	is, err := a.bound(a.Role)
	if err != nil {
		return "", err
	}
	if is {
		c.say("for customer %s", c.customer(a.Customer))
		return c.Registry.CreateCustomerToken(c.ctx, a.Name, a.Customer)
	}
	role, err := registry.ParseTokenRole(a.Role)
	if err != nil {
		return "", err
	}
	return c.Registry.CreateAPIToken(c.ctx, a.Name, role)
}

type tokenList struct{}

func (*tokenList) run(c *call) error {
	var rows [][]string
	for _, t := range c.Registry.APITokens() {
		name := t.Name
		if name == "" {
			name = "-"
		}
		rows = append(rows, []string{t.ID, name, t.RoleText(), when(t.Created)})
	}
	return c.table([]string{"ID", "NAME", "ROLE", "CREATED"}, rows)
}

type tokenRevoke struct {
	ID string `arg:"" help:"The token's id, as token list shows it."`
}

func (a *tokenRevoke) run(c *call) error {
	if err := c.Registry.RevokeAPIToken(c.ctx, a.ID); err != nil {
		return err
	}
	c.say("api token %s revoked", a.ID)
	return nil
}
