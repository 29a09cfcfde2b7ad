package dashboards

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"

	"golang.org/x/time/rate"
)

// pagePolicy keeps every request of a page on our own origin and refuses inline script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// explorerPolicy is for vmui, which sets inline styles and starts workers from blobs.
const explorerPolicy = "default-src 'self' data: blob: 'unsafe-inline'; frame-ancestors 'none'"

// access decides who may see and do what: sessions, tokens, roles and origins.
type access struct {
	auth         Auth
	open         bool
	secureCookie bool
	limiter      *limiter       // of failed logins
	faults       rate.Sometimes // limits the log's lines: a client may cause them again and again
	pages        *renderer
	metrics      *metrics
	log          *slog.Logger
}

// guard refuses requests that another site's page has caused, and sets the headers of every answer.
func (a *access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.caught(r)
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if a.open && !loopbackHost(r.Host) {
			fail(w, http.StatusForbidden, "host "+r.Host+" is not this machine: open the demo as localhost or 127.0.0.1")
			return
		}
		if !sameOrigin(r) && !strings.HasPrefix(r.URL.Path, ackPrefix) { // a link carries its own permission, no cookie
			fail(w, http.StatusForbidden, "request comes from another site")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// caught is deferred where a client is served: a panic ends that client's
// connection alone, and not in silence.
func (a *access) caught(r *http.Request) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler: // says that the connection is to end
		panic(v)
	default:
		a.faulted(r.URL.Path, v)
		panic(http.ErrAbortHandler)
	}
}

// apart serves a client outside of net/http's care.
func (a *access) apart(r *http.Request, serve func()) {
	defer func() { _ = recover() }() // caught has reported it
	defer a.caught(r)
	serve()
}

// faulted counts and logs a panic, from within the deferred function that has recovered it.
func (a *access) faulted(where string, v any) {
	a.metrics.panics.Inc()
	a.faults.Do(func() {
		a.log.Error("a fault in the collector has ended a connection; please report it", "where", where, "panic", v, "stack", string(debug.Stack()))
	})
}

// sameOrigin is false for what another origin's page asks for, but for following a link.
// Programs send neither header and pass.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// loopbackHost stops DNS rebinding: a foreign name that points at loopback is refused.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

type userKey struct{}

func userOf(r *http.Request) User {
	u, _ := r.Context().Value(userKey{}).(User)
	return u
}

// page lets users in and sends everybody else to the login.
func (a *access) page(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := a.authenticate(r)
		if err == nil && !u.Role.allows(Viewer) {
			http.Error(w, "role "+string(u.Role)+" sees no pages", http.StatusForbidden)
			return
		}
		if err == nil {
			next(w, r.WithContext(context.WithValue(r.Context(), userKey{}, u)))
			return
		}
		if !errors.Is(err, ErrDenied) {
			a.fault(w, r, err)
			return
		}
		http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
	})
}

// api lets users of a role in and answers everybody else in JSON.
func (a *access) api(need Role, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := a.authenticate(r)
		switch {
		case errors.Is(err, ErrDenied):
			w.Header().Set("WWW-Authenticate", `Bearer realm="bramble"`)
			fail(w, http.StatusUnauthorized, "log in at /login or send Authorization: Bearer with a token of `collector token create`")
		case err != nil:
			a.fault(w, r, err)
		case !u.Role.allows(need):
			fail(w, http.StatusForbidden, "role "+string(u.Role)+" may not do this: it needs "+string(need))
		default:
			next(w, r.WithContext(context.WithValue(r.Context(), userKey{}, u)))
		}
	})
}

func (a *access) authenticate(r *http.Request) (User, error) {
	if a.open {
		return User{Name: "demo", Role: Operator}, nil
	}
	c := a.credential(r)
	if c == "" {
		return User{}, ErrDenied
	}
	return a.auth.Authenticate(r.Context(), c)
}

// credential is a token, in a Bearer header or as the password of Basic authentication, which many clients can be given
// and no Bearer header; the user's name does not count. Else it is the browser's session.
func (a *access) credential(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	if _, token, ok := r.BasicAuth(); ok {
		return token
	}
	if c, err := r.Cookie(a.cookieName(r)); err == nil {
		return c.Value
	}
	return ""
}

// fault answers an error of ours: the detail goes to the log only.
func (a *access) fault(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		a.log.Error("request failed", "path", r.URL.Path, "error", err)
	}
	fail(w, http.StatusInternalServerError, "the collector could not answer: see its log")
}

func explorer(h http.Handler) http.HandlerFunc {
	next := orNotFound(h)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", explorerPolicy)
		next(w, r)
	}
}
