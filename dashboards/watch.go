package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"bramble/alerting"
)

// ErrUnknownHeartbeat is what Watcher.Remove returns for a heartbeat that does not exist; ErrBadHeartbeat is wrapped by what
// Watcher.Beat finds wrong with a beat.
var (
	ErrUnknownHeartbeat = errors.New("no such heartbeat")
	ErrBadHeartbeat     = errors.New("bad heartbeat")
)

// Heartbeat is something that is to be heard of in time. Times are Unix milliseconds.
type Heartbeat struct {
	Name          string `json:"name"`
	Board         string `json:"board,omitempty"`
	Message       string `json:"message,omitempty"`
	By            string `json:"by"`
	WithinSeconds int64  `json:"withinSeconds"`
	CreatedAt     int64  `json:"createdAt"`
	LastAt        int64  `json:"lastAt"`
	Deadline      int64  `json:"deadline"`
	Overdue       bool   `json:"overdue"`
}

// Beat is one sign of life; zero fields keep what was.
type Beat struct {
	Within             time.Duration
	Board, Message, By string
}

// Beats is how the collector's own beats to a heartbeat outside fare. Times are Unix milliseconds, 0 for never.
type Beats struct {
	EverySeconds int64  `json:"everySeconds"`
	SentAt       int64  `json:"sentAt,omitempty"`
	TriedAt      int64  `json:"triedAt,omitempty"`
	Error        string `json:"error,omitempty"`
}

// Watcher is how the watcher is watched. All funcs are needed, and safe for concurrent use.
type Watcher struct {
	List   func() []Heartbeat
	Beat   func(ctx context.Context, name string, beat Beat) (Heartbeat, error)
	Remove func(ctx context.Context, name string) error
	// Beats returns nil where none are configured.
	Beats func() *Beats
	Tests func(ctx context.Context) ([]alerting.PageTest, error)
	// Test sends a test page to a receiver, "" for the first.
	Test func(ctx context.Context, receiver, who string) (alerting.PageTest, error)
}

// beatBody is the body of POST /api/heartbeats/{name}; an empty one keeps what was.
type beatBody struct {
	Within  string `json:"within"`
	Board   string `json:"board"`
	Message string `json:"message"`
}

func decodeBeat(b []byte) (Beat, error) {
	var body beatBody
	if err := decodeStrict(b, &body); err != nil {
		return Beat{}, fmt.Errorf(`decode heartbeat: %w; write it like {"within":"25h","message":"12 GB copied"}`, err)
	}
	within, err := span(body.Within)
	if err != nil || body.Within != "" && within == 0 {
		return Beat{}, fmt.Errorf("within: %q: want a duration such as 25h", body.Within)
	}
	return Beat{Within: within, Board: body.Board, Message: body.Message}, nil
}

// decodeStrict decodes a body in which no unknown field may stand; an empty body changes nothing.
func decodeStrict(b []byte, to any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}

func (s *Server) listHeartbeats(w http.ResponseWriter, _ *http.Request) {
	answer := map[string]any{"now": time.Now().UnixMilli(), "heartbeats": []Heartbeat{}}
	if s.opts.Watcher != nil {
		answer["heartbeats"] = s.opts.Watcher.List()
		if b := s.opts.Watcher.Beats(); b != nil {
			answer["watchdog"] = b
		}
	}
	reply(w, answer)
}

func (s *Server) postHeartbeat(w http.ResponseWriter, r *http.Request) {
	if s.opts.Watcher == nil {
		fail(w, http.StatusNotFound, "this collector waits for nobody's heartbeat")
		return
	}
	beat, ok := take(w, r, "heartbeat", decodeBeat)
	if !ok {
		return
	}
	beat.By = userOf(r).Name
	h, err := s.opts.Watcher.Beat(r.Context(), r.PathValue("name"), beat)
	switch {
	case errors.Is(err, ErrBadHeartbeat):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.fault(w, r, err)
	default:
		reply(w, h)
	}
}

func (s *Server) removeHeartbeat(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	err := ErrUnknownHeartbeat
	if s.opts.Watcher != nil {
		err = s.opts.Watcher.Remove(r.Context(), name)
	}
	switch {
	case errors.Is(err, ErrUnknownHeartbeat):
		fail(w, http.StatusNotFound, "no heartbeat "+name)
	case err != nil:
		s.fault(w, r, err)
	default:
		reply(w, map[string]string{"removed": name})
	}
}

func (s *Server) listTests(w http.ResponseWriter, r *http.Request) {
	list := []alerting.PageTest{}
	if s.opts.Watcher != nil {
		var err error
		if list, err = s.opts.Watcher.Tests(r.Context()); err != nil {
			s.fault(w, r, err)
			return
		}
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "tests": list})
}

// testBody is the body of POST /api/oncall/test.
type testBody struct {
	Receiver string `json:"receiver"`
}

func (s *Server) startTest(w http.ResponseWriter, r *http.Request) {
	if s.opts.Watcher == nil {
		fail(w, http.StatusNotFound, "this collector pages nobody")
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var body testBody
	if err == nil {
		err = decodeStrict(b, &body)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Sprintf(`decode test page: %v; write it like {"receiver":"oncall"}`, err))
		return
	}
	t, err := s.opts.Watcher.Test(r.Context(), body.Receiver, userOf(r).Name)
	switch {
	case errors.Is(err, alerting.ErrBadTest):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.fault(w, r, err)
	default:
		reply(w, t)
	}
}

func (s *Server) watchPage(w http.ResponseWriter, r *http.Request) {
	s.renderFor(w, r, http.StatusOK, "watch.html", view{Title: "Is anybody watching?", Script: "oncall/watch", Nav: "watch"})
}
