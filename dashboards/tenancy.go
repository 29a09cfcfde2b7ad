package dashboards

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// strangerRoutes are open to whoever comes, a customer among them: what they show needs no login, or a signed link.
var strangerRoutes = set(
	"GET /-/healthy", "GET /-/ready", "GET /login", "POST /login", "POST /logout", "GET /static/",
	"GET /ack/{link}", "POST /ack/{link}", "GET /picture/{link}",
	"GET /own/contact/{link}", "POST /own/contact/{link}",
)

// customerRoutes is all that the login or token of a customer reaches beside strangerRoutes. A route that is not on it
// answers 403, whatever its own handler would say: a new one is closed until somebody writes it here.
var customerRoutes = set(
	"GET /own", "GET /own/board/{name}", "GET /own/live",
	"GET /api/own/boards", "GET /api/own/boards/{name}", "GET /api/own/boards/{name}/history", "GET /api/own/alerts",
	"GET /api/own/settings", "POST /api/own/thresholds", "DELETE /api/own/thresholds/{kind}",
	"POST /api/own/contacts", "POST /api/own/contacts/{id}/ask", "DELETE /api/own/contacts/{id}",
)

func set(all ...string) map[string]bool {
	m := make(map[string]bool, len(all))
	for _, s := range all {
		m[s] = true
	}
	return m
}

// routes is a ServeMux that knows its patterns.
type routes struct {
	mux      *http.ServeMux
	patterns []string
}

func newRoutes() *routes { return &routes{mux: http.NewServeMux()} }

// Handle registers a route.
func (r *routes) Handle(pattern string, h http.Handler) {
	r.patterns = append(r.patterns, pattern)
	r.mux.Handle(pattern, h)
}

// HandleFunc registers a route.
func (r *routes) HandleFunc(pattern string, h http.HandlerFunc) { r.Handle(pattern, h) }

// confine keeps customers on their routes, before any handler has a say. Their way to / leads to their own page.
func (a *access) confine(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		if strangerRoutes[pattern] || customerRoutes[pattern] {
			mux.ServeHTTP(w, r)
			return
		}
		u, err := a.authenticate(r)
		switch {
		case err != nil || u.Role != Customer: // who it is, and what that allows, is the handler's to say
			mux.ServeHTTP(w, r)
		case pattern == "GET /{$}":
			http.Redirect(w, r, "/own", http.StatusSeeOther)
		default:
			fail(w, http.StatusForbidden, "role customer may not do this: /api/own/boards and what stands beside it is all that it reaches")
		}
	})
}

const (
	// busyAtOnce is how many requests of one customer are answered at a time: the store is everybody's.
	busyAtOnce = 4
	// busyWaiting is how many more may wait for that, and busyPatience for how long.
	busyWaiting  = 32
	busyPatience = 10 * time.Second
)

// busy lets each customer have so many requests under way.
type busy struct {
	patience time.Duration // how long one waits

	mu  sync.Mutex
	all map[string]*busyCustomer
}

type busyCustomer struct {
	places chan struct{} // one for each request that is being answered
	n      int           // requests, the waiting ones included
}

// begin waits for a place and reports whether there was one. Who got one calls end.
func (b *busy) begin(ctx context.Context, customer string) bool {
	c := b.enter(customer)
	if c == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		return true
	case <-ctx.Done():
		b.leave(customer)
		return false
	}
}

func (b *busy) end(customer string) {
	b.mu.Lock()
	<-b.all[customer].places
	b.mu.Unlock()
	b.leave(customer)
}

// enter returns nil where too many wait already.
func (b *busy) enter(customer string) *busyCustomer {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.all[customer]
	if c == nil {
		c = &busyCustomer{places: make(chan struct{}, busyAtOnce)}
		if b.all == nil {
			b.all = map[string]*busyCustomer{}
		}
		b.all[customer] = c
	}
	if c.n >= busyAtOnce+busyWaiting {
		return nil
	}
	c.n++
	return c
}

func (b *busy) leave(customer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.all[customer]; c.n > 1 {
		c.n--
	} else {
		delete(b.all, customer)
	}
}
