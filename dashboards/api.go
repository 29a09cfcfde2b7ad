package dashboards

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"bramble/dashboards/live"
)

// maxComment bounds the note of an acknowledgement, in bytes.
const maxComment = 1000

//go:embed openapi.json
var openAPIText []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPIText) // the client has gone
}

// boardAnswer is one entry of /api/boards. Absent values are not known.
type boardAnswer struct {
	Board
	live.State
	Latest []live.Latest `json:"latest,omitempty"`
}

func (s *Server) answer(b Board) boardAnswer {
	a := boardAnswer{Board: b, State: s.hub.State(b.Name)}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	if !b.LastReport.IsZero() {
		a.State.LastReport = max(a.State.LastReport, b.LastReport.UnixMilli())
	}
	return a
}

func (s *Server) listBoards(w http.ResponseWriter, _ *http.Request) {
	boards := slices.Clone(s.opts.Fleet.Boards())
	slices.SortFunc(boards, func(a, b Board) int { return strings.Compare(a.Name, b.Name) })
	out := make([]boardAnswer, len(boards))
	for i, b := range boards {
		out[i] = s.answer(b)
	}
	reply(w, map[string]any{"now": time.Now().UnixMilli(), "boards": out})
}

func registered(f Fleet, name string) bool { _, ok := find(f.Boards(), name); return ok }

// find returns a board by its name.
func find(boards []Board, name string) (Board, bool) {
	for _, b := range boards {
		if b.Name == name {
			return b, true
		}
	}
	return Board{}, false
}

func (s *Server) oneBoard(w http.ResponseWriter, r *http.Request) {
	b, ok := find(s.opts.Fleet.Boards(), r.PathValue("name"))
	if !ok {
		fail(w, http.StatusNotFound, "no board "+r.PathValue("name")+" is registered")
		return
	}
	a := s.answer(b)
	a.Latest = s.hub.Latest(b.Name)
	slices.SortFunc(a.Latest, func(x, y live.Latest) int { return strings.Compare(x.Series, y.Series) })
	reply(w, a)
}

// status counts dropped reports by reason, so that nothing is lost silently.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	rejected, counts := map[string]uint64{}, map[string]uint64{}
	if s.opts.Collector != nil {
		rejected, counts = s.opts.Collector.Rejected(), s.opts.Collector.Counts()
	}
	var total uint64
	for _, n := range rejected {
		total += n
	}
	reply(w, map[string]any{
		"version": s.opts.Version, "started": s.opts.Started.UnixMilli(), "now": time.Now().UnixMilli(),
		"rejected": rejected, "rejectedTotal": total, "counts": counts, "boards": len(s.opts.Fleet.Boards()),
	})
}

// backupsAnswer adds the time to the state of the backups.
type backupsAnswer struct {
	Now int64 `json:"now"`
	Backups
}

func (s *Server) listBackups(w http.ResponseWriter, _ *http.Request) {
	b := Backups{Kept: []Backup{}}
	if s.opts.Collector != nil {
		b = s.opts.Collector.Backups()
	}
	reply(w, backupsAnswer{time.Now().UnixMilli(), b})
}

type faultAnswer struct {
	At   int64  `json:"at"`
	What string `json:"what"`
	Done bool   `json:"done"`
}

type receivedAnswer struct {
	At         int64             `json:"at"`
	ID         string            `json:"id,omitempty"`
	To         string            `json:"to"`
	Subject    string            `json:"subject"`
	Headers    map[string]string `json:"headers,omitempty"`
	Body       string            `json:"body"`
	IncidentID string            `json:"incidentId,omitempty"`
}

func (s *Server) demo(w http.ResponseWriter, _ *http.Request) {
	d := s.opts.Demo
	if d == nil {
		fail(w, http.StatusNotFound, "these boards are real: there is no demo")
		return
	}
	faults, inbox := []faultAnswer{}, []receivedAnswer{}
	if d.Faults != nil {
		for _, f := range d.Faults() {
			faults = append(faults, faultAnswer{f.At.UnixMilli(), f.What, f.Done})
		}
	}
	if d.Inbox != nil {
		for _, p := range d.Inbox() {
			inbox = append(inbox, receivedAnswer{p.At.UnixMilli(), p.ID, p.To, p.Subject, p.Headers, p.Body, p.IncidentID})
		}
	}
	answer := map[string]any{"now": time.Now().UnixMilli(), "faults": faults, "inbox": inbox}
	if !d.HistoryEnds.IsZero() {
		answer["historyEnds"] = d.HistoryEnds.UnixMilli()
	}
	reply(w, answer)
}

// acknowledgement is the body of an acknowledgement; an empty body is one without a comment.
type acknowledgement struct {
	Comment string `json:"comment"`
}

func decodeAcknowledgement(b []byte) (acknowledgement, error) {
	var a acknowledgement
	if len(b) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, err
	}
	if len(a.Comment) > maxComment {
		return a, errors.New("comment is longer than 1000 bytes")
	}
	return a, nil
}

func parseComment(body io.Reader) (string, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return "", fmt.Errorf("read acknowledgement: %w", err)
	}
	a, err := decodeAcknowledgement(b)
	if err != nil {
		return "", fmt.Errorf("decode acknowledgement: %w", err)
	}
	return a.Comment, nil
}
