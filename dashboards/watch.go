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

	"bramble/alerting/alert"
)

// ErrUnknownHeartbeat is returned for a heartbeat that does not exist; ErrBadHeartbeat is wrapped by the
// reasons to refuse a beat.
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

// Beat is one sign of life; zero fields keep the values before.
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

// Heartbeats keeps the things that must report in time. Its methods must be safe for concurrent use.
type Heartbeats interface {
	List() []Heartbeat
	Beat(ctx context.Context, name string, beat Beat) (Heartbeat, error)
	Remove(ctx context.Context, name string) error
	// Beats is the state of the collector's own; nil where none are configured.
	Beats() *Beats
}

// beatBody is the body of POST /api/heartbeats/{name}; an empty one keeps the values before.
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

func (p *onCallPages) listHeartbeats(w http.ResponseWriter, _ *http.Request) {
	answer := map[string]any{"now": time.Now().UnixMilli(), "heartbeats": []Heartbeat{}}
	if p.heartbeats != nil {
		answer["heartbeats"] = p.heartbeats.List()
		if b := p.heartbeats.Beats(); b != nil {
			answer["watchdog"] = b
		}
	}
	reply(w, answer)
}

func (p *onCallPages) postHeartbeat(w http.ResponseWriter, r *http.Request) {
	if p.heartbeats == nil {
		fail(w, http.StatusNotFound, "this collector waits for nobody's heartbeat")
		return
	}
	beat, ok := take(w, r, "heartbeat", decodeBeat)
	if !ok {
		return
	}
	beat.By = userOf(r).Name
	h, err := p.heartbeats.Beat(r.Context(), r.PathValue("name"), beat)
	switch {
	case errors.Is(err, ErrBadHeartbeat):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, h)
	}
}

func (p *onCallPages) removeHeartbeat(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	err := ErrUnknownHeartbeat
	if p.heartbeats != nil {
		err = p.heartbeats.Remove(r.Context(), name)
	}
	switch {
	case errors.Is(err, ErrUnknownHeartbeat):
		fail(w, http.StatusNotFound, "no heartbeat "+name)
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, map[string]string{"removed": name})
	}
}

func (p *onCallPages) listTests(w http.ResponseWriter, r *http.Request) {
	list := []alert.PageTest{}
	if p.of != nil {
		var err error
		if list, err = p.of.Tests(r.Context()); err != nil {
			p.access.fault(w, r, err)
			return
		}
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "tests": list})
}

// testBody is the body of POST /api/oncall/test.
type testBody struct {
	Receiver string `json:"receiver"`
}

func (p *onCallPages) startTest(w http.ResponseWriter, r *http.Request) {
	if p.of == nil {
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
	t, err := p.of.Test(r.Context(), body.Receiver, userOf(r).Name)
	switch {
	case errors.Is(err, alert.ErrBadTest):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		p.access.fault(w, r, err)
	default:
		reply(w, t)
	}
}

func (p *onCallPages) watchPage(w http.ResponseWriter, r *http.Request) {
	p.pages.renderFor(w, r, http.StatusOK, "watch.html", view{Title: "Is anybody watching?", Script: "oncall/watch", Nav: "watch"})
}
