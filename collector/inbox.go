package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"bramble/dashboards"
)

const (
	// maxInbox pages are kept.
	maxInbox = 200
	// maxPage is the largest page that is taken, in bytes.
	maxPage = 1 << 20
)

// inbox is a real receiver of pages, on a port of its own: what it holds has
// left the collector over HTTP. It is safe for concurrent use.
type inbox struct {
	listener net.Listener
	server   http.Server
	incident func(ctx context.Context, pageID string) (id, title string) // whose page it is

	mu       sync.Mutex
	received []dashboards.Received // oldest first
}

func openInbox() (*inbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the demo's inbox: %w", err)
	}
	b := &inbox{listener: l}
	b.server = http.Server{Handler: http.HandlerFunc(b.take), ReadTimeout: 5 * time.Second}
	return b, nil
}

// url is where pages are posted.
func (b *inbox) url() string { return "http://" + b.listener.Addr().String() + "/" }

func (b *inbox) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.Header.Get("Idempotency-Key")
	page := dashboards.Received{At: time.Now(), ID: id, Headers: map[string]string{}, Body: string(body)}
	page.IncidentID, page.Subject = b.incident(r.Context(), id)
	var sent struct{ Receiver string }
	if err := json.Unmarshal(body, &sent); err != nil {
		http.Error(w, "decode page: "+err.Error(), http.StatusBadRequest)
		return
	}
	page.To = sent.Receiver
	for name := range r.Header {
		page.Headers[name] = r.Header.Get(name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, page)
	if len(b.received) > maxInbox {
		b.received = b.received[1:]
	}
}

// pages returns what was received, newest first.
func (b *inbox) pages() []dashboards.Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]dashboards.Received, 0, len(b.received))
	for i := len(b.received) - 1; i >= 0; i-- {
		all = append(all, b.received[i])
	}
	return all
}

// run takes pages until ctx ends.
func (b *inbox) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.server.Close() })
	defer stop()
	if err := b.server.Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the demo's inbox: %w", err)
	}
	return nil
}
