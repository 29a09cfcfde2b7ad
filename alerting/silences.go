package alerting

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"github.com/prometheus/alertmanager/silence/silencepb"
	"google.golang.org/protobuf/encoding/protodelim"
)

// recordSilence writes a silence that was set or expired. Alertmanager calls it where it would tell its peers, before
// it answers the client: what it answered survives a crash.
func (p *Pager) recordSilence(b []byte) {
	var s silencepb.MeshSilence
	if err := protodelim.UnmarshalFrom(bufio.NewReader(bytes.NewReader(b)), &s); err != nil {
		p.log.Error("decode a silence", "err", err)
		return
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_silence (id, entry, expires_at) VALUES (?,?,?)`,
			s.Silence.Id, b, s.ExpiresAt.AsTime().UnixMilli())
		return err
	})
	if err != nil {
		p.log.Error("write a silence: it holds until the next restart only", "id", s.Silence.Id, "err", err)
	}
}

func (p *Pager) loadSilences(ctx context.Context) error {
	return p.loadEntries(ctx, `SELECT entry FROM alert_silence`, "silences", p.silences.Merge)
}

func (p *Pager) loadNotified(ctx context.Context) error {
	return p.loadEntries(ctx, `SELECT entry FROM alert_notified`, "notifications", p.notified.Merge)
}

func (p *Pager) loadEntries(ctx context.Context, query, what string, merge func([]byte) error) error {
	rows, err := p.db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if err := merge(b); err != nil {
			return fmt.Errorf("decode %s: %w", what, err)
		}
	}
	return rows.Err()
}
