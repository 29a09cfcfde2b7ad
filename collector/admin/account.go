package admin

import (
	"fmt"

	"bramble/collector/registry"
)

type userAdd struct {
	Name string `arg:"" help:"The user's name."`
	Role string `default:"operator" placeholder:"ROLE" help:"viewer, operator or admin; operator if not given."`
}

func (a *userAdd) run(c *call) error {
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
		rows = append(rows, []string{u.Name, string(u.Role), when(u.Created)})
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
	Role string `required:"" placeholder:"ROLE" help:"heartbeat, importer, viewer, operator or admin."`
	Name string `placeholder:"NAME" help:"What the token is for."`
}

func (a *tokenCreate) run(c *call) error {
	role, err := registry.ParseTokenRole(a.Role)
	if err != nil {
		return err
	}
	token, err := c.Registry.CreateAPIToken(c.ctx, a.Name, role)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, token)
	c.say("send it as `Authorization: Bearer TOKEN`; it is not shown again")
	return nil
}

type tokenList struct{}

func (*tokenList) run(c *call) error {
	var rows [][]string
	for _, t := range c.Registry.APITokens() {
		name := t.Name
		if name == "" {
			name = "-"
		}
		rows = append(rows, []string{t.ID, name, string(t.Role), when(t.Created)})
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
