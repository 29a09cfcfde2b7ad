package dashboards

import (
	"net/http"
	"time"

	"bramble/alerting"
)

func (s *Server) offPage(w http.ResponseWriter, r *http.Request) {
	s.renderFor(w, r, http.StatusOK, "off.html", view{Title: "Alerts that are off", Script: "oncall/off", Nav: "off"})
}

func (s *Server) listOff(w http.ResponseWriter, _ *http.Request) {
	report := alerting.OffReport{Now: time.Now().UnixMilli(), Items: []alerting.Off{}}
	if s.opts.Off != nil {
		report = s.opts.Off()
	}
	reply(w, report)
}
