package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func newListener(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// sink is the receiver of a webhook.
type sink struct {
	url string

	mu     sync.Mutex
	pages  map[string]map[string]int // board, or domain such as "rack r1" → idempotency key → requests
	onPage func(board string)        // called before the answer; nil = nothing
	// onAlert is called for each alert of a page, before onPage; nil = nothing.
	onAlert func(alert, board string)
}

func newSink(t testing.TB) *sink {
	t.Helper()
	l, err := newListener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{url: "http://" + l.Addr().String() + "/", pages: map[string]map[string]int{}}
	server := &http.Server{Handler: http.HandlerFunc(k.take)}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }() // it always errs when it is closed
	t.Cleanup(func() { server.Close(); <-ended })
	return k
}

func (k *sink) take(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var page struct {
		Alerts []struct {
			Status string            `json:"status"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if err == nil {
		err = json.Unmarshal(b, &page)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, a := range page.Alerts {
		who := a.Labels["board"]
		if d := a.Labels["domain"]; d != "" {
			who = strings.TrimSpace(d + " " + a.Labels[d])
		}
		if k.onAlert != nil {
			k.onAlert(a.Labels["alertname"], who)
		}
		k.note(who, r.Header.Get("Idempotency-Key"))
	}
}

func (k *sink) note(board, key string) {
	k.mu.Lock()
	if k.pages[board] == nil {
		k.pages[board] = map[string]int{}
	}
	k.pages[board][key]++
	tell := k.onPage
	k.mu.Unlock()
	if tell != nil {
		tell(board)
	}
}

func (k *sink) tell(f func(board string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.onPage = f
}

// keys returns the requests of each page about a board.
func (k *sink) keys(board string) map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := map[string]int{}
	for key, n := range k.pages[board] {
		found[key] = n
	}
	return found
}

// told returns how many pages there were about whom.
func (k *sink) told() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := map[string]int{}
	for who, keys := range k.pages {
		n[who] = len(keys)
	}
	return n
}
