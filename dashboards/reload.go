package dashboards

import "net/http"

// reload takes over changed rule files and routes, as Prometheus' and Alertmanager's route of that name do. Its answer
// says what is wrong with them; the old ones then stay in force.
func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Reload == nil {
		fail(w, http.StatusNotFound, "this collector has no files to reload")
		return
	}
	if err := s.opts.Reload(); err != nil {
		fail(w, http.StatusUnprocessableEntity, "nothing is changed: "+err.Error())
		return
	}
	reply(w, map[string]string{"status": "success"})
}
