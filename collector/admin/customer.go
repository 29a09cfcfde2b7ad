package admin

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"bramble/collector/customers"
	"bramble/collector/registry"
)

type customerGrammar struct {
	List  customerList  `cmd:"" help:"List the customers: boards, logins, tokens, and what they have set."`
	Allow customerAllow `cmd:"" help:"Let an address be asked again that wanted no mail."`
}

type customerList struct{}

func (*customerList) run(c *call) error {
	set, err := customers.Counts(c.ctx, c.DB)
	if err != nil {
		return err
	}
	boards := c.Registry.CustomerNames(time.Now().UnixMilli())
	logins, tokens := map[string]int{}, map[string]int{}
	for _, u := range c.Registry.Users() {
		if u.Role == registry.Customer {
			logins[u.Customer]++
		}
	}
	for _, t := range c.Registry.APITokens() {
		if t.Role == registry.Customer {
			tokens[t.Customer]++
		}
	}
	names := map[string]bool{}
	for _, of := range []map[string]int{boards, logins, tokens} {
		for name := range of {
			names[name] = true
		}
	}
	for name := range set {
		names[name] = true
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := set[name]
		rows = append(rows, []string{
			name, strconv.Itoa(boards[name]), strconv.Itoa(logins[name]), strconv.Itoa(tokens[name]), strconv.Itoa(n.Thresholds),
			fmt.Sprintf("%d of %d", n.Confirmed, n.Contacts), strconv.Itoa(n.Waiting),
		})
	}
	return c.table([]string{"CUSTOMER", "BOARDS", "LOGINS", "TOKENS", "THRESHOLDS", "CONFIRMED", "WAITING"}, rows)
}

type customerAllow struct {
	Address string `arg:"" help:"The mail address."`
}

func (a *customerAllow) run(c *call) error {
	if err := customers.Allow(c.ctx, c.DB, c.Actor, a.Address); err != nil {
		return err
	}
	c.say("%s may be asked again", a.Address)
	return nil
}
