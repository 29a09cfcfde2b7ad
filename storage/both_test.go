package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/storage"
	"bramble/storage/remote"
	"bramble/storage/storagetest"
)

// seriesStore is the part of a store that the collector's packages use.
type seriesStore interface {
	Add(rows []storage.Row) error
	Barrier() error
	Query(ctx context.Context, expr string, at time.Time) ([]storage.Result, error)
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]storage.Result, error)
	Handler() http.Handler
	Close() error
}

// subject is a store under test. Each check of the table writes boards of its own.
type subject struct {
	seriesStore
	url     string
	arrived func(t testing.TB) // returns when queries see the added rows
}

func (s subject) put(t testing.TB, rows ...storage.Row) {
	t.Helper()
	if err := s.Add(rows); err != nil {
		t.Fatal(err)
	}
}

func (s subject) number(t testing.TB, expr string, at time.Time) float64 {
	t.Helper()
	found, err := s.Query(context.Background(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	switch len(found) {
	case 0:
		return math.NaN()
	case 1:
		return found[0].Values[0]
	}
	t.Fatalf("%s has %d series", expr, len(found))
	return 0
}

func (s subject) get(t testing.TB, path string) (int, string) {
	t.Helper()
	status, _, body := storagetest.Get(t, s.url+path)
	return status, body
}

// checks hold for the embedded store and for a remote one.
var checks = map[string]func(t *testing.T, s subject){
	"what was added is read back exactly": func(t *testing.T, s subject) {
		start := storagetest.AnHourAgo()
		added := storagetest.Rows(storagetest.Temperature("exact"), start, 500)
		s.put(t, added...)
		s.arrived(t)
		got, err := s.QueryRange(context.Background(), `pi_soc_temperature_celsius{board="exact"}`, start, start.Add(499*time.Second), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		want := storage.Result{Labels: []storage.Label{
			{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: "exact"}, {Name: "rack", Value: "r1"},
		}}
		for _, r := range added {
			want.At, want.Values = append(want.At, r.At), append(want.Values, r.Value)
		}
		if diff := cmp.Diff([]storage.Result{want}, got); diff != "" {
			t.Fatal(diff)
		}
	},
	"digits that are kept": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		whole := []float64{0, -0.5, 53.576, 1500345728, 999_999_999_999_999, -999_999_999_999_999, math.Inf(1), math.Inf(-1)}
		fractions := []float64{0.1 + 0.2, math.Pi, 1e-7 / 3, 1.23456789012345e9 + 0.1, 1e300 / 7}
		for i, v := range append(whole[:len(whole):len(whole)], fractions...) {
			s.put(t, storage.Row{Series: storagetest.Temperature(fmt.Sprint("digits", i)), At: now.UnixMilli(), Value: v})
		}
		s.arrived(t)
		for i, v := range whole {
			if got := s.number(t, fmt.Sprintf(`pi_soc_temperature_celsius{board="digits%d"}`, i), now); got != v {
				t.Errorf("%v: got %v", v, got)
			}
		}
		for i, v := range fractions {
			if got := s.number(t, fmt.Sprintf(`pi_soc_temperature_celsius{board="digits%d"}`, len(whole)+i), now); math.Abs(got/v-1) > 1e-12 {
				t.Errorf("%v: got %v", v, got)
			}
		}
	},
	"gaps are left out": func(t *testing.T, s subject) {
		start := storagetest.AnHourAgo()
		s.put(t, storagetest.Rows(storagetest.Temperature("gaps"), start, 10)...)
		s.put(t, storagetest.Rows(storagetest.Temperature("gaps"), start.Add(30*time.Minute), 10)...)
		s.arrived(t)
		got, err := s.QueryRange(context.Background(), `count_over_time(pi_soc_temperature_celsius{board="gaps"}[10s])`, start.Add(9*time.Second), start.Add(40*time.Minute), 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || len(got[0].At) != 2 || got[0].Values[0] != 10 || got[0].Values[1] != 10 {
			t.Fatalf("got %+v, want 10 rows at two times", got)
		}
	},
	"late rows show in a repeated query": func(t *testing.T, s subject) {
		start := storagetest.AnHourAgo()
		count := func() int {
			s.arrived(t)
			got, err := s.QueryRange(context.Background(), `sum(pi_soc_temperature_celsius{board="late"})`, start, start.Add(40*time.Minute), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				return 0
			}
			return len(got[0].At)
		}
		s.put(t, storagetest.Rows(storagetest.Temperature("late"), start.Add(39*time.Minute), 61)...)
		before := count()
		s.put(t, storagetest.Rows(storagetest.Temperature("late"), start, 39*60)...)
		if after := count(); before > 10 || after != 241 {
			t.Fatalf("%d points before and %d after the late rows, want a few and 241", before, after)
		}
	},
	"the newest row is not hidden": func(t *testing.T, s subject) {
		now := time.Now()
		s.put(t, storage.Row{Series: storagetest.Temperature("new"), At: now.UnixMilli(), Value: 1})
		s.arrived(t)
		if got := s.number(t, `pi_soc_temperature_celsius{board="new"}`, now); got != 1 {
			t.Errorf("got %v", got)
		}
		_, body := s.get(t, fmt.Sprintf(`/api/v1/query?query=pi_soc_temperature_celsius{board="new"}&time=%d`, now.Unix()+1))
		if !strings.Contains(body, `"1"`) {
			t.Errorf("over HTTP: %s", body)
		}
	},
	"three deliveries count once": func(t *testing.T, s subject) {
		start := storagetest.AnHourAgo()
		delivered := storagetest.Rows(storagetest.Temperature("thrice"), start, 1000)
		for range 3 {
			s.put(t, delivered...)
			if err := s.Barrier(); err != nil {
				t.Fatal(err)
			}
		}
		s.arrived(t)
		if got := s.number(t, `count_over_time(pi_soc_temperature_celsius{board="thrice"}[2000s])`, start.Add(1000*time.Second)); got != 1000 {
			t.Fatalf("%v rows, want 1000", got)
		}
		_, body := s.get(t, `/api/v1/export?reduce_mem_usage=1&match[]={board="thrice"}&start=`+strconv.FormatInt(start.Unix(), 10))
		var line struct{ Values []float64 }
		if err := json.Unmarshal([]byte(body), &line); err != nil || len(line.Values) != 1000 {
			t.Errorf("an export has %d rows, want 1000: %v", len(line.Values), err)
		}
	},
	"of two values at one time the larger stays": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		for _, v := range []float64{50, 70, 60} {
			s.put(t, storage.Row{Series: storagetest.Temperature("larger"), At: now.UnixMilli(), Value: v})
		}
		s.arrived(t)
		if got := s.number(t, `pi_soc_temperature_celsius{board="larger"}`, now); got != 70 {
			t.Fatalf("got %v", got)
		}
	},
	"NaN is left out": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		s.put(t, storage.Row{Series: storagetest.Temperature("nan"), At: now.UnixMilli(), Value: math.NaN()},
			storage.Row{Series: storagetest.Temperature("nan"), At: now.UnixMilli() + 1000, Value: 7},
			storage.Row{Series: storagetest.Temperature("nan"), At: now.UnixMilli() + 2000, Value: math.NaN()})
		s.arrived(t)
		if got := s.number(t, `count_over_time(pi_soc_temperature_celsius{board="nan"}[1m])`, now.Add(10*time.Second)); got != 1 {
			t.Fatalf("%v rows, want 1", got)
		}
	},
	"huge labels are cut": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "huge"}, {Name: "l", Value: strings.Repeat("x", 100_000)}})
		s.put(t, storage.Row{Series: series, At: now.UnixMilli(), Value: 1})
		s.arrived(t)
		got, err := s.Query(context.Background(), "huge", now)
		if err != nil || len(got) != 1 || len(got[0].Labels[1].Value) != 4096 {
			t.Fatalf("got %d series, %v", len(got), err)
		}
	},
	"bad queries are errors": func(t *testing.T, s subject) {
		now := time.Now()
		for _, expr := range []string{"", "sum(", `{`, `a{b="c"`} {
			if _, err := s.Query(context.Background(), expr, now); err == nil {
				t.Errorf("%q was accepted", expr)
			}
		}
		rangeQuery := func(start, end time.Time, step time.Duration) error {
			_, err := s.QueryRange(context.Background(), "vector(1)", start, end, step)
			return err
		}
		if rangeQuery(now, now.Add(-time.Second), time.Second) == nil || rangeQuery(now, now, 0) == nil ||
			rangeQuery(now.Add(-24*time.Hour), now, time.Second) == nil {
			t.Error("an impossible range was accepted")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.Query(ctx, "vector(1)", now); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	},
	"HTTP routes answer": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		s.put(t, storage.Row{Series: storagetest.Temperature("http"), At: now.UnixMilli(), Value: 41})
		s.arrived(t)
		span := "start=" + strconv.FormatInt(now.Unix()-60, 10) + "&end=" + strconv.FormatInt(now.Unix()+60, 10)
		at := "time=" + strconv.FormatInt(now.Unix(), 10)
		match := "match[]=" + url.QueryEscape(`{board="http"}`)
		for path, want := range map[string]string{
			`/api/v1/query?query=pi_soc_temperature_celsius{board="http"}&` + at:                 `"41"`,
			`/api/v1/query_range?query=pi_soc_temperature_celsius{board="http"}&step=1m&` + span: `"41"`,
			"/api/v1/series?" + match + "&" + span:                                               `"board":"http"`,
			"/api/v1/labels?" + match + "&" + span:                                               `["__name__","board","rack"]`,
			"/api/v1/label/board/values?" + match + "&" + span:                                   `["http"]`,
			"/api/v1/export?" + match + "&" + span:                                               `"values":[41]`,
			"/api/v1/export/csv?format=board,__value__&" + match + "&" + span:                    `http,41`,
			"/api/v1/series/count":                                                               `"data":[`,
			"/api/v1/metadata":                                                                   `"success"`,
			"/api/v1/status/tsdb":                                                                `"totalSeries"`,
			"/api/v1/status/buildinfo":                                                           `"version"`,
			"/prettify-query?query=a%2Bb":                                                        `a + b`,
			`/prometheus/api/v1/query?query=pi_soc_temperature_celsius{board="http"}&` + at:      `"41"`,
			"/vmui/":            `<html`,
			"/vmui/config.json": `"license"`,
		} {
			if status, body := s.get(t, path); status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s, want %s", path, status, body, want)
			}
		}
	},
	"HTTP refuses what changes or is unknown": func(t *testing.T, s subject) {
		for _, path := range []string{
			"/api/v1/admin/tsdb/delete_series?match[]=a", "/api/v1/admin/tsdb/snapshot", "/api/v1/write", "/api/v1/import",
			"/api/v1/export/native?match[]=a", "/internal/resetRollupResultCache", "/internal/force_flush", "/snapshot/create", "/tags/delSeries",
			"/metrics", "/federate", "/flags", "/", "/api/v1/label/a/b/values", "/target-relabel-debug", "/api/v1/rules",
			"/prometheus/api/v1/admin/tsdb/delete_series?match[]=a",
		} {
			if status, _, _ := storagetest.Read(t)(http.Post(s.url+path, "application/x-www-form-urlencoded", nil)); status != http.StatusNotFound {
				t.Errorf("%s: %d, want 404", path, status)
			}
		}
		request, err := http.NewRequest(http.MethodDelete, s.url+"/api/v1/series", nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, _ := storagetest.Read(t)(http.DefaultClient.Do(request)); status != http.StatusMethodNotAllowed {
			t.Errorf("DELETE: %d", status)
		}
		status, _, _ := storagetest.Read(t)(http.Post(s.url+"/api/v1/query", "multipart/form-data; boundary=x", strings.NewReader("--x--")))
		if status != http.StatusBadRequest {
			t.Errorf("multipart: %d", status)
		}
	},
	"HTTP filters in the URL hold": func(t *testing.T, s subject) {
		now := storagetest.AnHourAgo()
		for i, board := range []string{"fa", "fb"} {
			s.put(t, storage.Row{Series: storagetest.Temperature(board), At: now.UnixMilli(), Value: float64(i)})
		}
		s.arrived(t)
		ask := func(query string, extra url.Values) string {
			body := url.Values{"query": {`count(pi_soc_temperature_celsius{board=~"f."})`}, "time": {strconv.FormatInt(now.Unix(), 10)}}
			for name, values := range extra {
				body[name] = values
			}
			_, _, answer := storagetest.Read(t)(http.PostForm(s.url+"/api/v1/query"+query, body))
			return answer
		}
		none := `"result":[]`
		for _, c := range []struct {
			query string
			body  url.Values
			want  string
		}{
			{"", nil, `"2"`},
			{"", url.Values{"extra_label": {"board=fa"}}, `"1"`},
			{"?extra_label=board%3Dnone", url.Values{"extra_label": {"board=fa"}}, none},
			{"?extra_filters[]=%7Bboard%3D%22none%22%7D", url.Values{"extra_filters[]": {`{board="fa"}`}}, none},
			{"?extra_filters[]=%7Bboard%3D%22none%22%7D", url.Values{"extra_filters": {`{board="fa"}`}}, none},
		} {
			if got := ask(c.query, c.body); !strings.Contains(got, c.want) {
				t.Errorf("%s with %v in the body: %s, want %s", c.query, c.body, got, c.want)
			}
		}
	},
}

func TestEmbeddedAndRemote(t *testing.T) {
	for name, opened := range map[string]func(*testing.T) subject{"embedded": openEmbedded, "remote": openAtVanilla, "at a cluster's URLs": openAtClusterURLs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := opened(t)
			for name, check := range checks {
				t.Run(name, func(t *testing.T) { check(t, s) })
			}
			t.Run("after close", func(t *testing.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Query(context.Background(), "1", time.Now()); !errors.Is(err, storage.ErrClosed) {
					t.Errorf("query: %v", err)
				}
				if err := s.Add(storagetest.Rows(storagetest.Temperature("closed"), storagetest.AnHourAgo(), 1)); !errors.Is(err, storage.ErrClosed) {
					t.Errorf("add: %v", err)
				}
				if status, body := s.get(t, "/api/v1/query?query=1"); status != http.StatusServiceUnavailable || !strings.Contains(body, "closed") {
					t.Errorf("over HTTP: %d %s", status, body)
				}
			})
		})
	}
}

func openEmbedded(t *testing.T) subject {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	return subject{seriesStore: s, url: storagetest.Serve(t, s), arrived: func(testing.TB) {}}
}

func openAtVanilla(t *testing.T) subject {
	v := storagetest.StartVanilla(t)
	return openRemoteSubject(t, v, remote.Options{Write: v.URL})
}

// openAtClusterURLs reaches the server by the URLs that a cluster's vminsert, vmselect and vmstorage have, each of which
// answers for nothing else.
func openAtClusterURLs(t *testing.T) subject {
	v := storagetest.StartVanilla(t)
	target, err := url.Parse(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	part := func(prefix string) string {
		proxy := http.StripPrefix(prefix, httputil.NewSingleHostReverseProxy(target))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, prefix+"/") {
				proxy.ServeHTTP(w, r)
				return
			}
			http.Error(w, "unsupported path "+r.URL.Path, http.StatusBadRequest)
		}))
		t.Cleanup(server.Close)
		return server.URL + prefix
	}
	return openRemoteSubject(t, v, remote.Options{
		Write: part("/insert/0/prometheus"), Read: part("/select/0/prometheus"), Nodes: []string{v.URL},
	})
}

func openRemoteSubject(t *testing.T, v *storagetest.Vanilla, o remote.Options) subject {
	s, _, arrived := openAt(t, o)
	return subject{seriesStore: s, url: storagetest.Serve(t, s), arrived: func(t testing.TB) {
		t.Helper()
		arrived()
		v.Show(t)
	}}
}
