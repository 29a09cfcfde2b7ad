package alerting

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/proto"
)

// thread is what an integration remembers of a group between its pages, such as the chat message to update.
type thread struct {
	store  *nflog.Store
	letter *letter
	was    []byte
}

// openThread reads the thread of a letter's group; a new one is empty.
func (p *Pager) openThread(ctx context.Context, l *letter) (*thread, error) {
	t := &thread{letter: l}
	row := p.db.QueryRowContext(ctx, `SELECT entry FROM alert_thread WHERE receiver = ? AND integration = ? AND idx = ? AND group_key = ?`,
		l.receiver, l.integration, l.idx, l.groupKey)
	if err := row.Scan(&t.was); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read thread of page %s: %w", l.id, err)
	}
	var entry nflogpb.Entry
	if err := proto.Unmarshal(t.was, &entry); err != nil {
		return nil, fmt.Errorf("decode thread of page %s: %w", l.id, err)
	}
	t.store = nflog.NewStore(&entry)
	return t, nil
}

// save keeps what the integration changed. Losing it costs an edited message, so an error is only logged.
func (t *thread) save(p *Pager) {
	if t.letter.groupKey == "" { // messages that were collected are of no group
		return
	}
	b, err := t.encode(p.threads)
	if err != nil {
		p.log.Error("encode a page's thread", "page", t.letter.id, "err", err)
		return
	}
	if bytes.Equal(b, t.was) {
		return
	}
	l := t.letter
	err = p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_thread (receiver, integration, idx, group_key, entry, at) VALUES (?,?,?,?,?,?)`,
			l.receiver, l.integration, l.idx, l.groupKey, b, time.Now().UnixMilli())
		return err
	})
	if err != nil {
		p.log.Error("write a page's thread", "page", l.id, "err", err)
	}
}

// encode goes through a notification log, the only thing that can read a store.
func (t *thread) encode(log *nflog.Log) ([]byte, error) {
	to := &nflogpb.Receiver{GroupName: t.letter.id}
	if err := log.Log(to, t.letter.groupKey, nil, nil, t.store, time.Minute); err != nil {
		return nil, err
	}
	found, err := log.Query(nflog.QGroupKey(t.letter.groupKey), nflog.QReceiver(to))
	if err != nil || len(found[0].ReceiverData) == 0 {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&nflogpb.Entry{ReceiverData: found[0].ReceiverData})
}
