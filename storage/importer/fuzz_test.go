package importer

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/klauspost/compress/snappy"

	"bramble/storage"
)

// watchedTarget fails the test where a row comes through that an importer may not write.
type watchedTarget struct{ t *testing.T }

func (w watchedTarget) Add(rows []storage.Row) error {
	for _, r := range rows {
		var name vm.MetricName
		if err := name.UnmarshalRaw(r.Series); err != nil {
			w.t.Fatal(err)
		}
		labels := []prompb.Label{{Name: "__name__", Value: string(name.MetricGroup)}}
		for _, t := range name.Tags {
			labels = append(labels, prompb.Label{Name: string(t.Key), Value: string(t.Value)})
		}
		for _, l := range labels {
			if l.Name == "board" || l.Name == "customer" || l.Name != "__name__" && strings.HasPrefix(l.Name, "__") {
				w.t.Fatalf("label %q came through", l.Name)
			}
			for _, p := range reservedPrefixes {
				if l.Name == "__name__" && (l.Value == "" || strings.HasPrefix(l.Value, p)) {
					w.t.Fatalf("metric %q came through", l.Value)
				}
			}
		}
	}
	return nil
}

func (watchedTarget) Barrier() error { return nil }

func fuzzImport(f *testing.F, path string) {
	f.Fuzz(func(t *testing.T, body []byte) {
		im, err := New(Options{Store: watchedTarget{t}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		im.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body))))
		if w.Code != http.StatusNoContent && w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

func FuzzImportRemoteWrite(f *testing.F) {
	for _, labels := range [][]prompb.Label{
		{{Name: "__name__", Value: "up"}, {Name: "job", Value: "node"}}, {{Name: "__name__", Value: "pi_load1"}}, {{Name: "board", Value: "b"}},
	} {
		w := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: labels, Samples: []prompb.Sample{{Timestamp: 1, Value: 2}}}}}
		f.Add(snappy.Encode(nil, w.MarshalProtobuf(nil)))
	}
	fuzzImport(f, "/api/v1/write")
}

func FuzzImportText(f *testing.F) {
	f.Add([]byte("a{b=\"c\\\"d\"} 1 1700000000000\n# TYPE a gauge\npi_load1 2"))
	f.Add([]byte("{\"pi_load1\"} 1\na{__name__=\"pi_x\"} 1\na{\"board\"=\"c\"} 1"))
	fuzzImport(f, "/api/v1/import/prometheus")
}

func FuzzImportJSONLines(f *testing.F) {
	f.Add([]byte(`{"metric":{"__name__":"a","b":"c"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}`))
	f.Add([]byte(`{"metric":{"__name__":"pi_a","__name__":"a"},"values":[1],"timestamps":[1]}`))
	fuzzImport(f, "/api/v1/import")
}

func FuzzImportCSV(f *testing.F) {
	f.Add([]byte("at,name,value\n1700000000000,\"a, \"\"b\"\"\",5\n,,NaN\n1,2"))
	fuzzImport(f, "/api/v1/import/csv?format=1:time:unix_ms,2:label:name,3:metric:value")
}
