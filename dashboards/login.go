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

func (a *access) secure(r *http.Request) bool { return r.TLS != nil || a.secureCookie }

// cookieName carries the __Host- prefix where TLS allows it, so that no other host of the domain can set it.
func (a *access) cookieName(r *http.Request) string {
	if a.secure(r) {
		return "__Host-bramble"
	}
	return "bramble"
}

func (a *access) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: a.cookieName(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: a.secure(r), SameSite: http.SameSiteStrictMode,
	})
}

func (a *access) loginPage(w http.ResponseWriter, r *http.Request) {
	if a.open {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	a.pages.render(w, http.StatusOK, "login.html", &view{Title: "Log in", Next: localPath(r.URL.Query().Get("next"))})
}

func (a *access) login(w http.ResponseWriter, r *http.Request) {
	if a.open {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	from := addressOf(r)
	if wait := a.limiter.wait(from); wait > 0 {
		a.metrics.denied.Inc()
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		a.refuseLogin(w, r, http.StatusTooManyRequests, "Too many attempts. Try again in "+wait.Round(time.Second).String()+".")
		return
	}
	a.limiter.attempt(from)
	session, err := a.auth.Login(r.Context(), r.PostFormValue("name"), r.PostFormValue("password"))
	switch {
	case errors.Is(err, ErrDenied):
		a.metrics.denied.Inc()
		a.refuseLogin(w, r, http.StatusUnauthorized, "Name or password is wrong.")
	case err != nil:
		a.fault(w, r, err)
	default:
		a.limiter.succeeded(from)
		a.setCookie(w, r, session, sessionDays*24*3600)
		http.Redirect(w, r, localPath(r.PostFormValue("next")), http.StatusSeeOther)
	}
}

func (a *access) refuseLogin(w http.ResponseWriter, r *http.Request, code int, why string) {
	a.pages.render(w, code, "login.html", &view{
		Title: "Log in", Next: localPath(r.PostFormValue("next")), Name: r.PostFormValue("name"), Message: why,
	})
}

func (a *access) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(a.cookieName(r)); err == nil && a.auth != nil {
		if err := a.auth.Logout(r.Context(), c.Value); err != nil {
			a.fault(w, r, err)
			return
		}
	}
	a.setCookie(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// localPath keeps a redirect on this server: a path, never a host.
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n\t") {
		return "/"
	}
	return p
}
