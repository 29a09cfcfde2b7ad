package dashboards

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistoryRoute(t *testing.T) {
	var asked []HistoryQuery
	o := parts{
		Auth: newTokens(), RollupStatus: func() Rollups { return Rollups{BucketSeconds: 900, RawSeconds: 7776000, KeptSeconds: 8e9, Until: 5} },
		Rollups: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }),
		History: func(_ context.Context, q HistoryQuery) ([]Span, error) {
			switch q.Metric {
			case "unlucky":
				return nil, errors.New("secret path /x")
			case "refused":
				return nil, fmt.Errorf("%w: a step of 901 s", ErrBadHistory)
			}
			asked = append(asked, q)
			return []Span{{Labels: map[string]string{"source": "measured"}, At: []int64{900_000}, Min: []float64{1}, Max: []float64{3}, Mean: []float64{2}, Count: []float64{9}}}, nil
		},
	}
	_, web := start(t, o)
	f := func(path, token string, want int, text string) {
		t.Helper()
		resp, body := call{path: path, token: token}.do(t, web.URL)
		if resp.StatusCode != want || !strings.Contains(body, text) {
			t.Errorf("%s as %s: %d %s, want %d with %q", path, token, resp.StatusCode, body, want, text)
		}
	}
	const good = "/api/boards/r1-01/history?metric=pi_cpu_clock_hertz&by=source&start=1000&end=900000&step=900"
	f(good, "", 401, "log in")
	f(good, "viewer-token", 200, `{"spans":[{"labels":{"source":"measured"},"at":[900000],"min":[1],"max":[3],"mean":[2],"count":[9]}],"stepSeconds":900}`)
	f(strings.Replace(good, "r1-01", "nobody", 1), "viewer-token", 404, "nobody")
	f(strings.Replace(good, "pi_cpu_clock_hertz", "refused", 1), "viewer-token", 400, "901")
	f(strings.Replace(good, "pi_cpu_clock_hertz", "unlucky", 1), "viewer-token", 500, "error")
	for _, bad := range []string{"metric=", "metric=x{", "by=a%20b", "start=", "start=-1", "end=x", "step=0", "step=99999999999", strings.Repeat("&by=a", 9)} {
		form, _ := url.ParseQuery(strings.TrimPrefix(good, "/api/boards/r1-01/history?"))
		change, _ := url.ParseQuery(bad)
		for k, v := range change {
			form[k] = v
		}
		f("/api/boards/r1-01/history?"+form.Encode(), "viewer-token", 400, "")
	}
	want := []HistoryQuery{{Board: "r1-01", Metric: "pi_cpu_clock_hertz", By: []string{"source"}, Start: time.UnixMilli(1000), End: time.UnixMilli(900_000), Step: 15 * time.Minute}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	f("/api/rollups", "", 401, "log in")
	f("/api/rollups", "viewer-token", 200, `"rawSeconds":7776000`)
	f("/rollups/api/v1/query?query=1", "", 401, "log in")
	f("/rollups/api/v1/query?query=1", "viewer-token", 200, "/api/v1/query")
}

func TestACollectorWithoutRollupsSaysSo(t *testing.T) {
	_, web := start(t, parts{Open: true})
	for path, want := range map[string]int{"/api/boards/r1-01/history?metric=x&start=1&end=2&step=900": 404, "/api/rollups": 200, "/rollups/api/v1/query": 404} {
		if resp, body := (call{path: path}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
}

func FuzzHistoryQuery(f *testing.F) {
	f.Add("metric=pi_load1&start=1&end=2&step=900")
	f.Add("metric=pi_load1&by=source&by=x&start=1&end=9999999999999&step=86400")
	f.Add(`metric=a"}&start=1e3&step=-900`)
	f.Fuzz(func(t *testing.T, text string) {
		form, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseHistory("r1-01", form)
		if err == nil && (strings.ContainsAny(q.Metric+strings.Join(q.By, ""), "\"{}[]() ,\n") || q.Step <= 0 || q.Start.UnixMilli() <= 0) {
			t.Errorf("%q became %+v", text, q)
		}
	})
}
