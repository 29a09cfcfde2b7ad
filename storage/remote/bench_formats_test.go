package remote

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/decimal"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/klauspost/compress/snappy"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// wireFormats are the formats that a VictoriaMetrics takes; encode returns a whole request.
var wireFormats = []struct {
	name, path, compression string
	encode                  func(b *testing.B, rows []storage.Row) []byte
}{
	{"protobuf-zstd", "/api/v1/write", "zstd", func(b *testing.B, rows []storage.Row) []byte {
		return zstd.CompressLevel(nil, asProtobuf(b, rows), queueLevel)
	}},
	{"protobuf-snappy", "/api/v1/write", "snappy", func(b *testing.B, rows []storage.Row) []byte {
		return snappy.Encode(nil, asProtobuf(b, rows))
	}},
	{"json-lines-zstd", "/api/v1/import", "zstd", func(b *testing.B, rows []storage.Row) []byte {
		return zstd.CompressLevel(nil, asJSONLines(b, rows), queueLevel)
	}},
	{"native-zstd", "/api/v1/import/native", "zstd", func(b *testing.B, rows []storage.Row) []byte {
		return zstd.CompressLevel(nil, asNative(b, rows), queueLevel)
	}},
}

func asProtobuf(b *testing.B, rows []storage.Row) (body []byte) {
	var e nameReader
	for len(rows) > 0 {
		var n int
		var err error
		if body, n, _, err = e.encode(body, rows); err != nil {
			b.Fatal(err)
		}
		rows = rows[n:]
	}
	return body
}

// pieces calls f for each run of rows of one series.
func pieces(b *testing.B, rows []storage.Row, f func(name *vm.MetricName, piece []storage.Row)) {
	var name vm.MetricName
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && n < 8000 && bytes.Equal(rows[n].Series, rows[0].Series) {
			n++
		}
		if err := name.UnmarshalRaw(rows[0].Series); err != nil {
			b.Fatal(err)
		}
		f(&name, rows[:n])
		rows = rows[n:]
	}
}

func asJSONLines(b *testing.B, rows []storage.Row) (body []byte) {
	pieces(b, rows, func(name *vm.MetricName, piece []storage.Row) {
		body = fmt.Appendf(body, `{"metric":{"__name__":%q`, name.MetricGroup)
		for _, t := range name.Tags {
			body = fmt.Appendf(body, `,%q:%q`, t.Key, t.Value)
		}
		var at []byte
		body = append(body, `},"values":[`...)
		for i, r := range piece {
			if i > 0 {
				body, at = append(body, ','), append(at, ',')
			}
			body, at = strconv.AppendFloat(body, r.Value, 'g', -1, 64), strconv.AppendInt(at, r.At, 10)
		}
		body = append(append(append(body, `],"timestamps":[`...), at...), "]}\n"...)
	})
	return body
}

func asNative(b *testing.B, rows []storage.Row) []byte {
	body := encoding.MarshalInt64(nil, 0)
	body = encoding.MarshalInt64(body, time.Now().Add(time.Hour).UnixMilli())
	pieces(b, rows, func(name *vm.MetricName, piece []storage.Row) {
		var at []int64
		var values []float64
		for _, r := range piece {
			at, values = append(at, r.At), append(values, r.Value)
		}
		mantissas, exponent := decimal.AppendFloatToDecimal(nil, values)
		var block vm.Block
		block.Init(&vm.TSID{}, at, mantissas, exponent, 64)
		encodedName, encodedBlock := name.Marshal(nil), block.MarshalPortable(nil)
		body = append(encoding.MarshalUint32(body, uint32(len(encodedName))), encodedName...)
		body = append(encoding.MarshalUint32(body, uint32(len(encodedBlock))), encodedBlock...)
	})
	return body
}

// board is a simulated source of two series: a temperature in a slow random walk, and a clock.
type board struct {
	temperature, clock storage.Series
	celsius            float64
	random             *rand.Rand
}

func boards(n int) []*board {
	out := make([]*board, n)
	for i := range out {
		of := func(metric string) storage.Series {
			return storage.SeriesOf([]storage.Label{{Name: "__name__", Value: metric}, {Name: "board", Value: fmt.Sprintf("b%05d", i)}, {Name: "rack", Value: fmt.Sprintf("r%d", i/40)}})
		}
		out[i] = &board{of("pi_soc_temperature_celsius"), of("pi_cpu_clock_hertz"), 48.7, rand.New(rand.NewPCG(1, uint64(i)))}
	}
	return out
}

func (d *board) tick(into []storage.Row, at int64) []storage.Row {
	d.celsius += 0.487 * float64(d.random.IntN(3)-1)
	return append(into, storage.Row{Series: d.temperature, At: at, Value: d.celsius}, storage.Row{Series: d.clock, At: at, Value: 600e6 * float64(1+d.random.IntN(3))})
}

// BenchmarkWireFormats sends the same rows to the vanilla server in each format: live, where each of 5,000 boards has one
// row a series in a request, and backlog, where one board has all of it. CPU seconds are the server's.
func BenchmarkWireFormats(b *testing.B) {
	const requests, each = 50, 10_000
	at := time.Now().Add(-30 * 24 * time.Hour).UnixMilli()
	live, backlog := boards(each/2), boards(1)[0]
	for shape, rows := range map[string]func(i int) []storage.Row{
		"live": func(i int) (batch []storage.Row) {
			for _, d := range live {
				batch = d.tick(batch, at+int64(i)*10_000)
			}
			return batch
		},
		"backlog": func(i int) []storage.Row {
			batch, clock := []storage.Row(nil), []storage.Row(nil)
			for k := range each / 2 {
				both := backlog.tick(nil, at+int64(i*each/2+k)*10_000)
				batch, clock = append(batch, both[0]), append(clock, both[1])
			}
			return append(batch, clock...)
		},
	} {
		for _, f := range wireFormats {
			b.Run(shape+"/"+f.name, func(b *testing.B) {
				var bodies [][]byte
				bytesSent := 0
				cpu := storagetest.CPUSeconds(b)
				for i := range requests {
					bodies = append(bodies, f.encode(b, rows(i)))
					bytesSent += len(bodies[i])
				}
				encoded := storagetest.CPUSeconds(b) - cpu
				for b.Loop() {
					v := storagetest.StartVanilla(b)
					send(b, v.URL+f.path, f.compression, bodies[0]) // registers the series
					server := v.CPUSeconds(b)
					for _, body := range bodies {
						send(b, v.URL+f.path, f.compression, body)
					}
					b.ReportMetric(requests*each/(v.CPUSeconds(b)-server), "server-rows/cpu-s")
					v.Kill()
				}
				b.ReportMetric(float64(bytesSent)/(requests*each), "B/row")
				b.ReportMetric(requests*each/encoded, "encoded-rows/cpu-s")
			})
		}
	}
}

func send(b *testing.B, url, compression string, body []byte) {
	b.Helper()
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Encoding", compression)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b.Fatal(resp.Status)
	}
}
