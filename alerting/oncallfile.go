package alerting

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"bramble/alerting/alert"
	"bramble/alerting/oncall"
)

// onCall is the oncall.yml in force, with the overrides that were set since. It is never nil.
func (p *Pager) onCall() *oncall.Config {
	if c := p.rotas.Load(); c != nil {
		return c
	}
	return &oncall.Config{}
}

// errOnCall is what all faults of an oncall.yml are.
var errOnCall = errors.New("oncall.yml")

// onCallError has a line for each fault, with file and line in front.
type onCallError string

// Error implements error.
func (e onCallError) Error() string { return string(e) }

// Is makes it an errOnCall.
func (e onCallError) Is(target error) bool { return target == errOnCall }

// parseOnCall reads an oncall.yml for a routing. Errors name it with their lines; nil stands for no file.
func (r *routing) parseOnCall(text []byte) (*oncall.Config, error) {
	c, err := oncall.Parse(text)
	if err == nil {
		err = c.Check(func(receiver string) (int, bool) {
			list, ok := r.integrations[receiver]
			return len(list), ok && receiver != alert.Nobody
		})
	}
	if err != nil {
		return nil, onCallError("oncall.yml:" + strings.ReplaceAll(err.Error(), "\n", "\noncall.yml:"))
	}
	return c, nil
}

// rotasFor gives a routing its oncall.yml. At the start, one that is broken gives way to the last that was in force: a
// collector that pages by yesterday's rota is better than none.
func (p *Pager) rotasFor(ctx context.Context, r *routing, text []byte, starting bool) error {
	c, err := r.parseOnCall(text)
	if err != nil && starting {
		if last, ok := p.lastOnCall(ctx); ok {
			if old, lastErr := r.parseOnCall(last); lastErr == nil {
				p.log.Error("oncall.yml is not in force: the last good one is", "err", err)
				p.metrics.oncallBroken.Set(1)
				r.oncall, r.oncallText = old, last
				return nil
			}
		}
	}
	if err != nil {
		return err
	}
	r.oncall, r.oncallText = c, text
	return nil
}

func (p *Pager) lastOnCall(ctx context.Context) (text []byte, ok bool) {
	err := p.db.QueryRowContext(ctx, `SELECT text FROM oncall_file WHERE one = 1`).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		p.log.Error("read the last good oncall.yml", "err", err)
	}
	return text, err == nil
}

// keepOnCall remembers an oncall.yml that is in force.
func (p *Pager) keepOnCall(text []byte) error {
	return p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO oncall_file (one, text) VALUES (1, ?)`, append([]byte{}, text...))
		return err
	})
}
