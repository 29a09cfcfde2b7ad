package importer_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/importer"
	"bramble/storage/storagetest"
)

// importServer is an importer in front of a store.
type importServer struct {
	url      string
	store    *storage.Store
	registry *prometheus.Registry
}

func serveImport(t *testing.T) importServer {
	t.Helper()
	s := importServer{store: storagetest.Open(t, t.TempDir(), storage.Options{}), registry: prometheus.NewRegistry()}
	im, err := importer.New(importer.Options{Store: s.store, Retention: storage.DefaultRetention, Registerer: s.registry})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(im.Handler())
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s importServer) post(t *testing.T, path, encoding, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	status, _, answer := storagetest.Read(t)(http.DefaultClient.Do(r))
	return status, answer
}

// refused returns the counter of a reason.
func (s importServer) refused(t *testing.T, reason string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "bramble_import_rows_refused_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func remoteWrite(series map[string]map[string]string, at int64, value float64) string {
	var w prompb.WriteRequest
	for name, labels := range series {
		ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: name}}, Samples: []prompb.Sample{{Timestamp: at, Value: value}}}
		for n, v := range labels {
			ts.Labels = append(ts.Labels, prompb.Label{Name: n, Value: v})
		}
		w.Timeseries = append(w.Timeseries, ts)
	}
	return string(snappy.Encode(nil, w.MarshalProtobuf(nil)))
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestImportFormats(t *testing.T) {
	s := serveImport(t)
	now := storagetest.AnHourAgo()
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	text := "# HELP fan speed\n\nfan{host=\"a\\\"b\"} 1200 " + ms + "\r\nfan 7 " + ms + "\n"
	line := `{"metric":{"__name__":"load","host":"c"},"values":[1,null,"Infinity",2.5],"timestamps":[` + ms + "," + ms + "," + strconv.FormatInt(now.UnixMilli()+1000, 10) + "," + strconv.FormatInt(now.UnixMilli()+2000, 10) + "]}"
	for _, c := range []struct{ path, encoding, body string }{
		{"/api/v1/write", "snappy", remoteWrite(map[string]map[string]string{"up": {"job": "node", "empty": ""}}, now.UnixMilli(), 1)},
		{"/api/v1/import/prometheus", "", text},
		{"/api/v1/import/prometheus", "gzip", zipped(t, text)},
		{"/api/v1/import", "", line + "\n\n"},
		{"/api/v1/import", "", ""},
		{"/api/v1/import/prometheus", "", "untimed 5"},
		{"/api/v1/import/csv?format=1:time:unix_ms,2:label:name,4:metric:width,5:metric:height", "", "at,name,,width,height\n" + ms + ",\"a, b\",x,3,4\n" + ms + ",c,x,,5\r\n"},
	} {
		if status, answer := s.post(t, c.path, c.encoding, c.body); status != http.StatusNoContent {
			t.Errorf("%s %s: %d %s", c.path, c.encoding, status, answer)
		}
	}
	for expr, want := range map[string]float64{
		`width{name="a, b"}`: 3, `height{name="c"}`: 5, `count(width)`: 1,
		`up{job="node",empty=""}`: 1, `fan{host="a\"b"}`: 1200, `fan{host=""}`: 7,
		`count_over_time(load{host="c"}[1h])`: 3, `last_over_time(load{host="c"}[1h])`: 2.5,
	} {
		if got := storagetest.Number(t, s.store, expr, now.Add(time.Minute)); got != want {
			t.Errorf("%s is %v, want %v", expr, got, want)
		}
	}
	if got := storagetest.Number(t, s.store, "untimed", time.Now()); got != 5 {
		t.Errorf("a row without a time: %v", got)
	}
}

// TestImportForgesNothing sends rows that would pass for the collector's own or for another's.
func TestImportForgesNothing(t *testing.T) {
	s := serveImport(t)
	now := storagetest.AnHourAgo()
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	f := func(reason, says, path, body string) {
		t.Helper()
		encoding := ""
		if path == "/api/v1/write" {
			encoding = "snappy"
		}
		before := s.refused(t, reason)
		status, answer := s.post(t, path, encoding, body)
		if status != http.StatusBadRequest || !strings.Contains(answer, says) || s.refused(t, reason) != before+1 {
			t.Errorf("%s: %d %s, %v refused, want %s", body, status, answer, s.refused(t, reason)-before, says)
		}
	}
	text, write, lines := "/api/v1/import/prometheus", "/api/v1/write", "/api/v1/import"
	for _, name := range []string{"pi_soc_temperature_celsius", "pi_board_up", "pisensor_wakeups_total", "bramble_backup_age_seconds"} {
		f("reserved_name", "collector's own", text, name+" 1 "+ms)
		f("reserved_name", "collector's own", write, remoteWrite(map[string]map[string]string{name: nil}, now.UnixMilli(), 1))
		f("reserved_name", "collector's own", lines, `{"metric":{"__name__":"`+name+`"},"values":[1],"timestamps":[`+ms+`]}`)
	}
	for _, label := range []string{"board", "customer"} {
		f("reserved_label", "exported_"+label, text, `fine{`+label+`="pi-1"} 1 `+ms)
		f("reserved_label", "exported_"+label, write, remoteWrite(map[string]map[string]string{"fine": {label: "pi-1"}}, now.UnixMilli(), 1))
	}
	f("reserved_label", "__", text, `fine{__bramble_store__="1"} 1 `+ms)
	f("malformed", "stands twice", text, `fine{a="1",a="2"} 1 `+ms)
	f("malformed", "stands twice", text, `fine{__name__="pi_load1"} 1 `+ms)
	f("malformed", "without a name", lines, `{"metric":{"a":"b"},"values":[1],"timestamps":[`+ms+`]}`)
	f("malformed", "line 1", text, `fine{a="1 1`)
	f("malformed", "line 1", text, "fine one "+ms)
	f("malformed", "line 1", lines, `{"metric":{"__name__":"fine"},"values":[1,2],"timestamps":[`+ms+`]}`)
	f("malformed", "line 1", lines, `{"metric":{"__name__":"fine"},"values":["x"],"timestamps":[`+ms+`]}`)
	f("malformed", "UTF-8", text, "fine{a=\"\xff\"} 1 "+ms)
	f("too_long", "at most", text, "fine{a=\""+strings.Repeat("x", 5000)+"\"} 1 "+ms)
	f("too_far_ahead", "two days", text, "fine 1 "+strconv.FormatInt(now.Add(100*time.Hour).UnixMilli(), 10))
	f("too_old", "retention", text, "fine 1 "+strconv.FormatInt(now.AddDate(-3, 0, 0).UnixMilli(), 10))
	if got := storagetest.Query(t, s.store, `{__name__=~".+"}`, now); len(got) != 0 {
		t.Errorf("something was stored: %v", got)
	}
	table := "/api/v1/import/csv?format=1:time:unix_ms,2:label:"
	f("reserved_label", "exported_board", table+"board,3:metric:fine", ms+",pi-1,5")
	f("reserved_name", "collector's own", table+"rack,3:metric:pi_load1", ms+",r1,5")
	f("malformed", "line 2", table+"rack,3:metric:fine", "at,rack,fine\n"+ms+",r1,five")
	f("malformed", "line 2", table+"rack,3:metric:fine", "at,rack,fine\nyesterday,r1,5")
	f("malformed", "line 2", table+"rack,3:metric:fine", "at,rack,fine\n"+ms)
	status, answer := s.post(t, text, "", "one 1 "+ms+"\npi_load1 1 "+ms+"\ntwo 2 "+ms)
	if status != http.StatusBadRequest || !strings.Contains(answer, "stored 2 rows") {
		t.Errorf("%d %s", status, answer)
	}
	if got := storagetest.Query(t, s.store, `{__name__=~"one|two"}`, now); len(got) != 2 {
		t.Errorf("beside a row that is refused the others are stored, got %v", got)
	}
}

func TestImportRefusesBodies(t *testing.T) {
	s := serveImport(t)
	bomb := string(snappy.Encode(nil, make([]byte, 33<<20)))
	for _, c := range []struct {
		path, encoding, body string
		status               int
	}{
		{"/api/v1/write", "snappy", "nonsense", http.StatusBadRequest},
		{"/api/v1/write", "snappy", string(snappy.Encode(nil, []byte("nonsense"))), http.StatusBadRequest},
		{"/api/v1/write", "snappy", bomb, http.StatusBadRequest},
		{"/api/v1/write", "zstd", "nonsense", http.StatusBadRequest},
		{"/api/v1/write", "br", "", http.StatusBadRequest},
		{"/api/v1/write", "snappy", strings.Repeat("x", 33<<20), http.StatusRequestEntityTooLarge},
		{"/api/v1/import", "gzip", "nonsense", http.StatusBadRequest},
		{"/api/v1/import", "", strings.Repeat("x", 17<<20), http.StatusRequestEntityTooLarge},
		{"/api/v1/import/csv", "", "1,2", http.StatusBadRequest},
		{"/api/v1/import/csv?format=1:label:a", "", "1,2", http.StatusBadRequest},
		{"/api/v1/import/native", "", "", http.StatusNotFound},
	} {
		if status, answer := s.post(t, c.path, c.encoding, c.body); status != c.status {
			t.Errorf("%s %s, %d bytes: %d %s, want %d", c.path, c.encoding, len(c.body), status, answer, c.status)
		}
	}
	if status, _, _ := storagetest.Get(t, s.url+"/api/v1/write"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
	r, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/write", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	if status, _, answer := storagetest.Read(t)(http.DefaultClient.Do(r)); status != http.StatusUnsupportedMediaType {
		t.Errorf("remote write 2.0: %d %s", status, answer)
	}
}

func TestImportBoundsSeries(t *testing.T) {
	s := serveImport(t)
	var b strings.Builder
	for i := range 200_001 {
		fmt.Fprintf(&b, "request_seconds{id=\"%d\"} 1\n", i)
	}
	if status, answer := s.post(t, "/api/v1/import/prometheus", "", b.String()); status != http.StatusBadRequest || !strings.Contains(answer, "stored 200000 rows") || s.refused(t, "series_limit") != 1 {
		t.Errorf("%d %s", status, answer)
	}
}

func TestImportIsDurableWhenItIsAnswered(t *testing.T) {
	registry := prometheus.NewRegistry()
	store := storagetest.Open(t, t.TempDir(), storage.Options{Registerer: registry})
	im, err := importer.New(importer.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(im.Handler())
	defer server.Close()
	var all sync.WaitGroup
	busy := 0
	var mu sync.Mutex
	for i := range 20 { // at one time
		all.Go(func() {
			for {
				resp, err := http.Post(server.URL+"/api/v1/import/prometheus", "", strings.NewReader(fmt.Sprintf("a{i=\"%d\"} 1\n", i)))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusNoContent {
					return
				}
				if resp.StatusCode != http.StatusTooManyRequests {
					t.Errorf("status %d", resp.StatusCode)
					return
				}
				mu.Lock()
				busy++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if busy == 0 {
		t.Error("nobody was asked to come again")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "bramble_storage_rows_in_memory" && f.GetMetric()[0].GetGauge().GetValue() != 0 {
			t.Errorf("%v rows are in memory alone", f.GetMetric()[0].GetGauge().GetValue())
		}
	}
}

func TestImportIntoAFullStore(t *testing.T) {
	im, err := importer.New(importer.Options{Store: storagetest.Open(t, t.TempDir(), storage.Options{MinFreeBytes: 1 << 60})})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(im.Handler())
	defer server.Close()
	resp, err := http.Post(server.URL+"/api/v1/import/prometheus", "", strings.NewReader("a 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

var errBroken = errors.New("broken")

// brokenStore cannot make anything durable.
type brokenStore struct{}

func (brokenStore) Add([]storage.Row) error { return nil }
func (brokenStore) Barrier() error          { return errBroken }

func TestImportThatIsNotDurableIsNotAcknowledged(t *testing.T) {
	im, err := importer.New(importer.Options{Store: brokenStore{}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	im.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/import/prometheus", strings.NewReader("a 1\n")))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), errBroken.Error()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
