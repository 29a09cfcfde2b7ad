package storagetest

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"bramble/storage"
)

// Open opens a store that the end of the test closes.
func Open(t testing.TB, dir string, o storage.Options) *storage.Store {
	t.Helper()
	s, err := storage.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Temperature is the series of a board.
func Temperature(board string) storage.Series {
	return storage.SeriesOf([]storage.Label{
		{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: board}, {Name: "rack", Value: "r1"},
	})
}

// Rows returns n rows a second apart that begin at start; the values are not monotonous and not whole.
func Rows(series storage.Series, start time.Time, n int) []storage.Row {
	out := make([]storage.Row, n)
	for i := range out {
		out[i] = storage.Row{Series: series, At: start.UnixMilli() + int64(i)*1000, Value: 40 + float64(i*7%100)/8}
	}
	return out
}

// Add stores rows.
func Add(t testing.TB, s *storage.Store, rs []storage.Row) {
	t.Helper()
	if err := s.Add(rs); err != nil {
		t.Fatal(err)
	}
}

// Query evaluates at one time.
func Query(t testing.TB, s *storage.Store, expr string, at time.Time) []storage.Result {
	t.Helper()
	rs, err := s.Query(context.Background(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// Number returns the single value that expr has at one time, NaN for none.
func Number(t testing.TB, s *storage.Store, expr string, at time.Time) float64 {
	t.Helper()
	rs := Query(t, s, expr, at)
	switch len(rs) {
	case 0:
		return math.NaN()
	case 1:
		return rs[0].Values[0]
	}
	t.Fatalf("%s has %d series", expr, len(rs))
	return 0
}

// AnHourAgo is on a whole second, so that steps meet the rows.
func AnHourAgo() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

// Read returns the status, the content type and the body of an answer.
func Read(t testing.TB) func(*http.Response, error) (int, string, string) {
	return func(resp *http.Response, err error) (int, string, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
	}
}

// Get asks by GET, see [Read].
func Get(t testing.TB, url string) (status int, kind, body string) {
	t.Helper()
	return Read(t)(http.Get(url)) //nolint:bodyclose // Read closes it
}

// Serve returns the URL of a store's routes. The end of the test closes the store, too.
func Serve(t testing.TB, s interface {
	Handler() http.Handler
	Close() error
}) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		if err := s.Close(); err != nil { // before the server, which waits for its requests
			t.Error(err)
		}
	})
	return server.URL
}

// Kills is how often a test kills a process: once in a plain run, many times in one for endurance.
func Kills(endurance int) int {
	if os.Getenv("BRAMBLE_ENDURANCE") == "1" {
		return endurance
	}
	return 1
}
