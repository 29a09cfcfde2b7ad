package pager

import (
	"context"
	"slices"
	"sync"
	"time"

	"bramble/alerting/incident"
)

// announceDelay is how long changes are collected before they are announced: eyes do not see it, and a page is written,
// sent and recorded in less.
const announceDelay = 50 * time.Millisecond

// changes collects the incidents that changed until they are announced.
type changes struct {
	notify func(incident.Incident)
	wake   chan struct{}

	mu  sync.Mutex
	ids []string
}

func newChanges(notify func(incident.Incident)) *changes {
	return &changes{notify: notify, wake: make(chan struct{}, 1)}
}

// changed notes that an incident has changed.
func (p *Pager) changed(id string) {
	c := p.changes
	if c.notify == nil {
		return
	}
	c.mu.Lock()
	if !slices.Contains(c.ids, id) {
		c.ids = append(c.ids, id)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// announce tells the owner of changes until ctx ends.
func (p *Pager) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changes.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(announceDelay):
			p.announceAll()
		}
	}
}

func (p *Pager) announceAll() {
	p.changes.mu.Lock()
	ids := p.changes.ids
	p.changes.ids = nil
	p.changes.mu.Unlock()
	for _, id := range ids {
		p.faults.Run("announce incident "+id, func() {
			in, err := p.Incident(context.Background(), id)
			if err != nil {
				p.log.Error("read a changed incident", "incident", id, "err", err)
				return
			}
			p.changes.notify(in)
		})
	}
}
