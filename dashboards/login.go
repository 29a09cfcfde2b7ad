package dashboards

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sessionDays is how long a browser keeps the cookie; Auth decides how long it is in force.
const sessionDays = 30

const maxForm = 8 << 10

func (s *Server) secure(r *http.Request) bool { return r.TLS != nil || s.opts.SecureCookie }

// cookieName carries the __Host- prefix where TLS allows it, so that no other host of the domain can set it.
func (s *Server) cookieName(r *http.Request) string {
	if s.secure(r) {
		return "__Host-bramble"
	}
	return "bramble"
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: s.secure(r), SameSite: http.SameSiteStrictMode,
	})
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	if s.opts.Open {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.render(w, http.StatusOK, "login.html", &view{Title: "Log in", Next: localPath(r.URL.Query().Get("next"))})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if s.opts.Open {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	from := addressOf(r)
	if wait := s.limiter.wait(from); wait > 0 {
		s.metrics.denied.Inc()
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		s.refuseLogin(w, r, http.StatusTooManyRequests, "Too many attempts. Try again in "+wait.Round(time.Second).String()+".")
		return
	}
	s.limiter.attempt(from)
	session, err := s.opts.Auth.Login(r.Context(), r.PostFormValue("name"), r.PostFormValue("password"))
	switch {
	case errors.Is(err, ErrDenied):
		s.metrics.denied.Inc()
		s.refuseLogin(w, r, http.StatusUnauthorized, "Name or password is wrong.")
	case err != nil:
		s.fault(w, r, err)
	default:
		s.limiter.succeeded(from)
		s.setCookie(w, r, session, sessionDays*24*3600)
		http.Redirect(w, r, localPath(r.PostFormValue("next")), http.StatusSeeOther)
	}
}

func (s *Server) refuseLogin(w http.ResponseWriter, r *http.Request, code int, why string) {
	s.render(w, code, "login.html", &view{
		Title: "Log in", Next: localPath(r.PostFormValue("next")), Name: r.PostFormValue("name"), Message: why,
	})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookieName(r)); err == nil && s.opts.Auth != nil {
		if err := s.opts.Auth.Logout(r.Context(), c.Value); err != nil {
			s.fault(w, r, err)
			return
		}
	}
	s.setCookie(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// localPath keeps a redirect on this server: a path, never a host.
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n\t") {
		return "/"
	}
	return p
}
