package dashboards

import (
	"bytes"
	"log/slog"
	"net/http"

	"bramble/dashboards/live"
)

// view is the data of a page's template. The rest comes from the JSON routes.
type view struct {
	Static, Title, Script, Nav string
	User                       User
	Open, Demo                 bool
	Version, BoardsPort        string
	Board                      string
	Next, Name, Message        string
}

// page is the data of a template: a view, or something with one inside.
type page interface{ common() *view }

func (v *view) common() *view { return v }

// renderer makes pages of templates.
type renderer struct {
	web                 *webFiles
	open, demo          bool
	version, boardsPort string
	log                 *slog.Logger
}

func (s *Server) fleetPage(w http.ResponseWriter, r *http.Request) {
	s.pages.renderFor(w, r, http.StatusOK, "fleet.html", view{Title: "Fleet", Script: "fleet/fleet", Nav: "fleet"})
}

func (s *Server) boardPage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !live.ValidBoard(name) || !registered(s.opts.Fleet, name) {
		s.pages.renderFor(w, r, http.StatusNotFound, "message.html", view{
			Title: "No such board", Script: "page/plain", Nav: "fleet",
			Message: "No board is registered under this name. Find takes any part of a name.",
		})
		return
	}
	s.pages.renderFor(w, r, http.StatusOK, "board.html", view{Title: name, Script: "board/board", Nav: "fleet", Board: name})
}

func (s *Server) notFoundPage(w http.ResponseWriter, r *http.Request) {
	s.pages.renderFor(w, r, http.StatusNotFound, "message.html", view{
		Title: "No such page", Script: "page/plain", Message: "There is no page at this address.",
	})
}

func (p *renderer) renderFor(w http.ResponseWriter, r *http.Request, code int, name string, v view) {
	v.User, v.Open, v.Demo = userOf(r), p.open, p.demo
	p.render(w, code, name, &v)
}

func (p *renderer) render(w http.ResponseWriter, code int, name string, v page) {
	v.common().Static, v.common().Version, v.common().BoardsPort = p.web.prefix, p.version, p.boardsPort
	var b bytes.Buffer
	if err := p.web.templates.ExecuteTemplate(&b, name, v); err != nil {
		p.log.Error("page not rendered", "page", name, "error", err)
		fail(w, http.StatusInternalServerError, "the page could not be made: see the collector's log")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // the client has gone
}
