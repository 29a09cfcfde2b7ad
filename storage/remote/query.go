package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bramble/storage"
	"bramble/storage/series"
)

// maxAnswerBytes bounds the answer to one query of ours; a rule that asks for more is an error.
const maxAnswerBytes = 256 << 20

// Query is like [Store.Query], but sees rows some seconds after the remote took them.
func (r *Store) Query(ctx context.Context, expr string, at time.Time) ([]series.Result, error) {
	return r.ask(ctx, "/api/v1/query", expr, url.Values{
		"time": {stamp(at)}, "step": {seconds(storage.Lookback)},
	})
}

// QueryRange is like [Store.QueryRange], but sees rows some seconds after the remote took them.
func (r *Store) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]series.Result, error) {
	if step < time.Millisecond {
		return nil, fmt.Errorf("query %q: step %s is below 1ms", expr, step)
	}
	if end.Before(start) {
		return nil, fmt.Errorf("query %q: end %s is before start %s", expr, end, start)
	}
	if end.Sub(start)/step >= storage.MaxPoints {
		return nil, fmt.Errorf("query %q: more than %d points", expr, storage.MaxPoints)
	}
	return r.ask(ctx, "/api/v1/query_range", expr, url.Values{
		"start": {stamp(start)}, "end": {stamp(end)}, "step": {seconds(step)},
	})
}

// stamp is a time in Unix seconds, to the millisecond.
func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }

func seconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Milliseconds())/1e3, 'f', 3, 64)
}

// fresh tells a remote not to hide the last seconds (1 ms is the least that it takes), and not to answer from a cache
// that misses late rows.
func fresh(v url.Values) {
	v.Set("nocache", "1")
	v.Set("latency_offset", "1ms")
}

func (r *Store) ask(ctx context.Context, path, expr string, form url.Values) (_ []series.Result, err error) {
	if err := r.gate.Enter(); err != nil {
		return nil, err
	}
	defer r.gate.Leave()
	defer func() {
		if err != nil {
			err = fmt.Errorf("query %q: %w", expr, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, storage.MaxQueryTime)
	defer cancel()
	defer r.gate.WhenCut(cancel)()
	form.Set("query", expr)
	fresh(form)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.options.Read+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAnswer(resp.Status, io.LimitReader(resp.Body, maxAnswerBytes))
}

// answer is one of the Prometheus HTTP API.
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  *point            `json:"value"`
			Values []point           `json:"values"`
		} `json:"result"`
	} `json:"data"`
}

// point is a time and a value, `[1700000000.123,"1.5"]`.
type point struct {
	at    int64
	value float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *point) UnmarshalJSON(b []byte) error {
	at, value, ok := strings.Cut(strings.Trim(string(b), "[]"), ",")
	if !ok {
		return fmt.Errorf("point %s: want [time,\"value\"]", b)
	}
	t, err := strconv.ParseFloat(strings.TrimSpace(at), 64)
	if err == nil && math.Abs(t) > math.MaxInt64/1e4 {
		err = errors.New("time is out of range")
	}
	if err == nil {
		p.value, err = strconv.ParseFloat(strings.Trim(value, "\" \t\n"), 64)
	}
	if err != nil {
		return fmt.Errorf("point %s: %w", b, err)
	}
	p.at = int64(math.Round(t * 1e3))
	return nil
}

func readAnswer(status string, body io.Reader) ([]series.Result, error) {
	var a answer
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return nil, fmt.Errorf("the remote store answers %s, which is not the API's JSON: %w", status, err)
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("the remote store answers %s: %s", status, a.Error)
	}
	out := make([]series.Result, 0, len(a.Data.Result))
	for _, one := range a.Data.Result {
		points := one.Values
		if one.Value != nil {
			points = append(points, *one.Value)
		}
		res := series.Result{Labels: sortedLabels(one.Metric), At: make([]int64, 0, len(points)), Values: make([]float64, 0, len(points))}
		for _, p := range points {
			if !math.IsNaN(p.value) {
				res.At, res.Values = append(res.At, p.at), append(res.Values, p.value)
			}
		}
		if len(res.At) > 0 {
			out = append(out, res)
		}
	}
	return out, nil
}

// sortedLabels returns __name__ first, then by name.
func sortedLabels(metric map[string]string) []storage.Label {
	labels := make([]storage.Label, 0, len(metric))
	for name, value := range metric {
		labels = append(labels, storage.Label{Name: name, Value: value})
	}
	slices.SortFunc(labels, func(a, b storage.Label) int {
		if first := a.Name == "__name__"; first != (b.Name == "__name__") {
			if first {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return labels
}
