package dashboards

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// ErrBadHistory is wrapped by the errors of Histories where the question has no answer.
var ErrBadHistory = errors.New("bad history")

// Histories answers questions about a long time. Its methods must be safe for concurrent use.
type Histories interface {
	// History returns a metric of a board, step by step; its error may wrap ErrBadHistory.
	History(ctx context.Context, q HistoryQuery) ([]Span, error)
	Rollups() Rollups
}

// HistoryQuery asks how a metric of a board did. Steps are a multiple of Rollups.BucketSeconds; one that ends at T is
// of the readings after T − Step and up to T.
type HistoryQuery struct {
	Board, Metric string
	By            []string // labels that are told apart
	Start, End    time.Time
	Step          time.Duration
}

// Span is how one group of a board's series did, step by step. Steps without a reading are left out. Min, Max and Mean are of all
// readings of a step, Count is how many they were.
type Span struct {
	Labels map[string]string `json:"labels"`
	At     []int64           `json:"at"` // ends of the steps, Unix milliseconds
	Min    []float64         `json:"min"`
	Max    []float64         `json:"max"`
	Mean   []float64         `json:"mean"`
	Count  []float64         `json:"count"`
}

// Rollups is the material of histories. The zero value is a collector without rollups.
type Rollups struct {
	BucketSeconds int64 `json:"bucketSeconds"` // the shortest step
	RawSeconds    int64 `json:"rawSeconds"`    // how long readings are kept
	KeptSeconds   int64 `json:"keptSeconds"`   // how long rollups are kept
	Until         int64 `json:"until,omitempty"`
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,199}$`)
	labelName  = metricName
)

func (s *Server) rollups(w http.ResponseWriter, _ *http.Request) {
	var status Rollups
	if s.opts.Histories != nil {
		status = s.opts.Histories.Rollups()
	}
	reply(w, status)
}

func (s *Server) boardHistory(w http.ResponseWriter, r *http.Request) {
	q, err := parseHistory(r.PathValue("name"), r.URL.Query())
	switch {
	case err != nil:
		fail(w, http.StatusBadRequest, err.Error())
		return
	case !registered(s.opts.Fleet, q.Board):
		fail(w, http.StatusNotFound, "no board "+q.Board+" is registered")
		return
	case s.opts.Histories == nil:
		fail(w, http.StatusNotFound, "this collector keeps no rollups: ask /api/v1/query_range")
		return
	}
	spans, err := s.opts.Histories.History(r.Context(), q)
	switch {
	case errors.Is(err, ErrBadHistory):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.access.fault(w, r, err)
	default:
		reply(w, map[string]any{"stepSeconds": int64(q.Step.Seconds()), "spans": spans})
	}
}

// parseHistory reads metric, by (any number of times), start and end in Unix milliseconds, and step in seconds.
func parseHistory(board string, form url.Values) (HistoryQuery, error) {
	q := HistoryQuery{Board: board, Metric: form.Get("metric"), By: form["by"]}
	if !metricName.MatchString(q.Metric) {
		return q, fmt.Errorf("metric %q is not the name of one", q.Metric)
	}
	if len(q.By) > 8 {
		return q, fmt.Errorf("by is there %d times: 8 are the most", len(q.By))
	}
	for _, l := range q.By {
		if !labelName.MatchString(l) {
			return q, fmt.Errorf("by %q is not the name of a label", l)
		}
	}
	var n [3]int64
	for i, key := range []string{"start", "end", "step"} {
		v, err := strconv.ParseInt(form.Get(key), 10, 64)
		if err != nil || v <= 0 || v > 1<<45 {
			return q, fmt.Errorf("%s %q is no whole number above 0: times are in Unix milliseconds, the step is in seconds", key, form.Get(key))
		}
		n[i] = v
	}
	if n[2] > int64(366*24*time.Hour/time.Second) {
		return q, fmt.Errorf("step %d is longer than a year", n[2])
	}
	q.Start, q.End, q.Step = time.UnixMilli(n[0]), time.UnixMilli(n[1]), time.Duration(n[2])*time.Second
	return q, nil
}
