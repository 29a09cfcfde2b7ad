package remote

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"

	"bramble/storage"
	"bramble/storage/internal/promapi"
)

func FuzzParseQueue(f *testing.F) {
	q, err := openQueue(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		if err := q.append([]byte("body"), 7); err != nil {
			f.Fatal(err)
		}
	}
	if err := q.close(); err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(q.dir, "*"))
	if err != nil || len(files) != 1 {
		f.Fatal(files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(queueFormat.Magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(b []byte) (size int64, rows uint64, err error) {
			size, err = queueFormat.Read(bytes.NewReader(b), 0, int64(len(b)), func(request []byte, _ int64) error {
				n, _ := parseRequest(request)
				rows += uint64(n)
				return nil
			})
			return size, rows, err
		}
		size, rows, err := read(b)
		if size < 0 || size > int64(len(b)) {
			t.Fatalf("ends at %d of %d", size, len(b))
		}
		if again, same, err := read(b[:size]); size > 0 && (err != nil || again != size || same != rows) {
			t.Fatalf("the whole part is not whole: %d of %d, %d of %d rows, %v", again, size, same, rows, err)
		}
		if err == nil && size != int64(len(b)) {
			t.Fatal("no error, and something is left")
		}
	})
}

func FuzzReadFacts(f *testing.F) {
	f.Add("vm_app_start_timestamp 1700000000\nvm_app_uptime_seconds 100\nvm_rows{type=\"storage/small\"} 1\nflag{name=\"dedup.minScrapeInterval\", value=\"1ms\", is_set=\"true\"} 1\n")
	f.Add("vm_app_start_timestamp 1700000000\nflag{name=\"\\\"\", value=\"\n")
	f.Add("vm_app_start_timestamp NaN\nvm_rows 1")
	f.Fuzz(func(t *testing.T, page string) {
		facts, err := readFacts(page)
		if err == nil && !facts.blind && facts.who == "" {
			t.Fatal("sees, and knows nobody")
		}
	})
}

func TestReadFacts(t *testing.T) {
	page := "vm_app_start_timestamp 1700000000\nvm_app_uptime_seconds 100\nvm_rows{type=\"storage/small\"} 1\n" +
		"flag{name=\"dedup.minScrapeInterval\", value=\"1ms\", is_set=\"true\"} 1\nflag{name=\"inmemoryDataFlushInterval\", value=\"7s\", is_set=\"true\"} 1\n"
	got, err := readFacts(page)
	if err != nil || got.who != "1700000000" || got.blind || got.dedup != dedupOn || got.flush.Seconds() != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := readFacts(strings.Replace(page, "seconds 100", "seconds 1", 1)); !errors.Is(err, errYoung) {
		t.Errorf("a young process: %+v, %v", got, err)
	}
	if got, err := readFacts(strings.Replace(page, "storage/small", "cache", 1)); err != nil || !got.blind {
		t.Errorf("a process without rows: %+v, %v", got, err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"a","b":"c"},"value":[1700000000.123,"1.5"]}]}}`)
	f.Add(`{"status":"success","data":{"result":[{"metric":{},"values":[[1,"NaN"],[2,"-Inf"],[3,"x"]]}]}}`)
	f.Add(`{"status":"error","error":"cannot parse"}`)
	f.Add(`{"status":"success","data":{"result":[{"values":[[1e300,"1"]]}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		results, err := readAnswer("200 OK", strings.NewReader(body))
		for _, r := range results {
			if err != nil || len(r.At) == 0 || len(r.At) != len(r.Values) {
				t.Fatalf("%+v, %v", r, err)
			}
		}
	})
}

// FuzzRestate holds that a body brings in no filter where the URL has one of its group, and that none vanishes.
func FuzzRestate(f *testing.F) {
	f.Add("extra_label=a%3Db", "extra_label=c%3Dd&query=1")
	f.Add("query=1", "extra_filters[]=%7Ba%3D%22b%22%7D&reduce_mem_usage=1")
	f.Add("extra_filters%5B%5D=x&query=2", "query=3&nocache=0&extra_filters=y")
	f.Fuzz(func(t *testing.T, query, body string) {
		req := httptest.NewRequest(http.MethodPost, "/api/v1/query", strings.NewReader(body))
		req.URL.RawQuery = query
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		inURL := req.URL.Query()
		out, err := restate(httptest.NewRecorder(), req)
		if err != nil {
			return
		}
		got := out.URL.Query()
		if err := out.ParseForm(); err != nil {
			t.Fatal(err)
		}
		for _, group := range promapi.FilterGroups {
			restricted := slices.ContainsFunc(group, inURL.Has)
			for _, name := range group {
				if restricted && !slices.Equal(inURL[name], got[name]) {
					t.Fatalf("%s: %q became %q", name, inURL[name], got[name])
				}
				if out.PostForm.Has(name) {
					t.Fatalf("%s is in the body", name)
				}
			}
		}
		if out.Form.Has("reduce_mem_usage") {
			t.Fatal("reduce_mem_usage went through")
		}
	})
}

// FuzzEncode holds that rows come out of the request as they went in.
func FuzzEncode(f *testing.F) {
	f.Add("pi_load1", "board", "b1", int64(1700000000000), 1.5)
	f.Add("", "", "\xff\x00", int64(-1), 0.0)
	f.Fuzz(func(t *testing.T, metric, label, value string, at int64, v float64) {
		if v != v || label == "__name__" {
			return
		}
		series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: metric}, {Name: label, Value: value}})
		var e nameReader
		rows := []storage.Row{{Series: series, At: at, Value: v}, {Series: series, At: at + 1, Value: v}, {Series: storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "other"}}), At: 1, Value: 2}}
		body, n, nans, err := e.encode(nil, rows)
		if err != nil || n != 2 || nans != 0 {
			t.Fatal(n, nans, err)
		}
		body, _, _, err = e.encode(body, rows[2:])
		if err != nil {
			t.Fatal(err)
		}
		plain, err := zstd.Decompress(nil, zstd.CompressLevel(nil, body, queueLevel))
		if err != nil {
			t.Fatal(err)
		}
		wru := prompb.GetWriteRequestUnmarshaler()
		defer prompb.PutWriteRequestUnmarshaler(wru)
		got, err := wru.UnmarshalProtobuf(plain)
		if err != nil || len(got.Timeseries) != 2 || len(got.Timeseries[0].Samples) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		if s := got.Timeseries[0].Samples[1]; s.Timestamp != at+1 || s.Value != v {
			t.Fatalf("%+v", s)
		}
	})
}
