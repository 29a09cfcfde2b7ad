package dashboards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// defaultWithin is how long an announcement holds that does not say so.
	defaultWithin = 10 * time.Minute
	// maxWithin is the longest one.
	maxWithin = 24 * time.Hour
)

// announcement is the body of POST /api/boards/{name}/expect.
type announcement struct {
	What   string `json:"what"`
	Within string `json:"within"` // a duration such as "20m"; empty: defaultWithin
}

func decodeAnnouncement(b []byte, known []string) (what string, within time.Duration, err error) {
	var a announcement
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return "", 0, fmt.Errorf(`decode announcement: %w; write it like {"what":"reinstall","within":"20m"}`, err)
	}
	if !slices.Contains(known, a.What) {
		return "", 0, fmt.Errorf("what: %q: want one of %s", a.What, strings.Join(known, ", "))
	}
	if a.Within == "" {
		return a.What, defaultWithin, nil
	}
	within, err = time.ParseDuration(a.Within)
	if err != nil || within <= 0 || within > maxWithin {
		return "", 0, fmt.Errorf("within: %q: want a duration such as 20m, at most 24h", a.Within)
	}
	return a.What, within, nil
}

// expect takes the announcement of a reboot, a reinstall or a shutdown: it sets the words of what is then said about the
// board's silence.
func (s *Server) expect(w http.ResponseWriter, r *http.Request) {
	if len(s.opts.Fleet.Announcements()) == 0 {
		fail(w, http.StatusNotFound, "this collector takes no announcements")
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		fail(w, http.StatusBadRequest, "read announcement: "+err.Error())
		return
	}
	what, within, err := decodeAnnouncement(b, s.opts.Fleet.Announcements())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	board, who := r.PathValue("name"), userOf(r).Name
	err = s.opts.Fleet.Expect(r.Context(), board, who, what, within)
	switch {
	case errors.Is(err, ErrUnknownBoard):
		fail(w, http.StatusNotFound, "no board "+board+" is registered")
	case err != nil:
		s.access.fault(w, r, err)
	default:
		reply(w, map[string]any{"board": board, "what": what, "until": time.Now().Add(within).UnixMilli()})
	}
}
